"""VSGN: video self-stitching graph network for temporal action localization (Zhao et al., ICCV 2021, arXiv:2011.14598),
on the two modalities' features side by side, as CCNet's Table 1 has it.

A video is laid on a canvas twice, as it is and magnified, so that short events are long somewhere. Every position
exchanges what it knows with those that look like it, and those of the magnified part with the original.

Shapes: B videos, n steps of a video, T positions of the canvas, D channels, J levels, k neighbours, A anchors of a
position, P anchors in all, C classes. Feature maps are (B, D, positions).

A released checkpoint gives the same events here (`from_published`). That paper and CCNet's do not say how it is laid on
UnAV-100: what stands in `Config` by default is davel's own choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from davel.core.errors import ConfigError
from davel.models.anchors import AnchorCriterion, AnchorOutputs, Stitching, anchors_of, refined
from davel.models.detector import DecodeSettings, Network, NetworkConfig, NmsSettings, TrainingRecipe
from davel.models.published import Names, drain, shape_of, visual_channels
from davel.models.sets import lengths_of

GROUPS = 32
"""Of channels that a norm takes together."""
ORIGINAL = 0.4
"""The part of the canvas that a video may take in its own length."""
REACH = 1 / 8
"""How far from a boundary it is looked at on either side, in lengths of the segment."""
PIECE = 1 << 20
"""Differences between columns that are held at once: what a processor's cache takes."""


@dataclass(frozen=True, kw_only=True)
class VSGNConfig(NetworkConfig):
    name: Literal["vsgn"] = "vsgn"
    max_length: int = 204
    """Most steps of a video: two fifths of the canvas."""
    length: int = 512
    """Positions of the canvas (T)."""
    gap: int = 12
    """Empty positions between a video and its magnified self."""
    width: int = 256
    """Channels (D)."""
    levels: int = 5
    """Of the pyramid (J), the finest with a position every 4 of the canvas."""
    num_neighbours: int = 12
    """Positions that one is connected with (k)."""
    anchor_scales: tuple[float, ...] = (1.0, 1.5)
    """Lengths of the anchors (A), in steps of their level."""
    tower_layers: int = 4
    """Convolutions before the heads."""
    graph: bool = True
    """Whether positions are connected with those that look like them."""
    stitch: bool = True
    """Whether a video is also laid out magnified; else zeros follow it, and count as video."""
    margin: float = 1.5
    """Steps that the magnified part shows beyond the centres of the first and last one: half of what a step sees, 1.5
    for I3D, 2 for ONE-PEACE."""

    needs_audio = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "levels", "num_neighbours", "tower_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        unit = 4 * 2 ** (self.levels - 1)
        if self.length % unit or self.length < unit:
            raise ValueError(f"length must be a multiple of {unit} for {self.levels} levels, got {self.length}")
        if self.graph and self.num_neighbours > self.length >> self.levels:
            most = self.length >> self.levels
            raise ValueError(f"num_neighbours must be at most the coarsest level's {most}, got {self.num_neighbours}")
        if not self.anchor_scales or not all(0 < scale < math.inf for scale in self.anchor_scales):
            raise ValueError(f"anchor_scales must be positive, got {self.anchor_scales}")
        most = math.floor(ORIGINAL * self.length) if self.stitch else self.length
        if self.max_length > most:
            raise ValueError(f"max_length must be at most {most} on a canvas of {self.length}, got {self.max_length}")
        if self.gap < 0 or not 0 <= self.margin < math.inf:
            raise ValueError(f"gap and margin must be at least 0, got {self.gap} and {self.margin}")
        if self.stitch and self.gap >= self.length - self.max_length:
            raise ValueError(
                f"gap must be less than {self.length - self.max_length}, what {self.max_length} steps leave of a "
                f"canvas of {self.length}, got {self.gap}"
            )

    @property
    def canvas(self) -> Stitching:
        return Stitching(self.length, self.gap, self.margin, magnified=self.stitch)

    @staticmethod
    def scaled(width: int) -> dict[str, int]:
        return {"width": width}

    @staticmethod
    def small() -> dict[str, int]:
        return {"width": 64}

    @staticmethod
    def timed(stride: int, window: int) -> dict[str, float]:
        return {"margin": window / (2 * stride)}


