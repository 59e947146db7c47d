"""CCNet: dense audio-visual event localization (Zhou et al., AAAI 2025, arXiv:2412.12628).

Shapes: B videos, T steps, D channels of a modality, C classes, H channels of a class, l a level, L levels,
Tl = T / 2^l. One step is `stride / fps` seconds. Masks are True at a video's real steps, which come first.

Where the paper leaves a choice, the released model's is taken; a released checkpoint gives the same events here
(`davel.models.published`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.models.blocks import (
    Block,
    Conv,
    MaskedAttention,
    count_padding,
    exclude_padding,
    linear,
    masked,
    max_pool,
    position_table,
)

MODALITIES = ("visual", "audio")
OTHER = {"visual": "audio", "audio": "visual"}


@dataclass(frozen=True, kw_only=True)
class CCNetConfig:
    name: Literal["ccnet"] = "ccnet"
    num_classes: int = 100
    """Event classes (C)."""
    visual_dim: int = 2048
    """Channels of a visual feature: 2048 for I3D (RGB, then flow), 1536 for ONE-PEACE."""
    audio_dim: int = 128
    """Channels of an audio feature: 128 for VGGish, 1536 for ONE-PEACE."""
    max_length: int = 224
    """Most steps of a video (T): 224 for I3D and VGGish, 256 for ONE-PEACE. A multiple of 2^(levels - 1)."""
    width: int = 512
    """Channels of each modality (D in the paper)."""
    class_width: int = 128
    """Channels of each class in the temporal dependency modelling (H), and of its blocks' hidden layers."""
    num_levels: int = 6
    """Temporal scales (L)."""
    num_heads: int = 4
    """Attention heads of the blocks between and within modalities."""
    drop_path: float = 0.1
    """Chance that training drops a branch of a block; 0 also leaves out the branches' learned scales."""
    cmi: bool = True
    """Cross-modal interaction: without it, each modality attends to itself in blocks of the same size (Table 3)."""
    tcg: bool = True
    """Temporal consistency gates (Table 3)."""
    c2f: bool = True
    """Coarse-to-fine collaboration (Table 4)."""
    f2c: bool = True
    """Fine-to-coarse collaboration (Table 4)."""
    order: Literal["c2f-f2c", "f2c-c2f"] = "c2f-f2c"
    """Which collaboration comes first (Table 4)."""

    def __post_init__(self) -> None:
        for name in ("num_classes", "visual_dim", "audio_dim", "width", "class_width", "num_levels", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        unit = 2 ** (self.num_levels - 1)
        if self.max_length < unit or self.max_length % unit:
            raise ValueError(
                f"max_length must be a multiple of {unit} for {self.num_levels} levels, got {self.max_length}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width ({self.width}) must be a multiple of num_heads ({self.num_heads})")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")
        if self.order != "c2f-f2c" and not (self.c2f and self.f2c):
            raise ValueError(f"order {self.order!r} does nothing unless both c2f and f2c are on")


@dataclass(frozen=True)
class Outputs:
    """What the decoder says at every step of every level; defined at real steps only.

    Step i of level l stands for the time of step i * 2^l of the input.
    """

    logits: list[Tensor]
    """Per level (B, Tl, C)."""
    offsets: list[Tensor]
    """Per level (B, Tl, C, 2): distance to the event's start and end, in steps of the level."""
    gates: dict[str, list[Tensor]]
    """`audio` and `visual`: per level (B, Tl), how much the gate computed from that modality opens the other one.
    Empty lists where the gates are switched off."""


class CCNet(nn.Module):
    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.ModuleDict(
            {"visual": Embedding(config, config.visual_dim), "audio": Embedding(config, config.audio_dim)}
        )
        self.cross_modal_consistency = CrossModalConsistency(config)
        self.coarse_to_fine = CoarseToFine(config) if config.c2f else None
        self.dependencies = TemporalDependencies(config)
        self.fine_to_coarse = FineToCoarse(config) if config.f2c else None
        self.decoder = Decoder(config)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Outputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> per level: logits (B, Tl, C), offsets (B, Tl, C, 2), gates (B, Tl).

        T is anything up to `max_length`, Tl = ceil(T / 2^l). ValueError if shapes do not fit.
        """
        T = self._check(visual, audio, mask)
        length = self.running_length(T)
        mask = F.pad(mask, (0, length - T))
        inputs = {"visual": visual, "audio": audio}
        inputs = {m: F.pad(x.masked_fill(~mask[:, :T, None], 0), (0, 0, 0, length - T)) for m, x in inputs.items()}
        masks = [mask[:, :: 2**level] for level in range(self.config.num_levels)]

        streams = {m: self.embed[m](inputs[m], mask) for m in MODALITIES}
        pyramid, gates = self.cross_modal_consistency(streams, masks)
        pyramid = self.collaborate(pyramid, masks)
        logits, offsets = self.decoder(pyramid, masks)

        steps = [math.ceil(T / 2**level) for level in range(self.config.num_levels)]
        return Outputs(
            logits=[x[:, :n] for x, n in zip(logits, steps, strict=True)],
            offsets=[x[:, :n] for x, n in zip(offsets, steps, strict=True)],
            gates={m: [x[:, :n] for x, n in zip(gates[m], steps, strict=False)] for m in MODALITIES},
        )

    def collaborate(self, pyramid: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """MTGC, multi-temporal granularity collaboration: per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        modules = [self.coarse_to_fine, self.dependencies, self.fine_to_coarse]
        for module in modules if self.config.order == "c2f-f2c" else reversed(modules):
            if module is not None:
                pyramid = module(pyramid, masks)
        return pyramid

    def running_length(self, T: int) -> int:
        """The steps that a batch of T steps is run at: as at `max_length`, to the last bit of what is defined.

        At every level one step of padding is felt by the last real step, further ones never are.
        """
        unit = 1 << (self.config.num_levels - 1)
        return min(unit * (math.ceil(T / unit) + 1), self.config.max_length)

    def _check(self, visual: Tensor, audio: Tensor, mask: Tensor) -> int:
        config = self.config
        B, T = mask.shape
        if visual.shape != (B, T, config.visual_dim) or audio.shape != (B, T, config.audio_dim):
            raise ValueError(
                f"for a mask of {(B, T)}, expected visual {(B, T, config.visual_dim)} and audio "
                f"{(B, T, config.audio_dim)}, got {tuple(visual.shape)} and {tuple(audio.shape)}"
            )
        if not 1 <= T <= config.max_length:
            raise ValueError(f"this model takes 1 to {config.max_length} steps, got {T}: cut the video into windows")
        return T


class Embedding(nn.Module):
    """Unimodal embedding: two convolutions, positions, two blocks of self-attention."""

    positions: Tensor

    def __init__(self, config: CCNetConfig, in_channels: int) -> None:
        super().__init__()
        D = config.width
        self.convs = nn.ModuleList([Conv(in_channels, D), Conv(D, D)])
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])
        self.blocks = nn.ModuleList([Block(D, config.num_heads, drop_path=config.drop_path) for _ in range(2)])
        self.register_buffer("positions", position_table(config.max_length, D), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, in), (B, T) -> (B, T, D)"""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, mask)).relu()
        x = x + masked(self.positions[: x.shape[1]].expand_as(x), mask)
        for block in self.blocks:
            x = block(x, x, mask)
        return x


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
        self.interaction = CrossModalInteraction(config, level)
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


class CrossModalInteraction(nn.ModuleDict):
    """CMI: each modality asks the other and adds the answer to itself; switched off, it asks itself."""

    def __init__(self, config: CCNetConfig, level: int) -> None:
        D, heads, stride = config.width, config.num_heads, 1 if level == 0 else 2
        super().__init__({m: Block(D, heads, stride=stride, drop_path=config.drop_path) for m in MODALITIES})
        self.cmi = config.cmi

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Per modality (B, T, D) -> (B, Tl, D)"""
        return {m: self[m](x[m], x[OTHER[m]] if self.cmi else x[m], mask) for m in MODALITIES}


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

    def forward(self, pyramid: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        refined = []
        for stretch, fine, coarse, mask in zip(self.stretch, pyramid, pyramid[1:], masks, strict=False):
            refined.append(self.block(fine, stretch(coarse, fine.shape[1]), mask))
        return [*refined, pyramid[-1]]


class Stretch(nn.Linear):
    """A linear over time, from the steps of one level to those of the next finer one."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__(coarse, fine)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, num_steps: int) -> Tensor:  # type: ignore[override]
        """(B, Tc, D) -> (B, num_steps, D). Past the video's end x is zero: the slices are exact."""
        return F.linear(x.mT, self.weight[:num_steps, : x.shape[1]], self.bias[:num_steps]).relu().mT


class TemporalDependencies(nn.Module):
    """TDM: every class gets H channels of its own, which look along time and across the classes of a step."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        D, C, H = 2 * config.width, config.num_classes, config.class_width
        self.C = C
        lengths = [config.max_length // 2**level for level in range(config.num_levels)]
        self.expand = Conv(D, C * H)
        self.press = Conv(D, H)
        self.context = nn.ModuleList(LevelContext(T, C, H, config.drop_path) for T in lengths)
        self.temporal = Block(H, 1, hidden=H, drop_path=config.drop_path)
        self.cooccurrence = Block(H, 1, hidden=H, drop_path=config.drop_path)
        self.squeeze = Conv(C * H, D)

    def forward(self, pyramid: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        return [self.depend(level, x, mask) for level, (x, mask) in enumerate(zip(pyramid, masks, strict=True))]

    def depend(self, level: int, x: Tensor, mask: Tensor) -> Tensor:
        B, T = mask.shape
        x_classes = self.expand(x, mask).relu().unflatten(-1, (self.C, -1))  # (B, T, C, H)
        x_classes = x_classes + self.context[level](self.press(x, mask).relu().mT)
        folded, folded_mask = fold_classes(x_classes.transpose(1, 2), mask)
        along_time = self.temporal(folded, folded, folded_mask)  # (B * C, T, H)
        along_time = along_time.unflatten(0, (B, self.C)).transpose(1, 2)  # (B, T, C, H)
        steps = x_classes.flatten(0, 1)  # (B * T, C, H)
        across_classes = self.cooccurrence(steps, steps).unflatten(0, (B, T))  # (B, T, C, H)
        joined = along_time + across_classes * mask[..., None, None]
        related: Tensor = self.squeeze(joined.flatten(2), mask)
        return related


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


def fold_classes(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, T, H), (B, T) -> (B*C, T, H), (B*C, T)"""
    B, C, T, _ = x.shape
    return x.flatten(0, 1), mask[:, None].expand(B, C, T).flatten(0, 1)


class FineToCoarse(nn.Module):
    """F2C: every level but the finest attends to the one below it, pooled to its length."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(2 * config.width, 1, drop_path=config.drop_path) for _ in range(config.num_levels - 1)
        )

    def forward(self, pyramid: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        refined = [pyramid[0]]
        for block, coarse, mask in zip(self.blocks, pyramid[1:], masks[1:], strict=True):
            refined.append(coarse + block(max_pool(refined[-1]), coarse, mask))
        return refined


class Decoder(nn.Module):
    """At every step of every level: a logit per class, and per class the distances to the event's start and end."""

    def __init__(self, config: CCNetConfig) -> None:
        super().__init__()
        self.classify = Head(config, config.num_classes)
        self.regress = Head(config, 2 * config.num_classes)
        self.scales = nn.Parameter(torch.ones(config.num_levels))
        self.classify.start_at(-math.log(99))  # every class starts at a probability of 1 %

    def forward(self, pyramid: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (B, Tl, 2D) -> logits (B, Tl, C), offsets (B, Tl, C, 2)"""
        logits = [self.classify(x, mask) for x, mask in zip(pyramid, masks, strict=True)]
        offsets = [
            (self.regress(x, mask) * scale).relu().unflatten(-1, (-1, 2))
            for x, mask, scale in zip(pyramid, masks, self.scales, strict=True)
        ]
        return logits, offsets


class Head(nn.Module):
    """Three convolutions over time, shared by all levels."""

    def __init__(self, config: CCNetConfig, out_channels: int) -> None:
        super().__init__()
        D = config.width
        self.convs = nn.ModuleList([Conv(2 * D, D), Conv(D, D)])
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])
        self.out = Conv(D, out_channels, bias=True)

    def start_at(self, value: float) -> None:
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, value)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, 2D), (B, T) -> (B, T, out)"""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, mask)).relu()
        y: Tensor = self.out(x, mask)
        return y
