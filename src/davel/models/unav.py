"""The baseline: dense-localizing audio-visual events (Geng et al., CVPR 2023, arXiv:2303.12930); "DAVEL" or "UnAV" in
the tables of later papers.

Shapes: B videos, T steps, D channels of a modality, C classes, l a level, Tl = T / 2^l. One step is `stride / fps`
seconds. Masks are True at a video's real steps, which come first.

A released checkpoint gives the same events here (`davel.models.published`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from davel.models.pyramid import (
    MODALITIES,
    ClassDependencies,
    CrossModalInteraction,
    Grid,
    Network,
    NetworkConfig,
    Outputs,
)


@dataclass(frozen=True, kw_only=True)
class UnavConfig(NetworkConfig):
    name: Literal["unav"] = "unav"


class Unav(Network):
    """A cross-modal pyramid and the dependencies between its events; none of it is tied to a length, T is anything."""

    config: UnavConfig

    def __init__(self, config: UnavConfig) -> None:
        super().__init__(config)
        self.interactions = nn.ModuleList(CrossModalInteraction(config, level) for level in range(config.num_levels))
        self.dependencies = ClassDependencies(config)

    def run(self, inputs: dict[str, Tensor], grid: Grid) -> Outputs:
        streams = {m: self.embed[m](inputs[m], grid.masks[0]) for m in MODALITIES}
        pyramid = self.dependencies(self.cross_modal_pyramid(streams, grid.masks), grid)
        logits, offsets = self.decoder(pyramid, grid)
        return Outputs(logits, offsets, gates={m: [] for m in MODALITIES})

    def cross_modal_pyramid(self, x: dict[str, Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Per modality (B, T, D) -> the pyramid, per level (B, Tl, 2D)"""
        pyramid: list[Tensor] = []
        for interaction, mask in zip(self.interactions, [masks[0], *masks], strict=False):
            x = interaction(x, mask)
            pyramid.append(torch.cat([x[m] for m in MODALITIES], dim=-1))
        return pyramid

    def running_length(self, T: int) -> int:
        """As at `max_length`; a longer batch is run at the next multiple of the coarsest level's step."""
        unit = self.config.unit
        return super().running_length(T) if T <= self.config.max_length else unit * math.ceil(T / unit)
