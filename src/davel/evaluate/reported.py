"""How good the events are that would be reported: those with at least their class's score.

Each figure is a mean over pairs of a video and a class, of those that are true or reported: P pairs. Shapes else as in
`metrics`: N predictions, S thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from davel.evaluate.metrics import Columns, Floats, Ints, Matches


@dataclass(frozen=True)
class Reported:
    """Of pairs of a video and a class; means are NaN where there is no pair."""

    num_events: int
    """Those that are reported."""
    num_pairs: int
    f1: Floats
    """(S,): F1@k, of events that are found at a temporal IoU of at least k."""
    mean_iou: float
    """mIoU: seconds that are true and reported, of those that are either."""
    count_f1: float
    """CountF1: F1 of the number of events, as if each reported one were right as long as there are true ones."""


def reported(matches: Matches, thresholds: Sequence[float] | float) -> Reported:
    """The figures of what scores at least the threshold of its class; one threshold for all classes, or one for each.

    Better predictions are matched first, so that those below the threshold have no part in it.
    """
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), matches.num_true.shape)
    shown = matches.predicted.scores >= limits[matches.predicted.labels]
    found, right = matches.predicted.select(shown), matches.right[shown]
    pairs, index = np.unique(np.concatenate([found.groups, matches.truth.groups]), return_inverse=True)
    mine, true = index[: len(found.labels)], index[len(found.labels) :]
    P = len(pairs)
    if not P:
        return Reported(0, 0, np.full(len(matches.thresholds), np.nan), np.nan, np.nan)
    said, there = np.bincount(mine, minlength=P), np.bincount(true, minlength=P)
    hits = np.stack([np.bincount(mine, right[:, s], minlength=P) for s in range(right.shape[1])])  # (S, P)
    return Reported(
        num_events=len(mine),
        num_pairs=P,
        f1=np.asarray((2 * hits / (said + there)).mean(-1)),
        mean_iou=float(_iou(found, mine, matches.truth, true, P).mean()),
        count_f1=float((2 * np.minimum(said, there) / (said + there)).mean()),
    )


def _iou(found: Columns, mine: Ints, truth: Columns, true: Ints, num_pairs: int) -> Floats:
    """Seconds that lie in an event of both, over those that lie in one of either, of each pair: (P,)

    Along the sorted onsets and offsets of a pair, what is open between two of them is a running sum.
    """
    times = np.concatenate([found.segments.T.ravel(), truth.segments.T.ravel()])
    pairs = np.concatenate([mine, mine, true, true])
    ones, none = np.ones(len(mine), np.int64), np.zeros(2 * len(mine), np.int64)
    others, nothing = np.ones(len(true), np.int64), np.zeros(2 * len(true), np.int64)
    order = np.lexsort((times, pairs))
    open_found = np.concatenate([ones, -ones, nothing])[order].cumsum() > 0
    open_true = np.concatenate([none, others, -others])[order].cumsum() > 0
    lasting = np.diff(times[order], append=times[order][-1:])  # of a pair's last one it does not matter: all is closed
    both = np.bincount(pairs[order], lasting * (open_found & open_true), minlength=num_pairs)
    either = np.bincount(pairs[order], lasting * (open_found | open_true), minlength=num_pairs)
    return np.asarray(both / np.where(either > 0, either, 1))
