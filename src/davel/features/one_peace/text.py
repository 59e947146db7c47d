"""ONE-PEACE's text encoder: a prompt as one unit vector, in the space of its sounds.

Shapes: B prompts, L tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.features.one_peace.encoder import Encoder
from davel.features.one_peace.layers import Layer, padded, sequence_bias, through
from davel.features.one_peace.names import TEXT

PADDING = 1


@dataclass(frozen=True, kw_only=True)
class TextSizes:
    vocabulary: int
    positions: int
    width: int
    inner: int
    """Channels within the feed-forward part."""
    heads: int
    layers: int
    buckets: int
    """Rows of the bias's table."""

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], layers: int) -> TextSizes:
        vocabulary, width = shapes["words.weight"]
        buckets, heads = shapes["bias_table"]
        return cls(
            vocabulary=vocabulary,
            positions=shapes["positions"][0],
            width=width,
            inner=shapes["layers.0.feed_forward.gate.weight"][0],
            heads=heads,
            layers=layers,
            buckets=buckets,
        )


class OnePeaceText(Encoder):
    branch = TEXT
    Sizes = TextSizes
    sizes: TextSizes

    def __init__(self, sizes: TextSizes, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.sizes, self.precision = sizes, precision
        D = sizes.width
        self.words = nn.Embedding(sizes.vocabulary, D)
        self.cls, self.positions = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(sizes.positions, D))
        self.bias_table = nn.Parameter(torch.zeros(sizes.buckets, sizes.heads))
        self.layers = nn.ModuleList(self.new_layer(sizes) for _ in range(sizes.layers))
        self.last_norm, self.head = nn.LayerNorm(D), nn.Linear(D, D)

    @staticmethod
    def new_layer(sizes: TextSizes) -> Layer:
        return Layer(sizes.width, sizes.inner, sizes.heads)

    @property
    def num_tokens(self) -> int:
        """Of the longest prompt."""
        return 72

    def forward(self, tokens: Tensor) -> Tensor:
        """Indices (B, L), 1 behind the end of shorter prompts -> (B, D), unit norm"""
        is_token = F.pad(tokens != PADDING, (1, 0), value=True)  # (B, 1 + L), cls first
        x = torch.cat([self.cls.expand(len(tokens), 1, -1), self.words(tokens).float()], 1)
        x = (x + self.positions[: x.shape[1]]) * is_token[..., None]
        bias = sequence_bias(self.bias_table, x.shape[1])
        bias = bias.masked_fill(~is_token[:, None, None], float("-inf"))  # (B, H, N, N): padding is no key
        x = through(self.layers, x, padded(bias, self.precision), len(x))
        return F.normalize(self.head(self.last_norm(x[:, 0])), dim=-1)


def batch(tokens: Sequence[Sequence[int]]) -> Tensor:
    """Prompts of any length -> (B, L)"""
    L = max(map(len, tokens))
    return torch.tensor([[*row, *[PADDING] * (L - len(row))] for row in tokens])
