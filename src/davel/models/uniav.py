"""UniAV: unified audio-visual perception for multi-task video event localization (Geng et al., arXiv:2404.03179).

One network for visual actions (TAL), audio-visual events (AVEL) and sound events (SED): all of it is shared but an
expert of each task in every block (a norm and its MLP) and the last layer of the boundaries. Classes are told by text:
a step's logit of a class is how alike it is to the embedding of the class's name. Here a network is that of one task,
which is all that finds events; several tasks learn together in `Joint`, where they share their parameters.

Shapes: B videos, T steps, D channels of a modality, C classes, P channels of text, l a level, L levels, Tl = T / 2^l.
One step is `stride / fps` seconds. Masks are True at a video's real steps, which come first.

Where the paper leaves a choice, the released code's is taken; a released checkpoint gives the same events here
(`from_published`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.core.errors import ConfigError
from davel.models.blocks import linear, position_table
from davel.models.detector import Candidates, DecodeSettings, NmsSettings, Objective, TrainingRecipe, Truth
from davel.models.outputs import Outputs
from davel.models.published import Names, shape_of
from davel.models.pyramid import (
    MODALITIES,
    PUBLISHED,
    CrossModalInteraction,
    Decoder,
    Embedding,
    Grid,
    Head,
    PyramidConfig,
    PyramidNetwork,
    cross_modal_pyramid,
    load_published,
    published_streams,
)

Task = Literal["TAL", "AVEL", "SED"]
TASKS: tuple[Task, ...] = get_args(Task)
"""In the order in which they are trained."""
UNIT = 1e-3
"""How far from one the norm of an embedding may be."""
SHORTEST = 0.05
"""Steps of the canvas that an event must be longer than."""
SMOOTHING = {"TAL": 0.1, "AVEL": 0.0, "SED": 0.0}


@dataclass(frozen=True, kw_only=True)
class UniAVConfig(PyramidConfig):
    name: Literal["uniav"] = "uniav"
    task: Task = "AVEL"
    """TAL: visual actions, whose boundaries are the same for all classes; AVEL: audio-visual events; SED: sound
    events."""
    width: int = 512
    """Channels of each modality (D in the paper)."""
    text_dim: int = 1536
    """Channels of the embeddings of its classes' names (P)."""
    table_length: int = 256
    """Rows of the table of positions, which the tasks share: the steps of the longest of them."""
    positions: Literal["sliced", "squeezed"] = "sliced"
    """Which of these rows the steps of a task with fewer get: the first, or all, squeezed. The released code trains
    with the first and finds events with the second."""
    canvas: int | None = None
    """Steps that every video is resized to, as the released TAL has it (256); None: videos are padded."""
    every: int = 1
    """With a canvas: only every so many-th step of a video is read. The released TAL reads features 8 frames apart,
    which is every second step of those 4 frames apart."""
    margin: float = 2.0
    """With a canvas: steps that a video reaches beyond the middles of its first and last step, half a feature's window.
    Follows from the features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_dim", "table_length", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.margin <= 0:
            raise ValueError(f"margin must be above 0, got {self.margin}")
        if self.canvas is None and self.every != 1:
            raise ValueError(f"every ({self.every}) does nothing without a canvas: leave it out")
        if self.canvas is not None and (self.canvas < self.hop or self.canvas % self.hop):
            raise ValueError(f"canvas must be a multiple of {self.hop}, got {self.canvas}")

    @property
    def length(self) -> int:
        """The steps that the pyramid stands on at most."""
        return self.canvas or self.max_length

    def on_canvas(self) -> UniAVConfig:
        """Of the same network where videos are resized before it is given them, as in training."""
        return replace(self, canvas=None, every=1, max_length=self.canvas) if self.canvas else self

    @staticmethod
    def timed(stride: int, window: int) -> dict[str, float]:
        return {"margin": window / (2 * stride)}


class UniAV(PyramidNetwork):
    """The network of one task: a cross-modal pyramid, straight to a decoder that reads what its classes are."""

    config: UniAVConfig
    central = False

    def __init__(self, config: UniAVConfig) -> None:
        super().__init__(config)
        self.class_aware = config.task != "TAL"
        self.smoothing = SMOOTHING[config.task]
        self.detection = DecodeSettings(
            min_length=0.0 if config.canvas else SHORTEST,  # on a canvas its outputs know what is too short
            nms=NmsSettings(sigma=0.75 if config.task == "TAL" else 0.4),
        )
        self.embed = nn.ModuleDict(
            {"visual": TaskEmbedding(config, config.visual_dim), "audio": TaskEmbedding(config, config.audio_dim)}
        )
        self.interactions = nn.ModuleList(CrossModalInteraction(config, level) for level in range(config.num_levels))
        self.decoder = LanguageAwareDecoder(config)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Outputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool -> per level: logits (B, Tl, C), offsets (B, Tl, C or, of TAL, 1, 2).

        T is anything up to `max_length`, of a single video anything. ValueError if shapes do not fit.
        """
        if self.config.canvas:
            return self.stretched(visual, audio, mask)
        if mask.shape[1] > self.config.max_length and len(mask) > 1:
            raise ValueError(f"videos of more than {self.config.max_length} steps are run one by one: cut the batch")
        return super().forward(visual, audio, mask)

    def stretched(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Outputs:
        """The same where every video is resized to the canvas, which it fills."""
        self.check_shapes(visual, audio, mask)
        canvas, lengths = Canvas.of(self.config), mask.sum(1).clamp(min=1)
        inputs = {m: canvas.draw(x, lengths) for m, x in (("visual", visual), ("audio", audio))}
        outputs = self.run(inputs, Grid(self.levels(mask.new_ones(len(mask), canvas.length))))
        return OnCanvas(outputs.logits, outputs.offsets, outputs.gates, canvas=canvas, lengths=lengths)

    def run(self, inputs: dict[str, Tensor], grid: Grid) -> Outputs:
        streams = {m: self.embed[m](inputs[m], grid.masks[0]) for m in MODALITIES}
        logits, offsets = self.decoder(cross_modal_pyramid(self.interactions, streams, grid.masks), grid)
        return Outputs(logits, offsets, gates={m: [] for m in MODALITIES})

    def whole_length(self, T: int) -> int:
        """A longer video than the model's is padded to the next multiple of the coarsest level's step."""
        hop = self.config.hop
        return super().whole_length(T) if T <= self.config.max_length else hop * math.ceil(T / hop)

    def criterion(self, recipe: TrainingRecipe) -> Objective:
        criterion = super().criterion(recipe)
        return ObjectiveOnCanvas(criterion, Canvas.of(self.config)) if self.config.canvas else criterion

    def name_classes(self, embeddings: Tensor) -> None:
        self.check_embeddings(embeddings, self.config.num_classes)
        self.decoder.classify.text.copy_(embeddings)

    def check_embeddings(self, embeddings: Tensor, num_classes: int) -> None:
        """ValueError unless they are (C, P), each of unit norm."""
        expected = (num_classes, self.config.text_dim)
        if tuple(embeddings.shape) != expected:
            raise ValueError(f"expected embeddings of classes {expected}, got {tuple(embeddings.shape)}")
        away = (embeddings.float().norm(dim=1) - 1).abs()
        if not bool((away < UNIT).all()):
            raise ValueError(f"the embedding of class {int(away.nan_to_num(math.inf).argmax())} is not of unit norm")

    @torch.no_grad()
    def of_classes(self, embeddings: Tensor) -> tuple[UniAV, list[int | None]]:
        """Neither published nor measured: boundaries are a class's own in AVEL and SED, and a new class has none; it
        gets those of the trained class whose text is most alike here. In TAL they are everybody's."""
        self.check_embeddings(embeddings, len(embeddings))
        state = self.state_dict()
        stand_ins: list[int | None] = [None] * len(embeddings)
        if self.class_aware:
            classify = self.decoder.classify
            alike = (classify.project_text(embeddings.to(self.device)) @ classify.project_text().mT).argmax(1)
            for name in ("decoder.regress.out.weight", "decoder.regress.out.bias"):
                state[name] = state[name].unflatten(0, (-1, 2))[alike].flatten(0, 1)
            stand_ins = alike.tolist()
        network = UniAV(replace(self.config, num_classes=len(embeddings))).to(self.device)
        network.load_state_dict(state)
        network.name_classes(embeddings)
        return network.train(self.training), stand_ins

    def exportable(self) -> nn.Module:
        if self.config.task == "TAL":  # what an ONNX file gives is decoded by the settings of the other tasks
            raise ConfigError("a uniav network of TAL cannot be written as an ONNX file: use its folder")
        return super().exportable()


class TaskEmbedding(Embedding):
    """Unimodal embedding whose positions are those of a table that all tasks share."""

    table: Tensor

    def __init__(self, config: UniAVConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        table = position_table(config.table_length, config.width)
        self.register_buffer("table", table, persistent=False)
        squeezed = config.positions == "squeezed" or config.length > config.table_length
        self.positions = resize(table, config.length) if squeezed else table

    def position(self, T: int) -> Tensor:
        """The first T rows; for a longer sequence the table is stretched: (T, D)"""
        return self.positions[:T] if T <= len(self.positions) else resize(self.table, T)


def resize(x: Tensor, length: int) -> Tensor:
    """Linearly over time, without smoothing: (T, D) -> (length, D)"""
    return F.interpolate(x.mT[None], length, mode="linear", align_corners=False)[0].mT


class LanguageAwareClassifier(Head):
    """Three convolutions over time, shared by all levels, and how alike the result is to each class's text."""

    text: Tensor

    def __init__(self, config: UniAVConfig) -> None:
        D, C, P = config.width, config.num_classes, config.text_dim
        super().__init__(config, 2 * D, D)
        self.project = linear(P, D)
        nn.init.xavier_uniform_(self.project.weight)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        # Until it is told what its classes are, each is some direction, always the same.
        some = torch.randn(C, P, generator=torch.Generator().manual_seed(0))
        self.register_buffer("text", F.normalize(some, dim=-1), persistent=False)

    def forward(self, rows: Tensor, grid: Grid) -> Tensor:
        """(B * S, 2D) -> (B * S, C)"""
        seen = F.normalize(super().forward(rows, grid), dim=-1)
        return self.logit_scale.exp() * seen @ self.project_text().mT

    def project_text(self, text: Tensor | None = None) -> Tensor:
        """Embeddings of text (C, P), by default of its classes -> (C, D), unit norm"""
        return F.normalize(self.project(self.text if text is None else text), dim=-1)


class LanguageAwareDecoder(Decoder):
    classify: LanguageAwareClassifier

    def __init__(self, config: UniAVConfig) -> None:
        super().__init__(config, 2 * config.width, class_aware=config.task != "TAL")
        self.classify = LanguageAwareClassifier(config)


@dataclass(frozen=True)
class Canvas:
    """The steps that a video is resized to, whatever its own. Videos have lengths (B,) in steps of the input."""

    length: int
    every: int
    margin: float

    @classmethod
    def of(cls, config: UniAVConfig) -> Self:
        return cls(config.length, config.every, config.margin)

    def draw(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) -> (B, length, D)"""
        return torch.stack(
            [resize(video[: int(n) : self.every], self.length) for video, n in zip(x, lengths, strict=True)]
        )

    def step(self, lengths: Tensor) -> Tensor:
        """Steps of the input in one of the canvas. The released clock spreads the whole stretch that features see over
        it, though the resizing itself puts them a little closer: weights were trained so."""
        read = ((lengths + self.every - 1) / self.every).floor()
        return ((read - 1) * self.every + 2 * self.margin) / self.length

    def to_steps(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, ...) on the canvas -> in steps of the input"""
        return (x + 0.5) * self._rows(self.step(lengths), x) - self.margin

    def to_canvas(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, ...) in steps of the input -> on the canvas"""
        return (x + self.margin) / self._rows(self.step(lengths), x) - 0.5

    def truth(self, truth: Truth, lengths: Tensor) -> Truth:
        """Events in steps of the input -> on the canvas, as they are learnt: cut at its end, and left out where less
        than half of one is before that."""
        segments = self.to_canvas(truth.segments, lengths)
        inside = segments.clamp(max=self.length + 0.5)
        (start, end), whole = inside.unbind(-1), segments[..., 1] - segments[..., 0]
        kept = (end > start) & (end - start >= 0.5 * whole)
        return Truth(inside, truth.labels.where(kept, -1))

    @staticmethod
    def _rows(values: Tensor, like: Tensor) -> Tensor:
        """(B,) -> (B, 1, ...)"""
        return values.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class OnCanvas(Outputs):
    """What is said at every step of a pyramid on the canvas, all of them real."""

    canvas: Canvas = field(kw_only=True)
    lengths: Tensor = field(kw_only=True)
    """(B,), the steps of each video."""

    def within(self, mask: Tensor) -> Self:
        return self

    def candidates(self) -> Candidates:
        """In steps of the videos; what is too short is left without any length."""
        found = super().candidates()
        start, end = found.segments.unbind(-1)
        segments = torch.stack([start, end.where(end - start > SHORTEST, start)], dim=-1)
        if segments.device.type != "mps":  # which has no such numbers; overlaps of short segments feel what is rounded
            segments = segments.double()
        return replace(found, segments=self.canvas.to_steps(segments, self.lengths.to(segments.dtype)))


class ObjectiveOnCanvas(Objective):
    """The objective of a pyramid that videos are resized for."""

    def __init__(self, criterion: Objective, canvas: Canvas) -> None:
        super().__init__()
        self.criterion, self.canvas = criterion, canvas

    def targets(self, mask: Tensor, truth: Truth, num_classes: int) -> Any:
        truth = self.canvas.truth(truth, mask.sum(1).clamp(min=1))
        return self.criterion.targets(self._filled(mask), truth, num_classes)

    def update(self, num_positive: Tensor) -> None:
        self.criterion.update(num_positive)

    def forward(self, outputs: Any, mask: Tensor, targets: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.criterion(outputs, self._filled(mask), targets)
        return losses

    def _filled(self, mask: Tensor) -> Tensor:
        return mask.new_ones(len(mask), self.canvas.length)


class Joint(nn.Module):
    """The networks of several tasks, which share every parameter but their experts and last layers."""

    OWN = re.compile(r"\.(norm|mlp)\.|^decoder\.regress\.out\.")
    """The parameters that each task has for itself: the norm and the MLP of every block, and what gives boundaries."""

    def __init__(self, configs: Mapping[str, UniAVConfig]) -> None:
        super().__init__()
        self.tasks = nn.ModuleDict({task: UniAV(config) for task, config in configs.items()})
        first, *others = self.networks()
        for name, parameter in first.named_parameters():
            if not self.OWN.search(name):
                for network in others:
                    module, _, leaf = name.rpartition(".")
                    setattr(network.get_submodule(module), leaf, parameter)

    def networks(self) -> Iterator[UniAV]:
        """By task, in the order of training."""
        for network in self.tasks.values():
            assert isinstance(network, UniAV)
            yield network

    def parameter_groups(self, recipe: TrainingRecipe) -> list[dict[str, Any]]:
        """Those of each task, each parameter once."""
        groups: list[dict[str, Any]] = []
        known: set[int] = set()
        for network in self.networks():
            for group in network.parameter_groups(recipe):
                new = [x for x in group["params"] if id(x) not in known]
                known |= {id(x) for x in new}
                groups.append({**group, "params": new})
        return groups


Config, Model = UniAVConfig, UniAV

_PAIR = {"visual": "Va", "audio": "Av"}  # whose keys and values, then whose queries
_STEPS = {"TAL": 256, "AVEL": 256, "SED": 64}
_WINDOW = 8
"""How many times as long as the canvas a video of TAL may be before it is cut into windows."""


def released_names(task: Task) -> Names:
    """Ours -> released, applied in order to the full name of a parameter of a task."""
    return [
        (r"^interactions\.0\.(\w+)\.", lambda m: f"backbone.ori_cross_att_{_PAIR[m[1]]}."),
        (r"^interactions\.(\d+)\.(\w+)\.", lambda m: f"backbone.cross_att_{_PAIR[m[2]]}.{int(m[1]) - 1}."),
        (r"^decoder\.classify\.out\.", "cls_head.vis_proj.conv."),
        (r"^decoder\.classify\.project\.", "cls_head.clip_proj."),
        (r"^decoder\.classify\.logit_scale$", "cls_head.logit_scale"),
        (r"^decoder\.regress\.out\.", f"reg_head.offset_head.TASK{TASKS.index(task) + 1}.conv."),
        (r"\.norm\.(weight|bias)$", rf".ln2_{task}.\1"),
        (r"\.mlp\.0\.", f".mlp_{task}.0."),
        (r"\.mlp\.2\.", f".mlp_{task}.3."),
        *PUBLISHED,
    ]


RELEASED = released_names("AVEL")


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a checkpoint that was released with the paper."""
    return "cls_head.clip_proj.weight" in tensors


def from_published(
    tensors: Mapping[str, Tensor],
    task: Task = "AVEL",
    class_embeddings: Any = None,
    max_length: int | None = None,
    table_length: int = 256,
    positions: Literal["sliced", "squeezed"] = "squeezed",
    every: int | None = None,
    margin: float = 2.0,
) -> UniAV:
    """One task of a released checkpoint, which tells none of these. ConfigError if they do not fit.

    `class_embeddings` (C, P): of the task's classes, which are released beside it. `max_length`: the task's steps, by
    default 256 or, of SED, 64; TAL's videos are resized to them, of features `every` (by default 2) steps apart.
    """
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    if class_embeddings is None:
        raise ConfigError(
            "a released uniav checkpoint holds no embeddings of its classes: give class_embeddings (C, P)"
        )
    text = torch.as_tensor(class_embeddings, dtype=torch.float32)
    kept = {key: x for key, x in tensors.items() if not _of_another_task(key, task)}
    steps = max_length or _STEPS[task]
    fields: dict[str, Any] = {"max_length": steps, "num_classes": len(text)}
    if task == "TAL":
        fields = {"max_length": _WINDOW * steps, "canvas": steps, "every": every or 2, "num_classes": len(text)}
    elif every is not None:
        raise ConfigError(f"every is for TAL, whose videos are resized: leave it out for {task}")
    else:
        last = f"reg_head.offset_head.TASK{TASKS.index(task) + 1}.conv.weight"
        fields["num_classes"] = shape_of(kept, last, dims=3)[0] // 2
    config = UniAVConfig(
        **published_streams(kept),
        **fields,
        task=task,
        text_dim=shape_of(kept, "cls_head.clip_proj.weight", dims=2)[1],
        table_length=table_length,
        positions=positions,
        margin=margin,
    )
    network = load_published(UniAV(config), kept, released_names(task))
    network.name_classes(text)
    return network


def _of_another_task(key: str, task: Task) -> bool:
    """Whether it is the expert's or the last layer's of one of the other tasks."""
    others = "|".join(other for other in TASKS if other != task)
    numbers = "|".join(str(TASKS.index(other) + 1) for other in TASKS if other != task)
    return bool(re.search(rf"\.(ln2|mlp)_({others})\.|^reg_head\.offset_head\.TASK({numbers})\.", key))
