"""From a media file to its features, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from davel.errors import ConfigError, MediaError, printable
from davel.features import light
from davel.features.spec import FeatureSpec
from davel.media import Coverage, MediaInfo, Picture, open_media

SPECS: dict[str, FeatureSpec] = {"light": light.SPEC}
"""By extractor."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Both feature sequences of a file, step by step in time with each other."""

    visual: NDArray[np.float32]
    """(T, visual_dim)"""
    audio: NDArray[np.float32]
    """(T, audio_dim)"""
    spec: FeatureSpec
    info: MediaInfo
    coverage: Coverage

    def __post_init__(self) -> None:
        T = len(self.visual)
        expected = ((T, self.spec.visual_dim), (T, self.spec.audio_dim))
        if (self.visual.shape, self.audio.shape) != expected:
            raise ValueError(f"expected {expected} for {self.spec.name}, got {self.visual.shape}, {self.audio.shape}")

    def __len__(self) -> int:
        return len(self.visual)


def spec_of(extractor: str) -> FeatureSpec:
    """ConfigError if there is no such extractor."""
    if extractor not in SPECS:
        raise ConfigError(f"unknown features {extractor!r}: choose from {', '.join(SPECS)}")
    return SPECS[extractor]


def extract(path: Path, extractor: str = "light") -> Features:
    """The features of a media file; where one track is longer, the steps that only it has are left out.

    MediaError if the file cannot be read as a whole, lacks a track, or is shorter than one step.
    """
    spec = spec_of(extractor)
    visual, audio = light.LightVisual(), light.LightAudio()
    with open_media(path) as source:
        for item in source.read(fps=spec.fps, sample_rate=spec.sample_rate, size=light.FRAME_SIZE):
            if isinstance(item, Picture):
                visual.push(item.rgb)
            else:
                audio.push(item.samples)
        info, coverage = source.info, source.coverage
    v, a = visual.finish(), audio.finish()
    T = min(len(v), len(a))
    if T == 0:
        least = (spec.window + 1) / spec.fps
        tracks = ", ".join(
            f"{name} ends at {span[1]:.2f} s"
            for name, span in (("video", coverage.video), ("audio", coverage.audio))
            if span
        )
        raise MediaError(f"{printable(path)}: is shorter than one step of {least:.2f} s ({tracks}): give a longer file")
    return Features(visual=v[:T], audio=a[:T], spec=spec, info=info, coverage=coverage)
