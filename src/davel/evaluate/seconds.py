"""Events on steps of one second, measured as AVEL and AVVP do (Tian et al., ECCV 2018 and 2020), and PreFM on UnAV-100.

Step t is the second from t on, and of a class if an event of it covers the step's middle, t + 0.5 s. Each figure is of
one video; over a data set it is the mean of its videos. Shapes: T seconds, C classes, S thresholds, R runs of steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from davel.core.events import EventList, Video
from davel.evaluate.metrics import THRESHOLDS, Floats, Ints

Bools = NDArray[np.bool_]


def scores_by_second(events: EventList, num_seconds: int) -> Floats:
    """The best score of the events that cover the middle of each second, 0 where there are none: (T, C)"""
    scores = np.zeros((num_seconds, len(events.labels)))
    first, stop = np.ceil(events.segments - 0.5).clip(0, num_seconds).astype(np.int64).T
    for i in np.argsort(events.scores, kind="stable"):
        scores[first[i] : stop[i], events.label_ids[i]] = events.scores[i]
    return scores


def segment_f1(found: Bools, truth: Bools) -> float:
    """F1 of the seconds of each class, (T, C) and (T, C), and its mean over the classes that are found or true; 1 where
    there are none."""
    hits, both = (found & truth).sum(0), found.sum(0) + truth.sum(0)
    return _mean_f1(hits, both)


def _mean_f1(hits: Ints, both: Ints) -> float:
    there = both > 0
    return float((2 * hits[there] / both[there]).mean()) if there.any() else 1.0


def segment_average_precision(scores: Floats, truth: Bools) -> Floats:
    """Average precision of the ranking of the classes in each second, (T, C) and (T, C) -> (T,); of equal scores all or
    none are taken. It is 0 in a second without a class, as published."""
    C = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, right = np.take_along_axis(scores, order, 1), np.take_along_axis(truth, order, 1)
    ends = np.where(np.diff(ranked, axis=1, append=-np.inf) != 0, np.arange(C), C)  # the last one of equal scores ...
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]  # ... for each of them
    precision = np.take_along_axis(right.cumsum(1), last, 1) / (last + 1)
    return np.asarray((precision * right).sum(1) / np.maximum(right.sum(1), 1))


def event_f1(found: Bools, truth: Bools, thresholds: Sequence[float] = THRESHOLDS) -> Floats:
    """F1 of the events of each class, (T, C) and (T, C), at each threshold, and its mean as in `segment_f1`: (S,)

    An event is a run of seconds as long as can be. A found one is right if it reaches the temporal IoU with any true
    one of its class, which several may share; a true one is missed if none reaches it.
    """
    (classes, start, stop), (true_classes, true_start, true_stop) = _runs(found), _runs(truth)
    overlap = (np.minimum.outer(stop, true_stop) - np.maximum.outer(start, true_start)).clip(0)  # (R, R')
    overlap *= classes[:, None] == true_classes
    union = np.add.outer(stop - start, true_stop - true_start) - overlap
    figures = []
    for threshold in thresholds:
        reached = (overlap > 0) & (overlap >= threshold * union)
        C = found.shape[1]
        right = np.bincount(classes[reached.any(1)], minlength=C)
        wrong = np.bincount(classes, minlength=C) - right
        missed = np.bincount(true_classes[~reached.any(0)], minlength=C)
        figures.append(_mean_f1(right, 2 * right + wrong + missed))
    return np.array(figures)


def _runs(steps: Bools) -> tuple[Ints, Ints, Ints]:
    """The class of each run of steps (T, C), its first step, and the one after its last: (R,) each"""
    edges = np.diff(np.pad(steps, ((1, 1), (0, 0))).astype(np.int8), axis=0).T  # (C, T + 1)
    classes, start = np.nonzero(edges == 1)
    return classes, start, np.nonzero(edges == -1)[1]


@dataclass(frozen=True)
class BySecond:
    """Means over the videos of a data set."""

    segment_f1: float
    segment_map: float | None
    """As published: a second without a class counts 0, so that even the truth does not reach 1. None where a duration
    is not known."""
    segment_map_labelled: float | None
    """The same over those of a video's seconds that have a class, and over the videos that have such a second."""
    event_f1: Floats
    """(S,)"""


def by_second(
    predicted: Mapping[str, EventList], videos: Mapping[str, Video], thresholds: Sequence[float] | float
) -> BySecond:
    """How good the seconds of annotated videos are. `thresholds`: the score from which an event is reported, one for
    all classes or one for each."""
    segments, events = [], []
    maps: list[float] = []
    labelled: list[float] = []
    for key, video in videos.items():
        mine = predicted.get(key, EventList.of([], video.events.labels))
        ends = [0.0, *mine.segments[:, 1], *video.events.segments[:, 1]]
        T = math.ceil(max(ends) if video.duration is None else video.duration)
        truth = scores_by_second(video.events, T) > 0
        scores = scores_by_second(mine, T)
        found = scores_by_second(mine.above(thresholds), T) > 0
        segments.append(segment_f1(found, truth))
        events.append(event_f1(found, truth))
        precision, there = segment_average_precision(scores, truth), truth.any(1)
        maps += [float(precision.mean())] if T else []
        labelled += [float(precision[there].mean())] if there.any() else []
    if any(video.duration is None for video in videos.values()):
        maps = []
    return BySecond(
        segment_f1=float(np.mean(segments)),
        segment_map=float(np.mean(maps)) if maps else None,
        segment_map_labelled=float(np.mean(labelled)) if labelled else None,
        event_f1=np.mean(events, axis=0),
    )
