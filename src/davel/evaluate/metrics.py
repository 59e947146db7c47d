"""How good events are, measured as UnAV-100 and ActivityNet do: pure functions.

Figures are those of the published program (the evaluation of ActivityNet, as the released code of UnAV-100 and CCNet
has it), also where files have quirks: a true event that repeats another counts once, an empty segment lies on nothing,
and what is predicted for a video that has no such event is wrong. What that program leaves to the order of its files
is settled here: of equal scores the first is that of the smaller video id, then of the earlier start, then of the
earlier end; and of true events that a prediction overlaps equally, it takes the later one.

Shapes: N predictions, M true events, K events of one video and class, V videos, C classes, S thresholds, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from davel.core.events import Event, EventList

THRESHOLDS = tuple(float(t) for t in np.linspace(0.1, 0.9, 9))
"""Temporal IoU from 0.1 to 0.9, as the published program computes them: the third and the seventh are a rounding above
0.3 and 0.7, so that an overlap of exactly three or seven tenths misses them."""
NAMES = tuple(f"{t:.1f}" for t in THRESHOLDS)
"""The thresholds as they are printed."""
REPEATED = 1e-3
"""Seconds by which both times of a true event may differ from those of another that it repeats."""
EMPTY = 1e-9
"""Seconds below which a segment stands for one that ends where it begins."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def temporal_iou(a: Floats, b: Floats) -> Floats:
    """Segments (..., 2), (..., 2) -> overlap / union (...), 0 where they do not touch

    Of two empty segments it is 1, wherever they are: the published program divides 0 by 0, and takes that for enough.
    """
    overlap = (np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])).clip(min=0)
    length_a, length_b = a[..., 1] - a[..., 0], b[..., 1] - b[..., 0]
    iou = overlap / (length_a + length_b - overlap)
    return np.asarray(np.where((length_a < EMPTY) & (length_b < EMPTY), 1.0, iou))


@dataclass(frozen=True)
class Columns:
    """The events of many videos side by side, sorted by video and class, best first, of equal scores the earlier one:
    N events."""

    keys: tuple[str, ...]
    """The videos' ids, sorted."""
    videos: Ints
    """(N,): an index into `keys`."""
    labels: Ints
    """(N,)"""
    segments: Floats
    """(N, 2), in seconds."""
    scores: Floats
    """(N,)"""
    num_classes: int

    @property
    def groups(self) -> Ints:
        """A number for each video and class, ascending: (N,)"""
        return self.videos * self.num_classes + self.labels

    @property
    def durations(self) -> Floats:
        """(N,), in seconds."""
        return np.asarray(self.segments[:, 1] - self.segments[:, 0])

    @property
    def rank(self) -> Ints:
        """How many better ones of its video and class each event has: (N,)"""
        start, count = _runs(self.groups)
        return np.asarray(np.arange(len(self.videos)) - np.repeat(start, count))

    @classmethod
    def of(cls, events: Mapping[str, EventList], keys: tuple[str, ...], num_classes: int) -> Columns:
        ids = {key: i for i, key in enumerate(keys)}
        label_ids = [e.label_ids for e in events.values()]
        videos = np.repeat(np.array([ids[key] for key in events], np.int64), [len(part) for part in label_ids])
        labels = np.concatenate([np.zeros(0, np.int64), *label_ids])
        segments = np.concatenate([np.zeros((0, 2)), *(e.segments for e in events.values())])
        scores = np.concatenate([np.zeros(0), *(e.scores for e in events.values())]).astype(np.float64)
        order = np.lexsort((segments[:, 1], segments[:, 0], -scores, videos * num_classes + labels))
        return cls(keys, videos[order], labels[order], segments[order], scores[order], num_classes)

    def select(self, index: Ints | NDArray[np.bool_]) -> Columns:
        """Those at the given positions, or where the given mask is set, in the same order."""
        return replace(
            self,
            videos=self.videos[index],
            labels=self.labels[index],
            segments=self.segments[index],
            scores=self.scores[index],
        )

    def distinct(self) -> Columns:
        """True events, without those that repeat an earlier one of their video and class."""
        groups, start, end = self.groups, self.segments[:, 0], self.segments[:, 1]
        kept = np.ones(len(groups), bool)
        for i in 1 + np.flatnonzero((np.diff(groups) == 0) & (np.diff(start) <= REPEATED)):
            first = i  # of those that begin at most so much earlier
            while first and groups[first - 1] == groups[i] and start[i] - start[first - 1] <= REPEATED:
                first -= 1
            kept[i] = not (kept[first:i] & (np.abs(end[first:i] - end[i]) <= REPEATED)).any()
        return self if kept.all() else self.select(kept)


