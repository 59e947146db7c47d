"""TadTR: end-to-end temporal action detection with transformers (Liu et al., IEEE TIP 2022, arXiv:2106.10271), on the
two modalities' features side by side, as CCNet's Table 1 has it.

A set of queries looks at the whole video; each says one segment, a score for every class, and how much of an event lies
there. Nothing is suppressed: in training every event is given to one query (`davel.models.sets`).

Shapes: B videos, T steps of the canvas that each video is laid on, D channels, h heads, P points, Q queries, K decoder
layers, C classes. A segment is (centre, width) in units of the canvas: step i is the interval [i / T, (i + 1) / T].

A released checkpoint gives the same events here (`from_published`). Neither paper says how it is laid on UnAV-100: the
canvas, onto which each video is stretched, is davel's own choice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from davel.core.errors import ConfigError
from davel.models.blocks import interpolate
from davel.models.detector import DecodeSettings, Network, NetworkConfig, NmsSettings, TrainingRecipe
from davel.models.published import Names, drain, shape_of, visual_channels
from davel.models.sets import Canvas, SetCriterion, SetOutputs, lengths_of

GROUPS = 32
"""Of channels that the projection's norm takes together."""
BINS = 16
"""Parts of a region whose features are pooled for its actionness."""
REGION = 0.75
"""How far that region reaches from the segment's centre, in widths of the segment."""
SLOW = ("reference_points", "sampling_offsets")
"""What learns at a tenth of the rate."""


@dataclass(frozen=True, kw_only=True)
class TadTRConfig(NetworkConfig):
    name: Literal["tadtr"] = "tadtr"
    width: int = 256
    """Channels (D)."""
    hidden: int = 1024
    """Channels of the feed-forward layers."""
    num_heads: int = 8
    """Attention heads (h)."""
    num_points: int = 4
    """Points that a head of the deformable attention looks at (P)."""
    encoder_layers: int = 4
    decoder_layers: int = 4
    """The decoder's (K)."""
    num_queries: int = 40
    """Most events of a window (Q)."""
    dropout: float = 0.1
    """Chance that training drops a value."""
    rescale: bool = True
    """Whether a video is stretched to `max_length`; else zeros follow it, and count as video."""
    margin: float = 1.5
    """Steps that a stretched video reaches beyond the centres of its first and last one: half of what a step sees, 1.5
    for I3D, 2 for ONE-PEACE."""

    needs_audio = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "hidden", "num_heads", "num_points", "encoder_layers", "decoder_layers", "num_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.num_heads or self.width % 2:
            raise ValueError(f"width ({self.width}) must be even and a multiple of num_heads ({self.num_heads})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin must be at least 0, got {self.margin}")

    @property
    def canvas(self) -> Canvas:
        return Canvas(self.max_length, self.margin if self.rescale else None)

    @staticmethod
    def scaled(width: int) -> dict[str, int]:
        return {"width": width, "hidden": 4 * width, "num_heads": math.gcd(8, width)}

    @staticmethod
    def small() -> dict[str, int]:
        return {"width": 64, "hidden": 256}

    @staticmethod
    def timed(stride: int, window: int) -> dict[str, float]:
        return {"margin": window / (2 * stride)}


