"""Resizing as Pillow's bilinear filter does it, to the bit: the published features were made of such frames.

The filter is a triangle that grows with the reduction (antialiased), its weights are whole numbers of 22 bits, and
columns are finished and rounded before rows begin.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PRECISION_BITS = 22
SHORT_SIDE = 256


def short_side_size(height: int, width: int, side: int = SHORT_SIDE) -> tuple[int, int]:
    """The (height, width) at which the shorter side has `side` pixels; the longer one is rounded down."""
    if width < height:
        return int(side * height / width), side
    return side, int(side * width / height)


def resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (..., H, W, 3) of bytes -> the same at `size`, (height, width)"""
    if frames.dtype != torch.uint8:
        raise ValueError(f"expected bytes, got {frames.dtype}")
    frames = _along(frames, frames.ndim - 2, size[1])
    return _along(frames, frames.ndim - 3, size[0])


def _along(x: Tensor, dim: int, out: int) -> Tensor:
    if x.shape[dim] == out:
        return x
    index, weights = (t.to(x.device) for t in _filter(x.shape[dim], out))
    shape = [-1 if d == dim else 1 for d in range(x.ndim)]
    total: Tensor | int = 1 << (PRECISION_BITS - 1)
    for tap in range(len(index)):
        total = total + x.index_select(dim, index[tap]).int() * weights[tap].view(shape)
    assert isinstance(total, Tensor)
    return (total >> PRECISION_BITS).clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=16)
def _filter(size: int, out: int) -> tuple[Tensor, Tensor]:
    """For each pixel of the output those of the input that it is made of, and their weights: (taps, out) each"""
    scale = size / out
    support = max(scale, 1.0)
    rows: list[tuple[list[int], list[int]]] = []
    for x in range(out):
        centre = (x + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
        weights = [max(0.0, 1 - abs((j - centre + 0.5) / support)) for j in range(first, last)]
        total = sum(weights)
        rows.append((list(range(first, last)), [int(w / total * (1 << PRECISION_BITS) + 0.5) for w in weights]))
    taps = max(len(weights) for _, weights in rows)
    index = [pixels + [0] * (taps - len(pixels)) for pixels, _ in rows]
    weight = [weights + [0] * (taps - len(weights)) for _, weights in rows]
    return torch.tensor(index).T.contiguous(), torch.tensor(weight, dtype=torch.int32).T.contiguous()