@dataclass(frozen=True)
class Matches:
    """Which prediction found which true event."""

    predicted: Columns
    """N predictions."""
    truth: Columns
    """M true events of the same videos."""
    thresholds: tuple[float, ...]
    """S temporal IoUs."""
    partner: Ints
    """(N, S): the true event that a prediction found, an index into `truth`; -1 if it found none."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N, S)"""
        return self.partner >= 0

    @property
    def num_true(self) -> Ints:
        """True events of each class: (C,)"""
        return np.bincount(self.truth.labels, minlength=self.truth.num_classes)

    def average_precision(self) -> Floats:
        """Average precision of each class at each threshold: (S, C), NaN for classes without a true event."""
        C = self.truth.num_classes
        order = np.lexsort((-self.predicted.scores, self.predicted.labels))
        labels, right = self.predicted.labels[order], self.right[order]
        start, count = _runs(labels)
        rank = np.arange(len(labels)) - np.repeat(start, count) + 1  # within the class
        areas = []
        for s in range(len(self.thresholds)):
            at = np.flatnonzero(right[:, s])
            mine = labels[at]
            start, count = _runs(mine)
            precision = (np.arange(len(at)) - np.repeat(start, count) + 1) / rank[at]
            own = 2.0 * (C - mine)  # apart by more than 1: the envelope, from the end, starts anew in each class
            envelope = np.maximum.accumulate((precision + own)[::-1])[::-1] - own
            areas.append(np.bincount(mine, envelope, minlength=C))
        known = self.num_true > 0
        return np.where(known, np.stack(areas) / np.where(known, self.num_true, 1), np.nan)

    def resampled(self, weights: Ints) -> Floats:
        """The same for each of R resamples of the V videos, in which a video counts as often as its weight says:
        weights (R, V) -> (R, S, C)"""
        C = self.truth.num_classes
        result = np.full((len(weights), len(self.thresholds), C), np.nan)
        order = np.lexsort((-self.predicted.scores, self.predicted.labels))
        for c in np.flatnonzero(self.num_true):
            mine = order[slice(*np.searchsorted(self.predicted.labels[order], [c, c + 1]))]
            num_true = weights[:, self.truth.videos[self.truth.labels == c]].sum(1)
            result[:, :, c] = _interpolated(self.right[mine], weights[:, self.predicted.videos[mine]], num_true)
        return result


def _interpolated(right: NDArray[np.bool_], counts: Ints, num_true: Ints) -> Floats:
    """Whether each prediction, best first, is right (N, S), and how often it counts (R, N) -> area under the precision
    envelope (R, S), NaN where nothing is true

    Only the precision at right predictions matters: at wrong ones it falls, so the envelope never rests on them.
    """
    so_far = counts.cumsum(1)
    result = np.zeros((len(counts), right.shape[1]))
    for s in range(right.shape[1]):
        at = np.flatnonzero(right[:, s])
        found = counts[:, at].cumsum(1)
        precision = found / np.maximum(so_far[:, at], 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result[:, s] = (envelope * counts[:, at]).sum(1)
    return np.asarray(np.where(num_true[:, None] > 0, result / np.maximum(num_true, 1)[:, None], np.nan))


def _runs(values: Ints) -> tuple[Ints, Ints]:
    """Where each run of equal values begins, and how long it is."""
    start = np.flatnonzero(np.diff(values, prepend=-1))
    return start, np.diff(start, append=len(values))


def average_precision(
    predicted: Mapping[str, EventList],
    truth: Mapping[str, EventList],
    num_classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Floats:
    """Average precision of each class at each threshold: (S, C), NaN for classes without a true event.

    Events are by video; a video that is not predicted counts as found empty, one without truth as nothing to find:
    what is predicted there is wrong. A prediction is right if, among the events of its class and video that no better
    prediction has taken, the one that it overlaps most reaches the threshold. Precision is interpolated, recall is
    over all true events, of which those that repeat another count once.
    """
    return match(predicted, truth, num_classes, thresholds).average_precision()


def match(
    predicted: Mapping[str, EventList],
    truth: Mapping[str, EventList],
    num_classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Matches:
    """Which prediction finds which true event, at each threshold. Repeated true events count once."""
    keys = tuple(sorted({*truth, *predicted}))
    p, t = Columns.of(predicted, keys, num_classes), Columns.of(truth, keys, num_classes)
    return match_columns(p, t.distinct(), thresholds)


def match_columns(p: Columns, t: Columns, thresholds: tuple[float, ...] = THRESHOLDS) -> Matches:
    """Which of the predictions `p` finds which of the true events `t`, at each threshold.

    Greedy by score within a video and class; all videos and classes go in step.
    """
    groups, start, count = np.unique(t.groups, return_index=True, return_counts=True)
    partner = np.full((len(p.labels), len(thresholds)), -1)
    row = np.searchsorted(groups, p.groups)
    has_truth = row < len(groups)
    has_truth[has_truth] = groups[row[has_truth]] == p.groups[has_truth]
    size = np.where(has_truth, np.append(count, 0)[row], 0)  # true events of each prediction's video and class
    rank, limits = p.rank, np.asarray(thresholds)[:, None]
    for K in np.unique(count):
        todo = np.flatnonzero(size == K)
        iou = temporal_iou(p.segments[todo, None], t.segments[start[row[todo], None] + np.arange(K)])  # (n, K)
        near = iou.max(1) >= limits.min()  # the others are never right
        todo, iou = todo[near], iou[near]
        taken = np.zeros((len(groups), len(thresholds), K), dtype=bool)
        order = np.argsort(rank[todo], kind="stable")
        for now in np.split(order, np.flatnonzero(np.diff(rank[todo[order]])) + 1):
            g, each = row[todo[now]], iou[now, None]  # (n,), (n, 1, K)
            free = np.where(taken[g] | (each < limits), -1, each)  # (n, S, K)
            n, s = np.nonzero(free.max(-1) >= 0)
            k = K - 1 - free[n, s, ::-1].argmax(-1)  # of equal ones the later, as published
            partner[todo[now[n]], s] = start[g[n]] + k
            taken[g[n], s, k] = True
    return Matches(p, t, tuple(thresholds), partner)


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