class TadTR(Network):
    config: TadTRConfig
    detection = DecodeSettings(min_score=0.0, max_candidates=100, min_length=0.0, nms=NmsSettings(method="none"))

    def __init__(self, config: TadTRConfig) -> None:
        super().__init__(config)
        self.project = Projection(config.visual_dim + config.audio_dim, config.width)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.actionness = Actionness(config.width)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> SetOutputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> logits (K, B, Q, C), segments (K, B, Q, 2), actionness (B, Q).

        ValueError if shapes do not fit, or if a mask has holes.
        """
        self.check_shapes(visual, audio, mask)
        canvas = self.config.canvas
        if not 1 <= mask.shape[1] <= canvas.length:
            raise ValueError(
                f"this model takes 1 to {canvas.length} steps, got {mask.shape[1]}: cut the video into windows"
            )
        lengths = lengths_of(mask)
        video = torch.cat([visual, audio], dim=-1).masked_fill(~mask[..., None], 0)
        memory = self.encoder(self.project(canvas.draw(video, lengths)))
        logits, segments = self.decoder(memory)
        return SetOutputs(logits, segments, self.actionness(memory, segments[-1]), lengths, canvas)

    def criterion(self, recipe: TrainingRecipe) -> SetCriterion:
        return SetCriterion(self.config.canvas)

    def parameter_groups(self, recipe: TrainingRecipe) -> list[dict[str, Any]]:
        """All decays; what chooses where attention looks learns at a tenth of the rate."""
        slow = {name: any(part in name for part in SLOW) for name, _ in self.named_parameters()}
        return [
            {
                "params": [x for name, x in self.named_parameters() if slow[name] == is_slow],
                "weight_decay": recipe.weight_decay,
                "factor": 0.1 if is_slow else 1.0,
            }
            for is_slow in (False, True)
        ]


class Projection(nn.Module):
    """Every step to D channels, which a norm levels over the whole canvas."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, width)
        self.norm = nn.GroupNorm(math.gcd(GROUPS, width), width)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, D)"""
        y: Tensor = self.norm(self.linear(x).mT)
        return y.mT


class Encoder(nn.Module):
    """Every step looks around itself: the result is the memory that the queries ask."""

    position: Tensor

    def __init__(self, config: TadTRConfig) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.randn(1, config.width))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.register_buffer("position", position_table(config.max_length, config.width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        T = x.shape[1]
        position = self.position + self.level
        reference = (torch.arange(T, device=x.device)[:, None] + 0.5) / T  # (T, 1)
        for layer in self.layers:
            x = layer(x, position, reference.expand(len(x), -1, -1))
        return x


class EncoderLayer(nn.Module):
    def __init__(self, config: TadTRConfig) -> None:
        super().__init__()
        D = config.width
        self.attention = DeformableAttention(D, config.num_heads, config.num_points)
        self.norm_attention = nn.LayerNorm(D)
        self.mlp = feed_forward(config)
        self.norm_mlp = nn.LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)
        self.recompute = False
        """Compute inner values again in the backward pass instead of keeping them."""

    def forward(self, x: Tensor, position: Tensor, reference: Tensor) -> Tensor:
        """(B, T, D), (T, D), (B, T, 1) -> (B, T, D)"""
        y: Tensor = _recomputed(self, x, position, reference)
        return y

    def compute(self, x: Tensor, position: Tensor, reference: Tensor) -> Tensor:
        x = self.norm_attention(x + self.dropout(self.attention(x + position, reference, x)))
        y: Tensor = self.norm_mlp(x + self.dropout(self.mlp(x)))
        return y


class Decoder(nn.Module):
    """Every query looks at the memory where its last segment was, and says a better one."""

    def __init__(self, config: TadTRConfig) -> None:
        super().__init__()
        D, K = config.width, config.decoder_layers
        self.queries = nn.Parameter(torch.randn(config.num_queries, 2 * D))
        """Position, then content."""
        self.reference_points = nn.Linear(D, 1)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(K))
        self.classify = nn.ModuleList(nn.Linear(D, config.num_classes) for _ in range(K))
        self.locate = nn.ModuleList(mlp(D, D, 2) for _ in range(K))
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        self._start_heads()

    def _start_heads(self) -> None:
        """Those of all layers start equal: every class at a probability of 1 %, every segment at its reference, of a
        width of sigmoid(-2)."""
        weight, bias = list(self.locate[0].parameters())[-2:]
        nn.init.zeros_(weight)
        nn.init.zeros_(bias)
        nn.init.constant_(list(self.classify[0].parameters())[1], -math.log(99))
        for heads in (self.classify, self.locate):
            for head in heads[1:]:
                head.load_state_dict(heads[0].state_dict())
        nn.init.constant_(bias[1:], -2.0)

    def forward(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> logits (K, B, Q, C), segments (K, B, Q, 2)"""
        position, content = self.queries.repeat(len(memory), 1, 1).chunk(2, dim=-1)  # (B, Q, D) each
        reference = self.reference_points(position).float().sigmoid()  # (B, Q, 1): a centre
        logits, segments = [], []
        for layer, classify, locate in zip(self.layers, self.classify, self.locate, strict=True):
            content = layer(content, position, reference, memory)
            start = F.pad(logit(reference), (0, 2 - reference.shape[-1]))  # a first reference has no width
            segment = (locate(content).float() + start).sigmoid()
            reference = segment.detach()
            logits.append(classify(content))
            segments.append(segment)
        return torch.stack(logits), torch.stack(segments)


