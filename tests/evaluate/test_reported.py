"""F1@k, mIoU and CountF1 of each video and class, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quirks import LABELS, drawn_events, named

from davel.core.events import Event, EventList
from davel.evaluate.analysis import found_by_duration
from davel.evaluate.metrics import THRESHOLDS, match
from davel.evaluate.reported import reported

HALF = THRESHOLDS.index(0.5)


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


def test_a_hand_made_case():
    truth = {"a": events(("bark", 0, 4), ("bark", 6, 8)), "b": events()}
    predicted = {
        "a": events(("bark", 0, 3, 0.9), ("bark", 3, 7, 0.6), ("bark", 0, 4, 0.3)),
        "b": events(("bell", 0, 1, 0.8)),
    }
    found = reported(match(predicted, truth, 2), 0.5)
    assert (found.num_events, found.num_pairs) == (3, 2)  # barks of a, bells of b
    assert found.f1[HALF] == pytest.approx((2 * 1 / 4 + 0) / 2)
    assert found.f1[THRESHOLDS.index(0.2)] == pytest.approx((2 * 2 / 4 + 0) / 2)  # 3..7 has 1 of 5 seconds of 6..8
    assert found.mean_iou == pytest.approx((5 / 8 + 0) / 2)  # 0..7 and 0..4, 6..8
    assert found.count_f1 == pytest.approx((1 + 0) / 2)


def test_what_is_below_its_class_s_threshold_is_not_reported():
    truth = {"a": events(("bark", 0, 4), ("bell", 0, 4))}
    matches = match({"a": events(("bark", 0, 4, 0.4), ("bell", 0, 4, 0.4))}, truth, 2)
    assert reported(matches, 0.5).f1[HALF] == 0
    assert reported(matches, (0.4, 0.5)).f1[HALF] == 0.5


def test_of_nothing_there_are_no_figures():
    found = reported(match({}, {"a": events()}, 2), 0.5)
    assert np.isnan([*found.f1, found.mean_iou, found.count_f1]).all()


def grid(listed, label, tenth=0.5):
    """Whether each half second is covered; drawn events are on whole ones."""
    covered = np.zeros(50, bool)
    for e in listed:
        if e.label == label:
            covered[round(e.start / tenth) : round(e.end / tenth)] = True
    return covered


@given(
    named(drawn_events(scored=True)),
    named(drawn_events(scored=False, distinct=True)),
    st.sampled_from([0.25, 0.5, 0.6]),
)
def test_figures_are_means_over_videos_and_classes(predicted, truth, threshold):
    found = reported(match(predicted, truth, 2), threshold)
    ious, counts, f1s = [], [], []
    for key in truth:
        for label in LABELS:
            shown = [e for e in predicted[key] if e.label == label and e.score >= threshold]
            true = [e for e in truth[key] if e.label == label]
            if not (shown or true):
                continue
            a, b = grid(shown, label), grid(true, label)
            ious.append((a & b).sum() / (a | b).sum())
            counts.append(2 * min(len(shown), len(true)) / (len(shown) + len(true)))
            alone = match({key: EventList.of(shown, LABELS)}, {key: EventList.of(true, LABELS)}, 2)
            f1s.append(2 * alone.right[:, HALF].sum() / (len(shown) + len(true)))
    assert found.num_pairs == len(ious)
    if ious:
        assert found.mean_iou == pytest.approx(np.mean(ious))
        assert found.count_f1 == pytest.approx(np.mean(counts))
        assert found.f1[HALF] == pytest.approx(np.mean(f1s))
        assert (np.diff(found.f1) <= 1e-12).all()
        assert (found.f1 <= found.count_f1 + 1e-12).all()


def test_the_share_of_found_events_is_of_those_of_a_duration():
    truth = {"a": events(("bark", 0, 5), ("bark", 10, 14), ("bell", 0, 20), ("bell", 30, 60))}
    predicted = {"a": events(("bark", 0, 4, 0.01), ("bell", 10, 14, 0.9), ("bell", 0, 11, 0.5))}
    shares = found_by_duration(match(predicted, truth, 2), HALF)
    assert shares == [0.5, 1.0, 0.0]  # of two of at most 5 s, one of at most 20, one of at most 60
    assert np.isnan(found_by_duration(match({}, {"a": events(("bark", 0, 1))}, 2), HALF)[1])
