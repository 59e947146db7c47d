"""What is behind an average precision: intervals, durations, errors, recall and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel.core.events import Event, EventList
from davel.evaluate import analysis
from davel.evaluate.analysis import DURATIONS, ERRORS
from davel.evaluate.metrics import THRESHOLDS, average_precision, match, temporal_iou

LABELS = ("bark", "bell")
HALF = THRESHOLDS.index(0.5)


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


@st.composite
def made(draw, num_videos: int = 4):
    """Predictions of different scores, and the truth, of a few videos."""
    scores = iter(draw(st.permutations(range(1, 60))))

    def some(scored: bool) -> EventList:
        items = []
        for _ in range(draw(st.integers(0, 5))):
            start, length = draw(st.integers(0, 30)), draw(st.integers(1, 30))
            items.append((draw(st.sampled_from(LABELS)), start, start + length, next(scores) / 60 if scored else 1.0))
        return events(*items)

    keys = [f"v{i}" for i in range(num_videos)]
    return {key: some(True) for key in keys}, {key: some(False) for key in keys}


@given(made(), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_video_that_counts_twice_counts_as_two(pair, counts):
    predicted, truth = pair
    weighted = match(predicted, truth, 2).resampled(np.array([counts]))[0]
    copies = [(f"{key}-{i}", key) for key, count in zip(truth, counts, strict=True) for i in range(count)]
    repeated = average_precision({c: predicted[k] for c, k in copies}, {c: truth[k] for c, k in copies}, 2)
    np.testing.assert_allclose(weighted, repeated)


def test_resamples_have_as_many_videos_and_are_the_same_for_the_same_seed():
    draws = analysis.resamples(7, 50, seed=1)
    assert draws.shape == (50, 7)
    assert (draws.sum(1) == 7).all()
    assert (draws == analysis.resamples(7, 50, seed=1)).all()
    assert (draws != analysis.resamples(7, 50, seed=2)).any()


def test_an_interval_is_around_the_estimate():
    values = np.random.default_rng(0).normal(10, 1, (4000, 1))
    low, high = analysis.interval(values, np.array([3.0]))
    assert (low[0], high[0]) == pytest.approx((3 - 1.96, 3 + 1.96), abs=0.15)


def test_mean_average_precision_leaves_out_classes_without_truth():
    ap = np.array([[0.5, np.nan], [0.3, np.nan]])
    assert analysis.mean_average_precision(ap) == pytest.approx([0.5, 0.3, 0.4])


@given(made())
def test_precision_by_duration_is_of_what_has_such_a_duration(pair):
    """Against the definition: leave out what is of another duration, or has found such a one, and measure the rest."""
    predicted, truth = pair
    matches = match(predicted, truth, 2)
    for (low, high), (count, ap) in zip(DURATIONS, analysis.by_duration(matches), strict=True):
        inside = {
            key: e.select((e.segments[:, 1] - e.segments[:, 0] > low) & (np.diff(e.segments)[:, 0] <= high))
            for key, e in truth.items()
        }
        assert count == sum(map(len, inside.values()))
        for s in range(len(THRESHOLDS)):
            for c in range(2):
                right, order = [], np.argsort(-matches.predicted.scores)
                for i in order[matches.predicted.labels[order] == c]:
                    partner = matches.partner[i, s]
                    duration = (matches.truth if partner >= 0 else matches.predicted).durations[
                        partner if partner >= 0 else i
                    ]
                    if low < duration <= high:
                        right.append(partner >= 0)
                G = sum(int((e.label_ids == c).sum()) for e in inside.values())
                precision = np.cumsum(right) / np.arange(1, len(right) + 1)
                expected = sum(precision[i:].max() for i, r in enumerate(right) if r) / G if G else np.nan
                np.testing.assert_allclose(ap[s, c], expected)


def test_each_error_has_its_name():
    truth = {"a": events(("bark", 0, 10), ("bell", 20, 30))}
    cases = {
        ("bark", 0, 9, 0.9): None,
        ("bark", 0, 8, 0.8): "double detection",
        ("bark", 20, 29, 0.7): "wrong label",
        ("bark", 7, 12, 0.6): "localisation",
        ("bell", 7, 12, 0.5): "confusion",
        ("bell", 50, 60, 0.4): "background",
    }
    matches = match({"a": events(*cases)}, truth, 2)
    kinds = analysis.errors(matches, HALF, analysis.overlaps(matches))
    names = {
        (LABELS[c], score): None if kind < 0 else ERRORS[kind]
        for c, score, kind in zip(matches.predicted.labels, matches.predicted.scores, kinds, strict=True)
    }
    assert names == {(label, score): name for (label, _, _, score), name in cases.items()}
    profile = analysis.error_profile(matches, kinds, most=3)
    assert profile.sum() == 5  # one true bark: its three best of four; both of bell
    assert profile[0].tolist() == [1, 0, 0, 0, 1, 0]
    assert profile[2].tolist() == [0, 0, 1, 0, 0, 0]


@given(made())
def test_overlaps_are_the_best_of_the_video(pair):
    predicted, truth = pair
    matches = match(predicted, truth, 2)
    best, p = analysis.overlaps(matches), matches.predicted
    for i in range(len(p.labels)):
        true = truth[p.keys[p.videos[i]]]
        iou = temporal_iou(p.segments[i], true.segments) if len(true) else np.zeros(0)
        same = true.label_ids == p.labels[i]
        assert best.same[i] == pytest.approx(iou[same].max(initial=0))
        assert best.other[i] == pytest.approx(iou[~same].max(initial=0))


@given(made())
def test_taking_an_error_out_never_lowers_the_average_precision(pair):
    predicted, truth = pair
    matches = match(predicted, truth, 2)
    if len(matches.truth.labels):
        assert all(gain >= -1e-12 for gain in analysis.gains(matches, analysis.overlaps(matches)))


def test_without_its_only_error_a_prediction_is_perfect():
    truth = {"a": events(("bark", 0, 10))}
    predicted = {"a": events(("bark", 50, 60, 0.9), ("bark", 0, 10, 0.8))}
    matches = match(predicted, truth, 2)
    gains = dict(zip(ERRORS, analysis.gains(matches, analysis.overlaps(matches)), strict=True))
    assert gains == pytest.approx({**dict.fromkeys(ERRORS, 0.0), "background": 0.5})


def test_what_is_found_and_missed():
    truth = {"a": events(("bark", 0, 10), ("bell", 0, 10)), "b": events(("bark", 0, 1))}
    matches = match({"a": events(("bell", 0, 9, 0.01))}, truth, 2)
    assert analysis.found(matches, HALF).tolist() == [False, True, False]
    assert analysis.events_in_video(matches.truth).tolist() == [2, 2, 1]


def plain_recall(predicted, truth, k, threshold):
    hit = total = 0
    for key, true in truth.items():
        for label in range(2):
            mine = [e for e, c in zip(true, true.label_ids, strict=True) if c == label]
            theirs = sorted((e for e in predicted[key] if e.label == LABELS[label]), key=lambda e: -e.score)
            for t in mine:
                total += 1
                ious = [
                    temporal_iou(np.array([t.start, t.end]), np.array([e.start, e.end]))
                    for e in theirs[: k * len(mine)]
                ]
                hit += any(iou >= threshold for iou in ious)
    return hit / total if total else np.nan


@given(made(), st.integers(1, 3), st.sampled_from([0.3, 0.5, 0.7]))
def test_recall_at_k_is_of_the_best_predictions_of_each_event(pair, k, threshold):
    predicted, truth = pair
    found = analysis.recall_at(match(predicted, truth, 2), k, threshold)
    np.testing.assert_allclose(found, plain_recall(predicted, truth, k, threshold))


@given(made())
def test_a_fitted_threshold_has_the_best_f1(pair):
    predicted, truth = pair
    matches = match(predicted, truth, 2)
    fitted = analysis.fit_thresholds(matches, HALF)
    tried = [*np.unique(matches.predicted.scores), 2.0]
    for c in range(2):
        if matches.num_true[c]:
            best = analysis.f1(matches, HALF, fitted.per_class)[1][c]
            assert best == pytest.approx(max(analysis.f1(matches, HALF, t)[1][c] for t in tried))
    if matches.num_true.any():
        best = analysis.f1(matches, HALF, fitted.overall)[0]
        assert best == pytest.approx(max(analysis.f1(matches, HALF, t)[0] for t in tried))


def test_of_equal_scores_all_or_none_are_reported():
    truth = {"a": events(("bark", 0, 10))}
    matches = match({"a": events(("bark", 0, 10, 0.5), ("bark", 50, 60, 0.5), ("bark", 70, 80, 0.4))}, truth, 2)
    fitted = analysis.fit_thresholds(matches, HALF)
    assert fitted.per_class == (0.5, 0.5)  # bell has no event: the overall best
    assert analysis.f1(matches, HALF, fitted.per_class)[0] == pytest.approx(2 / 3)


def test_precision_and_recall_of_a_class():
    truth = {"a": events(("bark", 0, 10), ("bark", 20, 30))}
    predicted = {"a": events(("bark", 0, 10, 0.9), ("bark", 50, 60, 0.8), ("bark", 20, 30, 0.7), ("bell", 0, 1, 0.6))}
    recall, precision = analysis.precision_recall(match(predicted, truth, 2), HALF, 0)
    assert recall.tolist() == [0.5, 0.5, 1]
    assert precision == pytest.approx([1, 1 / 2, 2 / 3])


def test_nothing_can_be_analysed_too():
    matches = match({}, {"a": events()}, 2)
    assert analysis.error_profile(matches, analysis.errors(matches, HALF, analysis.overlaps(matches))).sum() == 0
    assert np.isnan(analysis.recall_at(matches, 1, 0.5))
    assert [count for count, _ in analysis.by_duration(matches)] == [0, 0, 0]
    assert analysis.fit_thresholds(matches, HALF).per_class == (0.5, 0.5)