class DecoderLayer(nn.Module):
    def __init__(self, config: TadTRConfig) -> None:
        super().__init__()
        D = config.width
        self.self_attention = nn.MultiheadAttention(D, config.num_heads, config.dropout, batch_first=True)
        self.norm_self = nn.LayerNorm(D)
        self.attention = DeformableAttention(D, config.num_heads, config.num_points)
        self.norm_attention = nn.LayerNorm(D)
        self.mlp = feed_forward(config)
        self.norm_mlp = nn.LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)
        self.recompute = False
        """As in the encoder."""
        nn.init.xavier_uniform_(self.self_attention.out_proj.weight)

    def forward(self, x: Tensor, position: Tensor, reference: Tensor, memory: Tensor) -> Tensor:
        """2 x (B, Q, D), (B, Q, 1 or 2), (B, T, D) -> (B, Q, D)"""
        y: Tensor = _recomputed(self, x, position, reference, memory)
        return y

    def compute(self, x: Tensor, position: Tensor, reference: Tensor, memory: Tensor) -> Tensor:
        query = x + position
        x = self.norm_self(x + self.dropout(self.self_attention(query, query, x, need_weights=False)[0]))
        x = self.norm_attention(x + self.dropout(self.attention(x + position, reference, memory)))
        y: Tensor = self.norm_mlp(x + self.dropout(self.mlp(x)))
        return y


def _recomputed(layer: EncoderLayer | DecoderLayer, *inputs: Tensor) -> Any:
    if layer.recompute and layer.training:
        return checkpoint(layer.compute, *inputs, use_reentrant=False)
    return layer.compute(*inputs)


class DeformableAttention(nn.Module):
    """Each head looks at a few points around a reference, and says itself where they are and what each weighs."""

    def __init__(self, channels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_points = num_heads, num_points
        self.sampling_offsets = nn.Linear(channels, num_heads * num_points)
        self.weights = nn.Linear(channels, num_heads * num_points)
        self.values = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        for layer in (self.sampling_offsets, self.weights):
            nn.init.zeros_(layer.weight)
        for layer in (self.values, self.out):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.weights, self.values, self.out):
            nn.init.zeros_(layer.bias)
        # heads look to the two sides in turn, each point a step farther
        direction = (4 * math.pi * torch.arange(num_heads) / num_heads).cos()
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((direction[:, None] * (1 + torch.arange(num_points))).flatten())

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor) -> Tensor:
        """(B, Q, D), centres (B, Q, 1) or segments (B, Q, 2), (B, T, D) -> (B, Q, D)"""
        (B, Q, D), T, h, P = query.shape, memory.shape[1], self.num_heads, self.num_points
        offsets = self.sampling_offsets(query).view(B, Q, h, P).float()
        weights = self.weights(query).view(B, Q, h, P).softmax(-1)
        reach = 1 / T if reference.shape[-1] == 1 else reference[..., 1, None, None] / (2 * P)
        at = (reference[..., 0, None, None] + offsets * reach) * T - 0.5  # (B, Q, h, P)
        values = self.values(memory).view(B, T, h, -1).transpose(1, 2).flatten(0, 1)  # (B * h, T, D / h)
        seen = interpolate(values, at.transpose(1, 2).reshape(B * h, Q * P)).view(B, h, Q, P, -1)
        heads = (weights.transpose(1, 2)[..., None] * seen).sum(3)  # (B, h, Q, D / h)
        y: Tensor = self.out(heads.transpose(1, 2).reshape(B, Q, D))
        return y


