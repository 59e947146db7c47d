"""How ONE-PEACE's features are made: what its authors say of those that UniAV and CCNet read, and davel's choices.

Published are the grids (16 frames a second, 16 frames every 4; 1 s of sound every 0.25 s) and the checkpoints. Not
published, and guessed: how frames came to 16 a second, the decoder, the crop (here one, in the centre), the resampler.
So davel's are features of the same kind as the authors', not the same numbers, and `origin` tells them apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from davel.features.spec import FeatureSpec

ORIGINS = ("authors", "davel")
PRECISIONS = ("float16", "bfloat16", "float32")
WIDTH = 1536
"""Channels of every feature and embedding (D)."""
FRAMES = 16
"""Frames of a window, as the video encoder's table of times has them."""


@dataclass(frozen=True)
class Options:
    origin: str = "authors"
    """Whose features they are: the authors' files, or davel's."""
    weights: str | None = None
    """What each value of the encoders' weights takes: float16, bfloat16 or float32; not known of the authors'."""

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise ValueError(f"origin is {self.origin!r}: choose from {', '.join(ORIGINS)}")
        if self.weights not in (None, *PRECISIONS):
            raise ValueError(f"weights is {self.weights!r}: choose from {', '.join(PRECISIONS)}")
        if self.origin == "davel" and self.weights is None:
            raise ValueError(f"weights is None: davel's features need one of {', '.join(PRECISIONS)}")


OURS: dict[str, Any] = {"origin": "davel", "weights": "float16"}
"""What davel makes where nothing else is asked for."""

SPEC = FeatureSpec(
    name="one-peace",
    version=1,
    fps=16.0,
    window=FRAMES,
    stride=4,
    sample_rate=16000,
    audio_window_seconds=1.0,
    audio_stride_seconds=0.25,
    visual_dim=WIDTH,
    audio_dim=WIDTH,
    visual_text_dim=WIDTH,
    audio_text_dim=WIDTH,
    resampler="resampy-0.4.3",
    options=asdict(Options()),
)
"""Of the authors' files. Of the resamplers tried, this one comes nearest to them (mean cosine 0.927)."""
