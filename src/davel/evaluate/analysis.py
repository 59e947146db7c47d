"""What is behind an average precision: how sure it is, for which events it holds, and which errors cost it.

Pure functions of matches. Shapes: N predictions, M true events, V videos, C classes, S thresholds, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from davel.evaluate.metrics import Columns, Floats, Ints, Matches, temporal_iou

DURATIONS = ((0.0, 5.0), (5.0, 20.0), (20.0, 60.0))
"""Seconds of an event, the first excluded and the last included: short, middle and long, as in CCNet's Figure 3."""
NUMBERS = ((1, 1), (2, 4), (5, 8), (9, 10**9))
"""Events of a video, both included."""
ERRORS = ("double detection", "wrong label", "localisation", "confusion", "background")
"""Of a prediction that is not right: it found what a better one has found; it lies well on an event of another class;
it lies badly on one of its class, or of another class; it lies on none. After DETAD (Alwassel et al., ECCV 2018)."""
TOUCHING = 0.1
"""The temporal IoU below which a prediction lies on no event."""

Bools = NDArray[np.bool_]


def resamples(num_videos: int, count: int = 1000, seed: int = 0) -> Ints:
    """How often each of V videos is in each of R samples of V videos, drawn with replacement: (R, V)"""
    return np.random.default_rng(seed).multinomial(num_videos, np.full(num_videos, 1 / max(num_videos, 1)), count)


def mean_average_precision(average_precision: Floats) -> Floats:
    """(..., S, C) -> the mAP at each threshold, then their mean: (..., S + 1); over the classes with true events"""
    known = ~np.isnan(average_precision)
    mean = np.where(known, average_precision, 0).sum(-1) / np.maximum(known.sum(-1), 1)  # (..., S)
    return np.concatenate([mean, mean.mean(-1, keepdims=True)], axis=-1)


AVERAGES = (("0.1-0.9", 0), ("0.5-0.9", 4))
"""The two averages of mAP, and the index of the first threshold of each: that which UnAV-100 and CCNet publish, and
that of the columns which their tables show."""


def summary(average_precision: Floats) -> Floats:
    """(..., S, C) at all `THRESHOLDS` -> the mAP at each, then each of `AVERAGES`: (..., S + 2)"""
    each = mean_average_precision(average_precision)[..., :-1]
    averages = [each[..., first:].mean(-1, keepdims=True) for _, first in AVERAGES]
    return np.concatenate([each, *averages], axis=-1)