class Actionness(nn.Module):
    """How much of an event lies in a segment, by what the memory has there and around."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(BINS * width, width, 1)

    def forward(self, memory: Tensor, segments: Tensor) -> Tensor:
        """(B, T, D), (B, Q, 2) -> (B, Q)"""
        T = memory.shape[1]
        centre, width = segments.detach().unbind(-1)
        regions = (torch.stack([centre - REGION * width, centre + REGION * width], dim=-1) * T).clamp(0, T)
        pooled = roi_align(memory, regions)  # (B, Q, BINS, D)
        y: Tensor = self.mlp(pooled.mT.flatten(2))  # the bins of a channel stand together
        return y.squeeze(-1).sigmoid()


def feed_forward(config: TadTRConfig) -> nn.Sequential:
    layers = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(layers[0], nn.ReLU(), nn.Dropout(config.dropout), layers[1])


def mlp(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out_channels)
    )


def position_table(length: int, channels: int) -> Tensor:
    """Sinusoids of growing wavelength along the whole canvas, sines at even and cosines at odd channels: (T, D)"""
    pair = torch.arange(channels, dtype=torch.float64) // 2
    turn = 2 * math.pi * torch.arange(1, length + 1, dtype=torch.float64)[:, None] / length
    angle = turn / 10000 ** (2 * pair / channels)
    return torch.where(torch.arange(channels) % 2 == 0, angle.sin(), angle.cos()).float()


def logit(x: Tensor, eps: float = 1e-5) -> Tensor:
    """What the sigmoid makes x of, at most so near to 0 and 1."""
    return x.clamp(min=eps).log() - (1 - x).clamp(min=eps).log()


def roi_align(x: Tensor, regions: Tensor, bins: int = BINS) -> Tensor:
    """The mean features of equal parts of regions, each at least a step long: (B, T, D), start and end in steps, none
    longer than T, (B, Q, 2) -> (B, Q, bins, D). Step i is at i; the gradient goes to the features only.

    The RoIAlign of He et al. (ICCV 2017, arXiv:1703.06870) in one dimension: a part is the mean of samples that are at
    most a step apart, and a sample lies on a line between two steps.
    """
    weights = _roi_weights(regions.detach().float(), x.shape[1], bins).to(x.dtype)  # (B, Q * bins, T)
    return (weights @ x).view(*regions.shape[:2], bins, -1)


def _roi_weights(regions: Tensor, T: int, bins: int) -> Tensor:
    """What each step weighs in each part: (B, Q, 2) -> (B, Q * bins, T)"""
    start, end = regions[..., None, None].unbind(2)  # (B, Q, 1, 1)
    part = (end - start).clamp(min=1) / bins
    num_samples = part.ceil()
    sample = torch.arange(math.ceil(T / bins), device=regions.device)
    at = start + part * (torch.arange(bins, device=regions.device)[:, None] + (sample + 0.5) / num_samples)
    counts = (sample < num_samples) & (at >= -1) & (at <= T)  # (B, Q, bins, samples)
    at = at.nan_to_num().clamp(0, T - 1)
    before = at.floor()
    share, weight = at - before, counts / num_samples
    weights = at.new_zeros(*at.shape[:3], T)
    weights.scatter_add_(-1, before.long(), weight * (1 - share))
    weights.scatter_add_(-1, (before + 1).clamp(max=T - 1).long(), weight * share)
    return weights.flatten(1, 2)


Config, Model = TadTRConfig, TadTR

# Ours -> released, applied in order to a parameter's full name.
RELEASED: Names = [
    (r"^project\.linear\.", "input_proj.0.0."),
    (r"^project\.norm\.", "input_proj.0.1."),
    (r"^encoder\.level$", "transformer.level_embed"),
    (r"^decoder\.queries$", "query_embed.weight"),
    (r"^decoder\.reference_points\.", "transformer.reference_points."),
    (r"^decoder\.classify\.", "class_embed."),
    (r"^decoder\.locate\.(\d+)\.(\d)\.", lambda m: f"segment_embed.{m[1]}.layers.{int(m[2]) // 2}."),
    (r"^actionness\.mlp\.", "actionness_pred."),
    (r"^encoder\.layers\.(\d+)\.attention\.", r"transformer.encoder.layers.\1.self_attn."),
    (r"^encoder\.layers\.(\d+)\.norm_attention\.", r"transformer.encoder.layers.\1.norm1."),
    (r"^encoder\.layers\.(\d+)\.norm_mlp\.", r"transformer.encoder.layers.\1.norm2."),
    (r"^decoder\.layers\.(\d+)\.attention\.", r"transformer.decoder.layers.\1.cross_attn."),
    (r"^decoder\.layers\.(\d+)\.self_attention\.", r"transformer.decoder.layers.\1.self_attn."),
    (r"^decoder\.layers\.(\d+)\.norm_attention\.", r"transformer.decoder.layers.\1.norm1."),
    (r"^decoder\.layers\.(\d+)\.norm_self\.", r"transformer.decoder.layers.\1.norm2."),
    (r"^decoder\.layers\.(\d+)\.norm_mlp\.", r"transformer.decoder.layers.\1.norm3."),
    (r"^(encoder|decoder)\.layers\.(\d+)\.mlp\.0\.", r"transformer.\1.layers.\2.linear1."),
    (r"^(encoder|decoder)\.layers\.(\d+)\.mlp\.3\.", r"transformer.\1.layers.\2.linear2."),
    (r"_attn\.weights\.", "_attn.attention_weights."),
    (r"_attn\.values\.", "_attn.value_proj."),
    (r"_attn\.out\.", "_attn.output_proj."),
]
TWICE = "transformer.decoder."
"""Before the names of the segments' heads, where a checkpoint has them once more."""


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a checkpoint that was released with the paper."""
    return any(key.startswith("transformer.decoder.") for key in tensors)


def from_published(
    tensors: Mapping[str, Tensor],
    visual_dim: int | None = None,
    max_length: int = 224,
    num_heads: int = 8,
    margin: float = 1.5,
    rescale: bool = True,
) -> TadTR:
    """With the weights of a released checkpoint, which tell none of these (THUMOS'14: 128 steps, `rescale` off).
    ConfigError if they do not fit.

    `visual_dim`: how many of the input's channels are visual, the others are audio; by default those of the published
    pairs of features, else all.
    """
    width, channels, _ = shape_of(tensors, "input_proj.0.0.weight", dims=3)
    visual_dim = visual_channels(channels, visual_dim)
    rows, _ = shape_of(tensors, "transformer.encoder.layers.0.self_attn.sampling_offsets.weight", dims=2)
    if num_heads < 1 or rows % num_heads:
        raise ConfigError(f"num_heads must divide the checkpoint's {rows} sampling offsets, got {num_heads}")
    config = TadTRConfig(
        num_classes=shape_of(tensors, "class_embed.0.weight", dims=2)[0],
        visual_dim=visual_dim,
        audio_dim=channels - visual_dim,
        max_length=max_length,
        width=width,
        hidden=shape_of(tensors, "transformer.encoder.layers.0.linear1.weight", dims=2)[0],
        num_heads=num_heads,
        num_points=rows // num_heads,
        encoder_layers=_count(tensors, "encoder"),
        decoder_layers=_count(tensors, "decoder"),
        num_queries=shape_of(tensors, "query_embed.weight", dims=2)[0],
        margin=margin,
        rescale=rescale,
    )
    network = TadTR(config)
    once = {key: x for key, x in tensors.items() if not _is_repeated(key, tensors)}
    network.load_state_dict(drain(network, once, RELEASED))
    return network


def _count(tensors: Mapping[str, Tensor], part: str) -> int:
    """The layers of the encoder or the decoder, at least one."""
    name = partial(re.fullmatch, rf"transformer\.{part}\.layers\.\d+\.linear1\.weight")
    return max(sum(bool(name(key)) for key in tensors), 1)


def _is_repeated(key: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether it is a tensor of a segment's head that is there under its other name as well."""
    own = key.removeprefix(TWICE)
    return (
        own != key and own.startswith("segment_embed.") and own in tensors and tensors[own].shape == tensors[key].shape
    )
