"""CCNet: dense audio-visual event localization (Zhou et al., AAAI 2025, arXiv:2412.12628).

Shapes: B videos, T steps, D channels of a modality, C classes, H channels of a class, l a level, L levels,
Tl = T / 2^l. One step is `stride / fps` seconds. Masks are True at a video's real steps, which come first.

Where the paper leaves a choice, the released model's is taken; a released checkpoint gives the same events here
(`from_published`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.core.errors import ConfigError
from davel.models.blocks import Block, Conv, MaskedAttention, count_padding, exclude_padding, linear, max_pool
from davel.models.outputs import Outputs
from davel.models.published import Names, shape_of
from davel.models.pyramid import (
    MODALITIES,
    OTHER,
    PUBLISHED,
    ClassDependencies,
    CrossModalConfig,
    CrossModalInteraction,
    CrossModalNetwork,
    Grid,
    load_published,
    published_fields,
)


@dataclass(frozen=True, kw_only=True)
class CCNetConfig(CrossModalConfig):
    name: Literal["ccnet"] = "ccnet"
    cmi: bool = True
    """Cross-modal interaction: without it, each modality attends to itself in blocks of the same size (Table 3)."""
    tcg: bool = True
    """Temporal consistency gates (Table 3)."""
    tdm: bool = True
    """Temporal dependency modelling; without it, C2F and F2C there is no MTGC (Table 2)."""
    c2f: bool = True
    """Coarse-to-fine collaboration (Table 4)."""
    f2c: bool = True
    """Fine-to-coarse collaboration (Table 4)."""
    order: Literal["c2f-f2c", "f2c-c2f"] = "c2f-f2c"
    """Which collaboration comes first (Table 4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order != "c2f-f2c" and not (self.c2f and self.f2c):
            raise ValueError(f"order {self.order!r} does nothing unless both c2f and f2c are on")


class CCNet(CrossModalNetwork):
    config: CCNetConfig

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__(config)
        self.cross_modal_consistency = CrossModalConsistency(config)
        self.coarse_to_fine = CoarseToFine(config) if config.c2f else None
        self.dependencies = TemporalDependencies(config) if config.tdm else None
        self.fine_to_coarse = FineToCoarse(config) if config.f2c else None

    def run(self, inputs: dict[str, Tensor], grid: Grid) -> Outputs:
        streams = {m: self.embed[m](inputs[m], grid.masks[0]) for m in MODALITIES}
        pyramid, gates = self.cross_modal_consistency(streams, grid.masks)
        pyramid = self.collaborate(pyramid, grid)
        logits, offsets = self.decoder(pyramid, grid)
        return Outputs(logits, offsets, gates)

    def collaborate(self, pyramid: list[Tensor], grid: Grid) -> list[Tensor]:
        """MTGC, multi-temporal granularity collaboration: per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        modules = [self.coarse_to_fine, self.dependencies, self.fine_to_coarse]
        for module in modules if self.config.order == "c2f-f2c" else reversed(modules):
            if module is not None:
                pyramid = module(pyramid, grid)
        return pyramid


class CrossModalConsistency(nn.Module):
    """CMCC, cross-modal consistency collaboration: a pyramid of L levels, each half as long as the one before."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        self.levels = nn.ModuleList(ConsistencyLevel(config, level) for level in range(config.num_levels))

    def forward(self, x: dict[str, Tensor], masks: list[Tensor]) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Per modality (B, T, D) -> the pyramid, per level (B, Tl, 2D), and per modality its gates (B, Tl)"""
        pyramid: list[Tensor] = []
        gates: dict[str, list[Tensor]] = {m: [] for m in MODALITIES}
        for level, mask_in, mask_out in zip(self.levels, [masks[0], *masks], masks, strict=False):
            x, opened = level(x, mask_in, mask_out)
            for m, gate in opened.items():
                gates[m].append(gate)
            pyramid.append(torch.cat([x["visual"], x["audio"]], dim=-1))
        return pyramid, gates


class ConsistencyLevel(nn.Module):
    """One scale of CMCC: what the interaction (CMI) finds, raised where the other modality's gate (TCG) opens."""

    def __init__(self, config: CCNetConfig, level: int) -> None:
        super().__init__()
        self.interaction = CrossModalInteraction(config, level, config.cmi)
        self.gates = nn.ModuleDict({m: TemporalConsistencyGate(config, level) for m in MODALITIES if config.tcg})

    def forward(
        self, x: dict[str, Tensor], mask_in: Tensor, mask_out: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Per modality (B, T, D) -> per modality (B, Tl, D), and the gates computed from each (B, Tl)"""
        y: dict[str, Tensor] = self.interaction(x, mask_in)
        gates = {m: gate(x[m], mask_out) for m, gate in self.gates.items()}
        if gates:
            y = {m: y[m] + gates[OTHER[m]][..., None] * y[m] for m in MODALITIES}
        return y, gates


class TemporalConsistencyGate(nn.Module):
    """TCG: where one modality, by its self-attention, finds an event, the other's steps are raised."""

    def __init__(self, config: CCNetConfig, level: int) -> None:
        super().__init__()
        D = config.width
        self.norm_source = nn.LayerNorm(D)
        self.norm_query = nn.LayerNorm(D)
        self.attention = MaskedAttention(D, config.num_heads, stride=1 if level == 0 else 2)
        self.gate = linear(D, 1)
        # Released weights were trained with padding keys in the softmax of every level but the finest.
        self.padded_length = config.max_length // 2**level if level else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T / stride) -> (B, T / stride), in 0..1"""
        bias = count_padding(mask, self.padded_length) if self.padded_length else exclude_padding(mask)
        y = self.attention(self.norm_source(x), self.norm_query(x), mask, bias)
        gate: Tensor = self.gate(y).squeeze(-1)
        return gate.sigmoid()


class CoarseToFine(nn.Module):
    """C2F: every level but the coarsest is asked by the one above it, stretched to its length."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        lengths = [config.max_length // 2**level for level in range(config.num_levels)]
        self.stretch = nn.ModuleList(Stretch(lengths[i + 1], lengths[i]) for i in range(config.num_levels - 1))
        self.block = Block(2 * config.width, config.num_heads, drop_path=config.drop_path)

    def forward(self, pyramid: list[Tensor], grid: Grid) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        refined = []
        for stretch, fine, coarse, mask in zip(self.stretch, pyramid, pyramid[1:], grid.masks, strict=False):
            refined.append(self.block(fine, stretch(coarse, fine.shape[1]), mask))
        return [*refined, pyramid[-1]]


class Stretch(nn.Module):
    """A linear over time, from the steps of one level to those of the next finer one."""

    decays = True

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.weight, self.bias = linear(coarse, fine).parameters()

    def forward(self, x: Tensor, num_steps: int) -> Tensor:
        """(B, Tc, D) -> (B, num_steps, D). Past the video's end x is zero: the slices are exact."""
        return F.linear(x.mT, self.weight[:num_steps, : x.shape[1]], self.bias[:num_steps]).relu().mT


class TemporalDependencies(ClassDependencies):
    """TDM: the dependencies along time and across classes, of classes that are told the whole course of their level."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__(config)
        C, H = config.num_classes, config.class_width
        lengths = [config.max_length // 2**level for level in range(config.num_levels)]
        self.press = Conv(2 * config.width, H)
        self.context = nn.ModuleList(LevelContext(T, C, H, config.drop_path) for T in lengths)

    def inform(self, classes: list[Tensor], pyramid: list[Tensor], grid: Grid) -> list[Tensor]:
        """Per level (B, Tl, C, H) -> (B, Tl, C, H)"""
        pressed = grid.split(grid.put(self.press.at(grid.join(pyramid), grid.steps).relu()))
        return [x + context(tokens.mT) for x, context, tokens in zip(classes, self.context, pressed, strict=True)]


class LevelContext(nn.Module):
    """What the whole course of a level says to each class at each step.

    The H channels are the sequence here, each a token as wide as the level is long.
    """

    def __init__(self, length: int, num_classes: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.length, self.num_classes = length, num_classes
        self.block = Block(length, 1, hidden=hidden, drop_path=drop_path)
        self.linear = linear(length, num_classes * length)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, T), zero past the video's end -> (B, T, C, H)"""
        B, _, T = tokens.shape
        C = self.num_classes
        tokens = F.pad(tokens, (0, self.length - T))  # the block's norms run over the model's whole length
        tokens = self.block(tokens, tokens)
        # The linear gives (C, T) per token; only the T steps at hand are computed.
        weight = self.linear.weight.view(C, self.length, -1)[:, :T].flatten(0, 1)
        bias = self.linear.bias.view(C, self.length)[:, :T].flatten()
        y = F.linear(tokens, weight, bias).relu()  # (B, H, C * T)
        # Released weights read (token, class, step) as (class, H, step): a plain reshape, not a transpose.
        return y.reshape(B, C, -1, T).permute(0, 3, 1, 2)


class FineToCoarse(nn.Module):
    """F2C: every level but the finest attends to the one below it, pooled to its length."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(2 * config.width, 1, drop_path=config.drop_path) for _ in range(config.num_levels - 1)
        )

    def forward(self, pyramid: list[Tensor], grid: Grid) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        refined = [pyramid[0]]
        for block, coarse, mask in zip(self.blocks, pyramid[1:], grid.masks[1:], strict=True):
            refined.append(coarse + block(max_pool(refined[-1]), coarse, mask))
        return refined


Config, Model = CCNetConfig, CCNet

# Ours -> released, applied in order to a parameter's full name.
RELEASED: Names = [
    (r"^cross_modal_consistency\.levels\.0\.interaction\.(\w+)\.", lambda m: f"backbone.ori_CMI_{m[1].title()}."),
    (
        r"^cross_modal_consistency\.levels\.(\d+)\.interaction\.(\w+)\.",
        lambda m: f"backbone.CMI_{m[2].title()}.{int(m[1]) - 1}.",
    ),
    (r"^cross_modal_consistency\.levels\.(\d+)\.gates\.(\w+)\.gate\.", r"backbone.\2_TCG.\1.gate_linear.conv."),
    (r"^cross_modal_consistency\.levels\.(\d+)\.gates\.(\w+)\.", r"backbone.\2_TCG.\1."),
    (r"^coarse_to_fine\.stretch\.", "MTGC_block.C2F_linear."),
    (r"^coarse_to_fine\.block\.", "MTGC_block.C2F_attention."),
    (r"^dependencies\.press\.", "MTGC_block.feature_tem_press.conv."),
    (r"^dependencies\.context\.(\d+)\.block\.", r"MTGC_block.channel_att.\1."),
    (r"^dependencies\.context\.(\d+)\.linear\.", r"MTGC_block.feature_tem_block.\1."),
    (r"^dependencies\.", "MTGC_block."),
    (r"^fine_to_coarse\.blocks\.", "MTGC_block.F2C_attention_block."),
    *PUBLISHED,
]


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a checkpoint that was released with the paper."""
    return any(key.startswith("MTGC_block.") for key in tensors)


def from_published(tensors: Mapping[str, Tensor], max_length: int | None = None) -> CCNet:
    """With the weights of a released checkpoint. ConfigError if they do not fit, or if `max_length` is given."""
    if max_length is not None:
        raise ConfigError("max_length follows from the weights of a ccnet checkpoint: leave it out")
    stages = [key for key in tensors if re.fullmatch(r"MTGC_block\.feature_tem_block\.\d+\.weight", key)]
    fields = published_fields(tensors) | {"num_levels": len(stages)}
    config = CCNetConfig(
        **fields,
        max_length=shape_of(tensors, "MTGC_block.feature_tem_block.0.weight")[1],
        class_width=shape_of(tensors, "MTGC_block.feature_tem_press.conv.weight")[0],
    )
    return load_published(CCNet(config), tensors, RELEASED)
