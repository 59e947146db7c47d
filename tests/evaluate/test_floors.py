"""What needs no model, and what predictions would reach with a part of the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from quirks import UNAV100, drawn_events, named

from davel import formats
from davel.core.events import Event, EventList, Video
from davel.evaluate import analysis
from davel.evaluate.floors import floors, oracles
from davel.evaluate.metrics import NAMES, match, temporal_iou

LABELS = ("bark", "bell")


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


def summary(average_precision) -> dict[str, float]:
    names = (*NAMES, *(name for name, _ in analysis.AVERAGES))
    return dict(zip(names, analysis.summary(average_precision).tolist(), strict=True))


def test_a_floor_is_one_event_of_each_class_of_a_video():
    videos = {
        "a": Video("a", events(("bark", 1, 3), ("bark", 5, 9), ("bell", 0, 10)), 10.0),
        "b": Video("b", events(("bark", 2, 4)), 10.0),
    }
    found = {name: summary(ap) for name, ap in floors(videos, 2).items()}
    # bark of a lies on 5..9 with 4 of 8 seconds, and of the video with 4 of 10; in b with all, and with 2 of 10
    assert found["first to last"]["0.5"] == pytest.approx((2 / 3 + 1) / 2)  # three barks, two right; bell is right
    assert found["first to last"]["0.6"] == pytest.approx((1 / 3 * 1 / 2 + 1) / 2)  # a, surer, is wrong: half
    assert found["whole video"]["0.2"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["whole video"]["0.4"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["whole video"]["0.5"] == pytest.approx(1 / 2)


def test_without_durations_there_is_no_whole_video():
    assert list(floors({"a": Video("a", events(("bark", 1, 3)))}, 2)) == ["first to last"]


@pytest.mark.slow
@pytest.mark.skipif(not UNAV100.exists(), reason="UnAV-100's annotations are not here")
def test_the_floors_of_unav_100():
    annotated = formats.read_annotations(UNAV100)
    found = {name: summary(ap) for name, ap in floors(annotated.subset("test"), len(annotated.labels)).items()}
    assert 100 * found["whole video"]["0.1-0.9"] == pytest.approx(28.6, abs=0.05)
    assert 100 * found["first to last"]["0.1-0.9"] == pytest.approx(45.1, abs=0.05)
    assert 100 * found["first to last"]["0.9"] == pytest.approx(33.3, abs=0.05)


def test_oracles_of_a_hand_made_case():
    truth = {"a": events(("bark", 0, 10), ("bell", 20, 30))}
    predicted = {"a": events(("bell", 0, 9, 0.9), ("bark", 0, 10, 0.8), ("bell", 22, 26, 0.7), ("bark", 50, 60, 0.6))}
    matches = match(predicted, truth, 2)
    told = {name: summary(ap) for name, ap in oracles(matches).items()}
    alone = summary(matches.average_precision())
    assert alone["0.5"] == pytest.approx((1 + 0) / 2)  # bell's are wrong: one lies on bark, one reaches 0.4
    assert alone["0.4"] == pytest.approx((1 + 1 / 2) / 2)
    # the first bell finds bark and becomes one; bark's own would repeat it and goes; at 0.9 likewise
    assert told["right class"]["0.5"] == pytest.approx((1 + 0) / 2)
    assert told["right class"]["0.4"] == pytest.approx((1 + 1) / 2)
    assert told["right class"]["0.9"] == pytest.approx((1 + 0) / 2)
    assert told["right extent"]["0.9"] == pytest.approx((1 + 1 / 2) / 2)  # the bell that touches one, after a wrong one
    assert told["right class and extent"]["0.9"] == pytest.approx(1)


def plain_right_class(predicted, truth, threshold):
    """The best first over all videos, as the definition reads: the class and whether it is right of each that stays."""
    items = sorted(
        ((-e.score, key, e.start, e.end, e.label, e) for key, found in predicted.items() for e in found),
        key=lambda item: item[:5],
    )
    used, stay = set(), []
    for _, key, *_, event in items:
        segment = np.array([event.start, event.end])
        there = truth.get(key, ())
        overlap = [float(temporal_iou(segment, np.array([t.start, t.end]))) for t in there]
        free = [i for i in range(len(overlap)) if (key, i) not in used and overlap[i] >= threshold]
        if free:
            best = max(free, key=lambda i: (overlap[i], there[i].start, there[i].end))
            used.add((key, best))
            stay.append((there[best].label, True))
        elif max(overlap, default=0) < threshold:
            stay.append((event.label, False))
    return stay


@given(named(drawn_events(scored=True)), named(drawn_events(scored=False, distinct=True)))
def test_the_right_class_is_that_of_the_event_that_is_found(predicted, truth):
    matches = match(predicted, truth, 2, (0.5,))
    ours = oracles(matches)["right class"][0]
    stay = plain_right_class(predicted, truth, 0.5)
    for c, label in enumerate(LABELS):
        num_true = sum(e.label == label for found in truth.values() for e in found)
        right = [is_right for name, is_right in stay if name == label]
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        area = sum(precision[i:].max() for i, r in enumerate(right) if r)
        np.testing.assert_allclose(ours[c], area / num_true if num_true else np.nan)


def test_both_averages_are_over_what_they_are_named_for():
    average_precision = np.arange(1, 10, dtype=float)[:, None]
    found = summary(average_precision)
    assert found["0.1-0.9"] == 5
    assert found["0.5-0.9"] == 7
    assert json.dumps(found)
