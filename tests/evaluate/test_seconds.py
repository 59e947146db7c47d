"""Figures on steps of one second, held against the released program's."""

from __future__ import annotations

import numpy as np
import pytest
from golden_values import GOLDEN
from hypothesis import given
from quirks import LABELS, UNAV100, drawn_events, named

from davel import formats
from davel.core.events import Event, EventList, Video
from davel.evaluate.metrics import THRESHOLDS
from davel.evaluate.seconds import by_second, event_f1, scores_by_second, segment_average_precision, segment_f1

METRICS = np.load(GOLDEN / "prefm" / "metrics.npz")


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


def cases():
    """Scores (T, C), labels (T, C) and the released segment F1, segment mAP and event F1 (9,) of a video."""
    for i in range(6):
        scores, labels = METRICS[f"scores_{i}"], METRICS[f"labels_{i}"] > 0
        yield (
            scores,
            scores >= 0.5,
            labels,
            [METRICS[f"{name}"][i] for name in ("segment_f1", "segment_map", "event_f1")],
        )
    for i in range(6):
        scores, labels = METRICS[f"av_scores_{i}"], METRICS[f"av_labels_{i}"] > 0  # (T, 2, C): heard, seen
        found = scores >= 0.5
        three = (
            (scores[:, 0], found[:, 0], labels[:, 0]),
            (scores[:, 1], found[:, 1], labels[:, 1]),
            (np.sqrt(scores[:, 0] * scores[:, 1]), found.all(1), labels.all(1)),
        )
        for j, (s, f, y) in enumerate(three):
            yield s, f, y, [METRICS[f"av_{name}"][i, j] for name in ("segment_f1", "map", "event_f1")]


@pytest.mark.parametrize(("scores", "found", "labels", "released"), list(cases()))
def test_the_released_metrics_of_avvp_are_ours(scores, found, labels, released):
    assert segment_f1(found, labels) == pytest.approx(released[0], abs=1e-12)
    assert segment_average_precision(scores, labels).mean() == pytest.approx(released[1], abs=1e-12)
    np.testing.assert_allclose(event_f1(found, labels), released[2], atol=1e-12)


def test_a_second_is_of_the_class_whose_event_covers_its_middle():
    listed = events(("bark", 0.4, 2.5, 0.9), ("bark", 1, 3.6, 0.4), ("bell", 0.6, 1.4, 0.7), ("bell", 3.5, 9, 0.2))
    expected = [[0.9, 0], [0.9, 0], [0.4, 0], [0.4, 0.2]]
    assert scores_by_second(listed, 4).tolist() == expected


def test_a_found_run_may_share_a_true_one_and_a_true_one_is_missed_once():
    truth = np.zeros((12, 1), bool)
    truth[:10] = True
    found = truth.copy()
    found[4] = False  # two runs of 4 and 5 seconds on one of 10
    np.testing.assert_allclose(event_f1(found, truth, (0.3, 0.5, 0.6)), [1, 2 / 3, 0])


def test_an_overlap_of_three_tenths_is_less_than_the_third_threshold():
    truth, found = np.ones((10, 1), bool), np.arange(10)[:, None] < 3
    assert dict(zip(range(1, 10), event_f1(found, truth, THRESHOLDS), strict=True))[3] == 0
    assert event_f1(found, truth, (0.3,)) == 1


@given(named(drawn_events(scored=False)))
def test_the_truth_is_perfect_but_for_seconds_without_a_class(truth):
    videos = {key: Video(key, found, 20.0) for key, found in truth.items()}
    figures = by_second(truth, videos, 0.5)
    assert figures.segment_f1 == 1
    assert (figures.event_f1 == 1).all()
    labelled = [(scores_by_second(found, 20) > 0).any(1).mean() for found in truth.values()]
    assert figures.segment_map == pytest.approx(np.mean(labelled))
    assert figures.segment_map_labelled in (None, 1)


def test_without_durations_there_is_no_segment_map():
    truth = {"a": Video("a", events(("bark", 1, 4))), "b": Video("b", events())}
    figures = by_second({"a": events(("bark", 1, 4, 0.6), ("bell", 7, 9, 0.1))}, truth, 0.5)
    assert figures.segment_map is None
    assert (figures.segment_f1, figures.segment_map_labelled, figures.event_f1.tolist()) == (1, 1, [1] * 9)


def test_a_threshold_may_be_of_a_class():
    truth = {"a": Video("a", events(("bark", 1, 4), ("bell", 2, 4)), 6)}
    found = {"a": events(("bark", 1, 4, 0.4), ("bell", 2, 4, 0.4))}
    assert by_second(found, truth, 0.5).segment_f1 == 0
    assert by_second(found, truth, (0.3, 0.5)).segment_f1 == 0.5


@pytest.mark.slow
@pytest.mark.skipif(not UNAV100.exists(), reason="UnAV-100's annotations are not here")
def test_on_unav_100_even_the_truth_reaches_a_published_segment_map_of_78_6_only():
    videos = formats.read_annotations(UNAV100).subset("test")
    figures = by_second({key: video.events for key, video in videos.items()}, videos, 0.5)
    assert 100 * figures.segment_map == pytest.approx(78.6, abs=0.05)
    assert figures.segment_f1 == 1
