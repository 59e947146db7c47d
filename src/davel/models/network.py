"""What the networks have in common: the two embeddings, the interaction of the modalities, the dependencies between
the classes, the decoder, and the way in and out.

Shapes: B videos, T steps, D channels of a modality, C classes, H channels of a class, l a level, L levels,
Tl = T / 2^l. One step is `stride / fps` seconds. Masks are True at a video's real steps, which come first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.models.blocks import Block, Conv, masked, position_table

MODALITIES = ("visual", "audio")
OTHER = {"visual": "audio", "audio": "visual"}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    num_classes: int = 100
    """Event classes (C)."""
    visual_dim: int = 2048
    """Channels of a visual feature: 2048 for I3D (RGB, then flow), 1536 for ONE-PEACE."""
    audio_dim: int = 128
    """Channels of an audio feature: 128 for VGGish, 1536 for ONE-PEACE."""
    max_length: int = 224
    """Most steps of a video (T): 224 for I3D and VGGish, 256 for ONE-PEACE. A multiple of 2^(levels - 1)."""
    width: int = 512
    """Channels of each modality (D in the papers)."""
    class_width: int = 128
    """Channels of each class in the dependency modelling (H), and of its blocks' hidden layers."""
    num_levels: int = 6
    """Temporal scales (L)."""
    num_heads: int = 4
    """Attention heads of the blocks between and within modalities."""
    drop_path: float = 0.1
    """Chance that training drops a branch of a block; 0 also leaves out the branches' learned scales."""

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
    Empty lists in a network without gates."""


class Network(nn.Module):
    """A network from two feature sequences to the outputs of a pyramid; `forward` is each paper's own."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.ModuleDict(
            {"visual": Embedding(config, config.visual_dim), "audio": Embedding(config, config.audio_dim)}
        )
        self.decoder = Decoder(config)

    @property
    def unit(self) -> int:
        """Steps of the finest level in one of the coarsest."""
        return 1 << (self.config.num_levels - 1)

    def running_length(self, T: int) -> int:
        """The steps that a batch of T steps is run at: as at `max_length`, to the last bit of what is defined.

        One step of padding on the coarsest level is felt by a video's last steps, more are not.
        """
        return min(self.unit * (math.ceil(T / self.unit) + 1), self.config.max_length)

    def pad(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """(B, T, Dv), (B, T, Da), (B, T) -> the inputs by modality at the running length, the mask of each level.

        ValueError if shapes do not fit.
        """
        (B, T), config = mask.shape, self.config
        if visual.shape != (B, T, config.visual_dim) or audio.shape != (B, T, config.audio_dim):
            raise ValueError(
                f"for a mask of {(B, T)}, expected visual {(B, T, config.visual_dim)} and audio "
                f"{(B, T, config.audio_dim)}, got {tuple(visual.shape)} and {tuple(audio.shape)}"
            )
        length = self.running_length(T)
        if not 1 <= T <= length:
            raise ValueError(f"this model takes 1 to {config.max_length} steps, got {T}: cut the video into windows")
        inputs = {"visual": visual, "audio": audio}
        inputs = {m: F.pad(x.masked_fill(~mask[..., None], 0), (0, 0, 0, length - T)) for m, x in inputs.items()}
        mask = F.pad(mask, (0, length - T))
        return inputs, [mask[:, :: 2**level] for level in range(config.num_levels)]

    @staticmethod
    def crop(outputs: Outputs, T: int) -> Outputs:
        """The outputs at the T steps that were asked for."""

        def cut(levels: list[Tensor]) -> list[Tensor]:
            return [x[:, : math.ceil(T / 2**level)] for level, x in enumerate(levels)]

        return Outputs(cut(outputs.logits), cut(outputs.offsets), {m: cut(g) for m, g in outputs.gates.items()})


class Embedding(nn.Module):
    """Unimodal embedding: two convolutions, positions, two blocks of self-attention."""

    positions: Tensor

    def __init__(self, config: NetworkConfig, in_channels: int) -> None:
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
        x = x + masked(self.position(x.shape[1]).expand_as(x), mask)
        for block in self.blocks:
            x = block(x, x, mask)
        return x

    def position(self, T: int) -> Tensor:
        """The table's first T rows; for a longer sequence the table is stretched: (T, D)"""
        if T <= len(self.positions):
            return self.positions[:T]
        return F.interpolate(self.positions.T[None], T, mode="linear", align_corners=False)[0].T


class CrossModalInteraction(nn.ModuleDict):
    """CMI: each modality asks the other and adds the answer to itself; switched off, it asks itself."""

    def __init__(self, config: NetworkConfig, level: int, cmi: bool = True) -> None:
        D, heads, stride = config.width, config.num_heads, 1 if level == 0 else 2
        super().__init__({m: Block(D, heads, stride=stride, drop_path=config.drop_path) for m in MODALITIES})
        self.cmi = cmi

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Per modality (B, T, D) -> (B, Tl, D)"""
        return {m: self[m](x[m], x[OTHER[m]] if self.cmi else x[m], mask) for m in MODALITIES}


class ClassDependencies(nn.Module):
    """Every class gets H channels of its own, which look along time and across the classes of a step."""

    published_masks = False
    """Take the mask of a wrong video along time, as the released code does (for `davel.evaluate.predict_published`)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        D, C, H = 2 * config.width, config.num_classes, config.class_width
        self.C = C
        self.expand = Conv(D, C * H)
        self.temporal = Block(H, 1, hidden=H, drop_path=config.drop_path)
        self.cooccurrence = Block(H, 1, hidden=H, drop_path=config.drop_path)
        self.squeeze = Conv(C * H, D)

    def forward(self, pyramid: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        return [self.depend(level, x, mask) for level, (x, mask) in enumerate(zip(pyramid, masks, strict=True))]

    def classes(self, level: int, x: Tensor, mask: Tensor) -> Tensor:
        """What each class sees of a level: (B, T, 2D), (B, T) -> (B, T, C, H)"""
        own: Tensor = self.expand(x, mask).relu()
        return own.view(*mask.shape, self.C, -1)

    def depend(self, level: int, x: Tensor, mask: Tensor) -> Tensor:
        """One level: (B, T, 2D), (B, T) -> (B, T, 2D)"""
        B, T = mask.shape
        x_classes = self.classes(level, x, mask)  # (B, T, C, H)
        folded, folded_mask = fold_classes(x_classes.transpose(1, 2), mask)
        if self.published_masks:
            folded_mask = mask.repeat(self.C, 1)
        along_time = self.temporal(folded, folded, folded_mask)  # (B * C, T, H)
        along_time = along_time.unflatten(0, (B, self.C)).transpose(1, 2)  # (B, T, C, H)
        steps = x_classes.flatten(0, 1)  # (B * T, C, H)
        across_classes = self.cooccurrence(steps, steps).unflatten(0, (B, T))  # (B, T, C, H)
        joined = along_time + across_classes * mask[..., None, None]
        related: Tensor = self.squeeze(joined.flatten(2), mask)
        return related


def fold_classes(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, T, H), (B, T) -> (B*C, T, H), (B*C, T)"""
    B, C, T, _ = x.shape
    return x.flatten(0, 1), mask[:, None].expand(B, C, T).flatten(0, 1)


class Decoder(nn.Module):
    """At every step of every level: a logit per class, and per class the distances to the event's start and end."""

    def __init__(self, config: NetworkConfig) -> None:
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

    def __init__(self, config: NetworkConfig, out_channels: int) -> None:
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
