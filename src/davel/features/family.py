"""How features lie on disk: one `.npy` per video and stream in one folder, as UnAV-100 was published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from davel.features import light
from davel.features.spec import I3D_VGGISH, ONE_PEACE, FeatureSpec


@dataclass(frozen=True)
class Layout:
    """Which files hold the features of a video."""

    spec: FeatureSpec
    visual: dict[str, int]
    """What follows the video's id in a file's name, and its channels: joined in this order."""
    audio: dict[str, int]

    @property
    def streams(self) -> dict[str, int]:
        return self.visual | self.audio

    @property
    def dims(self) -> dict[str, int]:
        """Channels by modality."""
        return {"visual": self.spec.visual_dim, "audio": self.spec.audio_dim}

    def path(self, folder: Path, key: str, stream: str) -> Path:
        return folder / f"{key}_{stream}.npy"


I3D_VGGISH_LAYOUT = Layout(I3D_VGGISH, visual={"rgb": 1024, "flow": 1024}, audio={"vggish": 128})
ONE_PEACE_LAYOUT = Layout(ONE_PEACE, visual={"one_peace_video_finetune": 1536}, audio={"one_peace_audio": 1536})
LIGHT_LAYOUT = Layout(
    light.SPEC, visual={"light-visual": light.SPEC.visual_dim}, audio={"light-audio": light.SPEC.audio_dim}
)
