"""The baseline: dense-localizing audio-visual events (Geng et al., CVPR 2023, arXiv:2303.12930); "DAVEL" or "UnAV" in
the tables of later papers.

Shapes: B videos, T steps, D channels of a modality, C classes, l a level, Tl = T / 2^l. One step is `stride / fps`
seconds. Masks are True at a video's real steps, which come first.

A released checkpoint gives the same events here (`from_published`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from davel.models.outputs import Outputs
from davel.models.published import Names, shape_of
from davel.models.pyramid import (
    MODALITIES,
    PUBLISHED,
    ClassDependencies,
    CrossModalConfig,
    CrossModalInteraction,
    CrossModalNetwork,
    Grid,
    cross_modal_pyramid,
    load_published,
    published_fields,
)


@dataclass(frozen=True, kw_only=True)
class UnavConfig(CrossModalConfig):
    name: Literal["unav"] = "unav"


class Unav(CrossModalNetwork):
    """A cross-modal pyramid and the dependencies between its events; none of it is tied to a length, T is anything."""

    config: UnavConfig

    def __init__(self, config: UnavConfig) -> None:
        super().__init__(config)
        self.interactions = nn.ModuleList(CrossModalInteraction(config, level) for level in range(config.num_levels))
        self.dependencies = ClassDependencies(config)

    def run(self, inputs: dict[str, Tensor], grid: Grid) -> Outputs:
        streams = {m: self.embed[m](inputs[m], grid.masks[0]) for m in MODALITIES}
        pyramid = self.dependencies(cross_modal_pyramid(self.interactions, streams, grid.masks), grid)
        logits, offsets = self.decoder(pyramid, grid)
        return Outputs(logits, offsets, gates={m: [] for m in MODALITIES})

    def whole_length(self, T: int) -> int:
        """A longer batch than the model's is padded to the next multiple of the coarsest level's step."""
        hop = self.config.hop
        return super().whole_length(T) if T <= self.config.max_length else hop * math.ceil(T / hop)


Config, Model = UnavConfig, Unav

_PAIR = {"visual": "Va", "audio": "Av"}  # whose keys and values, then whose queries
# Ours -> released, applied in order to a parameter's full name.
RELEASED: Names = [
    (r"^interactions\.0\.(\w+)\.", lambda m: f"backbone.ori_cross_att_{_PAIR[m[1]]}."),
    (r"^interactions\.(\d+)\.(\w+)\.", lambda m: f"backbone.cross_att_{_PAIR[m[2]]}.{int(m[1]) - 1}."),
    (r"^dependencies\.", "dependency_block."),
    *PUBLISHED,
]


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a checkpoint that was released with the paper."""
    return any(key.startswith("dependency_block.") for key in tensors)


def from_published(tensors: Mapping[str, Tensor], max_length: int = 224) -> Unav:
    """With the weights of a released checkpoint, which do not tell the length. ConfigError if they do not fit."""
    fields = published_fields(tensors)
    expanded = shape_of(tensors, "dependency_block.feature_expand.conv.weight")[0]
    config = UnavConfig(**fields, max_length=max_length, class_width=expanded // fields["num_classes"])
    return load_published(Unav(config), tensors, RELEASED)
