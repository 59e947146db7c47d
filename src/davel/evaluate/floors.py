"""What a result is to be held against: floors that know the classes of a video and nothing of when they happen, and
oracles, the same predictions with a part of the truth told to them.

Average precisions are (S, C): S thresholds, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from davel.core.events import EventList, Video
from davel.evaluate.analysis import overlaps
from davel.evaluate.metrics import Columns, Floats, Matches, average_precision, match_columns

FLOORS = ("whole video", "first to last")
"""Right classes: each as one event as long as the video, or from its first onset to its last offset."""
ORACLES = ("right class", "right extent", "right class and extent")


def floors(videos: Mapping[str, Video], num_classes: int) -> dict[str, Floats]:
    """The average precision (S, C) of each of `FLOORS`; without the first where a duration is not known.

    A floor is surest of the video that is annotated first. It has no reason to be, but if it were as sure of all, their
    order would be left to chance, which is worth some tenths of a per cent.
    """
    truth = {key: video.events for key, video in videos.items()}
    V = len(truth)
    spans = {key: _spans(events, score=1 - i / V) for i, (key, events) in enumerate(truth.items())}
    guesses = {"first to last": spans}
    if all(video.duration is not None for video in videos.values()):
        whole = {key: _stretched(events, videos[key].seconds) for key, events in spans.items()}
        guesses = {"whole video": whole, **guesses}
    return {name: average_precision(guess, truth, num_classes) for name, guess in guesses.items()}


def _spans(events: EventList, score: float) -> EventList:
    """An event for each class, from its first onset to its last offset."""
    classes, index = np.unique(events.label_ids, return_inverse=True)
    start, end = np.full(len(classes), np.inf), np.zeros(len(classes))
    np.minimum.at(start, index, events.segments[:, 0])
    np.maximum.at(end, index, events.segments[:, 1])
    return EventList(np.stack([start, end], axis=1), np.full(len(classes), score), classes, events.labels)


def _stretched(events: EventList, seconds: float) -> EventList:
    return replace(events, segments=np.tile([0.0, seconds], (len(events), 1)))


def oracles(matches: Matches) -> dict[str, Floats]:
    """The average precision (S, C) of the predictions with each of `ORACLES`.

    With the right extent, a prediction that touches an event of its class (a temporal IoU of 0.1) is that event. With
    the right class, events are found by predictions of any class, which take theirs; a prediction that lies on an event
    that a better one has found is left out, since it would repeat it, and one that lies on none stays as it is.
    """
    right_class = _with_right_class(matches)
    touching = matches.average_precision()[:1]  # the lowest threshold
    S = len(matches.thresholds)
    figures = (right_class, np.repeat(touching, S, axis=0), np.repeat(right_class[:1], S, axis=0))
    return dict(zip(ORACLES, figures, strict=True))


def _with_right_class(matches: Matches) -> Floats:
    predicted, truth = _by_time(matches.predicted), _by_time(matches.truth)
    blind = match_columns(_of_one_class(predicted), _of_one_class(truth), matches.thresholds)
    best = overlaps(blind).same  # (N,)
    areas = []
    for s, threshold in enumerate(matches.thresholds):
        found = blind.right[:, s]
        kept = found | (best < threshold)
        labels = np.where(found, np.append(truth.labels, 0)[blind.partner[:, s]], predicted.labels)
        told = Matches(
            replace(predicted, labels=labels).select(kept),
            matches.truth,
            matches.thresholds[s : s + 1],
            blind.partner[kept, s : s + 1],
        )
        areas.append(told.average_precision())
    return np.concatenate(areas)


def _by_time(columns: Columns) -> Columns:
    """Sorted by video, best first, then by time: the order of one class."""
    start, end = columns.segments.T
    return columns.select(np.lexsort((columns.labels, end, start, -columns.scores, columns.videos)))


def _of_one_class(columns: Columns) -> Columns:
    return replace(columns, labels=np.zeros_like(columns.labels), num_classes=1)