def interval(values: Floats, estimate: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Of resampled values (R, ...) and what was measured (...): the ends of the confidence interval, (...) each.

    A resample holds fewer different videos, which by itself raises an average precision: the resamples' quantiles are
    therefore taken around their own mean, and put around the estimate.
    """
    low, high = np.quantile(values - values.mean(0), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return estimate + low, estimate + high


def by_duration(matches: Matches, ranges: Sequence[tuple[float, float]] = DURATIONS) -> list[tuple[int, Floats]]:
    """For events of each range of durations: their number and the average precision (S, C).

    Only true events in the range count. Predictions that found another one are left out, and so are those that found
    none and are not of such a duration themselves.
    """
    result = []
    for low, high in ranges:
        true_inside = (matches.truth.durations > low) & (matches.truth.durations <= high)
        inside = (matches.predicted.durations > low) & (matches.predicted.durations <= high)
        found_inside = np.append(true_inside, False)[matches.partner]  # (N, S); the last is for partner -1
        counted = np.where(matches.right, found_inside, inside[:, None])
        columns = []
        for s in range(len(matches.thresholds)):
            kept = Matches(
                matches.predicted.select(counted[:, s]),
                matches.truth.select(true_inside),
                matches.thresholds[s : s + 1],
                matches.partner[counted[:, s], s : s + 1],
            )
            columns.append(kept.average_precision())
        result.append((int(true_inside.sum()), np.concatenate(columns)))
    return result


@dataclass(frozen=True)
class Overlaps:
    """How well each prediction lies on the true events of its video, at best."""

    same: Floats
    """(N,): temporal IoU with one of its class."""
    other: Floats
    """(N,): with one of another class."""


def overlaps(matches: Matches) -> Overlaps:
    """The best temporal IoU of each prediction with an event of its own and of another class."""
    p, t = matches.predicted, matches.truth
    count = np.bincount(t.videos, minlength=len(t.keys))
    start = np.cumsum(count) - count
    same, other = np.zeros(len(p.labels)), np.zeros(len(p.labels))
    for k in range(count.max(initial=0)):  # the k-th event of every video at once
        has = np.flatnonzero(count[p.videos] > k)
        event = start[p.videos[has]] + k
        iou = temporal_iou(p.segments[has], t.segments[event])
        alike = p.labels[has] == t.labels[event]
        same[has] = np.maximum(same[has], np.where(alike, iou, 0))
        other[has] = np.maximum(other[has], np.where(alike, 0, iou))
    return Overlaps(same, other)


def errors(matches: Matches, s: int, best: Overlaps) -> Ints:
    """The error of each prediction at threshold s, an index into `ERRORS`, or -1 if it is right: (N,)"""
    alpha = matches.thresholds[s]
    kinds = [
        matches.right[:, s],
        best.same >= alpha,
        best.other >= alpha,
        best.same >= TOUCHING,
        best.other >= TOUCHING,
    ]
    return np.select(kinds, [-1, 0, 1, 2, 3], default=4)


def error_profile(matches: Matches, kinds: Ints, most: int = 10) -> Ints:
    """How often each error is among the best predictions: (most, 1 + errors), the first column those that are right.

    Row i counts the predictions of each class from the (i * G)-th best on, as many as it has true events, G.
    """
    profile = np.zeros((most, 1 + len(ERRORS)), np.int64)
    order = np.argsort(-matches.predicted.scores, kind="stable")
    labels = matches.predicted.labels[order]
    for c, G in enumerate(matches.num_true):
        if G:
            mine = kinds[order[labels == c]][: most * G]
            np.add.at(profile, (np.arange(len(mine)) // G, mine + 1), 1)
    return profile


def gains(matches: Matches, best: Overlaps) -> list[float]:
    """By how much the average mAP would rise without each of `ERRORS`.

    At every threshold, the predictions that are in this error there are taken out.
    """
    now = float(mean_average_precision(matches.average_precision())[-1])
    by_threshold = [errors(matches, s, best) for s in range(len(matches.thresholds))]
    result = []
    for kind in range(len(ERRORS)):
        values = []
        for s, kinds in enumerate(by_threshold):
            kept = kinds != kind
            left = Matches(
                matches.predicted.select(kept),
                matches.truth,
                matches.thresholds[s : s + 1],
                matches.partner[kept, s : s + 1],
            )
            values.append(left.average_precision())
        result.append(float(mean_average_precision(np.concatenate(values))[-1]) - now)
    return result


def found_by_duration(matches: Matches, s: int, ranges: Sequence[tuple[float, float]] = DURATIONS) -> list[float]:
    """For each range of durations, the share of its true events that are found at threshold s by a prediction of their
    class, of whatever score: CCNet's Figure 3. NaN where there are no such events."""
    is_found, seconds = found(matches, s), matches.truth.durations
    inside = [(seconds > low) & (seconds <= high) for low, high in ranges]
    return [float(is_found[those].mean()) if those.any() else float("nan") for those in inside]


def found(matches: Matches, s: int) -> Bools:
    """Whether each true event is found at threshold s by a prediction of whatever score: (M,)"""
    result = np.zeros(len(matches.truth.labels), bool)
    result[matches.partner[matches.right[:, s], s]] = True
    return result


def events_in_video(truth: Columns) -> Ints:
    """How many events the video of each true event has: (M,)"""
    return np.bincount(truth.videos, minlength=len(truth.keys))[truth.videos]


def recall_at(matches: Matches, k: int, threshold: float) -> float:
    """Recall@kx: the part of the true events that one of the best k * x predictions of their class and video lies on.

    x is the number of true events of that class in that video; lying on: a temporal IoU of at least `threshold`.
    """
    p, t = matches.predicted, matches.truth
    groups, start, count = np.unique(t.groups, return_index=True, return_counts=True)
    if not len(groups):
        return float("nan")
    row = np.searchsorted(groups, p.groups).clip(max=len(groups) - 1)
    chosen = np.flatnonzero((groups[row] == p.groups) & (p.rank < k * count[row]))
    hit = np.zeros(len(t.labels), bool)
    for j in range(count.max()):  # the j-th event of every video and class at once
        has = chosen[count[row[chosen]] > j]
        event = start[row[has]] + j
        hit[event[temporal_iou(p.segments[has], t.segments[event]) >= threshold]] = True
    return float(hit.mean())


def precision_recall(matches: Matches, s: int, label: int) -> tuple[Floats, Floats]:
    """Recall and precision at threshold s after each prediction of a class, best first."""
    mine = np.flatnonzero(matches.predicted.labels == label)
    mine = mine[np.argsort(-matches.predicted.scores[mine], kind="stable")]
    right = matches.right[mine, s].cumsum()
    return right / max(int(matches.num_true[label]), 1), right / np.arange(1, len(mine) + 1)


@dataclass(frozen=True)
class Thresholds:
    """Scores from which predictions are reported, and the F1 that they reach."""

    overall: float
    """One for all classes."""
    per_class: tuple[float, ...]
    """(C,)"""


def fit_thresholds(matches: Matches, s: int) -> Thresholds:
    """For each class, the score with the best F1 at threshold s; of equally good ones the highest.

    A class without true events, or without a prediction that is right, takes the best score for all classes together.
    """
    everything = np.ones(len(matches.predicted.labels), bool)
    overall = _best(matches, s, everything, int(matches.num_true.sum()))
    overall = 0.5 if overall is None else overall
    per_class = []
    for c, G in enumerate(matches.num_true):
        own = _best(matches, s, matches.predicted.labels == c, int(G))
        per_class.append(overall if own is None else own)
    return Thresholds(overall, tuple(per_class))


def _best(matches: Matches, s: int, mine: Bools, num_true: int) -> float | None:
    scores, right = matches.predicted.scores[mine], matches.right[mine, s]
    if not num_true or not right.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    f1 = 2 * right.cumsum() / (np.arange(1, len(right) + 1) + num_true)
    last = np.append(scores[1:] < scores[:-1], True)  # of equal scores, all or none are reported
    return float(scores[np.where(last, f1, -1).argmax()])


def f1(matches: Matches, s: int, thresholds: Sequence[float] | float) -> tuple[float, Floats]:
    """F1 of what scores at least the threshold of its class: over all events, and of each class (C,), NaN where it has
    no true event."""
    limit = np.broadcast_to(np.asarray(thresholds, np.float64), matches.num_true.shape)
    reported = matches.predicted.scores >= limit[matches.predicted.labels]
    right = reported & matches.right[:, s]
    C = len(matches.num_true)
    hits = np.bincount(matches.predicted.labels[right], minlength=C)
    said = np.bincount(matches.predicted.labels[reported], minlength=C)
    both = said + matches.num_true
    per_class = np.where(matches.num_true > 0, 2 * hits / np.maximum(both, 1), np.nan)
    return float(2 * hits.sum() / max(int(both.sum()), 1)), per_class
