"""I3D: two-stream inflated 3D ConvNet (Carreira and Zisserman, CVPR 2017, arXiv:1705.07750), as UnAV-100 used it.

Inception-V1 with its kernels inflated over time, one network for RGB and one for optical flow, up to the pooled 1024
channels. Modules carry the names of the published checkpoints (`i3d_rgb.pt`, `i3d_flow.pt`), which load as they are.

Shapes: B windows, T frames, H x W pixels, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from davel.core.errors import ConfigError

FEATURE_DIM = 1024
NUM_KINETICS = 400
CROP = 224
"""Pixels of a frame that the network sees, from its centre."""
MAX_FLOW = 20.0
"""Pixels by which a point moves at most; beyond it flow is cut."""
INPUT_CHANNELS = {"rgb": 3, "flow": 2}
MIXED = {
    "mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Channels in, and those of each branch's units."""

Triple = tuple[int, int, int]


def same_padding(kernel: Triple, stride: Triple) -> list[int]:
    """What to put before and after, last axis first, as `F.pad` takes it; whatever the input's size."""
    padding: list[int] = []
    for k, s in zip(reversed(kernel), reversed(stride), strict=True):
        total = max(k - s, 0)
        padding += [total // 2, total - total // 2]
    return padding


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        before, after, *_ = same_padding((kernel,) * 3, (stride,) * 3)
        self.further = [0, after - before] * 3
        """What is padded behind every axis more than before it."""
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, before, bias=False)
        self.batch3d: nn.Module = nn.BatchNorm3d(out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.further):
            x = F.pad(x, self.further)
        y: Tensor = self.batch3d(self.conv3d(x))
        return y.relu()

    def fold(self) -> None:
        """Let the convolution do what the norm does, as long as neither learns."""
        if isinstance(self.batch3d, nn.BatchNorm3d):
            self.conv3d = fuse_conv_bn_eval(self.conv3d, self.batch3d)
            self.batch3d = nn.Identity()


