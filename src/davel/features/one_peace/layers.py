"""ONE-PEACE's layer (Wang et al., arXiv:2305.11172), which audio, video and text share but for the feed-forward part.

Layers keep their matrices in whatever type they were stored in, and compute in that of their input; what runs through
them, norms and scales are float32.

Shapes: B sequences, N tokens, D channels, H heads, F frames of a video, P tokens of a frame (the first is `cls`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAST_POSITION = 1023
"""The distance at which the buckets of far tokens end."""


class Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the type of `x`"""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Norm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        """(..., D) of any type, normalised in float32, in that type"""
        return super().forward(x.float()).to(x.dtype)


class Attention(nn.Module):
    """Keys have no bias; a norm stands before the last matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = Linear(width, width), Linear(width, width, bias=False), Linear(width, width)
        self.norm = Norm(width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, N, D), (H, N, N) or (B, H, N, N) -> (B, N, D)"""
        B, N, D = x.shape
        query, key, value = (
            part(x).view(B, N, self.heads, D // self.heads).transpose(1, 2)  # (B, H, N, D / H)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        joined: Tensor = self.out(self.norm(mixed.transpose(1, 2).reshape(B, N, D)))
        return joined


class FeedForward(nn.Module):
    """GeGLU, with a norm after the gated product."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.value = Linear(width, inner, bias=False), Linear(width, inner, bias=False)
        self.norm = Norm(inner)
        self.out = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(F.gelu(self.gate(x)) * self.value(x)))
        return y


class Layer(nn.Module):
    """x + g1 * Attention(norm(x)), then x + g2 * FeedForward(norm(x)), with g1, g2 learnt per channel."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(width), Attention(width, heads)
        self.feed_forward_norm, self.feed_forward = Norm(width), FeedForward(width, inner)
        self.attention_scale, self.feed_forward_scale = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, N, D) float32, and the bias of a type, in which is computed -> (B, N, D) float32"""
        x = x + self.attention_scale * self.attention(self.attention_norm(x).to(bias.dtype), bias)
        y: Tensor = self.feed_forward(self.feed_forward_norm(x).to(bias.dtype))
        return x + self.feed_forward_scale * y


class Adapter(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = Linear(width, inner), Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(F.gelu(self.down(x)))
        return y


class VideoLayer(Layer):
    """The image branch's layer with adapters: attention across time, then, with the same weights, within each frame."""

    def __init__(self, width: int, inner: int, heads: int, adapter: int) -> None:
        super().__init__(width, inner, heads)
        self.temporal, self.spatial, self.mlp = (Adapter(width, adapter) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, F, P, D) float32, (H, P, P) -> (B, F, P, D)"""
        B, F_, P, D = x.shape
        across = self.attention_norm(x).to(bias.dtype).transpose(1, 2).reshape(B * P, F_, D)
        moved = self.temporal(self.attention(across)).view(B, P, F_, D).transpose(1, 2)
        within = self.attention_norm(x + moved).to(bias.dtype).view(B * F_, P, D)
        seen = self.attention(within, bias).view(B, F_, P, D)
        x = x + self.attention_scale * (seen + self.spatial(seen))  # of time, x keeps only what went through space
        normed = self.feed_forward_norm(x).to(bias.dtype)
        y: Tensor = x + self.feed_forward_scale * self.feed_forward(normed) + 0.5 * self.mlp(normed)
        return y


def through(layers: Iterable[nn.Module], x: Tensor, bias: Tensor, at_once: int) -> Tensor:
    """All of x (B, ...) through one layer after the other, so many rows at a time: each layer is needed once."""
    for layer in layers:
        x = torch.cat([layer(part, bias) for part in torch.split(x, at_once)])
    return x


def sequence_bias(table: Tensor, num_tokens: int) -> Tensor:
    """Of a table (2 K + 2, H), the bias between tokens of which the first is `cls`: (H, N, N)"""
    num_far = len(table) - 3  # 2 K - 1 buckets of distances, then: from cls, to cls, cls to itself
    K = (num_far + 1) // 2
    position = torch.arange(num_tokens)
    return _bias(table, distance_buckets(position[:, None] - position, K) + K - 1)


def distance_buckets(distance: Tensor, K: int) -> Tensor:
    """-K + 1 .. K - 1: each distance up to K / 2 its own, logarithmically wider ones beyond"""
    near = K // 2
    size = distance.abs().clamp(min=1).double()
    far = near + torch.ceil(torch.log(size / near) / math.log(LAST_POSITION / near) * (near - 1)).long()
    return torch.where(distance.abs() <= near, distance, distance.sign() * far)


def grid_bias(table: Tensor, grid: int) -> Tensor:
    """Of a table ((2 g - 1)^2 + 3, H), the bias between g x g tokens, row by row, and `cls` before them: (H, P, P)"""
    row, column = (axis.flatten() for axis in torch.meshgrid(*2 * [torch.arange(grid)], indexing="ij"))
    buckets = (row[:, None] - row + grid - 1) * (2 * grid - 1) + (column[:, None] - column + grid - 1)
    return _bias(table, F.pad(buckets, (1, 0, 1, 0)))


def _bias(table: Tensor, buckets: Tensor) -> Tensor:
    """The last three rows are those from `cls`, the first token, to `cls`, and of `cls` to itself."""
    size = len(table)
    buckets = buckets.clone()
    buckets[0, :], buckets[:, 0] = size - 3, size - 2
    buckets[0, 0] = size - 1
    return table[buckets.to(table.device)].permute(2, 0, 1)


def padded(bias: Tensor, precision: torch.dtype) -> Tensor:
    """(..., N, N) in the type to compute in, its rows a multiple of 8 apart, as fused attention wants them"""
    N = bias.shape[-1]
    return F.pad(bias.to(precision), (0, -N % 8)).contiguous()[..., :N]
