"""Features with their annotated events, and batches of them.

Shapes: B videos, T steps, Dv and Da channels of visual and audio features, N events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel.core.events import Video
from davel.core.lazy import attributes
from davel.features.spec import FeatureSpec
from davel.models.detector import Truth

Floats = NDArray[np.floating]

__getattr__ = attributes(
    __name__, moved={name: f"davel.data.augment:{name}" for name in ("random_crop", "swap_audio", "join")}
)


@dataclass(frozen=True)
class Sample:
    """One video's features and events."""

    id: str
    visual: Floats
    """(T, Dv)"""
    audio: Floats
    """(T, Da)"""
    segments: Floats
    """(N, 2), in steps."""
    labels: NDArray[np.integer]
    """(N,)"""

    def crop(self, start: int, length: int, share: float = 0.5, beyond: float = 0.0) -> Sample:
        """The steps [start, start + length) and the events of which at least a share lies there, clipped; `beyond` so
        many steps more on either side still counts as there."""
        segments = self.segments.clip(start - beyond, start + length + beyond)
        inside = segments[:, 1] - segments[:, 0]
        kept = (inside > 0) & (inside >= share * (self.segments[:, 1] - self.segments[:, 0]))
        steps = slice(start, start + length)
        return Sample(self.id, self.visual[steps], self.audio[steps], segments[kept] - start, self.labels[kept])


@dataclass(frozen=True)
class Batch:
    visual: Tensor
    """(B, T, Dv)"""
    audio: Tensor
    """(B, T, Da)"""
    mask: Tensor
    """(B, T) bool, True at a video's steps."""
    truth: Truth
    ids: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.visual.to(device), self.audio.to(device), self.mask.to(device), self.truth.to(device), self.ids
        )

    def pieces(self, n: int) -> list[Batch]:
        """The batch in n parts of equal size, each as long as its own longest video."""
        parts = []
        for rows in torch.arange(len(self.ids)).chunk(n):
            T = int(self.mask[rows].sum(1).max())
            truth = Truth(self.truth.segments[rows], self.truth.labels[rows])
            ids = tuple(self.ids[i] for i in rows)
            parts.append(Batch(self.visual[rows, :T], self.audio[rows, :T], self.mask[rows, :T], truth, ids))
        return parts


@dataclass(frozen=True)
class Dataset:
    """Annotated videos whose features are read when asked for."""

    videos: Mapping[str, Video]
    read: Callable[[str], tuple[Floats, Floats]]
    """A video's visual (T, Dv) and audio (T, Da) features, by id."""
    spec: FeatureSpec
    origin: str | None = None
    """What must be said wherever a figure on this data is printed, e.g. that its features are simulated."""
    skipped: tuple[str, ...] = ()
    """The ids of what was to be here but is missing or broken."""

    def __len__(self) -> int:
        return len(self.videos)

    def sample(self, key: str) -> Sample:
        visual, audio = self.read(key)
        events = self.videos[key].events
        segments = self.spec.timing.steps(events.segments).astype(np.float32)
        return Sample(key, visual, audio, segments, events.label_ids)


class Augmentation(Protocol):
    """A random change of a training video."""

    def __call__(
        self, sample: Sample, another: Callable[[np.random.Generator], Sample], rng: np.random.Generator
    ) -> Sample:
        """The video as it is trained on; `another` draws a second one. All that is random comes of `rng`."""
        ...


def collate(samples: Sequence[Sample], length: int | None = None) -> Batch:
    """Videos side by side, padded with zeros to `length` steps, by default the longest's."""
    T = length or max(len(s.visual) for s in samples)
    N = max(len(s.labels) for s in samples)
    B = len(samples)
    visual = torch.zeros(B, T, samples[0].visual.shape[1])
    audio = torch.zeros(B, T, samples[0].audio.shape[1])
    mask = torch.zeros(B, T, dtype=torch.bool)
    segments, labels = torch.zeros(B, N, 2), torch.full((B, N), -1)
    for b, sample in enumerate(samples):
        t, n = len(sample.visual), len(sample.labels)
        visual[b, :t] = torch.from_numpy(sample.visual)
        audio[b, :t] = torch.from_numpy(sample.audio)
        mask[b, :t] = True
        segments[b, :n] = torch.from_numpy(sample.segments)
        labels[b, :n] = torch.from_numpy(sample.labels)
    return Batch(visual, audio, mask, Truth(segments, labels), tuple(s.id for s in samples))


def training_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    augment: Sequence[Augmentation] = (),
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 1,
) -> Iterator[Batch]:
    """The batches of an epoch in random order; the last one is left out where it is not full.

    Each video goes through `augment` (see `davel.data.augment`), one after the other. Of each batch a process gets its
    share of rows; `workers` threads read ahead. What an epoch draws depends on the seed, the epoch and the video alone.
    """
    keys = list(dataset.videos)
    order = np.random.default_rng([seed, epoch]).permutation(len(keys))

    def another(rng: np.random.Generator) -> Sample:
        return dataset.sample(keys[int(rng.integers(len(keys)))])

    def draw(i: int) -> Sample:
        rng = np.random.default_rng([seed, epoch, i])
        sample = dataset.sample(keys[i])
        for change in augment:
            sample = change(sample, another, rng)
        return sample

    share = batch_size // world_size
    rows = [
        [int(i) for i in order[first + rank * share :][:share]]
        for first in range(0, len(order) - batch_size + 1, batch_size)
    ]
    return read_ahead(rows, draw, workers)


def read_ahead(rows: Sequence[Sequence[int]], draw: Callable[[int], Sample], workers: int) -> Iterator[Batch]:
    """A batch of every row of samples; the next two are drawn by threads while one is in use."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        waiting: deque[list[Future[Sample]]] = deque()
        try:
            for row in rows:
                waiting.append([pool.submit(draw, i) for i in row])
                if len(waiting) > 2:
                    yield collate([future.result() for future in waiting.popleft()])
            while waiting:
                yield collate([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)