class MaxPool(nn.Module):
    """Axis by axis, which is as good and faster. Zeros around are as good as nothing: what is pooled was a ReLU's."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, same_padding(self.kernel, self.stride))
        for dim, kernel, stride in zip((2, 3, 4), self.kernel, self.stride, strict=True):
            steps = -((kernel - x.shape[dim]) // stride) + 1  # the last one may reach beyond the end
            short = (steps - 1) * stride + kernel - x.shape[dim]
            if short:
                x = F.pad(x, [0, 0] * (4 - dim) + [0, short])
            taps = [x.narrow(dim, j, (steps - 1) * stride + 1) for j in range(kernel)]
            step = (slice(None),) * dim + (slice(None, None, stride),)
            x = reduce(torch.maximum, [tap[step] for tap in taps])
        return x


class Mixed(nn.Module):
    """Four branches side by side: 1x1, 3x3 after 1x1 twice, and 1x1 after a pool."""

    def __init__(self, in_channels: int, out: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.branch_0 = Unit(in_channels, out[0], eps=eps)
        self.branch_1 = nn.Sequential(Unit(in_channels, out[1], eps=eps), Unit(out[1], out[2], 3, eps=eps))
        self.branch_2 = nn.Sequential(Unit(in_channels, out[3], eps=eps), Unit(out[3], out[4], 3, eps=eps))
        self.branch_3 = nn.Sequential(MaxPool((3, 3, 3), (1, 1, 1)), Unit(in_channels, out[5], eps=eps))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in (self.branch_0, self.branch_1, self.branch_2, self.branch_3)], dim=1)


class I3D(nn.Module):
    """`eps` is of the batch norms: 1e-5 as UnAV-100's features were made with; the original has 1e-3."""

    def __init__(self, in_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.conv3d_1a_7x7 = Unit(in_channels, 64, 7, 2, eps)
        self.maxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.conv3d_2b_1x1 = Unit(64, 64, eps=eps)
        self.conv3d_2c_3x3 = Unit(64, 192, 3, eps=eps)
        self.maxPool3d_3a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.mixed_3b, self.mixed_3c = (Mixed(*MIXED[name], eps) for name in ("mixed_3b", "mixed_3c"))
        self.maxPool3d_4a_3x3 = MaxPool((3, 3, 3), (2, 2, 2))
        for name in MIXED:
            if name.startswith("mixed_4"):
                self.add_module(name, Mixed(*MIXED[name], eps))
        self.maxPool3d_5a_2x2 = MaxPool((2, 2, 2), (2, 2, 2))
        self.mixed_5b, self.mixed_5c = (Mixed(*MIXED[name], eps) for name in ("mixed_5b", "mixed_5c"))
        self.conv3d_0c_1x1 = nn.ModuleDict({"conv3d": nn.Conv3d(FEATURE_DIM, NUM_KINETICS, 1)})

    def pooled(self, x: Tensor) -> Tensor:
        """(B, C, T, 224, 224) in -1..1 -> (B, 1024, T / 8 - 1)

        ValueError if T is below 16: the pool at the end needs two steps.
        """
        if x.shape[2] < 16:
            raise ValueError(f"I3D needs at least 16 frames, got {x.shape[2]}")
        for name, module in self.named_children():
            if name != "conv3d_0c_1x1":
                x = module(x)
        return F.avg_pool3d(x, (2, 7, 7), stride=1).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, 224, 224) in -1..1 -> (B, 1024)"""
        return self.pooled(x).mean(2)

    def fold(self) -> I3D:
        """The same network without norms: faster, equal but for rounding, and no longer as published."""
        for module in self.modules():
            if isinstance(module, Unit):
                module.fold()
        return self

    def classify(self, x: Tensor) -> Tensor:
        """(B, C, T, 224, 224) -> the logits of Kinetics-400 (B, 400), to see whether weights make sense."""
        y: Tensor = self.conv3d_0c_1x1["conv3d"](self.pooled(x)[..., None, None])
        return y.flatten(2).mean(2)

    @classmethod
    def from_published(cls, checkpoint: Mapping[str, Tensor], eps: float = 1e-5) -> I3D:
        """With the weights of `i3d_rgb.pt` or `i3d_flow.pt`. ConfigError if they are not of such a file."""
        first = checkpoint.get("conv3d_1a_7x7.conv3d.weight")
        if first is None or first.ndim != 5 or first.shape[1] not in INPUT_CHANNELS.values():
            raise ConfigError("not an I3D checkpoint: expected i3d_rgb.pt or i3d_flow.pt")
        model = cls(first.shape[1], eps)
        counters = {
            k: torch.zeros((), dtype=torch.long) for k in model.state_dict() if k.endswith("num_batches_tracked")
        }
        try:
            model.load_state_dict(counters | dict(checkpoint))
        except RuntimeError as error:
            raise ConfigError(f"not an I3D checkpoint: {str(error).splitlines()[-1].strip()}") from error
        return model.eval()


def centre_crop(x: Tensor) -> Tensor:
    """(..., H, W) -> (..., 224, 224)"""
    top, left = ((size - CROP) // 2 for size in x.shape[-2:])
    return x[..., top : top + CROP, left : left + CROP]


def rgb_input(frames: Tensor) -> Tensor:
    """Frames (..., 3, H, W), 0..255 -> (..., 3, 224, 224) in -1..1"""
    return 2 * centre_crop(frames).float() / 255 - 1


def flow_input(flow: Tensor) -> Tensor:
    """Flow (..., 2, H, W), in pixels -> (..., 2, 224, 224): cut, quantised to 257 levels, in -1..1"""
    levels = (128 + 255 / (2 * MAX_FLOW) * centre_crop(flow).float().clamp(-MAX_FLOW, MAX_FLOW)).round()
    return 2 * levels / 255 - 1
