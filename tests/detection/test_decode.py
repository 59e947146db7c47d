from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_values import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from davel.detection import Criterion, DecodeSettings, NmsSettings, Truth, assign, decode, nms, points
from davel.models import Outputs
from davel.models.losses import distance_iou_loss, focal_loss, iou_loss

NMS_NAMES = {
    "sigma": "sigma",
    "min_score": "min_score",
    "max_seg_num": "max_events",
    "iou_threshold": "iou_threshold",
    "multiclass": "per_class",
    "voting_thresh": "voting_threshold",
}


@pytest.mark.parametrize("case", range(6))
def test_suppression_is_the_released_one(case):
    with np.load(GOLDEN / "soft_nms.npz") as stored:
        golden = {key.removeprefix(f"{case}_"): stored[key] for key in stored if key.startswith(f"{case}_")}
    arguments = json.loads(str(golden["args"]))
    method = "soft" if arguments.pop("soft", True) else "hard"
    settings = NmsSettings(method=method, **{NMS_NAMES[key]: value for key, value in arguments.items()})
    segments, scores, labels = nms(golden["segments"], golden["scores"], golden["labels"], settings)
    assert (labels == golden["out_labels"]).all()
    np.testing.assert_allclose(scores, golden["out_scores"], atol=1e-6)
    np.testing.assert_allclose(segments, golden["out_segments"], atol=1e-4)


def test_suppression_of_nothing_is_nothing():
    segments, scores, _ = nms(np.zeros((0, 2)), np.zeros(0), np.zeros(0, int), NmsSettings())
    assert segments.shape == (0, 2)
    assert scores.shape == (0,)


def plain_soft_nms(segments, scores, labels, sigma, min_score):
    """One class, one segment after the other."""
    result = []
    for label in np.unique(labels):
        mine = labels == label
        left = [(float(s), *map(float, seg)) for s, seg in zip(scores[mine], segments[mine], strict=True)]
        while left and len(result) < 10000:
            best = max(left)
            left.remove(best)
            result.append((best[0], int(label), best[1], best[2]))
            again = []
            for score, start, end in left:
                overlap = max(min(end, best[2]) - max(start, best[1]), 0)
                iou = overlap / ((end - start + 1e-6) + (best[2] - best[1] + 1e-6) - overlap)
                score *= np.exp(-(iou**2) / sigma)
                if score >= min_score:
                    again.append((score, start, end))
            left = again
    return sorted(result, reverse=True)[:100]


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 4))
def test_all_classes_at_once_equal_one_at_a_time(seed, n, num_classes):
    rng = np.random.default_rng(seed)
    start = rng.random(n) * 20
    segments = np.stack([start, start + 0.1 + rng.random(n) * 10], 1)
    scores, labels = rng.random(n), rng.integers(0, num_classes, n)
    expected = plain_soft_nms(segments, scores, labels, 0.4, 0.001)
    got_segments, got_scores, got_labels = nms(segments, scores, labels, NmsSettings())
    assert got_labels.tolist() == [label for _, label, _, _ in expected]
    np.testing.assert_allclose(got_scores, [s for s, *_ in expected], rtol=1e-9)
    np.testing.assert_allclose(got_segments, [[a, b] for *_, a, b in expected])


def test_points_of_a_level_lie_on_the_finest_grid():
    position, level = points(5, 3)
    assert position.tolist() == [0, 1, 2, 3, 4, 0, 2, 4, 0, 4]
    assert level.tolist() == [0] * 5 + [1] * 3 + [2] * 2


def one_event(start: float, end: float, label: int = 0) -> Truth:
    return Truth(torch.tensor([[[start, end]]]), torch.tensor([[label]]))


def test_a_point_is_positive_strictly_inside_an_event_within_its_levels_range():
    position, level = points(16, 2)
    targets = assign(position, level, one_event(2, 6), 2)
    assert position[targets.classes[0, :, 0] & (level == 0)].tolist() == [3, 4, 5]  # 2 and 6 are on the boundary
    assert position[targets.classes[0, :, 0] & (level == 1)].tolist() == []  # never 4 or more to a boundary
    longer = assign(position, level, one_event(1, 9), 2)
    assert position[longer.classes[0, :, 0] & (level == 0)].tolist() == [5]  # both boundaries within 4: included
    assert position[longer.classes[0, :, 0] & (level == 1)].tolist() == [2, 4, 6, 8]


def test_offsets_are_in_steps_of_the_level():
    position, level = points(16, 2)
    targets = assign(position, level, one_event(1, 9), 1)
    at = (level == 1) & (position == 4)
    assert targets.offsets[0, at, 0].tolist() == [[1.5, 2.5]]


def test_of_two_events_of_a_class_the_later_annotated_counts():
    position, level = points(8, 1)
    truth = Truth(torch.tensor([[[0.0, 4.0], [1.0, 4.5]]]), torch.tensor([[0, 0]]))
    assert assign(position, level, truth, 1).offsets[0, 2, 0].tolist() == [1.0, 2.5]


