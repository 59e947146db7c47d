"""Events: what a localizer reports and what an annotator wrote. All times are seconds on the media clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Event:
    """A labelled half-open interval [start, end), in seconds on the media clock.

    `score` is the model's confidence in 0..1; an annotated event has score 1.
    """

    label: str
    start: float
    end: float
    score: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"an event needs 0 <= start < end, got {self.start = }, {self.end = }")
        if not 0 <= self.score <= 1:
            raise ValueError(f"an event needs a score from 0 to 1, got {self.score = }")

    @property
    def duration(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class EventList(Sequence[Event]):
    """The events of one video, in columns: N events, C classes. Indexing and iterating give `Event`s."""

    segments: NDArray[np.float64]
    """(N, 2): start and end, in seconds."""
    scores: NDArray[np.floating]
    """(N,)"""
    label_ids: NDArray[np.integer]
    """(N,): the class, an index into `labels`."""
    labels: tuple[str, ...]
    """The names of all C classes."""

    def __post_init__(self) -> None:
        N = len(self.segments)
        if self.segments.shape != (N, 2) or self.scores.shape != (N,) or self.label_ids.shape != (N,):
            raise ValueError(
                f"expected (N, 2) segments with N scores and label_ids, "
                f"got {self.segments.shape}, {self.scores.shape}, {self.label_ids.shape}"
            )
        if not ((self.segments[:, 0] >= 0) & (self.segments[:, 0] < self.segments[:, 1])).all():
            raise ValueError("every event needs 0 <= start < end")

    @classmethod
    def of(cls, events: Sequence[Event], labels: Sequence[str]) -> EventList:
        """Columns of single events; KeyError for a label that is not among `labels`."""
        ids = {label: i for i, label in enumerate(labels)}
        return cls(
            segments=np.array([(e.start, e.end) for e in events], dtype=np.float64).reshape(-1, 2),
            scores=np.array([e.score for e in events], dtype=np.float64),
            label_ids=np.array([ids[e.label] for e in events], dtype=np.int64),
            labels=tuple(labels),
        )

    @classmethod
    def join(cls, parts: Sequence[EventList], labels: Sequence[str]) -> EventList:
        """One list behind the other, all of the same `labels`."""
        parts = [cls.of([], labels), *parts]
        return cls(
            segments=np.concatenate([events.segments for events in parts]),
            scores=np.concatenate([events.scores for events in parts]),
            label_ids=np.concatenate([events.label_ids for events in parts]),
            labels=tuple(labels),
        )

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> EventList: ...
    def __getitem__(self, index: int | slice) -> Event | EventList:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        start, end = self.segments[index]
        return Event(self.labels[self.label_ids[index]], float(start), float(end), float(self.scores[index]))

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> EventList:
        """Those at the given positions, or where the given mask is set."""
        return replace(self, segments=self.segments[index], scores=self.scores[index], label_ids=self.label_ids[index])

    def above(self, threshold: float | Sequence[float]) -> EventList:
        """Those that score at least `threshold`, one for all or one for each class."""
        limits = np.broadcast_to(np.asarray(threshold, np.float64), len(self.labels))
        return self.select(self.scores >= limits[self.label_ids])

    def clipped(self, start: float, end: float) -> EventList:
        """What of them lies within [start, end) seconds."""
        segments = self.segments.clip(start, end)
        left = segments[:, 0] < segments[:, 1]
        return replace(self.select(left), segments=segments[left])
