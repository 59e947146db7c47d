"""How a feature was made: travels with every feature file and every checkpoint.

One step of the feature sequence is `stride / fps` seconds; step i covers [i * stride, i * stride + window) frames.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from davel.core.errors import ConfigError
from davel.core.timeline import Timing
from davel.media.sampling import COLOURS, RESAMPLERS


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """The extraction protocol of a pair of feature sequences: visual (T, visual_dim) and audio (T, audio_dim)."""

    name: str
    """The extractor, e.g. `light`."""
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
    visual_dim: int
    audio_dim: int
    colours: Literal["declared", "bt601"] = "declared"
    """The matrix that made RGB of the video: the declared one, or BT.601 whatever is declared."""
    resampler: Literal["soxr", "resampy-0.2.2"] = "soxr"
    """What brought the sound to `sample_rate`."""
    flow_updates: int | None = None
    """Refinements of the optical flow, where there is one."""

    def __post_init__(self) -> None:
        for name, allowed in (("colours", COLOURS), ("resampler", RESAMPLERS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose from {', '.join(allowed)}")
        if self.flow_updates is not None and self.flow_updates < 1:
            raise ValueError(f"flow_updates is {self.flow_updates}: expected at least 1")
        if abs(self.audio_stride_seconds - self.stride / self.fps) > 1e-9:
            raise ValueError(
                f"one audio step ({self.audio_stride_seconds} s) must last as long as one visual step "
                f"({self.stride} frames at {self.fps} fps = {self.stride / self.fps} s)"
            )

    @property
    def timing(self) -> Timing:
        return Timing(self.fps, self.stride, self.window)

    @property
    def step_seconds(self) -> float:
        return self.stride / self.fps

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSpec:
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"not a feature specification: {error}") from error

    def require(self, other: FeatureSpec, ours: str, theirs: str) -> None:
        """Refuse `other` unless it is the same protocol; the message gives both values of what differs."""
        differences = [
            f"{f.name} is {getattr(self, f.name)!r} in {ours} but {getattr(other, f.name)!r} in {theirs}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]
        if differences:
            raise ConfigError(f"features do not fit: {'; '.join(differences)}: extract them again with one extractor")


I3D_VGGISH = FeatureSpec(
    name="i3d-vggish",
    version=1,
    fps=25.0,
    window=24,
    stride=8,
    sample_rate=16000,
    audio_window_seconds=0.96,
    audio_stride_seconds=0.32,
    visual_dim=2048,
    audio_dim=128,
    flow_updates=20,
)
"""Two-stream I3D (RGB, then flow) and VGGish, as UnAV-100 was published."""

ONE_PEACE = FeatureSpec(
    name="one-peace",
    version=1,
    fps=16.0,
    window=16,
    stride=4,
    sample_rate=16000,
    audio_window_seconds=1.0,
    audio_stride_seconds=0.25,
    visual_dim=1536,
    audio_dim=1536,
)
"""ONE-PEACE's visual encoder, fine-tuned on Kinetics-400, and its audio encoder."""
