"""Events as they are drawn for tests of figures, and the published program in the plainest words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from davel.core.events import Event, EventList

LABELS = ("bark", "bell")
SHARED = next(
    (above / "shared" for above in Path(__file__).parents if (above / "shared" / "golden").is_dir()), Path("shared")
)
"""Golden values and annotations that are no part of the project, where they lie beside it."""
UNAV100 = SHARED / "data" / "unav100_annotations.json"
DETECTION_MAP = SHARED / "golden" / "detection_map.npz"


@st.composite
def drawn_events(draw, scored: bool, distinct: bool = False):
    """The events of a video, on whole seconds; scores are few, so that many are equal."""
    items: list[tuple] = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, 12))
        score = draw(st.integers(1, 4)) / 4 if scored else 1.0
        items.append((draw(st.sampled_from(LABELS)), start, start + draw(st.integers(1, 8)), score))
    if distinct:
        items = list(dict.fromkeys(items))
        seen: set[tuple] = set()
        items = [item for item in items if not (item[1:3] in seen or seen.add(item[1:3]))]
    return EventList.of([Event(*item) for item in items], LABELS)


def named(events, keys: str = "abc"):
    """Events for each video, by id."""
    return st.fixed_dictionaries(dict.fromkeys(keys, events))


def published_average_precision(predicted, truth, label, thresholds):
    """Average precision as the published program finds it, of plain rows: predictions (video, label, start, end,
    score), true events (video, label, start, end). Its sort leaves equal scores to chance: here their order is stated.
    """
    true: list[tuple] = []
    for video, name, start, end in truth:
        same = [t for t in true if t[:2] == (video, name)]
        if not any(abs(start - t[2]) <= 1e-3 and abs(end - t[3]) <= 1e-3 for t in same):
            true.append((video, name, start, end))
    true = [t for t in true if t[1] == label]
    mine = sorted((p for p in predicted if p[1] == label), key=lambda p: (-p[4], p[0], p[2], p[3]))
    result = []
    for threshold in thresholds:
        taken: set[int] = set()
        right = [_finds(p, true, threshold, taken) for p in mine]
        result.append(_area(right, len(true)))
    return result


def _finds(prediction, true, threshold, taken) -> bool:
    video, _, start, end, _ = prediction
    there = []
    for i, (other, _, first, last) in enumerate(true):
        if other == video:
            overlap = max(min(end, last) - max(start, first), 0.0)
            union = (last - first) + (end - start) - overlap
            there.append((overlap / union if union else float("inf"), first, last, i))  # nothing is below 0 / 0
    for iou, _, _, i in sorted(there, reverse=True):
        if iou < threshold:
            return False
        if i not in taken:
            taken.add(i)
            return True
    return False


def _area(right: list[bool], num_true: int) -> float:
    """Under the precision, made to fall, over the recall."""
    if not num_true:
        return float("nan")
    precision = [sum(right[: n + 1]) / (n + 1) for n in range(len(right))]
    return float(np.sum([max(precision[n:]) for n, r in enumerate(right) if r])) / num_true
