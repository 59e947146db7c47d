"""Building blocks shared by the models: convolutions, attention and transformer blocks over masked sequences.

Shapes: B sequences, T steps, D channels. Channels come last. A mask (B, T) is True at a sequence's real steps, which
come first; what lies behind them is padding. `mask=None` means that every step is real.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PIECE = 2**20
"""Values that a block is given at a time on the CPU where its inner values are computed again."""


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T, D), (B, T) -> (B, T, D), zero at padding."""
    return x if mask is None else x * mask[..., None]


def exclude_padding(mask: Tensor) -> Tensor:
    """(B, T) -> attention bias (B, T): padding keys are not attended to."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -math.inf)


def count_padding(mask: Tensor, length: int) -> Tensor:
    """(B, T) -> attention bias (B, T): padding keys are attended to, as many as a sequence of `length` steps has.

    All padding keys are one and the same vector, so n of them weigh as much as one whose logit is higher by log(n).
    """
    num_real = mask.sum(1)
    steps = torch.arange(mask.shape[1], device=mask.device)
    first_padding = steps == num_real[:, None]
    num_padding = (length - num_real).clamp(min=1).log()
    return exclude_padding(mask).where(~first_padding, num_padding[:, None])


def within_window(key_bias: Tensor | None, length: int, window: int, device: torch.device) -> Tensor:
    """What is added to the logits of each key (B, T) -> attention bias (B or 1, 1, T, T): a step attends to the
    `window` steps around it, an odd number.

    Every step sees itself, even one of padding: it would see nothing else.
    """
    steps = torch.arange(length, device=device)
    apart = (steps[:, None] - steps).abs()
    bias = torch.zeros(1, 1, 1, length, device=device) if key_bias is None else key_bias[:, None, None]
    return torch.where(apart == 0, 0, torch.where(apart <= window // 2, bias, -math.inf))


def _init_like_conv(weight: Tensor, fan_in: int) -> None:
    bound = 1 / math.sqrt(fan_in)  # what torch's convolution and linear layers start with
    nn.init.uniform_(weight, -bound, bound)


def linear(in_channels: int, out_channels: int) -> nn.Linear:
    """A linear layer whose bias starts at zero."""
    layer = nn.Linear(in_channels, out_channels)
    nn.init.zeros_(layer.bias)
    return layer


class Conv(nn.Module):
    """Convolution over time, kernel 3, as one matrix product; outputs at padding are zero."""

    decays = True
    """Weight decay is for its weight."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3 * in_channels))
        """The kernel's three time steps side by side: (out, [previous, this, next] x in)."""
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        _init_like_conv(self.weight, 3 * in_channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, in), (B, T) -> (B, T, out)"""
        padded = F.pad(x, (0, 0, 1, 1))
        neighbours = torch.cat([padded[:, :-2], x, padded[:, 2:]], dim=-1)  # (B, T, 3 * in)
        return masked(F.linear(neighbours, self.weight, self.bias), mask)

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """Only at the given steps (N,) of sequences one after the other, with rows of zeros at their ends:
        (R, in) -> (N, out)"""
        neighbours = steps[:, None] + torch.tensor([-1, 0, 1], device=steps.device)
        x = rows.index_select(0, neighbours.flatten()).view(len(steps), -1)  # (N, 3 * in)
        return F.linear(x, self.weight, self.bias)


class DepthwiseConv(nn.Module):
    """Depthwise convolution over time, kernel 3, without bias; stride 2 keeps every second step."""

    decays = True

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(3, channels))
        _init_like_conv(self.weight, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T / stride, D)"""
        y: Tensor = _Depthwise.apply(x, self.weight.to(x.dtype), self.stride)  # type: ignore[no-untyped-call]
        return y


