"""ONE-PEACE's audio encoder: sound of any length as one unit vector (arXiv:2305.11172, section 3.1).

Shapes: B clips, N samples, S steps of the front end (49 of a second), D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from davel.features.one_peace.encoder import Encoder
from davel.features.one_peace.layers import Layer, padded, sequence_bias, through
from davel.features.one_peace.names import AUDIO

SAMPLE_RATE = 16000
MOST_SAMPLES = 240000
"""15 s: what is longer is cut."""
KERNELS_AND_STRIDES = ((10, 5), *4 * ((3, 2),), *2 * ((2, 2),))
POSITION_CONVOLUTIONS, POSITION_KERNEL = 5, 19


def prepare_audio(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mono samples (N,) at 16 kHz -> (16,000 to 240,000,), of mean zero and variance one before they are cut or
    repeated"""
    x = samples.astype(np.float32)
    x = ((x - x.mean(dtype=np.float64)) / np.sqrt(x.var(dtype=np.float64) + 1e-5)).astype(np.float32)
    x = x[:MOST_SAMPLES]
    return np.tile(x, -(-SAMPLE_RATE // max(len(x), 1)))[:SAMPLE_RATE] if len(x) < SAMPLE_RATE else x


@dataclass(frozen=True, kw_only=True)
class AudioSizes:
    channels: int
    """Of the front end."""
    width: int
    inner: int
    """Channels within the feed-forward part."""
    heads: int
    layers: int
    groups: int
    """Of the convolutions that tell where a step is."""
    buckets: int
    """Rows of the bias's table."""

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], layers: int) -> AudioSizes:
        buckets, heads = shapes["bias_table"]
        width, channels = shapes["project.weight"]
        return cls(
            channels=channels,
            width=width,
            inner=shapes["layers.0.feed_forward.gate.weight"][0],
            heads=heads,
            layers=layers,
            groups=width // shapes["positions.0.weight"][1],
            buckets=buckets,
        )


class OnePeaceAudio(Encoder):
    branch = AUDIO
    Sizes = AudioSizes
    sizes: AudioSizes

    def __init__(self, sizes: AudioSizes, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.sizes, self.precision = sizes, precision
        C, D = sizes.channels, sizes.width
        inputs = (1, *6 * (C,))
        self.front = nn.ModuleList(
            nn.Conv1d(channels, C, kernel, stride, bias=False)
            for channels, (kernel, stride) in zip(inputs, KERNELS_AND_STRIDES, strict=True)
        )
        self.front_norms = nn.ModuleList(nn.LayerNorm(C) for _ in KERNELS_AND_STRIDES)
        self.norm, self.project = nn.LayerNorm(C), nn.Linear(C, D)
        self.positions = nn.ModuleList(
            nn.Conv1d(D, D, POSITION_KERNEL, padding=POSITION_KERNEL // 2, groups=sizes.groups)
            for _ in range(POSITION_CONVOLUTIONS)
        )
        self.cls, self.cls_position = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(D))
        self.bias_table = nn.Parameter(torch.zeros(sizes.buckets, sizes.heads))
        self.layers = nn.ModuleList(self.new_layer(sizes) for _ in range(sizes.layers))
        self.last_norm, self.head = nn.LayerNorm(D), nn.Linear(D, D)

    @staticmethod
    def new_layer(sizes: AudioSizes) -> Layer:
        return Layer(sizes.width, sizes.inner, sizes.heads)

    @property
    def num_tokens(self) -> int:
        """Of a second."""
        return 50

    def forward(self, samples: Tensor, at_once: int = 16) -> Tensor:
        """Prepared samples (B, N), of one length -> (B, D), unit norm"""
        x = self.tokens(samples)
        bias = padded(sequence_bias(self.bias_table, x.shape[1]), self.precision)
        x = through(self.layers, x, bias, at_once)
        return F.normalize(self.head(self.last_norm(x[:, 0])), dim=-1)

    def tokens(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, 1 + S, D), `cls` first"""
        embedded = self.embed(samples)
        x = torch.cat([self.cls.expand(len(samples), 1, -1), embedded], 1)
        return x + torch.cat([self.cls_position.expand(len(samples), 1, -1), self.position(embedded)], 1)

    def embed(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, S, D)"""
        x = samples[:, None]
        for conv, norm in zip(self.front, self.front_norms, strict=True):
            x = F.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
        embedded: Tensor = self.project(self.norm(x.transpose(1, 2)))
        return embedded

    def position(self, embedded: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D): where each step is, as convolutions tell it by its neighbours"""
        x = embedded
        for conv in self.positions:
            x = F.gelu(F.layer_norm(conv(x.transpose(1, 2)).transpose(1, 2), x.shape[-1:]))
        return x