def test_a_video_without_events_has_no_positive_point():
    position, level = points(8, 1)
    assert not assign(position, level, Truth(torch.zeros(1, 0, 2), torch.zeros(1, 0).long()), 2).classes.any()
    padded = Truth(torch.zeros(1, 1, 2), torch.tensor([[-1]]))
    assert not assign(position, level, padded, 2).classes.any()


def test_a_perfect_boundary_costs_nothing_and_a_far_one_more_than_a_near_one():
    target = torch.tensor([3.0, 5.0])
    assert distance_iou_loss(target, target).item() == pytest.approx(0)
    near, far = distance_iou_loss(torch.tensor([[3.0, 4.0], [1.0, 1.0]]), target)
    assert 0 < near < far
    assert distance_iou_loss(torch.zeros(2), torch.zeros(2)).isfinite()


def test_the_focal_loss_cares_for_what_is_wrong():
    sure, unsure = focal_loss(torch.tensor([3.0, 0.0]), torch.tensor([True, True]))
    assert 10 * sure < unsure


def outputs_for(segment: tuple[float, float], label: int, T: int = 32, C: int = 3) -> Outputs:
    """A network's outputs that say one event, at one point of level 1."""
    logits = [torch.full((1, T // 2**level, C), -20.0) for level in range(2)]
    offsets = [torch.zeros(1, T // 2**level, C, 2) for level in range(2)]
    i = round((segment[0] + segment[1]) / 4)
    logits[1][0, i, label] = 2.0
    offsets[1][0, i, label] = torch.tensor([i - segment[0] / 2, segment[1] / 2 - i])
    return Outputs(logits, offsets, {"audio": [], "visual": []})


def test_an_event_comes_out_in_seconds():
    mask = torch.ones(1, 32, dtype=torch.bool)
    (events,) = decode(outputs_for((4, 9), 2), mask, (25, 8, 24), 20.0, labels=["a", "b", "c"])
    assert len(events) == 1
    event = events[0]
    assert event.label == "c"
    assert event.start == pytest.approx(4 * 0.32 + 0.48)
    assert event.end == pytest.approx(9 * 0.32 + 0.48)
    assert event.score == pytest.approx(1 / (1 + np.exp(-2)))


def test_events_end_with_the_video():
    mask = torch.ones(1, 32, dtype=torch.bool)
    (events,) = decode(outputs_for((4, 9), 2), mask, (25, 8, 24), 3.0)
    assert events[0].end == 3.0
    assert not decode(outputs_for((12, 20), 2), mask, (25, 8, 24), 3.0)[0]


def test_padding_says_nothing():
    mask = torch.arange(32)[None] < 4
    assert not decode(outputs_for((4, 9), 2), mask, (25, 8, 24), 20.0)[0]


def test_candidates_below_the_least_score_or_length_are_dropped():
    mask = torch.ones(1, 32, dtype=torch.bool)
    arguments = (outputs_for((4, 9), 2), mask, (25, 8, 24), 20.0)
    assert not decode(*arguments, DecodeSettings(min_score=0.9))[0]
    assert not decode(*arguments, DecodeSettings(min_length=6.0))[0]


def test_the_running_count_moves_when_it_is_told_and_divides_the_losses():
    criterion = Criterion(initial_positive=100.0, ranges=((0, 4), (4, 8)))
    outputs, mask = outputs_for((4, 9), 2), torch.ones(1, 32, dtype=torch.bool)
    targets = criterion.targets(mask, one_event(4, 9, 2), outputs.logits[0].shape[-1])
    before = criterion(outputs, mask, targets)
    assert criterion.num_positive == 100
    criterion.update(torch.tensor(200))
    assert criterion.num_positive == pytest.approx(110)
    assert criterion.state_dict()["num_positive"] == criterion.num_positive
    for name, loss in criterion(outputs, mask, targets).items():
        assert loss == pytest.approx(before[name] * 100 / 110)
    criterion.update(torch.tensor(0))
    assert criterion.num_positive == pytest.approx(99.1)


def test_nothing_is_positive_at_padding():
    targets = Criterion().targets(torch.arange(32)[None] < 6, one_event(2, 20, 0), 3)
    position, _ = points(32, 6)
    assert targets.num_positive > 0
    assert position[targets.classes[0].any(-1)].max() < 6


def test_the_papers_boundary_loss_leaves_out_the_distance_of_the_centres():
    predicted, target = torch.tensor([2.0, 4.0]), torch.tensor([3.0, 3.0])
    assert iou_loss(predicted, target) == pytest.approx(1 - 5 / 7)
    assert distance_iou_loss(predicted, target) == pytest.approx(1 - 5 / 7 + (1 / 7) ** 2)
    assert iou_loss(target, target) == 0