class _Depthwise(torch.autograd.Function):
    """As three products and two sums, but with one result for all and nothing kept but the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        y = x[:, ::stride] * weight[1]
        for neighbour, reached, k in _neighbours(x, y, stride):
            reached.addcmul_(neighbour, weight[k])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride = ctx.stride
        grad_x = torch.zeros_like(x) if stride > 1 else grad * weight[1]
        grad_weight = torch.empty_like(weight)
        if stride > 1:
            grad_x[:, ::stride] = grad * weight[1]
        grad_weight[1] = (x[:, ::stride] * grad).sum((0, 1))
        for (neighbour, reached, k), (target, _, _) in zip(
            _neighbours(x, grad, stride), _neighbours(grad_x, grad, stride), strict=True
        ):
            grad_weight[k] = (neighbour * reached).sum((0, 1))
            target.addcmul_(reached, weight[k])
        return grad_x, grad_weight, None


def _neighbours(x: Tensor, y: Tensor, stride: int) -> list[tuple[Tensor, Tensor, int]]:
    """The steps of x (B, T, D) before and after every `stride`-th one, those of y (B, T / stride, D) that they belong
    to, and their place in the kernel."""
    before, after = x[:, stride - 1 : -1 : stride], x[:, 1::stride]
    return [(before, y[:, 1:], 0), (after, y[:, : after.shape[1]], 2)]


class MaskedAttention(nn.Module):
    """Multi-head attention whose queries, keys and values each pass a depthwise convolution and a norm first."""

    ROLES = ("query", "key", "value")

    def __init__(self, channels: int, num_heads: int, stride: int = 1, window: int | None = None) -> None:
        """`window`: see `within_window`; None: every step attends to all."""
        super().__init__()
        self.num_heads = num_heads
        self.stride = stride
        self.window = window
        self.convs = nn.ModuleDict({role: DepthwiseConv(channels, stride) for role in self.ROLES})
        self.norms = nn.ModuleDict({role: nn.LayerNorm(channels) for role in self.ROLES})
        self.linears = nn.ModuleDict({role: linear(channels, channels) for role in self.ROLES})
        self.out = linear(channels, channels)

    def forward(self, source: Tensor, query: Tensor, mask: Tensor | None, key_bias: Tensor | None) -> Tensor:
        """Keys and values from `source`, queries from `query`: 2 x (B, T, D) -> (B, T / stride, D).

        `mask` and `key_bias` (added to the logits of each key) are (B, T / stride).
        """
        inputs = {"query": query, "key": source, "value": source}
        heads = {}
        for role, x in inputs.items():
            x = self.norms[role](masked(self.convs[role](x), mask))
            x = self.linears[role](x)
            if role == "value":
                x = masked(x, mask)
            heads[role] = x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)
        bias = None if key_bias is None else key_bias[:, None, None, :]
        if self.window is not None:
            bias = within_window(key_bias, x.shape[1], self.window, x.device)
        bias = None if bias is None else bias.to(heads["query"].dtype)
        y = F.scaled_dot_product_attention(heads["query"], heads["key"], heads["value"], attn_mask=bias)
        return masked(self.out(y.transpose(1, 2).flatten(2)), mask)


class DropPath(nn.Module):
    """A learned factor per channel, starting near zero; in training a sequence's whole branch is dropped at times."""

    def __init__(self, channels: int, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.scale = nn.Parameter(torch.full((channels,), 1e-4))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = torch.rand(x.shape[0], 1, 1, device=x.device, dtype=x.dtype) < keep
        return x * kept / keep


class Block(nn.Module):
    """Pre-norm transformer block: `source` gives keys, values and the residual, `query` the queries."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        stride: int = 1,
        hidden: int | None = None,
        drop_path: float = 0.0,
        one_norm: bool = False,
        window: int | None = None,
    ) -> None:
        """`one_norm`: queries pass the same norm as `source`. `window`: of the attention, see `within_window`."""
        super().__init__()
        hidden = hidden or 4 * channels
        self.stride = stride
        self.norm_source = nn.LayerNorm(channels)
        self.norm_query = None if one_norm else nn.LayerNorm(channels)
        self.norm = nn.LayerNorm(channels)
        self.attention = MaskedAttention(channels, num_heads, stride, window)
        self.mlp = nn.Sequential(linear(channels, hidden), nn.GELU(), linear(hidden, channels))
        self.drop_attention = DropPath(channels, drop_path) if drop_path else nn.Identity()
        self.drop_mlp = DropPath(channels, drop_path) if drop_path else nn.Identity()
        self.recompute = False
        """Compute inner values again in the backward pass instead of keeping them, a few sequences at a time on the
        CPU: the same losses in less memory."""

    def forward(self, source: Tensor, query: Tensor, mask: Tensor | None = None) -> Tensor:
        """2 x (B, T, D), (B, T) -> (B, T / stride, D)"""
        if not (self.recompute and self.training):
            return self._compute(source, query, mask)
        size = max(PIECE // source[0].numel(), 1)
        if source.device.type != "cpu" or size >= len(source):
            whole: Tensor = checkpoint(self._compute, source, query, mask, use_reentrant=False)
            return whole
        pieces = (slice(first, first + size) for first in range(0, len(source), size))
        parts = [
            checkpoint(self._compute, source[p], query[p], None if mask is None else mask[p], use_reentrant=False)
            for p in pieces
        ]
        return torch.cat(parts)

    def _compute(self, source: Tensor, query: Tensor, mask: Tensor | None) -> Tensor:
        mask = None if mask is None else mask[:, :: self.stride]
        key_bias = None if mask is None else exclude_padding(mask)
        norm_query = self.norm_source if self.norm_query is None else self.norm_query
        attended = self.attention(self.norm_source(source), norm_query(query), mask, key_bias)
        residual = max_pool(source) if self.stride == 2 else source
        y = masked(residual, mask) + self.drop_attention(attended)
        out: Tensor = y + self.drop_mlp(masked(self.mlp(self.norm(y)), mask))
        return out


def max_pool(x: Tensor) -> Tensor:
    """The largest of three steps, at every second one: (B, T, D) -> (B, T / 2, D)"""
    padded = F.pad(x, (0, 0, 1, 1), value=-math.inf)
    T = x.shape[1]
    return torch.maximum(torch.maximum(padded[:, 0:T:2], padded[:, 1 : T + 1 : 2]), padded[:, 2 : T + 2 : 2])


def position_table(length: int, channels: int) -> Tensor:
    """Sinusoids of growing wavelength, sines at even and cosines at odd channels, scaled by 1/sqrt(D): (T, D)"""
    pair = torch.arange(channels, dtype=torch.float64) // 2
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * pair / channels)
    table = torch.where(torch.arange(channels) % 2 == 0, angle.sin(), angle.cos())
    return (table / math.sqrt(channels)).float()


def interpolate(x: Tensor, at: Tensor) -> Tensor:
    """Linearly between steps, and to zero beyond the first and the last: (B, T, D), positions (B, N) -> (B, N, D)"""
    T, D = x.shape[1:]
    before = at.floor()
    share = (at - before)[..., None]

    def value(step: Tensor) -> Tensor:
        index = step.nan_to_num().clamp(0, T - 1).long()  # of positions that are no numbers the share tells
        inside = (index == step)[..., None]
        return x.gather(1, index[..., None].expand(-1, -1, D)) * inside

    return value(before) * (1 - share) + value(before + 1) * share
