"""How good events are, measured as UnAV-100 and ActivityNet do: pure functions.

Shapes: N predictions, K events of one video and class, C classes, S thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from davel.events import Event, EventList

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Temporal IoU from 0.1 to 0.9, whose mean is the average mAP."""

Floats = NDArray[np.float64]


def temporal_iou(a: Floats, b: Floats) -> Floats:
    """Segments (..., 2), (..., 2) -> overlap / union (...), 0 where they do not touch"""
    overlap = (np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])).clip(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - overlap
    return np.asarray(overlap / union)


def average_precision(
    predicted: Mapping[str, EventList],
    truth: Mapping[str, EventList],
    num_classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Floats:
    """Average precision of each class at each threshold: (S, C), NaN for classes without a true event.

    Events are by video; a video that is not predicted counts as found empty, one without truth as nothing to find.
    A prediction is right if, among the events of its class and video that no better prediction has taken, the one
    that it overlaps most reaches the threshold. Precision is interpolated, recall is over all true events.
    """
    matched, scores, labels = match(predicted, truth, num_classes, thresholds)
    num_true = np.zeros(num_classes, int)
    for events in truth.values():
        num_true += np.bincount(events.label_ids, minlength=num_classes)
    order = np.argsort(-scores, kind="stable")
    result = np.full((len(thresholds), num_classes), np.nan)
    for c in range(num_classes):
        if num_true[c]:
            right = matched[order][labels[order] == c]  # (N, S)
            result[:, c] = _interpolated(right.T, num_true[c])
    return result


def _interpolated(right: NDArray[np.bool_], num_true: int) -> Floats:
    """Whether each prediction, best first, is right (S, N) -> area under the precision envelope (S,)"""
    found = right.cumsum(1)
    precision = found / np.arange(1, right.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((envelope * right).sum(1) / num_true)


def match(
    predicted: Mapping[str, EventList],
    truth: Mapping[str, EventList],
    num_classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.int64]]:
    """Whether each of N predictions is right at each threshold (N, S), their scores (N,) and classes (N,).

    Greedy by score within a video and class; all videos and classes go in step.
    """
    ids = {key: i for i, key in enumerate(dict.fromkeys([*truth, *predicted]))}
    p_group, p_segments, p_scores = _columns(predicted, ids, num_classes)
    t_group, t_segments, _ = _columns(truth, ids, num_classes)

    groups, start, count = np.unique(t_group, return_index=True, return_counts=True)
    column = np.arange(count.max(initial=0))
    index = np.minimum(start[:, None] + column, max(len(t_group) - 1, 0))
    exists = column < count[:, None]  # (G, K): true events, group by group

    right = np.zeros((len(p_group), len(thresholds)), dtype=bool)
    row = np.searchsorted(groups, p_group)
    has_truth = row < len(groups)
    has_truth[has_truth] = groups[row[has_truth]] == p_group[has_truth]
    taken = np.zeros((len(groups), len(thresholds), len(column)), dtype=bool)
    limits = np.asarray(thresholds)[:, None]
    _, first, inverse = np.unique(p_group, return_index=True, return_inverse=True)
    rank = np.arange(len(p_group)) - first[inverse]  # within the group, best first
    todo = np.flatnonzero(has_truth)
    todo = todo[np.argsort(rank[todo], kind="stable")]
    for now in np.split(todo, np.flatnonzero(np.diff(rank[todo])) + 1) if len(todo) else []:
        g = row[now]
        iou = temporal_iou(p_segments[now, None], t_segments[index[g]])  # (n, K)
        iou = np.where(exists[g], iou, -1)[:, None]  # (n, 1, K)
        free = np.where(taken[g] | (iou < limits), -1, iou)  # (n, S, K)
        best = free.argmax(-1)
        hit = np.take_along_axis(free, best[..., None], -1)[..., 0] >= 0
        right[now] = hit
        n, s = np.nonzero(hit)
        taken[g[n], s, best[n, s]] = True
    return right, p_scores, p_group % num_classes


def _columns(
    events: Mapping[str, EventList], ids: Mapping[str, int], num_classes: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """All events, sorted by (video, class) group, best first: groups (N,), segments (N, 2), scores (N,)"""
    if not events:
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
    group = np.concatenate([ids[key] * num_classes + e.label_ids for key, e in events.items()]).astype(np.int64)
    segments = np.concatenate([e.segments for e in events.values()])
    scores = np.concatenate([e.scores for e in events.values()]).astype(np.float64)
    order = np.lexsort((-scores, group))
    return group[order], segments[order], scores[order]


def decoys_reported(
    predicted: Mapping[str, EventList], decoys: Mapping[str, EventList], score: float = 0.5, overlap: float = 0.1
) -> tuple[int, int]:
    """How many decoys some event of their class hits, and how many there are.

    A decoy is hit by an event of at least `score` whose temporal IoU with it is at least `overlap`.
    """
    hit = total = 0
    for key, expected in decoys.items():
        total += len(expected)
        if key in predicted:
            found = predicted[key].above(score)
            iou = temporal_iou(expected.segments[:, None], found.segments)  # (decoys, found)
            hit += int(((iou >= overlap) & (expected.label_ids[:, None] == found.label_ids)).any(1).sum())
    return hit, total


def pair(truth: EventList, found: EventList) -> list[tuple[Event | None, Event | None, float]]:
    """Events side by side in order of time: true, found, and their temporal IoU; None where the other has no partner.

    Best first, each found event takes the true one of its class that it overlaps most and that is still free.
    """
    rows: list[tuple[Event | None, Event | None, float]] = []
    free = list(truth)
    for event in sorted(found, key=lambda e: -e.score):
        segment = np.array([event.start, event.end])
        overlaps = [float(temporal_iou(np.array([t.start, t.end]), segment)) * (t.label == event.label) for t in free]
        best = max(range(len(free)), key=overlaps.__getitem__, default=None)
        if best is None or not overlaps[best]:
            rows.append((None, event, 0.0))
        else:
            rows.append((free.pop(best), event, overlaps[best]))
    rows += [(event, None, 0.0) for event in free]
    return sorted(rows, key=lambda row: min(e.start for e in row[:2] if e))
