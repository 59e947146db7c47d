"""What the networks have in common: the two embeddings, the interaction of the modalities, the dependencies between
the classes, the decoder, and the way in and out.

Shapes: B videos, T steps, D channels of a modality, C classes, H channels of a class, l a level, L levels,
Tl = T / 2^l. One step is `stride / fps` seconds. Masks are True at a video's real steps, which come first.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.core.errors import ConfigError
from davel.core.lazy import attributes
from davel.models.blocks import Block, Conv, masked, position_table
from davel.models.detector import Network, NetworkConfig, Objective, TrainingRecipe
from davel.models.losses import Criterion
from davel.models.outputs import Outputs
from davel.models.published import Names, drain, shape_of, take_scalars

__getattr__ = attributes(__name__, moved={"Runs": "davel.models.detector:Detector"})

MODALITIES = ("visual", "audio")
OTHER = {"visual": "audio", "audio": "visual"}


@dataclass(frozen=True, kw_only=True)
class PyramidConfig(NetworkConfig):
    width: int = 512
    """Channels (D in the papers)."""
    num_levels: int = 6
    """Temporal scales (L)."""
    num_heads: int = 4
    """Attention heads of the blocks."""
    drop_path: float = 0.1
    """Chance that training drops a branch of a block; 0 also leaves out the branches' learned scales."""

    def __post_init__(self) -> None:
        for name in ("width", "num_levels", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_length < self.hop or self.max_length % self.hop:
            raise ValueError(
                f"max_length must be a multiple of {self.hop} for {self.num_levels} levels, got {self.max_length}"
            )
        super().__post_init__()
        if self.width % self.num_heads:
            raise ValueError(f"width ({self.width}) must be a multiple of num_heads ({self.num_heads})")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")

    @property
    def hop(self) -> int:
        """Steps of the finest level in one of the coarsest."""
        return 1 << (self.num_levels - 1)

    @staticmethod
    def scaled(width: int) -> dict[str, int]:
        return {"width": width}

    @staticmethod
    def small() -> dict[str, int]:
        return {"width": 64}


@dataclass(frozen=True, kw_only=True)
class CrossModalConfig(PyramidConfig):
    width: int = 512
    """Channels of each modality (D in the papers)."""
    class_width: int = 128
    """Channels of each class in the dependency modelling (H), and of its blocks' hidden layers."""

    def __post_init__(self) -> None:
        if self.class_width < 1:
            raise ValueError(f"class_width must be at least 1, got {self.class_width}")
        super().__post_init__()

    @staticmethod
    def scaled(width: int) -> dict[str, int]:
        """The fields of a network of so many channels, in the papers' proportions."""
        return {"width": width, "class_width": width // 4}

    @staticmethod
    def small() -> dict[str, int]:
        return {"width": 64, "class_width": 24}


class Grid:
    """The steps of all levels of a batch: one after the other in time, with a row of zeros before, between and after.

    What is shared by the levels runs once over all of them, and only at real steps: S rows of a video, N real steps of
    all videos and levels.
    """

    def __init__(self, masks: list[Tensor], everywhere: bool = False, published_masks: bool = False) -> None:
        """`everywhere`: run at padding, too, so that all sizes are known before a video is (for ONNX).

        `published_masks`: see `CrossModalNetwork.forward`.
        """
        self.masks = masks
        """Per level (B, Tl)."""
        self.published_masks = published_masks
        self.lengths = [mask.shape[1] for mask in masks]
        self.B = len(masks[0])
        self.inside = self.join([torch.ones_like(mask)[..., None] for mask in masks])
        """(B * S, 1), False at the rows of zeros."""
        real = self.join([mask[..., None] for mask in masks])
        self.real = real if everywhere else None
        """(B * S, 1), where what is put at padding becomes zero."""
        self.steps = self._all_steps(real.device) if everywhere else real.flatten().nonzero().flatten()
        """(N,), the rows of the real steps."""

    def _all_steps(self, device: torch.device) -> Tensor:
        rows: list[int] = []
        next_row = 0
        for _ in range(self.B):
            for length in self.lengths:
                rows += range(next_row + 1, next_row + 1 + length)
                next_row += 1 + length
            next_row += 1
        return torch.tensor(rows, device=device)

    def class_mask(self, mask: Tensor, num_classes: int) -> Tensor:
        """The mask of the sequences that a level has for each video and class: (B, T) -> (B * C, T)"""
        if self.published_masks:
            return mask.repeat(num_classes, 1)
        return mask.repeat_interleave(num_classes, 0)

    def join(self, levels: list[Tensor]) -> Tensor:
        """Per level (B, Tl, D) -> (B * S, D)"""
        zero = levels[0].new_zeros(self.B, 1, levels[0].shape[-1])
        parts = [zero]
        for level in levels:
            parts += [level, zero]
        return torch.cat(parts, dim=1).flatten(0, 1)

    def split(self, rows: Tensor) -> list[Tensor]:
        """(B * S, D) -> per level (B, Tl, D)"""
        sizes = [1]
        for length in self.lengths:
            sizes += [length, 1]
        return list(torch.split(rows.view(self.B, -1, rows.shape[-1]), sizes, dim=1)[1::2])

    def put(self, at_steps: Tensor) -> Tensor:
        """What the real steps have, zero elsewhere: (N, D) -> (B * S, D)"""
        if self.real is not None:
            levels = torch.split(at_steps.view(self.B, -1, at_steps.shape[1]), self.lengths, dim=1)
            return self.join(list(levels)) * self.real
        rows = at_steps.new_zeros(len(self.inside), at_steps.shape[1])
        return rows.index_copy(0, self.steps, at_steps)

    def take(self, rows: Tensor) -> Tensor:
        """(B * S, D) -> (N, D)"""
        return rows.index_select(0, self.steps)


class PyramidNetwork(Network):
    """A network from two feature sequences to the outputs of a pyramid; `run` is each paper's own."""

    config: PyramidConfig
    class_aware = True
    """Whether a point proposes a segment for every class, or one for all of them."""
    central = True
    """In training, whether one segment for all classes is asked of points near an event's middle only."""
    smoothing = 0.0
    """In training, what of a target is shared by all classes, see `Criterion`."""

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Outputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> per level: logits (B, Tl, C), offsets (B, Tl, C or 1, 2).

        T is anything up to `max_length`, Tl = ceil(T / 2^l). ValueError if shapes do not fit.
        """
        inputs, masks = self.pad(visual, audio, mask)
        return self.crop(self.run(inputs, Grid(masks)), mask)

    @abstractmethod
    def run(self, inputs: dict[str, Tensor], grid: Grid) -> Outputs:
        """Per modality (B, T, its channels), zero at padding -> the outputs at the steps of all levels"""

    def criterion(self, recipe: TrainingRecipe) -> Objective:
        if len(recipe.regression_ranges) != self.config.num_levels:
            raise ConfigError(
                f"recipe: regression_ranges: expected one for each of {self.config.num_levels} levels, "
                f"got {len(recipe.regression_ranges)}"
            )
        return Criterion(
            recipe.initial_positive,
            ranges=recipe.regression_ranges,
            boundaries=recipe.boundaries,
            class_aware=self.class_aware,
            central=self.central,
            smoothing=self.smoothing,
        )

    def exportable(self) -> nn.Module:
        return _AtWholeLength(self)

    def running_length(self, T: int) -> int:
        """The steps that a batch of T steps is run at: as at its whole length, to the last bit of what is defined.

        A step of padding is felt by the last real one, on every level; more are not.
        """
        return min(self.config.hop * math.ceil(T / self.config.hop) + 1, self.whole_length(T))

    def whole_length(self, T: int) -> int:
        """The steps that the released code pads a batch of T steps to."""
        return self.config.max_length

    def pad(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """(B, T, Dv), (B, T, Da), (B, T) -> the inputs by modality at the running length, the masks of the levels.

        ValueError if shapes do not fit.
        """
        self.check_shapes(visual, audio, mask)
        T, length = mask.shape[1], self.running_length(mask.shape[1])
        if not 1 <= T <= length:
            raise ValueError(
                f"this model takes 1 to {self.config.max_length} steps, got {T}: cut the video into windows"
            )
        inputs = {"visual": visual, "audio": audio}
        inputs = {m: F.pad(x.masked_fill(~mask[..., None], 0), (0, 0, 0, length - T)) for m, x in inputs.items()}
        return inputs, self.levels(F.pad(mask, (0, length - T)))

    def levels(self, mask: Tensor) -> list[Tensor]:
        """(B, T) -> per level (B, Tl)"""
        return [mask[:, :: 2**level] for level in range(self.config.num_levels)]

    @staticmethod
    def crop(outputs: Outputs, mask: Tensor) -> Outputs:
        """The outputs at the steps that were asked for: those of the mask (B, T)."""

        def cut(levels: list[Tensor]) -> list[Tensor]:
            return [x[:, : math.ceil(mask.shape[1] / 2**level)] for level, x in enumerate(levels)]

        return Outputs(cut(outputs.logits), cut(outputs.offsets), {m: cut(g) for m, g in outputs.gates.items()}, mask)


class _AtWholeLength(nn.Module):
    """One video at the model's length, whatever its own: all sizes are known but that of what goes in."""

    def __init__(self, network: PyramidNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: Tensor, audio: Tensor) -> Outputs:
        length, T = self.network.config.max_length, visual.shape[1]
        inputs = {"visual": visual, "audio": audio}
        inputs = {m: F.pad(x, (0, 0, 0, length - T)) for m, x in inputs.items()}
        mask = (torch.arange(length) < T)[None]
        outputs = self.network.run(inputs, Grid(self.network.levels(mask), everywhere=True))
        return replace(outputs, mask=mask)


class CrossModalNetwork(PyramidNetwork):
    """One of two streams, which are decoded side by side, with a segment for every class."""

    config: CrossModalConfig

    def __init__(self, config: CrossModalConfig) -> None:
        super().__init__(config)
        self.embed = nn.ModuleDict(
            {"visual": Embedding(config, config.visual_dim), "audio": Embedding(config, config.audio_dim)}
        )
        self.decoder = Decoder(config, 2 * config.width)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor, *, published_masks: bool = False) -> Outputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> per level: logits (B, Tl, C), offsets (B, Tl, C, 2), gates (B, Tl).

        T is anything up to `max_length`, Tl = ceil(T / 2^l). With `published_masks`, dependencies along time take the
        mask of a wrong video of the batch, as the released code does (for `davel.evaluate.predict_published`).
        ValueError if shapes do not fit.
        """
        inputs, masks = self.pad(visual, audio, mask)
        return self.crop(self.run(inputs, Grid(masks, published_masks=published_masks)), mask)


class ConvolutionalEmbedding(nn.Module):
    """Two convolutions, and positions."""

    positions: Tensor

    def __init__(self, config: PyramidConfig, in_channels: int) -> None:
        super().__init__()
        D = config.width
        self.convs = nn.ModuleList([Conv(in_channels, D), Conv(D, D)])
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])
        self.register_buffer("positions", position_table(config.max_length, D), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, in), (B, T) -> (B, T, D)"""
        x = self.convolve(x, mask)
        return x + masked(self.position(x.shape[1]).expand_as(x), mask)

    def convolve(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, in), (B, T) -> (B, T, D). At padding a norm leaves its bias, which the next convolution sees."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, mask)).relu()
        return x

    def position(self, T: int) -> Tensor:
        """The table's first T rows; for a longer sequence the table is stretched: (T, D)"""
        if T <= len(self.positions):
            return self.positions[:T]
        return F.interpolate(self.positions.T[None], T, mode="linear", align_corners=False)[0].T


class Embedding(ConvolutionalEmbedding):
    """Unimodal embedding: two convolutions, positions, two blocks of self-attention."""

    def __init__(self, config: PyramidConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        D = config.width
        self.blocks = nn.ModuleList([Block(D, config.num_heads, drop_path=config.drop_path) for _ in range(2)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, in), (B, T) -> (B, T, D)"""
        x = super().forward(x, mask)
        for block in self.blocks:
            x = block(x, x, mask)
        return x


class CrossModalInteraction(nn.ModuleDict):
    """CMI: each modality adds to itself what the other asks of it; switched off, what it asks of itself."""

    def __init__(self, config: PyramidConfig, level: int, cmi: bool = True) -> None:
        D, heads, stride = config.width, config.num_heads, 1 if level == 0 else 2
        super().__init__({m: Block(D, heads, stride=stride, drop_path=config.drop_path) for m in MODALITIES})
        self.cmi = cmi

    def forward(self, x: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Per modality (B, T, D) -> (B, Tl, D)"""
        return {m: self[m](x[m], x[OTHER[m]] if self.cmi else x[m], mask) for m in MODALITIES}


def cross_modal_pyramid(interactions: Iterable[nn.Module], x: dict[str, Tensor], masks: list[Tensor]) -> list[Tensor]:
    """One interaction after the other, each at half as many steps: per modality (B, T, D) -> per level (B, Tl, 2D)"""
    pyramid: list[Tensor] = []
    for interaction, mask in zip(interactions, [masks[0], *masks], strict=False):
        x = interaction(x, mask)
        pyramid.append(torch.cat([x[m] for m in MODALITIES], dim=-1))
    return pyramid


class ClassDependencies(nn.Module):
    """Every class gets H channels of its own, which look along time and across the classes of a step."""

    def __init__(self, config: CrossModalConfig) -> None:
        super().__init__()
        D, C, H = 2 * config.width, config.num_classes, config.class_width
        self.C = C
        self.expand = Conv(D, C * H)
        self.temporal = Block(H, 1, hidden=H, drop_path=config.drop_path)
        self.cooccurrence = Block(H, 1, hidden=H, drop_path=config.drop_path)
        self.squeeze = Conv(C * H, D)

    def forward(self, pyramid: list[Tensor], grid: Grid) -> list[Tensor]:
        """Per level (B, Tl, 2D) -> (B, Tl, 2D)"""
        own = self.expand.at(grid.join(pyramid), grid.steps).relu()  # (N, C * H)
        levels = [x.view(*x.shape[:2], self.C, -1) for x in grid.split(grid.put(own))]  # (B, Tl, C, H)
        classes = self.inform(levels, pyramid, grid)
        along_time = [self.along_time(x, mask, grid) for x, mask in zip(classes, grid.masks, strict=True)]
        steps = grid.take(grid.join([x.flatten(2) for x in classes])).view(len(own), self.C, -1)  # (N, C, H)
        across_classes = self.cooccurrence(steps, steps)
        joined = grid.join(along_time) + grid.put(across_classes.flatten(1))  # (B * S, C * H)
        return grid.split(grid.put(self.squeeze.at(joined, grid.steps)))

    def inform(self, classes: list[Tensor], pyramid: list[Tensor], grid: Grid) -> list[Tensor]:
        """What the classes are told before they look around: per level (B, Tl, C, H) -> (B, Tl, C, H)"""
        return classes

    def along_time(self, x: Tensor, mask: Tensor, grid: Grid) -> Tensor:
        """One level: (B, T, C, H), (B, T) -> (B, T, C * H)"""
        folded = x.transpose(1, 2).flatten(0, 1)  # (B * C, T, H)
        y: Tensor = self.temporal(folded, folded, grid.class_mask(mask, self.C))
        return y.view(len(x), self.C, *y.shape[1:]).transpose(1, 2).flatten(2)


class Decoder(nn.Module):
    """At every step of every level: a logit per class, and per class, or once for all, the distances to the event's
    start and end."""

    def __init__(self, config: PyramidConfig, in_channels: int, class_aware: bool = True) -> None:
        super().__init__()
        self.classify = Head(config, in_channels, config.num_classes)
        self.regress = Head(config, in_channels, 2 * (config.num_classes if class_aware else 1))
        self.scales = nn.Parameter(torch.ones(config.num_levels))
        self.classify.start_at(-math.log(99))  # every class starts at a probability of 1 %

    def forward(self, pyramid: list[Tensor], grid: Grid) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (B, Tl, in) -> logits (B, Tl, C), offsets (B, Tl, C or 1, 2)"""
        rows = grid.join(pyramid)
        logits, distances = (grid.split(head(rows, grid)) for head in (self.classify, self.regress))
        offsets = [(x * scale).relu().unflatten(-1, (-1, 2)) for x, scale in zip(distances, self.scales, strict=True)]
        return logits, offsets


class Head(nn.Module):
    """Three convolutions over time, shared by all levels."""

    def __init__(self, config: PyramidConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        D = config.width
        self.convs = nn.ModuleList([Conv(in_channels, D), Conv(D, D)])
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])
        self.out = Conv(D, out_channels, bias=True)

    def start_at(self, value: float) -> None:
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, value)

    def forward(self, rows: Tensor, grid: Grid) -> Tensor:
        """(B * S, in) -> (B * S, out)"""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            # at padding the norm leaves its bias, which the last real step sees; between the levels there is nothing
            assert isinstance(conv, Conv)
            rows = norm(grid.put(conv.at(rows, grid.steps))).relu() * grid.inside
        return grid.put(self.out.at(rows, grid.steps))


# Ours -> released, applied in order to a parameter's full name, after those of each paper's own modules.
PUBLISHED: Names = [
    (r"^embed\.(visual|audio)\.convs\.(\d)\.", lambda m: f"backbone.embd_{m[1][0].upper()}.{m[2]}.conv."),
    (r"^embed\.(visual|audio)\.norms\.", lambda m: f"backbone.embd_norm_{m[1][0].upper()}."),
    (r"^embed\.(visual|audio)\.blocks\.", lambda m: f"backbone.self_att_{m[1][0].upper()}."),
    (r"^(\w+_block)\.expand\.", r"\1.feature_expand.conv."),
    (r"^(\w+_block)\.squeeze\.", r"\1.feature_squeeze.conv."),
    (r"^(\w+_block)\.temporal\.", r"\1.temporal_branch."),
    (r"^(\w+_block)\.cooccurrence\.", r"\1.cooccur_branch."),
    (r"^decoder\.classify\.convs\.(\d)\.", r"cls_head.head.\1.conv."),
    (r"^decoder\.classify\.norms\.", "cls_head.norm."),
    (r"^decoder\.classify\.out\.", "cls_head.cls_head.conv."),
    (r"^decoder\.regress\.convs\.(\d)\.", r"reg_head.head.\1.conv."),
    (r"^decoder\.regress\.norms\.", "reg_head.norm."),
    (r"^decoder\.regress\.out\.", "reg_head.offset_head.conv."),
    (r"\.norm_source\.", ".ln11."),
    (r"\.norm_query\.", ".ln12."),
    (r"\.norm\.(weight|bias)$", r".ln2.\1"),
    (r"\.attention\.", ".attn."),
    (r"\.attn\.convs\.(\w+)\.", r".attn.\1_conv.conv."),
    (r"\.attn\.norms\.(\w+)\.", r".attn.\1_norm."),
    (r"\.attn\.linears\.(\w+)\.", r".attn.\1."),
    (r"\.attn\.out\.", ".attn.proj."),
    (r"_TCG\.(\d+)\.attn\.", r"_TCG.\1."),
    (r"\.mlp\.2\.", ".mlp.3."),
    (r"\.drop_attention\.", ".drop_path_attn."),
    (r"\.drop_mlp\.", ".drop_path_mlp."),
]

P = TypeVar("P", bound=PyramidNetwork)


def load_published(network: P, tensors: Mapping[str, Tensor], names: Names) -> P:
    """`network` with the weights of a released checkpoint. ConfigError if one is missing, left over, or does not fit.

    A block that was released without the scales of its branches gets scales of one.
    """
    left = dict(tensors)
    scales = [f"reg_head.scale.{level}.scale" for level in range(network.config.num_levels)]
    state = {"decoder.scales": take_scalars(left, scales)}
    network.load_state_dict(state | drain(network, left, names, skip=state, ones=".drop_path_"))
    return network


def published_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration's fields that the tensors of any checkpoint of two streams and a class each tell."""
    return published_pyramid(tensors) | published_streams(tensors)


def published_streams(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields that the tensors of any checkpoint of two streams tell."""
    width, visual_dim, _ = shape_of(tensors, "backbone.embd_V.0.conv.weight", dims=3)
    audio_dim = shape_of(tensors, "backbone.embd_A.0.conv.weight", dims=3)[1]
    return published_levels(tensors) | {"visual_dim": visual_dim, "audio_dim": audio_dim, "width": width}


def published_pyramid(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields that the tensors of any pyramid's checkpoint with a convolution for its classes tell."""
    return published_levels(tensors) | {"num_classes": shape_of(tensors, "cls_head.cls_head.conv.weight", dims=3)[0]}


def published_levels(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields that the tensors of any pyramid's checkpoint tell."""
    return {
        "drop_path": 0.1 if any(".drop_path_" in key for key in tensors) else 0.0,
        "num_levels": sum(bool(re.fullmatch(r"reg_head\.scale\.\d+\.scale", key)) for key in tensors),
    }
