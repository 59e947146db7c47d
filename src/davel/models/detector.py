"""The seam between a network and everything else: what goes in, what comes out, and what training compares it with.

A network finds events in two feature sequences; whatever its own outputs are, it hands them over as candidates.
Suppression, seconds, windows, evaluation and ONNX know candidates only; training knows a network's own objective.

Shapes: B videos, T steps, P candidates (before classes), C classes, N events. One step is `stride / fps` seconds.
Masks are True at a video's real steps, which come first.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self, cast

import torch
from torch import Tensor, nn

from davel.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What every network says of itself; each adds its own fields and a `name` that tells it from the others."""

    name: str = ""
    """Of the model, as in `davel.models.MODELS`."""
    num_classes: int = 100
    """Event classes (C)."""
    visual_dim: int = 2048
    """Channels of a visual feature: 2048 for I3D (RGB, then flow), 1536 for ONE-PEACE."""
    audio_dim: int = 128
    """Channels of an audio feature: 128 for VGGish, 1536 for ONE-PEACE."""
    max_length: int = 224
    """Most steps of a video (T): 224 for I3D and VGGish, 256 for ONE-PEACE. A pyramid's is a multiple of 2^(levels -
    1)."""

    text_dim = 0
    """Channels of the embeddings of its classes' names that it reads (P); 0: it knows classes by their number only."""
    needs_audio = True
    """Whether it must be given both modalities, or is also one of visual features alone (`audio_dim` 0)."""

    def __post_init__(self) -> None:
        for name, least in (("num_classes", 1), ("visual_dim", 1), ("audio_dim", int(self.needs_audio))):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.max_length < self.hop:
            raise ValueError(f"max_length must be at least {self.hop}, got {self.max_length}")

    @property
    def hop(self) -> int:
        """Steps from one window of a long video to the next."""
        return 32

    @staticmethod
    def scaled(width: int) -> dict[str, int]:
        """The fields of a network of so many channels, in the proportions of its paper; none if it has none."""
        return {}

    @staticmethod
    def small() -> dict[str, int]:
        """The fields of a network for some hundred videos of one's own, as `davel data init` writes them."""
        return {}

    @staticmethod
    def timed(stride: int, window: int) -> dict[str, float]:
        """The fields that follow from the features' timing, in frames: from one step to the next, and what one step
        sees; none unless the network has such."""
        return {}

    @property
    def unit(self) -> int:
        """Alias of `hop`."""
        warnings.warn("NetworkConfig.unit is NetworkConfig.hop now", DeprecationWarning, stacklevel=2)
        return self.hop


@dataclass(frozen=True)
class Candidates:
    """Everything that might be an event, before any of it is suppressed."""

    segments: Tensor
    """(B, P, C or 1, 2): start and end in steps of the input, possibly outside the video; 1: the same for all
    classes."""
    scores: Tensor
    """(B, P, C) in [0, 1]; 0 at padding, and where the network itself says that there is nothing."""
    groups: tuple[int, ...]
    """Sizes of the parts of P that each may have `max_candidates`: a pyramid's levels, or (P,)."""

    def __post_init__(self) -> None:
        B, P, C = self.scores.shape
        if self.segments.shape[:2] != (B, P) or self.segments.shape[2] not in (1, C) or self.segments.shape[3:] != (2,):
            raise ValueError(
                f"for scores of {(B, P, C)}, expected segments {(B, P, C, 2)} or {(B, P, 1, 2)}, "
                f"got {tuple(self.segments.shape)}"
            )
        if sum(self.groups) != P:
            raise ValueError(f"the groups {self.groups} must add up to {P} candidates")


class DetectorOutputs(ABC):
    """What a network says, in whatever form it has."""

    gates: Mapping[str, Sequence[Tensor]] = MappingProxyType({"visual": (), "audio": ()})
    """By modality; nothing in a network without gates."""

    @abstractmethod
    def candidates(self) -> Candidates:
        """No gradient is needed through it, and no setting changes it."""

    def curves(self) -> dict[str, Tensor]:
        """What the network says of every step, by name, e.g. `gate from audio`: (B, T) each."""
        return {}

    def within(self, mask: Tensor) -> Self:
        """The same, for outputs that do not know yet which steps of the input (B, T) are real."""
        return self


@dataclass(frozen=True, kw_only=True)
class NmsSettings:
    method: Literal["soft", "hard", "none"] = "soft"
    """`soft` lowers the scores of overlapping segments (Bodla et al., ICCV 2017), `hard` drops the segments, `none`
    keeps them: for a network whose candidates do not repeat each other. A video of several windows is then treated as
    with `hard`, per class, at an IoU of 0.4."""
    sigma: float = 0.4
    """Soft: a segment's score is multiplied by exp(-iou^2 / sigma)."""
    min_score: float = 0.001
    """Segments whose score falls below this are dropped."""
    iou_threshold: float = 0.7
    """Hard: segments that overlap a better one by this much or more are dropped."""
    per_class: bool = True
    """Whether only segments of the same class compete."""
    voting_threshold: float = 0.75
    """Without per_class: a kept segment becomes the mean of all that overlap it by this much; 0 for not at all."""
    max_events: int = 100
    """Most segments that are kept, in each class and in all."""

    def __post_init__(self) -> None:
        if self.sigma <= 0 or self.max_events < 1:
            raise ValueError(f"sigma must be above 0 and max_events at least 1, got {self.sigma}, {self.max_events}")


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    min_score: float = 0.001
    """Candidates must score more than this."""
    max_candidates: int = 2000
    """Best candidates of each group (a pyramid's level) that go into the suppression."""
    min_length: float = 0.05
    """Candidates must be longer than this, in steps of the input."""
    nms: NmsSettings = field(default_factory=NmsSettings)


