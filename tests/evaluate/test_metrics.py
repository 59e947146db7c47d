from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel.core.events import Event, EventList
from davel.evaluate.metrics import THRESHOLDS, average_precision, decoys_reported, match, pair, temporal_iou

LABELS = ("bark", "bell")


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


def test_a_perfect_prediction_has_full_average_precision():
    truth = {"a": events(("bark", 1, 2), ("bell", 0, 9)), "b": events(("bark", 3, 8))}
    assert (average_precision(truth, truth, 2) == 1).all()


def test_a_second_prediction_of_the_same_event_is_wrong():
    truth = {"a": events(("bark", 1, 2))}
    twice = {"a": events(("bark", 1, 2, 0.9), ("bark", 1, 2, 0.8))}
    right = match(twice, truth, 2, (0.5,)).right
    assert right[:, 0].tolist() == [True, False]


def test_a_prediction_counts_only_up_to_its_overlap():
    truth = {"a": events(("bark", 0, 10))}
    ap = average_precision({"a": events(("bark", 0, 5.5))}, truth, 2)
    assert ap[:, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0]


def test_a_wrong_video_or_label_is_wrong():
    truth = {"a": events(("bark", 0, 10)), "b": events()}
    assert average_precision({"b": events(("bark", 0, 10))}, truth, 2)[0, 0] == 0
    assert average_precision({"a": events(("bell", 0, 10))}, truth, 2)[0, 0] == 0


def test_classes_without_truth_have_none():
    assert np.isnan(average_precision({}, {"a": events(("bark", 0, 1))}, 2)[:, 1]).all()


def test_a_prediction_falls_back_to_the_next_free_event():
    truth = {"a": events(("bark", 0, 10), ("bark", 2, 12))}
    predicted = {"a": events(("bark", 0, 10, 0.9), ("bark", 0.5, 10.5, 0.8))}
    assert match(predicted, truth, 2, (0.5,)).partner.tolist() == [[0], [1]]


def test_a_decoy_is_reported_only_by_a_sure_event_of_its_class():
    decoys = {"a": events(("bark", 1, 5)), "b": events(("bell", 1, 5))}
    found = {"a": events(("bark", 1, 4, 0.6)), "b": events(("bell", 1, 4, 0.4), ("bark", 1, 4, 0.9))}
    assert decoys_reported(found, decoys) == (1, 2)


def plain_average_precision(predicted, truth, label, threshold):
    """One prediction after the other, as the definition reads."""
    items = [(e.score, key, e) for key, es in predicted.items() for e in es if e.label == label]
    used, right = set(), []
    for _, key, e in sorted(items, key=lambda item: -item[0]):
        candidates = [
            (float(temporal_iou(np.array([e.start, e.end]), np.array([t.start, t.end]))), i)
            for i, t in enumerate(truth.get(key, ()))
            if t.label == label and (key, i) not in used
        ]
        best = max(candidates, default=(0, None), key=lambda c: c[0])
        right.append(best[0] >= threshold)
        if right[-1]:
            used.add((key, best[1]))
    total = sum(t.label == label for es in truth.values() for t in es)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return sum(precision[i:].max() for i, r in enumerate(right) if r) / total


@st.composite
def event_lists(draw, scored: bool):
    items = []
    for i in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, 20))
        score = (draw(st.integers(1, 10**6)) + i / 10) / (2 * 10**6) if scored else 1.0
        items.append((draw(st.sampled_from(LABELS)), start, start + draw(st.integers(1, 20)), score))
    return events(*items)


@given(st.data())
def test_all_videos_at_once_equal_one_prediction_at_a_time(data):
    truth = {key: data.draw(event_lists(False)) for key in "ab"}
    predicted = {key: data.draw(event_lists(True)) for key in "abc"}
    scores = [e.score for es in predicted.values() for e in es]
    if len(set(scores)) < len(scores):
        return  # equal scores have no order
    ap = average_precision(predicted, truth, 2)
    for c, label in enumerate(LABELS):
        if np.isnan(ap[0, c]):
            assert not any(e.label == label for es in truth.values() for e in es)
            continue
        for s, threshold in enumerate(THRESHOLDS):
            assert ap[s, c] == pytest.approx(plain_average_precision(predicted, truth, label, threshold))


def test_found_events_are_paired_with_the_true_ones_they_overlap_most():
    truth = events(("bark", 1, 3), ("bell", 0, 9), ("bark", 6, 8))
    found = events(("bark", 5, 8, 0.9), ("bark", 6, 8, 0.4), ("bell", 0, 6, 0.5))
    rows = [(t and t.start, f and f.score, round(iou, 2)) for t, f, iou in pair(truth, found)]
    assert rows == [(0, 0.5, 0.67), (1, None, 0), (6, 0.9, 0.67), (None, 0.4, 0)]
