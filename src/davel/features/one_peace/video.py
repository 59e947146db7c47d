"""ONE-PEACE's image encoder with temporal adapters, fine-tuned on Kinetics-400: 16 frames as one vector.

Shapes: B windows, F frames, H x W pixels, g x g patches of a frame, P = 1 + g^2 tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from davel.features.one_peace.encoder import Encoder
from davel.features.one_peace.layers import VideoLayer, grid_bias, padded, through
from davel.features.one_peace.names import VIDEO

SIDE = 256
PATCH = 16
"""Pixels along a side of the square that becomes one token."""
MEAN, STD = (122.771, 116.746, 104.094), (68.5, 66.632, 70.323)
"""Of red, green and blue, 0..255."""
WEIGHT_BITS, DROPPED_BITS = 11, 4

Bytes = NDArray[np.uint8]


def prepare_frame(rgb: Bytes, side: int = SIDE) -> Bytes:
    """(H, W, 3) -> (side, side, 3): the middle of the frame whose shorter side is `side`, to the byte as OpenCV's
    bilinear resizing makes it"""
    height, width = scaled_size(rgb.shape[0], rgb.shape[1], side)
    top, left = ((n - side) // 2 for n in (height, width))
    rows, (upper, lower) = _vertical(rgb.shape[0], height)
    columns, (before, after) = _horizontal(rgb.shape[1], width)
    rows, columns = rows[:, top : top + side], columns[:, left : left + side]
    upper, lower = (w[top : top + side, None, None] for w in (upper, lower))
    before, after = (w[left : left + side, None] for w in (before, after))
    used, place = np.unique(rows, return_inverse=True)
    lines = rgb[used].astype(np.int32)
    across = (before * lines[:, columns[0]] + after * lines[:, columns[1]]) >> DROPPED_BITS  # (rows, side, 3)
    first, second = (across[index] for index in place.reshape(rows.shape))
    # Each product loses 16 bits by itself, before the sum: so do OpenCV's.
    made = (((upper * first) >> 16) + ((lower * second) >> 16) + 2) >> 2
    return np.asarray(made.clip(0, 255).astype(np.uint8))


def scaled_size(height: int, width: int, side: int = SIDE) -> tuple[int, int]:
    """The (height, width) at which the shorter side has `side` pixels; the longer one is rounded."""
    shorter = min(height, width)
    scaled = [int(n * side / shorter + 0.5) for n in (height, width)]
    return scaled[0], scaled[1]


@lru_cache(maxsize=16)
def _vertical(size: int, out: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Of each row that is made the two that it is made of, and their weights, (2, out) each."""
    first, part = _places(size, out)
    return np.stack([first, first + 1]).clip(0, size - 1), _weights(part)


@lru_cache(maxsize=16)
def _horizontal(size: int, out: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Of columns: beyond the edge, the last one counts alone."""
    first, part = _places(size, out)
    part = np.where((first < 0) | (first >= size - 1), np.float32(0), part)
    first = first.clip(0, size - 1)
    return np.stack([first, np.minimum(first + 1, size - 1)]), _weights(part)


def _places(size: int, out: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For pixels that are made: the pixel before their place, and how far they lie behind it."""
    place = ((np.arange(out) + 0.5) * (size / out) - 0.5).astype(np.float32)
    first = np.floor(place)
    return first.astype(np.intp), place - first


def _weights(part: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.stack([np.rint((1 - part) * 2**WEIGHT_BITS), np.rint(part * 2**WEIGHT_BITS)]).astype(np.int32)


def normalise(frames: Tensor) -> Tensor:
    """Bytes (..., H, W, 3) -> (..., H, W, 3), about -2..2"""
    mean, std = (torch.tensor(values, device=frames.device) for values in (MEAN, STD))
    return (frames.float() - mean) / std


@dataclass(frozen=True, kw_only=True)
class VideoSizes:
    channels: int
    """Of the stem."""
    width: int
    inner: int
    """Channels within the feed-forward part."""
    adapter: int
    """Channels within an adapter."""
    heads: int
    layers: int
    grid: int
    """Patches along a side (g)."""
    frames: int
    classes: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], layers: int) -> VideoSizes:
        frames, width = shapes["times"]
        return cls(
            channels=shapes["stem.0.weight"][0],
            width=width,
            inner=shapes["layers.0.feed_forward.gate.weight"][0],
            adapter=shapes["layers.0.temporal.down.weight"][0],
            heads=shapes["bias_table"][1],
            layers=layers,
            grid=isqrt(shapes["positions"][0] - 1),
            frames=frames,
            classes=shapes["classes.weight"][0],
        )