@dataclass(frozen=True)
class Truth:
    """The annotated events of a batch."""

    segments: Tensor
    """(B, N, 2), in steps."""
    labels: Tensor
    """(B, N), the class; -1 where a video has fewer events."""

    def to(self, device: torch.device) -> Truth:
        return Truth(self.segments.to(device), self.labels.to(device))


class Objective(nn.Module, ABC):
    """What training makes small; it may have a state, which is kept with the run.

    A batch may be judged in pieces, and by several processes: first `targets` of every piece, then `update` with what
    all of them count, then the losses of each piece, whose sum is that of the whole batch.
    """

    adds_up = True
    """Whether that is so exactly; else the sum is the mean of the pieces' losses, by the videos that they have."""

    @abstractmethod
    def targets(self, mask: Tensor, truth: Truth, num_classes: int) -> Any:
        """What the network should say of videos with this mask (B, T); has `num_positive`, a number or a vector."""

    @abstractmethod
    def update(self, num_positive: Tensor) -> None:
        """Told the sum of `num_positive` over a whole batch, before its losses are asked for."""

    @abstractmethod
    def forward(self, outputs: Any, mask: Tensor, targets: Any) -> dict[str, Tensor]:
        """The network's outputs for a mask (B, T), and their targets -> weighted losses by name: their sum counts."""


class TrainingRecipe(Protocol):
    """What a network may ask of a training's recipe (`davel.train.recipe.Recipe`)."""

    @property
    def weight_decay(self) -> float: ...

    @property
    def initial_positive(self) -> float: ...

    @property
    def boundaries(self) -> Literal["diou", "giou"]: ...

    @property
    def regression_ranges(self) -> tuple[tuple[float, float], ...]: ...


class Detector(Protocol):
    """What finds events: a network, or what stands for one. See `Network.forward`."""

    @property
    def config(self) -> NetworkConfig: ...

    @property
    def detection(self) -> DecodeSettings: ...

    @property
    def device(self) -> torch.device: ...

    def __call__(self, visual: Tensor, audio: Tensor, mask: Tensor) -> DetectorOutputs: ...

    def to(self, device: torch.device) -> Any: ...


class Network(nn.Module, ABC):
    """A network that can be trained; each paper's is one."""

    config: NetworkConfig
    detection = DecodeSettings()
    """How its candidates become events, unless one says otherwise."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> DetectorOutputs:
        """(B, T, Dv), (B, T, Da), (B, T) bool; T is anything up to `max_length`. ValueError if shapes do not fit."""

    @abstractmethod
    def criterion(self, recipe: TrainingRecipe) -> Objective:
        """ConfigError if the recipe does not fit the network."""

    def parameter_groups(self, recipe: TrainingRecipe) -> list[dict[str, Any]]:
        """What the optimizer is given; a group's learning rate is the recipe's, times its `factor` where it has one.

        Weight decay is for the weights of convolutions and linears, and nothing else.
        """
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                is_weight = name == "weight" and (isinstance(module, nn.Linear) or getattr(module, "decays", False))
                (decayed if is_weight else others).append(parameter)
        return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]

    def name_classes(self, embeddings: Tensor) -> None:
        """What a text encoder makes of its classes' names: (C, P), each of unit norm. ValueError if it is not so, or if
        the network knows its classes by their number only (`config.text_dim`)."""
        raise ValueError(f"a network of kind {type(self).__name__} knows its classes by their number: it reads no text")

    def of_classes(self, embeddings: Tensor) -> tuple[Network, list[int | None]]:
        """A network that finds the classes of these embeddings (C', P) instead, whatever it was trained on, and for
        each the trained class whose boundaries stand in for its own, None where none is needed.

        ConfigError if it cannot, ValueError as `name_classes`.
        """
        raise ConfigError(f"a network of kind {type(self).__name__} finds only the classes that it was trained on")

    def recompute_activations(self) -> None:
        """Let blocks compute their inner values again in the backward pass instead of keeping them."""
        for module in self.modules():
            if hasattr(module, "recompute"):
                cast(Any, module).recompute = True

    def exportable(self) -> nn.Module:
        """Takes one video, (1, T, Dv) and (1, T, Da) of any T up to `max_length`, gives its outputs at `max_length`
        with scores of 0 behind its end, and can be traced. ConfigError if the network has nothing of the kind."""
        raise ConfigError(f"a network of kind {type(self).__name__} cannot be written as an ONNX file: use its folder")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def check_shapes(self, visual: Tensor, audio: Tensor, mask: Tensor) -> None:
        """ValueError unless the inputs are of this network's sizes."""
        (B, T), config = mask.shape, self.config
        if visual.shape != (B, T, config.visual_dim) or audio.shape != (B, T, config.audio_dim):
            raise ValueError(
                f"for a mask of {(B, T)}, expected visual {(B, T, config.visual_dim)} and audio "
                f"{(B, T, config.audio_dim)}, got {tuple(visual.shape)} and {tuple(audio.shape)}"
            )
