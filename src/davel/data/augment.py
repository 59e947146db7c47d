"""What training changes at random in a video: a part of its steps, another's sound, another video behind it.

A recipe's augmentations run in the order of their tuple; each is an `Augmentation` of `davel.data.dataset`.

Shapes: T steps, N events of the one video, M of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from davel.data.dataset import Sample

Another = Callable[[np.random.Generator], Sample]
"""Draws a second video."""


@dataclass(frozen=True)
class SwapAudio:
    """Gives a part of the videos the sound of another one."""

    part: float

    def __call__(self, sample: Sample, another: Another, rng: np.random.Generator) -> Sample:
        if self.part and rng.random() < self.part:  # without a part nothing is drawn
            return swap_audio(sample, another(rng))
        return sample


@dataclass(frozen=True)
class Join:
    """Lets another one follow a part of the videos."""

    part: float

    def __call__(self, sample: Sample, another: Another, rng: np.random.Generator) -> Sample:
        if self.part and rng.random() < self.part:
            return join(sample, another(rng))
        return sample


@dataclass(frozen=True)
class Crop:
    """A stretch of every video, see `random_crop`."""

    max_length: int
    """Steps at most."""
    ratio: tuple[float, float]
    """Of a video that is no longer than that: the part of its steps, at least and at most."""
    share: float = 0.5
    beyond: float = 0.0
    """See `Sample.crop`."""

    def __call__(self, sample: Sample, another: Another, rng: np.random.Generator) -> Sample:
        return random_crop(sample, self.max_length, self.ratio, rng, share=self.share, beyond=self.beyond)


def random_crop(
    sample: Sample,
    max_length: int,
    ratio: tuple[float, float],
    rng: np.random.Generator,
    tries: int = 200,
    share: float = 0.5,
    beyond: float = 0.0,
) -> Sample:
    """A random stretch of `ratio` of the video, or of `max_length` if it is longer than that.

    A stretch that keeps an event is looked for, up to `tries` times, if the video has any. `share`, `beyond`: see
    `Sample.crop`.
    """
    T = len(sample.visual)
    cropped = sample
    for _ in range(tries):
        length = max_length
        if T <= max_length:
            low, high = (max(round(r * T), 1) for r in ratio)
            length = int(rng.integers(low, high, endpoint=True))
        cropped = sample.crop(int(rng.integers(0, T - length, endpoint=True)), length, share, beyond)
        if len(cropped.labels) or not len(sample.labels):
            break
    return cropped


def swap_audio(sample: Sample, other: Sample) -> Sample:
    """The pictures of one video with the sound of another: an event is where both have one of the same class."""
    T = min(len(sample.visual), len(other.audio))
    start = np.maximum(sample.segments[:, None, 0], other.segments[:, 0])  # (N, M)
    end = np.minimum(np.minimum(sample.segments[:, None, 1], other.segments[:, 1]), T)
    both = (start < end) & (sample.labels[:, None] == other.labels)
    segments = np.stack([start[both], end[both]], axis=1)
    labels = np.broadcast_to(sample.labels[:, None], both.shape)[both]
    return Sample(sample.id, sample.visual[:T], other.audio[:T], segments, labels)


def join(first: Sample, second: Sample) -> Sample:
    """One video behind the other, as in a recording that holds many scenes."""
    T = len(first.visual)
    return Sample(
        first.id,
        np.concatenate([first.visual, second.visual]),
        np.concatenate([first.audio, second.audio]),
        np.concatenate([first.segments, second.segments + T]),
        np.concatenate([first.labels, second.labels]),
    )