class OnePeaceVideo(Encoder):
    branch = VIDEO
    Sizes = VideoSizes
    sizes: VideoSizes

    def __init__(self, sizes: VideoSizes, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.sizes, self.precision = sizes, precision
        C, D, g = sizes.channels, sizes.width, sizes.grid
        self.stem = nn.ModuleList([nn.Conv2d(3, C, 4, 4), nn.Conv2d(C, C, 2, 2), nn.Conv2d(C, D, 2, 2)])
        self.stem_norms = nn.ModuleList(nn.LayerNorm(C) for _ in range(2))
        self.cls, self.positions = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(1 + g * g, D))
        self.times = nn.Parameter(torch.zeros(sizes.frames, D))
        self.bias_table = nn.Parameter(torch.zeros((2 * g - 1) ** 2 + 3, sizes.heads))
        self.layers = nn.ModuleList(self.new_layer(sizes) for _ in range(sizes.layers))
        self.last_norm = nn.LayerNorm(D)
        self.classes = nn.Linear(D, sizes.classes)

    @staticmethod
    def new_layer(sizes: VideoSizes) -> VideoLayer:
        return VideoLayer(sizes.width, sizes.inner, sizes.heads, sizes.adapter)

    @property
    def num_tokens(self) -> int:
        """Of a window."""
        return self.sizes.frames * (1 + int(self.sizes.grid) ** 2)

    @property
    def tflop(self) -> float:
        """Of a window, in 10^12 operations: every matrix once for each token, those of the attention twice."""
        D, N, sizes = self.sizes.width, self.num_tokens, self.sizes
        matrices = 8 * D * D + 3 * D * sizes.inner + 6 * D * sizes.adapter
        attention = 2 * D * (sizes.frames + 1 + sizes.grid**2)
        return float(2 * N * sizes.layers * (matrices + attention) / 1e12)

    def forward(self, frames: Tensor, at_once: int = 1) -> Tensor:
        """Normalised frames (B, 3, F, H, W) -> (B, D)"""
        return self.frame_features(frames, at_once).mean(1)

    def classify(self, frames: Tensor) -> Tensor:
        """Normalised frames (B, 3, F, H, W) -> logits of Kinetics' classes, for a look at real weights: (B, 400)"""
        logits: Tensor = self.classes(self(frames))
        return logits

    def frame_features(self, frames: Tensor, at_once: int = 1) -> Tensor:
        """(B, 3, F, H, W) -> (B, F, D)"""
        bias = padded(grid_bias(self.bias_table, self.sizes.grid), self.precision)
        x = through(self.layers, self.tokens(frames), bias, at_once)
        features: Tensor = self.last_norm(x[:, :, 0])
        return features

    def tokens(self, frames: Tensor) -> Tensor:
        """(B, 3, F, H, W) -> (B, F, P, D), `cls` first, then row by row"""
        B, _, F_, *size = frames.shape
        expected = [self.sizes.frames, *2 * [PATCH * self.sizes.grid]]
        if [F_, *size] != expected:
            raise ValueError(f"expected {' x '.join(map(str, expected))} (frames x height x width), got {[F_, *size]}")
        x = self.stem[0](frames.transpose(1, 2).flatten(0, 1))
        for norm, conv in zip(self.stem_norms, self.stem[1:], strict=True):
            x = conv(F.gelu(norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2))
        patches = x.flatten(2).transpose(1, 2).unflatten(0, (B, F_))
        x = torch.cat([self.cls.expand(B, F_, 1, -1), patches], 2)
        return x + self.positions + self.times[:, None]
