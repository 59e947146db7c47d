"""ActionFormer: localizing moments of actions with transformers (Zhang et al., ECCV 2022, arXiv:2202.07925), on the two
modalities' features side by side, as CCNet's Table 1 has it.

Shapes: B videos, T steps, D channels, C classes, l a level, L levels, Tl = T / 2^l. One step is `stride / fps` seconds.
Masks are True at a video's real steps, which come first.

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

from davel.models.blocks import Block
from davel.models.outputs import Outputs
from davel.models.published import Names, shape_of, visual_channels
from davel.models.pyramid import (
    MODALITIES,
    PUBLISHED,
    ConvolutionalEmbedding,
    Decoder,
    Grid,
    PyramidConfig,
    PyramidNetwork,
    load_published,
    published_pyramid,
)

ALL = -1
"""A window of all steps."""


@dataclass(frozen=True, kw_only=True)
class ActionFormerConfig(PyramidConfig):
    name: Literal["actionformer"] = "actionformer"
    windows: int | tuple[int, ...] = ALL
    """Steps of its level that a step attends to, itself in the middle: an odd number, or -1 for all; one for each
    level, or one for all levels."""
    positions: bool = True
    """Whether a step is told where in the video it is."""

    needs_audio = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.windows, tuple) and len(self.windows) != self.num_levels:
            raise ValueError(f"windows must be one, or one for each of {self.num_levels} levels, got {self.windows}")
        if any(window != ALL and (window < 1 or window % 2 == 0) for window in self.level_windows):
            raise ValueError(f"windows must be odd numbers of steps, or -1 for all, got {self.windows}")

    @property
    def level_windows(self) -> tuple[int, ...]:
        """One for each level."""
        return self.windows if isinstance(self.windows, tuple) else (self.windows,) * self.num_levels


class ActionFormer(PyramidNetwork):
    """One stream through convolutions, self-attention that halves its length level by level, and a shared decoder."""

    config: ActionFormerConfig
    class_aware = False

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__(config)
        self.embed = ConvolutionalEmbedding(config, config.visual_dim + config.audio_dim)
        self.stem = nn.ModuleList(_block(config, level=0) for _ in range(2))
        self.branch = nn.ModuleList(_block(config, level) for level in range(1, config.num_levels))
        self.neck = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.num_levels))
        self.decoder = Decoder(config, config.width, class_aware=False)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Outputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> per level: logits (B, Tl, C), offsets (B, Tl, 1, 2).

        T is anything, Tl = ceil(T / 2^l). ValueError if shapes do not fit.
        """
        if mask.shape[1] <= self.config.max_length or len(mask) == 1:
            return super().forward(visual, audio, mask)
        self.check_shapes(visual, audio, mask)
        # Beyond `max_length`, what is behind a video's end depends on its own length: each is run at that.
        lengths = mask.sum(1).clamp(min=1).tolist()
        alone = [
            super(ActionFormer, self).forward(visual[b, None, :n], audio[b, None, :n], mask[b, None, :n])
            for b, n in enumerate(lengths)
        ]
        return _batch(alone, mask)

    def run(self, inputs: dict[str, Tensor], grid: Grid) -> Outputs:
        x = torch.cat([inputs[m] for m in MODALITIES], dim=-1)
        pyramid = self.backbone(x, grid.masks)
        # A norm leaves its bias at padding, too, where the decoder's first convolutions see it.
        pyramid = [norm(level) for norm, level in zip(self.neck, pyramid, strict=True)]
        logits, offsets = self.decoder(pyramid, grid)
        return Outputs(logits, offsets, gates={m: [] for m in MODALITIES})

    def backbone(self, x: Tensor, masks: list[Tensor]) -> list[Tensor]:
        """(B, T, Dv + Da) -> the pyramid, per level (B, Tl, D)"""
        x = self.embed(x, masks[0]) if self.config.positions else self.embed.convolve(x, masks[0])
        for block in self.stem:
            x = block(x, x, masks[0])
        pyramid = [x]
        for block, mask in zip(self.branch, masks, strict=False):
            pyramid.append(block(pyramid[-1], pyramid[-1], mask))
        return pyramid

    def whole_length(self, T: int) -> int:
        """A longer batch than the model's is padded to a multiple of what the windows of the released code are laid
        on."""
        if T <= self.config.max_length:
            return super().whole_length(T)
        steps = (max(window - 1, 1) << level for level, window in enumerate(self.config.level_windows))
        unit = max(self.config.hop, *steps)
        return unit * math.ceil(T / unit)

    def running_length(self, T: int) -> int:
        if T > self.config.max_length and self.config.positions:
            return self.whole_length(T)  # which the table of positions is stretched to
        return super().running_length(T)


def _block(config: ActionFormerConfig, level: int) -> Block:
    window = config.level_windows[level]
    return Block(
        config.width,
        config.num_heads,
        stride=2 if level else 1,
        drop_path=config.drop_path,
        one_norm=True,
        window=None if window == ALL else window,
    )


def _batch(alone: Sequence[Outputs], mask: Tensor) -> Outputs:
    """Videos one by one -> the outputs of the batch that has the mask (B, T), zero behind a video's own."""

    def join(videos: Sequence[list[Tensor]]) -> list[Tensor]:
        levels = []
        for level, parts in enumerate(zip(*videos, strict=True)):
            length = math.ceil(mask.shape[1] / 2**level)
            behind = [[0, 0] * (x.dim() - 2) + [0, length - x.shape[1]] for x in parts]
            levels.append(torch.cat([F.pad(x, pad) for x, pad in zip(parts, behind, strict=True)]))
        return levels

    logits, offsets = join([outputs.logits for outputs in alone]), join([outputs.offsets for outputs in alone])
    return Outputs(logits, offsets, gates={m: [] for m in MODALITIES}, mask=mask)


Config, Model = ActionFormerConfig, ActionFormer

# Ours -> released, applied in order to a parameter's full name.
RELEASED: Names = [
    (r"^embed\.convs\.(\d)\.", r"backbone.embd.\1.conv."),
    (r"^embed\.norms\.", "backbone.embd_norm."),
    (r"^(stem|branch)\.", r"backbone.\1."),
    (r"^neck\.", "neck.fpn_norms."),
    (r"\.norm_source\.", ".ln1."),
    *PUBLISHED,
]


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a checkpoint that was released with the paper."""
    return any(key.startswith("backbone.stem.") for key in tensors)


def from_published(
    tensors: Mapping[str, Tensor],
    visual_dim: int | None = None,
    max_length: int = 224,
    num_heads: int = 4,
    windows: int | Sequence[int] = ALL,
    positions: bool = True,
) -> ActionFormer:
    """With the weights of a released checkpoint, which tell none of these (THUMOS'14: 2304 steps, windows 19, no
    positions). ConfigError if they do not fit.

    `visual_dim`: how many of the input's channels are visual, the others are audio; by default those of the published
    pairs of features, else all.
    """
    width, channels, _ = shape_of(tensors, "backbone.embd.0.conv.weight", dims=3)
    visual_dim = visual_channels(channels, visual_dim)
    config = ActionFormerConfig(
        **published_pyramid(tensors),
        width=width,
        visual_dim=visual_dim,
        audio_dim=channels - visual_dim,
        max_length=max_length,
        num_heads=num_heads,
        windows=windows if isinstance(windows, int) else tuple(windows),
        positions=positions,
    )
    return load_published(ActionFormer(config), tensors, RELEASED)