class VSGN(Network):
    config: VSGNConfig
    anchors: Tensor
    detection = DecodeSettings(
        min_score=0.0, max_candidates=10_000, min_length=0.05, nms=NmsSettings(sigma=0.4, min_score=1e-4)
    )

    def __init__(self, config: VSGNConfig) -> None:
        super().__init__(config)
        D = config.width
        self.conv0 = Conv(config.visual_dim + config.audio_dim, D, stride=2)
        self.encoder = nn.ModuleList(EncoderLevel(config) for _ in range(config.levels))
        self.decoder = Decoder(D, config.levels)
        self.classify = Head(config, len(config.anchor_scales) * (config.num_classes + 1))
        self.regress = Head(config, len(config.anchor_scales) * 2)
        self.adjust = nn.ModuleDict({end: Look(D) for end in ("start", "end")})
        self.maps = nn.ModuleDict({name: Map(D) for name in ("action", "start", "end")})
        anchors = anchors_of(config.length, config.levels, config.anchor_scales)
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> AnchorOutputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> what is said of P anchors.

        ValueError if shapes do not fit, or if a mask has holes.
        """
        self.check_shapes(visual, audio, mask)
        if not 1 <= mask.shape[1] <= self.config.max_length:
            raise ValueError(
                f"this model takes 1 to {self.config.max_length} steps, got {mask.shape[1]}: cut the video into windows"
            )
        lengths, canvas = lengths_of(mask), self.config.canvas
        video = torch.cat([visual, audio], dim=-1).masked_fill(~mask[..., None], 0)
        pyramid = self.pyramid(canvas.draw(video, lengths).mT, lengths)
        logits = torch.cat([self._of_anchors(self.classify(level)) for level in pyramid], dim=1)
        deltas = torch.cat([self._of_anchors(self.regress(level)) for level in pyramid], dim=1)
        segments = refined(self.anchors, deltas.float())
        finest = pyramid[0]
        maps = {name: head(finest, self.config.length) for name, head in self.maps.items()}
        return AnchorOutputs(logits, deltas, segments, self.adjusted(finest, segments), maps, lengths, canvas)

    def pyramid(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """Canvases (B, Dv + Da, T) -> per level (B, D, T / (4 * 2^j)), the finest first"""
        x = F.relu(self.conv0(x))
        original = lengths + self.config.gap if self.config.stitch else None
        levels = []
        for level in self.encoder:
            reach = None if original is None else original * x.shape[2] // self.config.length
            x = level(x, reach)
            levels.append(x)
        decoded: list[Tensor] = self.decoder(levels)
        return decoded

    def adjusted(self, x: Tensor, segments: Tensor) -> Tensor:
        """The finest level (B, D, T / 4), segments (B, P, 2) -> segments whose boundaries were looked at"""
        start, end = segments.clamp(0, self.config.length - 1).unbind(-1)
        reach = (end - start + 1) * REACH
        moved = [
            self.adjust[name](x, torch.stack([at - reach, at, at + reach], dim=-1) / 4)
            for name, at in (("start", start), ("end", end))
        ]
        return segments + torch.stack(moved, dim=-1)

    def _of_anchors(self, x: Tensor) -> Tensor:
        """(B, A * channels, positions) -> (B, positions * A, channels)"""
        B, _, L = x.shape
        return x.view(B, len(self.config.anchor_scales), -1, L).permute(0, 3, 1, 2).flatten(1, 2)

    def criterion(self, recipe: TrainingRecipe) -> AnchorCriterion:
        return AnchorCriterion(self.config.canvas, self.anchors)


class Conv(nn.Conv1d):
    """Of three positions, unless said otherwise."""

    decays = True

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding)


class Stretch(nn.ConvTranspose1d):
    """To twice as many positions."""

    decays = True

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1, output_padding=1)


class EncoderLevel(nn.Module):
    """What is around a position, and what looks like it, at half as many positions."""

    def __init__(self, config: VSGNConfig) -> None:
        super().__init__()
        self.graph = GraphConvolution(config.width, config.num_neighbours) if config.graph else None
        self.conv = Conv(config.width, config.width, stride=1 if config.graph else 2)
        self.recompute = False
        """Compute inner values again in the backward pass instead of keeping them."""

    def forward(self, x: Tensor, original: Tensor | None) -> Tensor:
        """(B, D, L) -> (B, D, L / 2); `original` (B,): the positions of a video in its own length"""
        if self.recompute and self.training:
            again: Tensor = checkpoint(self.compute, x, original, use_reentrant=False)
            return again
        return self.compute(x, original)

    def compute(self, x: Tensor, original: Tensor | None) -> Tensor:
        if self.graph is None:
            return F.relu(self.conv(x))
        return F.max_pool1d(F.relu(self.conv(x) + self.graph(x, original)), 2)


class GraphConvolution(nn.Module):
    """Of what the neighbours of a position tell it, the most in each channel."""

    def __init__(self, channels: int, num_neighbours: int) -> None:
        super().__init__()
        self.mlp = nn.Linear(2 * channels, channels)
        self.num_neighbours = num_neighbours

    def forward(self, x: Tensor, original: Tensor | None) -> Tensor:
        """(B, D, L) -> (B, D, L)"""
        rows = x.mT  # (B, L, D)
        neighbours, there = nearest(rows.detach().float(), self.num_neighbours, original)  # (B, L, k)
        of_neighbour, of_own = self.mlp.weight.chunk(2, dim=1)
        told = F.linear(rows, of_neighbour)  # (B, L, D)
        index = neighbours.flatten(1)[..., None].expand(-1, -1, told.shape[2])
        told = told.gather(1, index).view(*neighbours.shape, -1)  # (B, L, k, D)
        most = told.masked_fill(~there[..., None], -torch.inf).amax(2)
        y: Tensor = (F.linear(rows, of_own, self.mlp.bias) + most).mT
        return y


@torch.no_grad()
def nearest(x: Tensor, count: int, original: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each position's nearest ones, itself among them, the first of equals: (B, L, D) -> (B, L, count), and which of
    these there are.

    Where a video is stitched, its first `original` (B,) positions show it in its own length: the others take half of
    their neighbours from all positions, and the rest from these, as far as there are any.
    """
    L = x.shape[1]
    order = torch.stack([squared_distances(video) for video in x]).argsort(dim=-1, stable=True)  # (B, L, L)
    rank = torch.arange(L, device=x.device)
    if original is None:
        return order[..., :count], torch.ones_like(order[..., :count], dtype=torch.bool)
    limit = original[:, None, None]
    allowed = (rank[:, None] < limit) | (rank < count // 2) | (order < limit)
    chosen = (~allowed).int().argsort(dim=-1, stable=True)[..., :count]  # the nearest of those that are allowed
    return order.gather(-1, chosen), allowed.gather(-1, chosen)


def squared_distances(x: Tensor) -> Tensor:
    """(L, D) -> (L, L)

    As released, to the last bit, since of two that are almost equally near one is chosen; `torch.cdist` adds up in
    another order.
    """
    rows = torch.split(x, max(PIECE // x.numel(), 1))
    return torch.cat([(some[:, None] - x).square_().sum(-1) for some in rows])


class Decoder(nn.Module):
    """From coarse to fine, what is around a position and what is in it."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.out = nn.ModuleList(Conv(channels, channels) for _ in range(levels))
        self.lateral = nn.ModuleList(Conv(channels, channels) for _ in range(levels - 1))
        self.stretch = nn.ModuleList(Stretch(channels) for _ in range(levels - 1))

    def forward(self, encoded: list[Tensor]) -> list[Tensor]:
        """The encoder's levels, finest first -> the same, decoded"""
        coarse, *finer = encoded[::-1]
        decoded = [F.relu(self.out[0](coarse))]
        for level, lateral, stretch, out in zip(finer, self.lateral, self.stretch, self.out[1:], strict=True):
            y = F.relu(lateral(level)) + F.relu(stretch(decoded[-1]))
            decoded.append(F.relu(out(y)))
        return decoded[::-1]


class Head(nn.Module):
    """What is said of each position of any level."""

    def __init__(self, config: VSGNConfig, out_channels: int) -> None:
        super().__init__()
        D = config.width
        layers = [(Conv(D, D), nn.GroupNorm(math.gcd(GROUPS, D), D), nn.ReLU()) for _ in range(config.tower_layers)]
        self.tower = nn.Sequential(*(layer for part in layers for layer in part))
        self.out = Conv(D, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, positions) -> (B, out, positions)"""
        y: Tensor = self.out(self.tower(x))
        return y


class Look(nn.Module):
    """How far a boundary should move, by what is before, at and after it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Conv(channels, channels, padding=0), nn.ReLU(), Conv(channels, 1, 1, padding=0))

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        """(B, D, L), three positions (B, P, 3) -> (B, P)"""
        (B, P, _), (_, D, L) = at.shape, x.shape
        index = at.detach().nan_to_num().trunc().clamp(0, L - 1).long().flatten(1)
        seen = x.gather(2, index[:, None].expand(-1, D, -1)).view(B, D, P, 3)
        seen = seen.transpose(1, 2).flatten(0, 1)  # (B * P, D, 3)
        moved: Tensor = self.layers(seen)
        return moved.view(B, P).float()


class Map(nn.Module):
    """How likely something is at each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Conv(channels, channels), nn.ReLU(), Conv(channels, 1, 1, padding=0))

    def forward(self, x: Tensor, length: int) -> Tensor:
        """(B, D, L) -> (B, length) in [0, 1]"""
        likely = self.layers(x).float().sigmoid()
        return F.interpolate(likely, length, mode="linear", align_corners=True).squeeze(1)


Config, Model = VSGNConfig, VSGN

# Ours -> released, applied in order to a parameter's full name.
RELEASED: Names = [
    (r"^conv0\.", "xGPN.conv0.0."),
    (r"^encoder\.(\d+)\.graph\.", r"xGPN.levels_enc.\1.nconv1."),
    (r"^encoder\.(\d+)\.conv\.", r"xGPN.levels_enc.\1.tconv1."),
    (r"^decoder\.stretch\.(\d+)\.", r"xGPN.levels_dec.\1.0."),
    (r"^decoder\.out\.(\d+)\.", r"xGPN.levels1.\1.0."),
    (r"^decoder\.lateral\.(\d+)\.", r"xGPN.levels2.\1.0."),
    (r"^classify\.tower\.", "head_dec.cls_tower."),
    (r"^classify\.out\.", "head_dec.cls_logits."),
    (r"^regress\.tower\.", "head_dec.bbox_tower."),
    (r"^regress\.out\.", "head_dec.bbox_pred."),
    (r"^adjust\.(start|end)\.layers\.", r"bd_adjust.\1_conv."),
    (r"^maps\.action\.layers\.", "head_actionness."),
    (r"^maps\.start\.layers\.", "head_startness."),
    (r"^maps\.end\.layers\.", "head_endness."),
]
WITHOUT_GRAPH: Names = [*RELEASED, (r"levels_enc\.(\d+)\.tconv1\.", r"levels_enc.\1.0.")]


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a checkpoint that was released with the paper."""
    return any(key.startswith("xGPN.") for key in tensors)


def from_published(
    tensors: Mapping[str, Tensor],
    visual_dim: int | None = None,
    max_length: int | None = None,
    length: int = 512,
    gap: int = 12,
    num_neighbours: int = 12,
    anchor_scales: Sequence[float] = (1.0, 1.5),
    margin: float = 1.5,
    stitch: bool = True,
) -> VSGN:
    """With the weights of a released checkpoint, which tell none of these (THUMOS'14: a canvas of 1280, a gap of 30).
    ConfigError if they do not fit.

    `visual_dim`: how many of the input's channels are visual, the others are audio; by default those of the published
    pairs of features, else all. `max_length`: by default what fits on the canvas.
    """
    if not anchor_scales:
        raise ConfigError("anchor_scales of a released checkpoint must be at least one, got none")
    width, channels, _ = shape_of(tensors, "xGPN.conv0.0.weight", dims=3)
    visual_dim = visual_channels(channels, visual_dim)
    rows = shape_of(tensors, "head_dec.cls_logits.weight", dims=3)[0]
    whole = math.floor(ORIGINAL * length) if stitch else length
    config = VSGNConfig(
        num_classes=max(rows // len(anchor_scales) - 1, 1),
        visual_dim=visual_dim,
        audio_dim=channels - visual_dim,
        max_length=whole if max_length is None else max_length,
        length=length,
        gap=gap,
        width=width,
        levels=max(_count(tensors, "xGPN.levels1."), 1),
        num_neighbours=num_neighbours,
        anchor_scales=tuple(map(float, anchor_scales)),
        tower_layers=max(_count(tensors, "head_dec.cls_tower.") // 2, 1),
        graph="xGPN.levels_enc.0.0.weight" not in tensors,
        stitch=stitch,
        margin=margin,
    )
    network = VSGN(config)
    network.load_state_dict(drain(network, dict(tensors), RELEASED if config.graph else WITHOUT_GRAPH))
    return network


def _count(tensors: Mapping[str, Tensor], start: str) -> int:
    """Layers whose names begin so."""
    return len({key[len(start) :].partition(".")[0] for key in tensors if key.startswith(start)})
