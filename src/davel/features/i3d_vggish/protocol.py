"""How the published features of UnAV-100 were made."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from davel.features.spec import FeatureSpec


@dataclass(frozen=True)
class Options:
    flow_updates: int = 20
    """Refinements of the optical flow."""

    def __post_init__(self) -> None:
        if self.flow_updates < 1:
            raise ValueError(f"flow_updates is {self.flow_updates}: expected at least 1")


SPEC = FeatureSpec(
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
    options=asdict(Options()),
)
