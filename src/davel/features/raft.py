"""RAFT: recurrent all-pairs field transforms for optical flow (Teed and Deng, ECCV 2020, arXiv:2003.12039).

What is of one frame (`encode`, `context`) and what is of a pair (`flow`) are apart: a stream computes each once.
Published checkpoints load as they are, with the names of the authors or of torchvision.

Shapes: B pairs, H x W pixels (multiples of 8), h x w = H/8 x W/8, D channels. Flow is (x, y), in pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.core.errors import ConfigError

UPDATES = 20
"""Refinements of the flow, as UnAV-100's features were made."""
FEATURE_DIM, HIDDEN_DIM, CONTEXT_DIM, MOTION_DIM = 256, 128, 128, 128
LEVELS, RADIUS = 4, 4
SCALE = 8
"""Pixels in a step of the maps."""


def pad_to_scale(frames: Tensor) -> Tensor:
    """(..., H, W) -> the same with its border repeated, up to multiples of 8, as evenly on both sides as can be."""
    H, W = frames.shape[-2:]
    rows, columns = -H % SCALE, -W % SCALE
    padding = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
    padded: Tensor = F.pad(frames, padding, mode="replicate")
    return padded


class Residual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.norm1, self.norm2 = norm(out_channels), norm(out_channels)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride), norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return (shortcut + y).relu()


class Encoder(nn.Module):
    """A frame -> a map of an eighth of its size."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 64, 7, 2, 3), norm(64)
        self.layer1 = nn.Sequential(Residual(64, 64, 1, norm), Residual(64, 64, 1, norm))
        self.layer2 = nn.Sequential(Residual(64, 96, 2, norm), Residual(96, 96, 1, norm))
        self.layer3 = nn.Sequential(Residual(96, 128, 2, norm), Residual(128, 128, 1, norm))
        self.conv2 = nn.Conv2d(128, FEATURE_DIM, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        y: Tensor = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return y


class MotionEncoder(nn.Module):
    """What the correlation says at the flow so far, and the flow itself -> (B, 128, h, w)"""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(64 + 192, MOTION_DIM - 2, 3, padding=1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        c = self.convc2(self.convc1(correlation).relu()).relu()
        f = self.convf2(self.convf1(flow).relu()).relu()
        y = self.conv(torch.cat([c, f], dim=1)).relu()
        return torch.cat([y, flow], dim=1)


class SeparableGru(nn.Module):
    """A convolutional GRU that looks along rows, then along columns.

    What its gates take from the context is the same in every update: it is convolved once (`of_context`).
    """

    def __init__(self) -> None:
        super().__init__()
        channels = HIDDEN_DIM + CONTEXT_DIM + MOTION_DIM
        for pass_, kernel in ((1, (1, 5)), (2, (5, 1))):
            padding = (kernel[0] // 2, kernel[1] // 2)
            for gate in "zrq":
                self.add_module(f"conv{gate}{pass_}", nn.Conv2d(channels, HIDDEN_DIM, kernel, padding=padding))

    def of_context(self, context: Tensor) -> list[list[Tensor]]:
        """The context's share of the gates z, r, q in both passes, (B, 128, h, w) each"""
        its = slice(HIDDEN_DIM, HIDDEN_DIM + CONTEXT_DIM)
        return [
            [F.conv2d(context, gate.weight[:, its], gate.bias, padding=gate.padding) for gate in gates]
            for gates in self._passes()
        ]

    def forward(self, h: Tensor, motion: Tensor, of_context: list[list[Tensor]]) -> Tensor:
        for gates, (of_z, of_r, of_q) in zip(self._passes(), of_context, strict=True):
            z, r, q = (torch.cat([g.weight[:, :HIDDEN_DIM], g.weight[:, -MOTION_DIM:]], dim=1) for g in gates)
            padding: tuple[int, int] = gates[0].padding  # type: ignore[assignment]
            both = F.conv2d(torch.cat([h, motion], dim=1), torch.cat([z, r]), padding=padding)
            update, reset = (both + torch.cat([of_z, of_r], dim=1)).sigmoid().chunk(2, dim=1)
            new = (F.conv2d(torch.cat([reset * h, motion], dim=1), q, padding=padding) + of_q).tanh()
            h = torch.lerp(h, new, update)
        return h

    def _passes(self) -> list[list[nn.Conv2d]]:
        return [[self.get_submodule(f"conv{gate}{pass_}") for gate in "zrq"] for pass_ in (1, 2)]  # type: ignore[misc]


class FlowHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN_DIM, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(h).relu())
        return y


class UpdateBlock(nn.Module):
    """One refinement: from the state, its context, the correlation and the flow to the next state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MotionEncoder()
        self.gru = SeparableGru()
        self.flow_head = FlowHead()
        self.mask = nn.Sequential(nn.Conv2d(HIDDEN_DIM, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * SCALE**2, 1))

    def forward(self, h: Tensor, of_context: list[list[Tensor]], correlation: Tensor, flow: Tensor) -> Tensor:
        return self.gru(h, self.encoder(flow, correlation), of_context)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Correlation:
    """How alike every point of one frame is to every point of the next, at four scales of the latter."""

    pyramid: list[Tensor]
    """Per level (B * h * w, 1, h / 2^l, w / 2^l)."""

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> Correlation:
        """Two frames' maps (B, D, h, w)."""
        B, D, h, w = first.shape
        with torch.autocast(first.device.type, enabled=False):  # in fewer bits it would not tell neighbours apart
            first, second = first.float().flatten(2), second.float().flatten(2)
            volume = first.mT @ second / math.sqrt(D)  # (B, h * w, h * w)
        pyramid = [volume.reshape(B * h * w, 1, h, w)]
        for _ in range(LEVELS - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        return cls(pyramid)

    def at(self, position: Tensor) -> Tensor:
        """Around each point's position (B, 2, h, w) in the next frame: (B, 4 * 81, h, w)"""
        B, _, h, w = position.shape
        reach = torch.arange(-RADIUS, RADIUS + 1, device=position.device, dtype=position.dtype)
        x, y = torch.meshgrid(reach, reach, indexing="ij")  # the first axis of the window goes along x
        window = torch.stack([x, y], dim=-1)  # (9, 9, 2)
        centre = position.permute(0, 2, 3, 1).reshape(B * h * w, 1, 1, 2)
        found = []
        for level, volume in enumerate(self.pyramid):
            size = torch.tensor(
                volume.shape[:-3:-1], device=position.device, dtype=position.dtype
            )  # (w, h) of the level
            grid = 2 * (centre / 2**level + window) / (size - 1) - 1
            sampled = F.grid_sample(volume, grid, align_corners=True)  # (B * h * w, 1, 9, 9)
            found.append(sampled.view(B, h, w, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


class RAFT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fnet = Encoder(nn.InstanceNorm2d)
        self.cnet = Encoder(nn.BatchNorm2d)
        self.update_block = UpdateBlock()

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W), 0..255 -> what they are matched by (B, 256, h, w); of one frame, whatever its partner"""
        y: Tensor = self.fnet(_normalised(frames))
        return y

    def context(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W), 0..255 -> what is known of them as the first of a pair (B, 256, h, w)"""
        y: Tensor = self.cnet(_normalised(frames))
        return y

    def flow(self, first: Tensor, second: Tensor, context: Tensor, updates: int = UPDATES) -> Tensor:
        """Two frames' maps and the first one's context, (B, 256, h, w) each -> flow (B, 2, H, W)

        It is brought to full size once, after the last update.
        """
        correlation = Correlation.of(first, second)
        h, x = context.split([HIDDEN_DIM, CONTEXT_DIM], dim=1)  # type: ignore[no-untyped-call]
        h, of_context = h.tanh(), self.update_block.gru.of_context(x.relu())
        start = _positions(first)
        position = start
        for _ in range(updates):
            h = self.update_block(h, of_context, correlation.at(position), position - start)
            position = position + self.update_block.flow_head(h)
        return upsample(position - start, 0.25 * self.update_block.mask(h))

    def forward(self, first: Tensor, second: Tensor, updates: int = UPDATES) -> Tensor:
        """Two frames (B, 3, H, W), 0..255 -> the flow from the first to the second (B, 2, H, W)

        ValueError if the size is no multiple of 8, or too small for the coarsest correlation.
        """
        H, W = first.shape[-2:]
        if first.shape != second.shape or H % SCALE or W % SCALE or min(H, W) < 128:
            raise ValueError(
                f"RAFT needs two frames of one size, a multiple of {SCALE} and at least 128 pixels, "
                f"got {tuple(first.shape)} and {tuple(second.shape)}: see `pad_to_scale`"
            )
        return self.flow(self.encode(first), self.encode(second), self.context(first), updates)

    @classmethod
    def from_published(cls, checkpoint: Mapping[str, Tensor]) -> RAFT:
        """With published weights: `raft-sintel.pth`, torchvision's `raft_large`. ConfigError if they do not fit."""
        state = {_our_name(key): tensor for key, tensor in checkpoint.items()}
        # the authors' files name the norms of the shortcuts twice
        state = {key: tensor for key, tensor in state.items() if ".norm3." not in key}
        model = cls()
        counters = {
            k: torch.zeros((), dtype=torch.long) for k in model.state_dict() if k.endswith("num_batches_tracked")
        }
        try:
            model.load_state_dict(counters | state)
        except RuntimeError as error:
            raise ConfigError(f"not a RAFT checkpoint: {str(error).splitlines()[-1].strip()}") from error
        return model.eval()


TORCHVISION = (
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^((?:fnet|cnet)\.)convnormrelu\.0\.", r"\1conv1."),
    (r"^((?:fnet|cnet)\.)convnormrelu\.1\.", r"\1norm1."),
    (r"^((?:fnet|cnet)\.)conv\.", r"\1conv2."),
    (r"convnormrelu(\d)\.0\.", r"conv\1."),
    (r"convnormrelu(\d)\.1\.", r"norm\1."),
    (r"motion_encoder\.convcorr(\d)\.0\.", r"encoder.convc\1."),
    (r"motion_encoder\.convflow(\d)\.0\.", r"encoder.convf\1."),
    (r"motion_encoder\.conv\.0\.", "encoder.conv."),
    (r"recurrent_block\.convgru(\d)\.conv(\w)\.", r"gru.conv\2\1."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
    (r"^flow_head\.", "update_block.flow_head."),
)
"""From torchvision's names to the authors'."""


def _our_name(key: str) -> str:
    key = key.removeprefix("module.")
    for pattern, name in TORCHVISION:
        key = re.sub(pattern, name, key)
    return key


def _normalised(frames: Tensor) -> Tensor:
    return 2 * (frames.float() / 255) - 1


def _positions(x: Tensor) -> Tensor:
    """Every point's own position: (B, 2, h, w), x before y"""
    B, _, h, w = x.shape
    y, x_ = torch.meshgrid(
        torch.arange(h, device=x.device, dtype=x.dtype), torch.arange(w, device=x.device, dtype=x.dtype), indexing="ij"
    )
    return torch.stack([x_, y]).expand(B, 2, h, w)


def upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """Flow (B, 2, h, w), in steps -> (B, 2, H, W), in pixels: each pixel a mixture of the nine steps around it

    The mask (B, 9 * 64, h, w) holds the logits of the mixtures.
    """
    B, _, h, w = flow.shape
    weights = mask.view(B, 1, 9, SCALE, SCALE, h, w).softmax(dim=2)
    steps = F.unfold(SCALE * flow, 3, padding=1).view(B, 2, 9, 1, 1, h, w)
    fine = (weights * steps).sum(2)  # (B, 2, 8, 8, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(B, 2, SCALE * h, SCALE * w)
