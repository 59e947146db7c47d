"""Events: what a localizer reports and what an annotator wrote. All times are seconds on the media clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, printable

Kind = Literal["both", "seen", "heard"]
"""Whether an event is both seen and heard, only seen, or only heard."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Event:
    """A labelled half-open interval [start, end), in seconds on the media clock.

    `score` is the model's confidence in 0..1; an annotated event has score 1.
    """

    label: str
    start: float
    end: float
    score: float = 1.0
    kind: Kind = "both"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end < math.inf:
            raise ValueError(f"an event needs 0 <= start < end, got {self.start = }, {self.end = }")
        if not 0 <= self.score <= 1:
            raise ValueError(f"an event needs a score from 0 to 1, got {self.score = }")
        if self.kind not in KINDS:
            raise ValueError(f"an event is of the kind {', '.join(KINDS)}, got {self.kind = }")

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
    kinds: NDArray[np.integer] | None = None
    """(N,): an index into `KINDS`; None where all events are both seen and heard."""

    def __post_init__(self) -> None:
        N = len(self.segments)
        if self.segments.shape != (N, 2) or self.scores.shape != (N,) or self.label_ids.shape != (N,):
            raise ValueError(
                f"expected (N, 2) segments with N scores and label_ids, "
                f"got {self.segments.shape}, {self.scores.shape}, {self.label_ids.shape}"
            )
        if not N:
            return
        start, end = self.segments[:, 0], self.segments[:, 1]  # what is no number compares as false
        if not (start.min() >= 0 and (start < end).all() and end.max() < math.inf):
            raise ValueError("every event needs 0 <= start < end")
        if not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise ValueError("every event needs a score from 0 to 1")
        if not (self.label_ids.min() >= 0 and self.label_ids.max() < len(self.labels)):
            raise ValueError(f"every label_id needs a label: there are {len(self.labels)}")
        if self.kinds is not None and not (
            self.kinds.shape == (N,) and self.kinds.min() >= 0 and self.kinds.max() < len(KINDS)
        ):
            raise ValueError(f"every event needs a kind: one of {', '.join(KINDS)}, by its index")

    @classmethod
    def of(cls, events: Sequence[Event], labels: Sequence[str]) -> EventList:
        """Columns of single events; KeyError for a label that is not among `labels`."""
        ids = {label: i for i, label in enumerate(labels)}
        kinds = None
        if any(e.kind != "both" for e in events):
            kinds = np.array([KINDS.index(e.kind) for e in events], dtype=np.int64)
        return cls(
            segments=np.array([(e.start, e.end) for e in events], dtype=np.float64).reshape(-1, 2),
            scores=np.array([e.score for e in events], dtype=np.float64),
            label_ids=np.array([ids[e.label] for e in events], dtype=np.int64),
            labels=tuple(labels),
            kinds=kinds,
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
            kinds=(
                None
                if all(events.kinds is None for events in parts)
                else np.concatenate([np.zeros(len(e), np.int64) if e.kinds is None else e.kinds for e in parts])
            ),
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
        kind: Kind = "both" if self.kinds is None else KINDS[self.kinds[index]]
        return Event(self.labels[self.label_ids[index]], float(start), float(end), float(self.scores[index]), kind)

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> EventList:
        """Those at the given positions, or where the given mask is set."""
        return EventList(
            self.segments[index],
            self.scores[index],
            self.label_ids[index],
            self.labels,
            None if self.kinds is None else self.kinds[index],
        )

    def above(self, threshold: float | Sequence[float]) -> EventList:
        """Those that score at least `threshold`, one for all or one for each class."""
        limits = np.broadcast_to(np.asarray(threshold, np.float64), len(self.labels))
        return self.select(self.scores >= limits[self.label_ids])

    def clipped(self, start: float, end: float) -> EventList:
        """What of them lies within [start, end) seconds."""
        segments = self.segments.clip(start, end)
        left = segments[:, 0] < segments[:, 1]
        return replace(self.select(left), segments=segments[left])

    def relabelled(self, labels: Sequence[str]) -> EventList:
        """Those whose class is among `labels`, numbered as there."""
        if tuple(labels) == self.labels:
            return self
        ids = {label: i for i, label in enumerate(labels)}
        new = np.array([ids.get(label, -1) for label in self.labels], dtype=np.int64)
        kept = self.select(np.flatnonzero(new[self.label_ids] >= 0))
        return replace(kept, label_ids=new[kept.label_ids], labels=tuple(labels))


NO_EVENTS = EventList.of([], ())


@dataclass(frozen=True)
class Video:
    """A video, or another recording, with its events: annotated, found by a model, or both read from a file."""

    id: str
    """Its name: where files lie in folders, the path below the topmost folder, without the file's ending."""
    events: EventList
    duration: float | None = None
    """Seconds, where they are known."""
    media: str | None = None
    """The file, as it was named."""
    subset: str | None = None
    """The part of a data set that it belongs to: train, validation, test, ..."""
    decoys: EventList = NO_EVENTS
    """What looks or sounds like an event and is none: things seen but silent, or heard but hidden."""
    scored_by: str | None = None
    """What gave the events their scores, e.g. a model's name."""
    origin: str | None = None
    """What must be said wherever a figure on the events is printed, e.g. that they were found in simulated features."""

    def __post_init__(self) -> None:
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise ValueError(f"{printable(self.id)}: a duration is seconds above 0, got {self.duration}")

    @property
    def seconds(self) -> float:
        """The duration. ConfigError if it is not known."""
        if self.duration is None:
            raise ConfigError(f"{printable(self.id)}: needs a duration in seconds: give one in its annotations")
        return self.duration

    def relabelled(self, labels: Sequence[str]) -> Video:
        """The same video with only the events and decoys of the given classes, numbered as there."""
        return replace(self, events=self.events.relabelled(labels), decoys=self.decoys.relabelled(labels))
