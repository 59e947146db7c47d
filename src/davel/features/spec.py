"""How a feature was made: travels with every feature file and every checkpoint.

One step of the feature sequence is `stride / fps` seconds; step i covers [i * stride, i * stride + window) frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Any, Literal

from davel.core.errors import ConfigError
from davel.core.lazy import attributes
from davel.core.timeline import Timing
from davel.media.sampling import COLOURS, RESAMPLERS

REDUCTIONS = ("mean", "max")
MODALITIES = ("visual", "audio")
FINEST_SECONDS = Fraction(1, 1000)
"""What times of pictures are rounded to."""
BESIDE = "flow_updates"
"""An option that davel 0.1 wrote beside the fields instead of under `options`; it stays there, so that both read it."""


@dataclass(frozen=True, kw_only=True)
class WeightsUsed:
    """A file of weights that a protocol depends on."""

    name: str
    sha256: str | None = None
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """The extraction protocol of a pair of feature sequences: visual (T, visual_dim) and audio (T, audio_dim)."""

    name: str
    """The family, e.g. `light`."""
    version: int
    """Raised whenever the same input would give other numbers."""
    fps: float
    """Frames per second of the grid that frames are taken on."""
    window: int
    """Frames that one step sees."""
    stride: int
    """Frames from one step to the next."""
    sample_rate: int
    """Mono samples per second."""
    audio_window_seconds: float
    audio_stride_seconds: float
    """As long as a visual step, or a whole part of it where `audio_reduction` says how several become one."""
    visual_dim: int
    audio_dim: int
    colours: Literal["declared", "bt601"] = "declared"
    """The matrix that made RGB of the video: the declared one, or BT.601 whatever is declared."""
    resampler: Literal["soxr", "resampy-0.2.2", "resampy-0.4.3"] = "soxr"
    """What brought the sound to `sample_rate`."""
    picture_seconds: tuple[float, ...] = ()
    """Where a step sees single pictures instead of all frames of its window: their times from its beginning."""
    audio_reduction: Literal["mean", "max"] | None = None
    """What makes one row of the finer audio steps that begin within one visual step."""
    weights: tuple[WeightsUsed, ...] = ()
    """Files of weights that belong to the protocol, where a family has a choice of them."""
    visual_text_dim: int | None = None
    """Channels of text embeddings beside the visual features, where the family has a text tower."""
    audio_text_dim: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The family's own."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("colours", COLOURS),
            ("resampler", RESAMPLERS),
            ("audio_reduction", (None, *REDUCTIONS)),
        ):
            if getattr(self, name) not in allowed:
                known = ", ".join(str(value) for value in allowed if value)
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose from {known}")
        if self.audio_reduction is None:
            if abs(self.audio_stride_seconds - self.step_seconds) > 1e-9:
                raise ValueError(
                    f"one audio step ({self.audio_stride_seconds} s) must last as long as one visual step "
                    f"({self.stride} frames at {self.fps} fps = {self.step_seconds} s), or state a reduction"
                )
        elif abs(self.audio_per_step * self.audio_stride_seconds - self.step_seconds) > 1e-9:
            raise ValueError(
                f"audio steps of {self.audio_stride_seconds} s do not make up one visual step of {self.step_seconds} s"
            )
        times = self.picture_seconds
        if any(not 0 <= t <= self.window / self.fps for t in times) or list(times) != sorted(set(times)):
            raise ValueError(f"picture_seconds are {list(times)}: expected rising times within a step's window")
        if times and times[-1] - times[0] >= self.step_seconds:
            raise ValueError(f"picture_seconds are {list(times)}: one step's must lie closer than the next step's")

    @property
    def timing(self) -> Timing:
        return Timing(self.fps, self.stride, self.window)

    @property
    def step_seconds(self) -> float:
        return self.stride / self.fps

    @property
    def audio_per_step(self) -> int:
        """Audio steps that begin within one visual step."""
        return max(round(self.step_seconds / self.audio_stride_seconds), 1)

    def dim(self, modality: str) -> int:
        """Channels of a modality; 0 if there are no such features."""
        return self.visual_dim if modality == "visual" else self.audio_dim

    def picture_grid(self) -> tuple[float, int, tuple[int, ...]]:
        """Pictures per second that hold all that are wanted, how many make a step, and which of these a step sees."""
        if not self.picture_seconds:
            return self.fps, 1, (0,)
        step, *times = (
            round(Fraction(seconds) / FINEST_SECONDS) for seconds in (self.step_seconds, *self.picture_seconds)
        )
        unit = gcd(step, *times)
        return float(1 / (unit * FINEST_SECONDS)), step // unit, tuple(t // unit for t in times)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; fields that were added since davel 0.1 are left out where they have their default."""
        values = asdict(self)
        for f in fields(self):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if f.name not in ("colours", "resampler") and default is not MISSING and getattr(self, f.name) == default:
                del values[f.name]
        options = dict(values.pop("options", {}))
        values[BESIDE] = options.pop(BESIDE, None)
        return values | ({"options": options} if options else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSpec:
        """ConfigError if these are no values of a specification, or have some that a later davel knows."""
        values = dict(values)
        unknown = sorted(values.keys() - {f.name for f in fields(cls)} - {BESIDE})
        if unknown:
            raise ConfigError(
                f"not a feature specification that this davel knows: {', '.join(map(repr, unknown))} was written by a "
                "newer one: update davel"
            )
        try:
            beside = values.pop(BESIDE, None)
            values["options"] = dict(values.get("options", {})) | ({} if beside is None else {BESIDE: beside})
            values["picture_seconds"] = tuple(values.get("picture_seconds", ()))
            values["weights"] = tuple(WeightsUsed(**used) for used in values.get("weights", ()))
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"not a feature specification: {error}") from error

    def differences(self, other: FeatureSpec, ours: str, theirs: str) -> list[str]:
        """Each value that differs, as `name is A in OURS but B in THEIRS`."""
        mine, its = (
            {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "options"} | dict(spec.options)
            for spec in (self, other)
        )
        return [
            f"{name} is {mine.get(name)!r} in {ours} but {its.get(name)!r} in {theirs}"
            for name in mine | its
            if mine.get(name) != its.get(name)
        ]

    def require(self, other: FeatureSpec, ours: str, theirs: str) -> None:
        """Refuse `other` unless it is the same protocol; the message gives both values of what differs."""
        if told := self.differences(other, ours, theirs):
            raise ConfigError(f"features do not fit: {'; '.join(told)}: extract them again with one extractor")

    def with_options(self, **options: Any) -> FeatureSpec:
        """The same with some of the family's options changed."""
        return replace(self, options=dict(self.options) | options)


if not TYPE_CHECKING:
    __getattr__ = attributes(
        __name__,
        moved={"I3D_VGGISH": "davel.features.i3d_vggish:SPEC", "ONE_PEACE": "davel.features.one_peace:SPEC"},
    )
