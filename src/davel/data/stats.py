"""What is in a set of annotations: how many, how long, how much at a time.

Shapes: N events.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.core.annotations import Annotations
from davel.core.events import EventList

PERCENTILES = (5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Statistics:
    subsets: dict[str, int]
    """Videos by subset."""
    videos: int
    events: int
    classes: dict[str, int]
    """Events of each class, most first."""
    hours: float
    """Of all videos."""
    video_seconds: dict[int, float]
    """Percentiles of the videos' durations."""
    event_seconds: dict[int, float]
    """Percentiles of the events' durations."""
    events_per_video: dict[int, int]
    """How many videos have so many events."""
    classes_per_video: dict[int, int]
    """How many videos have events of so many classes."""
    hours_by_events: dict[int, float]
    """In how much time so many events happen at once."""
    overlapping: float
    """The part of the events that some other event of their video meets in time."""
    overlapping_same_class: float
    """The part that another event of their own class meets."""
    covered: float
    """The part of all time in which something happens."""
    at_once: float
    """Events at a time, on average, where something happens."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def statistics(annotations: Annotations) -> Statistics:
    """Counts, durations and overlaps of annotated events."""
    videos = list(annotations.videos.values())
    label_ids = np.concatenate([np.zeros(0, int), *(video.events.label_ids for video in videos)])
    counts = np.bincount(label_ids, minlength=len(annotations.labels))
    classes = {annotations.labels[c]: int(counts[c]) for c in np.argsort(-counts, kind="stable")}
    meets = [_meets(video.events) for video in videos]
    total = sum(video.seconds for video in videos)
    seconds: Counter[int] = Counter()
    for video in videos:
        seconds.update(_at_once(video.events.segments, video.seconds))
    happening = sum(time for number, time in seconds.items() if number)
    lengths = event_seconds(annotations)
    return Statistics(
        subsets=dict(Counter(video.subset or "" for video in videos)),
        videos=len(videos),
        events=len(lengths),
        classes=classes,
        hours=round(total / 3600, 2),
        video_seconds=_percentiles(np.array([video.seconds for video in videos])),
        event_seconds=_percentiles(lengths),
        events_per_video=dict(sorted(Counter(len(video.events) for video in videos).items())),
        classes_per_video=dict(sorted(Counter(len(np.unique(video.events.label_ids)) for video in videos).items())),
        hours_by_events={number: round(time / 3600, 3) for number, time in sorted(seconds.items())},
        overlapping=_part(sum(int(other.sum()) for other, _ in meets), len(lengths)),
        overlapping_same_class=_part(sum(int(same.sum()) for _, same in meets), len(lengths)),
        covered=_part(happening, total),
        at_once=_part(float(lengths.sum()), happening),
    )


def event_seconds(annotations: Annotations) -> NDArray[np.float64]:
    """The durations of all events: (N,)"""
    segments = [video.events.segments for video in annotations.videos.values()]
    return np.diff(np.concatenate([np.zeros((0, 2)), *segments]), axis=1)[:, 0]


def _meets(events: EventList) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each event (N,) shares time with another one, and with another one of its class."""
    start, end = events.segments[:, 0], events.segments[:, 1]
    meet = (start[:, None] < end) & (start < end[:, None]) & ~np.eye(len(events), dtype=bool)  # (N, N)
    same = meet & (events.label_ids[:, None] == events.label_ids)
    return np.asarray(meet.any(1)), np.asarray(same.any(1))


def _at_once(segments: NDArray[np.float64], duration: float) -> dict[int, float]:
    """For how many seconds of a video so many of its segments (N, 2) are at once."""
    edges = np.concatenate([[0.0, duration], segments.flatten()])
    change = np.concatenate([[0, 0], np.tile([1, -1], len(segments))])
    order = np.argsort(edges, kind="stable")
    number, seconds = np.cumsum(change[order])[:-1], np.diff(edges[order])
    return {int(n): float(seconds[number == n].sum()) for n in np.unique(number[seconds > 0])}


def _percentiles(values: NDArray[np.float64]) -> dict[int, float]:
    return {p: round(float(np.percentile(values, p)), 2) for p in PERCENTILES} if len(values) else {}


def _part(amount: float, of: float) -> float:
    return round(amount / of, 4) if of else 0.0
