"""TadTR against the released implementation (`tests/golden/tadtr/`), and what its page says besides."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_values import GOLDEN, Case, load_case, published_state
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from davel.core.annotations import Annotations
from davel.core.errors import ConfigError
from davel.core.timeline import Timing
from davel.data.dataset import Batch, Dataset
from davel.data.simulate import draw_annotations, simulate
from davel.detection import decode
from davel.detection.windows import find_events
from davel.features import one_peace
from davel.features.i3d_vggish import protocol
from davel.features.light import SPEC
from davel.models import TadTR, TadTRConfig, build, from_published, parse_network, published_name
from davel.models.blocks import interpolate
from davel.models.detector import Truth
from davel.models.saved import ModelInfo, import_published, load_model, save_model
from davel.models.sets import Canvas, SetCriterion, SetOutputs, SetTargets, assign, best_overlap, iou, match
from davel.models.tadtr import position_table, roi_align
from davel.train import optimizer_for
from davel.train.loop import Run, complete, fit
from davel.train.recipe import Compute, Recipe, load_train_config

I3D_VGGISH, ONE_PEACE = protocol.SPEC, one_peace.SPEC
CASES = ["small", "padded", "unav"]
SMALL = {
    "name": "tadtr",
    "num_classes": 3,
    "visual_dim": 10,
    "audio_dim": 6,
    "max_length": 64,
    "width": 16,
    "hidden": 32,
    "num_queries": 7,
    "encoder_layers": 2,
    "decoder_layers": 2,
}
THUMOS = {"max_length": 128, "rescale": False}


def golden(name: str) -> Case:
    return load_case(f"tadtr/{name}", repeat_first=True)


def state_of(name: str) -> dict[str, Tensor]:
    return dict(published_state(f"tadtr/{name}"))


def released(name: str) -> TadTR:
    meta = golden(name).meta
    settings = {key: meta["settings"][key] for key in ("num_heads", "margin", "rescale")}
    network = from_published(state_of(name), meta["T"], visual_dim=meta["input_dim_visual"], **settings)
    assert isinstance(network, TadTR)
    return network


@pytest.fixture(scope="module", params=CASES)
def case(request) -> tuple[Case, TadTR]:
    return golden(request.param), released(request.param)


def small(**fields: Any) -> TadTR:
    torch.manual_seed(0)
    network = build(SMALL | fields)
    assert isinstance(network, TadTR)
    return network


def without_dropout(network: TadTR) -> TadTR:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network.train()


def inputs(*lengths: int) -> tuple[Tensor, Tensor, Tensor]:
    """Videos of the small network, with something behind them that is no number."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    visual, audio = (torch.full((*mask.shape, dim), math.nan) for dim in (10, 6))
    for b, n in enumerate(lengths):
        generator = torch.Generator().manual_seed(n)
        visual[b, :n] = torch.randn(n, 10, generator=generator)
        audio[b, :n] = torch.randn(n, 6, generator=generator)
    return visual, audio, mask


def alone(case: Case, i: int) -> tuple[Tensor, Tensor, Tensor]:
    return case.visual[i][None], case.audio[i][None], torch.ones(1, len(case.visual[i]), dtype=torch.bool)


def departure(ours: Tensor, theirs: np.ndarray, scale: np.ndarray) -> float:
    """The largest difference, relative to the size of what is expected of all videos."""
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(scale).max())


# The released implementation


@torch.inference_mode()
def test_outputs_of_all_layers_are_the_released_ones_alone_and_in_a_batch(case):
    case, network = case
    expected, T = case.expected, max(case.meta["lengths"])
    together = network(*case.batch(T, padding=math.nan))
    for i in range(len(case.visual)):
        for outputs, row in ((network(*alone(case, i)), 0), (together, i)):
            pairs = [
                (outputs.logits[-1, row], expected["logits"], i),
                (outputs.segments[-1, row], expected["segments"], i),
                (outputs.actionness[row], expected["actionness"], i),
                (outputs.segments[:-1, row], expected["aux_segments"], (slice(None), i)),
            ]
            if "aux_logits" in expected:
                pairs.append((outputs.logits[:-1, row], expected["aux_logits"], (slice(None), i)))
            for ours, theirs, at in pairs:
                assert departure(ours, theirs[at], theirs) < 3e-5


@torch.inference_mode()
def test_every_stage_is_the_released_one(case):
    case, network = case
    stages: dict[str, Tensor] = {}

    def keep(name: str, argument: int | None = None) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], *said: Tensor) -> None:
            stages[name] = said[0] if argument is None else given[argument]

        return hook

    hooks = [
        network.project.register_forward_pre_hook(keep("input", 0)),
        network.project.register_forward_hook(keep("projection")),
        network.encoder.register_forward_hook(keep("memory")),
        network.actionness.mlp.register_forward_pre_hook(keep("roi", 0)),
    ]
    for k, layer in enumerate(network.decoder.layers):
        hooks.append(layer.register_forward_hook(keep(f"decoder_{k}")))
        hooks.append(layer.register_forward_pre_hook(keep(f"references_{k}", 2)))
    K = len(network.decoder.layers)
    for i in range(len(case.visual)):
        stages[f"references_{K}"] = network(*alone(case, i)).segments[-1]
        assert len(stages) == 4 + 2 * K + 1
        for name, x in stages.items():
            stage, _, k = name.partition("_")
            expected = case.expected[f"stage_{stage}"][(int(k), i) if k else i]
            assert float(x.double().sum()) == pytest.approx(expected, abs=2e-6 * float(x.double().abs().sum())), name
    for hook in hooks:
        hook.remove()


def same_events(case: Case, i: int, segments: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> bool:
    """Whether these are a video's events, best first; two of almost one score may come in another order."""
    theirs = [case.expected[f"events_{i}_{part}"] for part in ("segments", "scores", "labels")]
    if len(scores) != len(theirs[1]) or np.abs(scores - theirs[1]).max() > 1e-5:
        return False
    free = np.ones(len(scores), bool)
    for segment, score, label in zip(segments, scores, labels, strict=True):
        near = free & (np.abs(theirs[0] - segment).max(1) < 1e-3) & (theirs[2] == label)
        near &= np.abs(theirs[1] - score) < 1e-5
        if not near.any():
            return False
        free[near.argmax()] = False
    return True


@pytest.mark.parametrize("name", ["small", "unav"])
@torch.inference_mode()
def test_events_are_the_released_ones(name):
    case, network = golden(name), released(name)
    batch = case.batch()
    found = decode(network(*batch), batch[2], case.timing, case.durations, network.detection)
    for i, events in enumerate(found):
        assert same_events(case, i, events.segments, events.scores, events.label_ids)
        assert not same_events(case, i, events.segments + 0.01, events.scores, events.label_ids)


@torch.inference_mode()
def test_events_of_a_padded_window_are_the_released_ones():
    case, network = golden("padded"), released("padded")
    fps, stride, _ = case.timing
    candidates = network(*case.batch()).candidates()
    for i in range(len(case.visual)):
        scores, best = candidates.scores[i].flatten().sort(descending=True)
        query, label = best // 7, best % 7
        seconds = (candidates.segments[i, query, 0] + 0.5) * stride / fps  # as released: a part of the window's length
        assert same_events(case, i, seconds.numpy(), scores.numpy(), label.numpy())


def truth_of(case: Case) -> Truth:
    """In steps; of a padded window as released, where a step is an interval that begins with its own frames."""
    _, stride, window = case.timing
    truth = case.truth()
    shift = 0 if case.meta["settings"]["rescale"] else window / (2 * stride) - 0.5
    return Truth(truth.segments + shift, truth.labels)


def test_targets_and_matches_of_every_layer_are_the_released_ones(case):
    case, network = case
    batch = case.batch()
    with torch.inference_mode():
        outputs = network(*batch)
    targets = network.criterion(Recipe()).targets(batch[2], truth_of(case), case.meta["num_classes"])
    layer, video, query, event = match(outputs.logits, outputs.segments, targets)
    for i in range(len(case.visual)):
        np.testing.assert_allclose(targets.segments[i], case.expected[f"targets_{i}_segments"], atol=1e-6)
        assert (targets.labels[i].numpy() == case.expected[f"targets_{i}_labels"]).all()
        for k in range(len(outputs.logits)):
            here = (layer == k) & (video == i)
            pairs = set(zip(query[here].tolist(), event[here].tolist(), strict=True))
            assert pairs == set(zip(*case.expected[f"match_{k}_{i}"].tolist(), strict=True))
    assert targets.num_positive.tolist() == [5 * len(case.visual), len(case.visual)]


def test_a_training_step_has_the_released_losses_and_gradients():
    case, network = golden("small"), without_dropout(released("small"))
    expected, batch = case.expected, case.batch()
    criterion = network.criterion(Recipe())
    targets = criterion.targets(batch[2], case.truth(), 7)
    criterion.update(targets.num_positive)
    outputs = network(*batch)
    for k, layer in enumerate(("_0", "_1", "")):
        only = replace(outputs, logits=outputs.logits[k, None], segments=outputs.segments[k, None])
        losses = {name: loss.item() for name, loss in criterion(only, batch[2], targets).items()}
        assert losses["class"] == pytest.approx(2 * expected[f"train_loss_ce{layer}"], rel=1e-5)
        assert losses["segment"] == pytest.approx(5 * expected[f"train_loss_segments{layer}"], rel=1e-5)
        assert losses["iou"] == pytest.approx(2 * expected[f"train_loss_iou{layer}"], rel=1e-5)
    assert losses["actionness"] == pytest.approx(4 * expected["train_loss_actionness"], rel=1e-5)
    total = torch.stack(list(criterion(outputs, batch[2], targets).values())).sum()
    assert total.item() == pytest.approx(expected["train_total"], rel=1e-5)
    total.backward()
    norms = dict(zip(expected["train_grad_names"], expected["train_grad_norms"], strict=True))
    ours = {published_name(name, "tadtr"): p.grad.norm().item() for name, p in network.named_parameters()}
    assert ours.keys() == norms.keys()
    largest = max(norms.values())
    for name, norm in norms.items():
        assert ours[name] == pytest.approx(norm, rel=1e-4, abs=1e-6 * largest), name


def test_actionness_is_held_against_the_events_of_its_own_video():
    case, network = golden("small"), released("small")
    batch = case.batch()
    with torch.inference_mode():
        outputs = network(*batch)
    targets = network.criterion(Recipe()).targets(batch[2], case.truth(), 7)
    own = best_overlap(outputs.segments[-1], targets)
    anybody = iou(outputs.segments[-1][:, :, None], targets.segments.flatten(0, 1)).amax(-1)
    for overlap, name in ((own, "train_loss_actionness"), (anybody, "train_loss_actionness_whole_batch")):
        loss = (outputs.actionness - overlap).abs().mean().item()
        assert loss == pytest.approx(case.expected[name], rel=1e-5)


def test_pooled_regions_and_their_gradient_are_the_released_ones():
    with np.load(GOLDEN / "tadtr" / "roi_align.npz") as stored:
        expected = dict(stored)
    features = torch.from_numpy(expected["features"]).mT.requires_grad_()  # (2, T, D)
    pooled = torch.stack(
        [roi_align(features[int(b), None], torch.tensor([[[s, e]]]))[0, 0].mT for b, s, e in expected["regions"]]
    )
    assert departure(pooled.detach(), expected["pooled"], expected["pooled"]) < 3e-5
    (pooled * torch.from_numpy(expected["grad_pooled"])).sum().backward()
    assert departure(features.grad.mT, expected["grad_features"], expected["grad_features"]) < 3e-5
    both = torch.tensor(expected["regions"][expected["regions"][:, 0] == 1, 1:])[None]
    torch.testing.assert_close(
        roi_align(features[1:], both)[0].mT, pooled[expected["regions"][:, 0] == 1], atol=1e-5, rtol=1e-5
    )


# The operators beside plain ones


def plain_roi_align(x: np.ndarray, start: float, end: float, bins: int) -> np.ndarray:
    """Sample by sample, of one video (T, D)."""
    T, length = len(x), max(end - start, 1.0)
    part, n = length / bins, math.ceil(length / bins)
    pooled = np.zeros((bins, x.shape[1]))
    for p in range(bins):
        for i in range(n):
            t = start + p * part + (i + 0.5) * part / n
            if -1 <= t <= T:
                k = min(math.floor(max(t, 0)), T - 1)
                share = 0 if k == T - 1 else max(t, 0) - k
                pooled[p] += ((1 - share) * x[k] + share * x[min(k + 1, T - 1)]) / n
    return pooled


@given(st.data())
def test_regions_are_pooled_as_by_a_plain_loop(data):
    T = data.draw(st.integers(1, 50))
    # quarters: no sample is on the edge of two steps but by design, nor a part a hair's breadth longer than one
    quarter = st.integers(-8, 4 * T + 8).map(lambda n: n / 4)
    regions = [tuple(sorted(data.draw(st.tuples(quarter, quarter)))) for _ in range(3)]
    regions = [(s, min(e, s + T)) for s, e in regions]
    x = torch.randn(1, T, 3, generator=torch.Generator().manual_seed(T))
    pooled = roi_align(x, torch.tensor(regions)[None], bins=4)
    for (start, end), ours in zip(regions, pooled[0], strict=True):
        np.testing.assert_allclose(ours, plain_roi_align(x[0].double().numpy(), start, end, 4), atol=1e-5)


def test_the_gradient_of_a_pooled_region_goes_to_the_features_only():
    x, regions = torch.randn(1, 20, 3, requires_grad=True), torch.tensor([[[2.0, 9.0]]], requires_grad=True)
    roi_align(x, regions).sum().backward()
    assert regions.grad is None
    assert (x.grad[0, 2:9] > 0).all()
    assert (x.grad[0, 11:] == 0).all()


def grid_sample(x: Tensor, at: Tensor) -> Tensor:
    """(B, T, D), (B, N) -> (B, N, D), as from pictures of height 1"""
    across = (at + 0.5) / x.shape[1] * 2 - 1
    grid = torch.stack([across, torch.zeros_like(across)], -1)[:, None]
    return F.grid_sample(x.mT[:, :, None], grid, align_corners=False)[:, :, 0].mT


def test_between_steps_it_is_what_grid_sample_has():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 3, dtype=torch.float64, generator=generator)
    at = torch.rand(2, 40, dtype=torch.float64, generator=generator) * 13 - 2  # also where there is nothing
    weight = torch.randn(2, 40, 3, dtype=torch.float64, generator=generator)
    found = []
    for sample in (interpolate, grid_sample):
        given = x.clone().requires_grad_(), at.clone().requires_grad_()
        values = sample(*given)
        (values * weight).sum().backward()
        found.append((values, given[0].grad, given[1].grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_place_that_is_no_number_gives_none():
    found = interpolate(torch.ones(1, 4, 2), torch.tensor([[1.0, math.nan, math.inf]]))
    assert found[0, 0].tolist() == [1, 1]
    assert not found[0, 1].isfinite().any()


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 10**6), st.sampled_from([None, 3]))
def test_matches_cost_as_little_as_those_of_scipy(num_rows, num_columns, seed, levels):
    optimize = pytest.importorskip("scipy.optimize")
    cost = np.random.default_rng(seed).normal(size=(num_rows, num_columns))
    if levels:
        cost = np.round(cost * levels)  # several are equally good
    rows, columns = assign(cost)
    expected = optimize.linear_sum_assignment(cost)
    assert len(rows) == len(columns) == min(num_rows, num_columns)
    assert len(set(rows.tolist())) == len(rows)
    assert len(set(columns.tolist())) == len(columns)
    assert cost[rows, columns].sum() == pytest.approx(cost[expected].sum(), abs=1e-9)
    if not levels and min(num_rows, num_columns):
        assert sorted(zip(rows, columns, strict=True)) == sorted(zip(*expected, strict=True))


def test_as_many_events_as_unav_100_has_are_matched_with_all_queries():
    optimize = pytest.importorskip("scipy.optimize")
    cost = np.random.default_rng(3).normal(size=(40, 23)).astype(np.float32)
    rows, columns = assign(cost)
    expected = optimize.linear_sum_assignment(cost)
    assert sorted(zip(rows, columns, strict=True)) == sorted(zip(*expected, strict=True))


def test_costs_that_are_no_numbers_are_matched_somehow():
    for bad in (math.nan, math.inf, -math.inf):
        rows, columns = assign(np.full((4, 3), bad))
        assert sorted(columns.tolist()) == [0, 1, 2]
        assert len(set(rows.tolist())) == 3


# The canvas


@pytest.mark.parametrize(("spec", "margin"), [(I3D_VGGISH, 1.5), (ONE_PEACE, 2.0)])
def test_the_canvas_begins_with_the_first_step_s_window_and_holds_every_event(spec, margin):
    timing = spec.timing
    assert TadTRConfig.timed(timing.stride, timing.window) == {"margin": margin}
    canvas = Canvas(224, margin)
    for seconds in (12.0, 40.0, 60.0):
        L = torch.tensor([timing.num_steps(seconds)])
        units = torch.tensor([[[0.0, 1.0], [0.25, 0.5]]])
        steps = canvas.to_steps(units, L)
        torch.testing.assert_close(canvas.to_units(steps, L), units)
        first, last = Timing(*timing).seconds(steps[0, 0].double().numpy())
        assert first == pytest.approx(0, abs=1e-5)
        step = timing.step_seconds
        assert seconds - step < last - step / 2 + 1e-5
        outside = canvas.to_units(torch.tensor([[[-5.0, 999.0]]]), L)
        assert outside.tolist() == [[[0.0, 1.0]]]


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([0.0, 1.5, 2.0]))
def test_a_stretched_video_is_what_numpy_makes_of_it(L, other, margin):
    canvas, T = Canvas(48, margin), 48
    videos = torch.randn(2, 64, 3, generator=torch.Generator().manual_seed(L))
    videos[0, L:] = 0
    videos[1, other:] = 0
    drawn = canvas.draw(videos[:, : max(L, other)], torch.tensor([L, other]))
    at = -margin + (np.arange(T) + 0.5) / T * (L + 2 * margin)
    for d in range(3):
        expected = np.interp(at.clip(0, L - 1), np.arange(L), videos[0, :L, d])
        np.testing.assert_allclose(drawn[0, :, d], expected, atol=5e-5)


def test_a_video_that_is_not_stretched_is_followed_by_zeros():
    canvas = Canvas(8, None)
    drawn = canvas.draw(torch.ones(1, 5, 2), torch.tensor([5]))
    assert drawn[0, :, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    L = torch.tensor([5])
    assert canvas.to_steps(torch.tensor([[0.0, 1.0]]), L).tolist() == [[-0.5, 7.5]]
    assert canvas.to_units(torch.tensor([[-0.5, 7.5, 9.0]]), L).tolist() == [[0, 1, 1]]


# The network's other promises


@torch.inference_mode()
@pytest.mark.parametrize("fields", [{}, {"rescale": False}])
def test_a_video_depends_on_all_its_steps_and_on_no_other_video(fields):
    network = small(**fields).eval()
    nn.init.normal_(network.decoder.locate[1][-1].weight)
    own = network(*inputs(40))
    for mates in ((64,), (7, 40), (1,)):
        together = network(*inputs(40, *mates))
        for name in ("logits", "segments"):
            torch.testing.assert_close(getattr(together, name)[:, :1], getattr(own, name), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.actionness[:1], own.actionness, atol=1e-5, rtol=1e-5)
    visual, audio, mask = inputs(40)
    for x in (visual, audio):
        x[0, 39] += 1
        assert not torch.allclose(network(visual, audio, mask).logits, own.logits, atol=1e-4)
        x[0, 39] -= 1


def test_a_mask_with_holes_and_too_many_steps_are_refused():
    network = small()
    visual, audio, mask = inputs(9)
    for holed in ([1, 0, 1], [0, 1, 1]):
        with pytest.raises(ValueError, match="a mask has real steps behind padding") as told:
            network(visual[:, :3], audio[:, :3], torch.tensor([holed]).bool())
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="this model takes 1 to 64 steps, got 65: cut the video into windows"):
        network(*inputs(65))
    with pytest.raises(ValueError, match=r"expected visual \(1, 9, 10\)"):
        network(audio, visual, mask)


@torch.inference_mode()
def test_a_segment_is_the_same_for_all_classes_and_nothing_is_suppressed():
    network = small().eval()
    outputs = network(*inputs(40, 12))
    candidates = outputs.candidates()
    assert candidates.segments.shape == (2, 7, 1, 2)
    assert candidates.scores.shape == (2, 7, 3)
    assert candidates.groups == (7,)
    settings = network.detection
    assert (settings.min_score, settings.max_candidates, settings.min_length) == (0, 100, 0)
    assert settings.nms.method == "none"
    found = decode(outputs, torch.arange(40) < torch.tensor([[40], [12]]), (1.0, 1, 1), [40.0, 12.0], settings)
    inside = [int((candidates.segments[b, :, 0, 0] < n - 0.5).sum()) for b, n in enumerate((40, 12))]
    assert [len(events) for events in found] == [3 * n for n in inside]  # every query that begins in time, every class
    assert max(inside) == 7


def test_an_event_of_a_long_video_comes_once_whatever_windows_see_it():
    network = small().eval()
    visual, audio, _ = inputs(300)
    events = find_events(network, [(visual[0], audio[0])], Timing(1.0, 1, 1), ("a", "b", "c")).events
    assert len(events) > 21  # those of several windows
    assert events.segments.max() > 236
    for label in range(3):
        start, end = events.segments[events.label_ids == label].T
        overlap = (np.minimum(end[:, None], end) - np.maximum(start[:, None], start)).clip(min=0)
        union = (end - start)[:, None] + (end - start) - overlap
        assert ((overlap / union)[np.triu_indices(len(start), 1)] < 0.4).all()


def test_losses_and_gradients_in_pieces_are_those_of_the_whole():
    network = without_dropout(small())
    batch = inputs(64, 33, 50)
    segments = torch.tensor([[[3.0, 9], [20, 60], [1, 9]], [[5, 30], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]])
    truth = Truth(segments, torch.tensor([[0, 2, 1], [1, -1, -1], [-1, -1, -1]]))
    criterion = network.criterion(Recipe())

    def run(*pieces: slice) -> tuple[dict[str, float], Tensor]:
        network.zero_grad()
        targets = [criterion.targets(batch[2][r], Truth(truth.segments[r], truth.labels[r]), 3) for r in pieces]
        criterion.update(torch.stack([t.num_positive for t in targets]).sum(0))
        sums: dict[str, float] = {}
        for rows, target in zip(pieces, targets, strict=True):
            losses = criterion(network(*(x[rows] for x in batch)), batch[2][rows], target)
            torch.stack(list(losses.values())).sum().backward()
            sums = {name: sums.get(name, 0.0) + loss.item() for name, loss in losses.items()}
        return sums, torch.cat([p.grad.flatten() for p in network.parameters()])

    whole, gradient = run(slice(0, 3))
    assert list(whole) == ["class", "segment", "iou", "actionness"]
    for pieces in ((slice(0, 1), slice(1, 3)), (slice(0, 1), slice(1, 2), slice(2, 3))):
        parts, summed = run(*pieces)
        assert parts == pytest.approx(whole, rel=1e-5)
        torch.testing.assert_close(summed, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))


def test_a_video_without_events_wants_no_class_and_no_actionness():
    targets = SetTargets(torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]]]), torch.tensor([[1], [-1]]))
    segments = torch.tensor([0.5, 0.5]).expand(1, 2, 4, 2)
    assert best_overlap(segments[0], targets).tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    outputs = SetOutputs(
        torch.full((1, 2, 4, 3), -30.0), segments, torch.tensor([[1.0] * 4, [0.0] * 4]), torch.ones(2), Canvas(32, 1.5)
    )
    criterion = SetCriterion(Canvas(32, 1.5))
    criterion.update(targets.num_positive)
    losses = criterion(outputs, torch.ones(2, 5, dtype=torch.bool), targets)
    assert losses["class"].item() == pytest.approx(2 * 0.25 * 30, rel=1e-4)  # that of the one event, which is not found
    assert [losses[name].item() for name in ("segment", "iou", "actionness")] == [0, 0, 0]
    layer, video, _, event = match(outputs.logits, segments, targets)
    assert (layer.tolist(), video.tolist(), event.tolist()) == ([0], [0], [0])


def test_more_events_than_queries_are_matched_as_far_as_there_are_queries():
    network = without_dropout(small(num_queries=2))
    batch = inputs(40)
    truth = Truth(torch.tensor([[[1.0, 9], [10, 20], [25, 30], [31, 39]]]), torch.tensor([[0, 1, 2, 0]]))
    criterion = network.criterion(Recipe())
    targets = criterion.targets(batch[2], truth, 3)
    criterion.update(targets.num_positive)
    outputs = network(*batch)
    layer, _, query, event = match(outputs.logits.detach(), outputs.segments.detach(), targets)
    assert layer.tolist() == [0, 0, 1, 1]
    assert sorted(query.tolist()) == [0, 0, 1, 1]
    assert len(set(event[:2].tolist())) == 2
    assert all(loss.isfinite() for loss in criterion(outputs, batch[2], targets).values())


def test_it_learns_the_events_of_two_videos():
    network = small(dropout=0.0, width=32, encoder_layers=1)
    batch = inputs(64, 50)
    truth = Truth(torch.tensor([[[3.0, 20], [30, 60]], [[0, 49], [0, 0]]]), torch.tensor([[0, 2], [1, -1]]))
    optimizer, criterion = optimizer_for(network, Recipe(learning_rate=3e-3)), network.criterion(Recipe())
    targets = criterion.targets(batch[2], truth, 3)
    criterion.update(targets.num_positive)
    for _ in range(45):
        losses = criterion(network(*batch), batch[2], targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    with torch.inference_mode():
        found = decode(network.eval()(*batch), batch[2], (1.0, 1, 1), [64.0, 50.0], network.detection)
    best = [events.select(np.arange(n)) for events, n in zip(found, (2, 1), strict=True)]
    assert sorted(best[0].label_ids.tolist()) == [0, 2]
    assert best[1].label_ids.tolist() == [1]
    for events, expected in zip(best, truth.segments, strict=True):
        for segment in events.segments:
            # in seconds, of which a step's centre is half of one behind its number
            assert np.abs(expected.numpy() + 0.5 - segment).max(1).min() < 4


def test_positions_turn_once_over_the_whole_canvas():
    table = position_table(16, 8)
    torch.testing.assert_close(table[:, 0], (2 * math.pi * torch.arange(1, 17) / 16).sin(), atol=1e-6, rtol=0)
    torch.testing.assert_close(table[:, 1], (2 * math.pi * torch.arange(1, 17) / 16).cos(), atol=1e-6, rtol=0)
    slower = 2 * math.pi * torch.arange(1, 17) / 16 / 10000 ** (6 / 8)
    torch.testing.assert_close(table[:, 7], slower.cos(), atol=1e-6, rtol=0)


def test_it_starts_as_released():
    network = small(width=64, hidden=256, num_heads=8, max_length=64)
    parameters = dict(network.named_parameters())
    for name, x in parameters.items():
        match name.split(".")[-2:]:
            case ["sampling_offsets", "weight"] | ["weights", _] | ["values" | "out" | "reference_points", "bias"]:
                assert (x == 0).all(), name
            case ["sampling_offsets", "bias"]:
                steps = torch.tensor([1.0, 2, 3, 4])
                expected = torch.stack([side * steps for side in (1, 0, -1, 0, 1, 0, -1, 0)]).flatten()
                torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)
            case _ if x.dim() > 1 and name.startswith(("encoder.layers", "decoder.layers", "decoder.reference")):
                bound = math.sqrt(6 / sum(x.shape))  # Xavier's
                assert 0.9 * bound < x.abs().max() <= bound, name
    for k in range(2):
        for name in ("weight", "bias"):
            assert torch.equal(parameters[f"decoder.classify.{k}.{name}"], parameters[f"decoder.classify.0.{name}"])
            for part in (0, 2):
                first, other = (parameters[f"decoder.locate.{i}.{part}.{name}"] for i in (0, k))
                assert torch.equal(first, other)
        assert parameters[f"decoder.classify.{k}.bias"].tolist() == pytest.approx([-math.log(99)] * 3)
        assert (parameters[f"decoder.locate.{k}.4.weight"] == 0).all()
        assert parameters[f"decoder.locate.{k}.4.bias"].tolist() == ([0, -2] if k == 0 else [0, 0])
    assert (parameters["project.linear.bias"] == 0).all()
    for name in ("encoder.level", "decoder.queries"):
        assert parameters[name].std().item() == pytest.approx(1, abs=0.3)
    with torch.inference_mode():
        outputs = network.eval()(*inputs(40))
    torch.testing.assert_close(outputs.segments[0, ..., 1], torch.full((1, 7), 1 / (1 + math.exp(2))))


def test_what_chooses_where_attention_looks_learns_at_a_tenth_of_the_rate():
    recipe = Recipe(learning_rate=2e-3, epochs=2, warmup_epochs=0, batch_size=2, weight_decay=1e-4)
    run = Run.start(small().config, recipe, Compute(workers=1), 1, torch.device("cpu"))
    names = {id(x): name for name, x in run.model.named_parameters()}
    truth = Truth(torch.tensor([[[3.0, 9]], [[5, 30]]]), torch.tensor([[0], [1]]))
    fit(run, iter([Batch(*inputs(40, 33), truth, ("a", "b"))]), lambda losses: None)
    usual, slow = run.optimizer.param_groups
    assert usual["lr"] == pytest.approx(2e-3)
    assert slow["lr"] == pytest.approx(2e-4)
    assert usual["weight_decay"] == slow["weight_decay"] == 1e-4
    slow_names = {names[id(x)] for x in slow["params"]}
    assert slow_names == {name for name in names.values() if "reference_points" in name or "sampling_offsets" in name}
    assert len(slow_names) == 2 + 2 * 4
    assert len(usual["params"]) + len(slow["params"]) == len(names)


def test_computing_inner_values_again_changes_no_loss_and_no_gradient():
    batch = inputs(40, 33)
    networks = small(), small()
    networks[1].recompute_activations()
    assert networks[1].encoder.layers[0].recompute
    said = []
    for network in networks:
        torch.manual_seed(3)
        outputs = network.train()(*batch)
        (outputs.logits.sum() + outputs.segments.sum() + outputs.actionness.sum()).backward()
        said.append((outputs.logits, [x.grad for x in network.parameters()]))
    torch.testing.assert_close(*(logits for logits, _ in said))
    for ours, theirs in zip(*(gradients for _, gradients in said), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_network_that_says_no_numbers_is_told_by_the_loss():
    run = Run.start(small().config, Recipe(batch_size=1), Compute(workers=1), 1, torch.device("cpu"))
    visual, audio, mask = inputs(40)
    truth = Truth(torch.tensor([[[3.0, 9]]]), torch.tensor([[0]]))
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 0"):
        fit(run, iter([Batch(visual * math.nan, audio, mask, truth, ("a",))]), lambda losses: None)


def test_it_cannot_be_exported():
    with pytest.raises(ConfigError, match="kind TadTR cannot be written as an ONNX file: use its folder"):
        small().exportable()


# Configurations


def test_on_unav_100_it_has_as_many_parameters_as_its_page_says():
    with torch.device("meta"):
        network = build({"name": "tadtr"})
    assert sum(x.numel() for x in network.parameters()) == pytest.approx(8.78e6, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 12}, r"width \(12\) must be even and a multiple of num_heads \(8\)"),
        ({"width": 9, "num_heads": 3}, r"width \(9\) must be even"),
        ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
        ({"decoder_layers": 0}, "decoder_layers must be at least 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"margin": -1.0}, "margin must be at least 0, got -1.0"),
        ({"max_length": 31}, "max_length must be at least 32, got 31"),
        ({"class_width": 4}, "class_width: unknown key"),
        ({"rescale": "yes, please"}, "rescale"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message) as told:
        parse_network(SMALL | fields, "m.yaml")
    assert str(told.value).startswith("m.yaml: ")


@pytest.mark.parametrize("width", [2, 8, 12, 16, 48, 256])
def test_it_is_scaled_in_the_proportions_of_the_paper(width):
    with torch.device("meta"):
        config = build({"name": "tadtr", **TadTRConfig.scaled(width)}).config
    assert isinstance(config, TadTRConfig)
    assert (config.width, config.hidden) == (width, 4 * width)
    if width == 256:
        assert config == TadTRConfig()
    with torch.device("meta"):
        build({"name": "tadtr", **TadTRConfig.small()})


@pytest.mark.parametrize(("name", "T", "spec"), [("i3d", 224, I3D_VGGISH), ("onepeace", 256, ONE_PEACE)])
def test_the_shipped_configurations_are_those_of_the_page(name, T, spec, tmp_path):
    ours, baseline = (load_train_config(f"{kind}-{name}", tmp_path) for kind in ("tadtr", "unav"))
    assert ours.model == {"name": "tadtr", "max_length": T}
    assert ours.recipe == replace(baseline.recipe, learning_rate=2e-4, clip_norm=0.1)
    assert (ours.recipe.epochs, ours.recipe.warmup_epochs, ours.recipe.weight_decay) == (45, 5, 1e-4)
    assert ours.data == baseline.data
    assert ours.detection is None
    dataset = Dataset({}, lambda key: (np.zeros((1, 1)),) * 2, spec)
    config = complete(ours.model, dataset, Annotations.of(("a", "b"), {}))
    assert config == TadTRConfig(
        num_classes=2, visual_dim=spec.visual_dim, audio_dim=spec.audio_dim, max_length=T, margin=2 if T == 256 else 1.5
    )
    with pytest.raises(ConfigError, match=r"model: margin: is .* in the data, leave it out, got 1\.0"):
        complete(ours.model | {"margin": 1.0}, dataset, Annotations.of(("a", "b"), {}))


# Released checkpoints


def shapes(name: str) -> dict[str, list[int]]:
    return json.loads((GOLDEN / "tadtr" / f"{name}.keys.json").read_text())


def test_the_checkpoint_released_for_thumos_loads_with_its_duplicates():
    state = {key: torch.zeros(shape) for key, shape in shapes("thumos14").items()}
    assert len(state) == 222
    network = from_published({"model": state, "epoch": 15}, **THUMOS)
    assert network.config == TadTRConfig(num_classes=20, visual_dim=2048, audio_dim=0, **THUMOS)
    with torch.inference_mode():
        outputs = network(torch.zeros(1, 40, 2048), torch.zeros(1, 40, 0), torch.ones(1, 40, dtype=torch.bool))
    assert outputs.candidates().scores.isfinite().all()
    once = {key: x for key, x in state.items() if not key.startswith("transformer.decoder.segment_embed.")}
    assert len(once) == 198
    assert from_published(once, **THUMOS).config == network.config


@pytest.mark.parametrize("name", ["small", "unav", "thumos14"])
def test_its_parameters_have_the_released_names(name):
    own = {key for key in shapes(name) if not key.startswith("transformer.decoder.segment_embed.")}
    layers = {"encoder_layers": 2, "decoder_layers": 3} if name == "small" else {}
    with torch.device("meta"):
        state = build({"name": "tadtr", **layers}).state_dict()
    assert {published_name(key, "tadtr") for key in state} == own


def test_one_without_audio_is_saved_and_used_like_any_other(tmp_path):
    network = from_published(state_of("padded"), 64, num_heads=4, rescale=False)
    assert (network.config.visual_dim, network.config.audio_dim) == (36, 0)
    spec = replace(SPEC, visual_dim=36, audio_dim=0)
    info = ModelInfo("m", network.config, spec, tuple("abcdefg"), 0.5, {}, tracks=("visual",))
    save_model(tmp_path / "m", network, info)
    again, read, _ = load_model(tmp_path / "m")
    assert read == info
    assert parse_network(json.loads(json.dumps(asdict(network.config))), "model.json") == network.config
    case = golden("padded")
    both = torch.cat([case.visual[1], case.audio[1]], dim=-1)[None]
    with torch.inference_mode():
        found = again(both, both[..., :0], torch.ones(1, both.shape[1], dtype=torch.bool))
        expected = released("padded")(*alone(case, 1))
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.segments, expected.segments, atol=1e-6, rtol=1e-6)


def test_a_whole_checkpoint_is_imported_with_the_sizes_of_unav_100(tmp_path):
    torch.save({"model": state_of("unav"), "epoch": 15}, tmp_path / "model_best.pth")
    info = import_published(tmp_path / "model_best.pth", tmp_path / "m", tuple(f"class {c}" for c in range(100)))
    assert info.features == I3D_VGGISH
    assert load_model(tmp_path / "m")[1].config == released("unav").config == TadTRConfig()


@pytest.mark.parametrize(
    ("channels", "settings", "dims"),
    [
        (2176, {}, (2048, 128)),
        (3072, {}, (1536, 1536)),
        (2048, {}, (2048, 0)),
        (2176, {"visual_dim": 2176}, (2176, 0)),
        (36, {"visual_dim": 24}, (24, 12)),
    ],
)
def test_the_visual_channels_are_the_first(channels, settings, dims):
    state = state_of("small")
    state["input_proj.0.0.weight"] = torch.zeros(64, channels, 1)
    config = from_published(state, num_heads=4, **settings).config
    assert (config.visual_dim, config.audio_dim) == dims


OFFSETS = "transformer.encoder.layers.0.self_attn.sampling_offsets.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("transformer.decoder.layers.1.norm3.bias"),
            r"'transformer\.decoder\.layers\.1\.norm3\.bias' is m",
        ),
        (lambda s: s.pop("input_proj.0.0.weight"), r"'input_proj\.0\.0\.weight' is missing"),
        (lambda s: s.pop("query_embed.weight"), r"'query_embed\.weight' is missing"),
        (lambda s: s.pop(OFFSETS), r"sampling_offsets\.weight' is missing"),
        (lambda s: s.pop("actionness_pred.4.weight"), r"'actionness_pred\.4\.weight' is missing"),
        (lambda s: s.pop("class_embed.1.bias"), r"'class_embed\.1\.bias' is missing"),
        (
            lambda s: s.pop("transformer.decoder.layers.2.linear1.weight"),
            r"unknown tensors, first 'class_embed\.2\.bias'",
        ),
        (lambda s: s.update({"backbone.0.weight": torch.ones(1)}), r"1 unknown tensors, first 'backbone\.0\.weight'"),
        (
            lambda s: s.update({"transformer.decoder.segment_embed.0.layers.2.bias": torch.ones(3)}),
            r"1 unknown tensors, first 'transformer\.decoder\.segment_embed",
        ),
        (
            lambda s: s.update({"transformer.decoder.segment_embed.7.layers.2.bias": torch.ones(2)}),
            r"1 unknown tensors, first 'transformer\.decoder\.segment_embed",
        ),
        (lambda s: s.update({"class_embed.1.weight": torch.ones(9, 64)}), r"does not fit, \(9, 64\)"),
        (lambda s: s.update({"query_embed.weight": torch.ones(9, 64)}), r"does not fit, \(9, 64\)"),
        (lambda s: s.update({"input_proj.0.0.weight": torch.ones(64, 36)}), r"does not fit, \(64, 36\)"),
        (lambda s: s.update({"input_proj.0.0.weight": torch.ones(32, 36, 1)}), r"does not fit"),
        (
            lambda s: s.update({OFFSETS: torch.ones(18, 64)}),
            "num_heads must divide the checkpoint's 18 sampling offsets",
        ),
        (lambda s: s.update(epoch=3), "not a released checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(change, message):
    state = state_of("small")
    change(state)
    with pytest.raises(ConfigError, match=message) as told:
        from_published(state, 64, num_heads=4)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windows": 5}, "a released tadtr checkpoint takes no windows: its settings are visual_dim, max_length"),
        ({"num_heads": 5}, "num_heads must divide the checkpoint's 16 sampling offsets, got 5"),
        ({"num_heads": 0}, "num_heads must divide the checkpoint's 16 sampling offsets, got 0"),
        ({"visual_dim": 37}, "visual_dim must be 1 to 36, the checkpoint's channels, got 37"),
        ({"max_length": 20}, "not a released checkpoint with these settings: max_length must be at least 32"),
        ({"margin": -2.0}, "not a released checkpoint with these settings: margin must be at least 0"),
    ],
)
def test_settings_that_do_not_fit_a_checkpoint_are_refused_in_a_line(settings, message):
    with pytest.raises(ConfigError, match=message) as told:
        from_published(state_of("small"), **({"num_heads": 4} | settings))
    assert "\n" not in str(told.value)


def test_a_checkpoint_of_another_model_is_not_taken_for_this_one():
    with pytest.raises(ConfigError, match="a released unav checkpoint takes no rescale"):
        from_published(published_state("unav_small"), rescale=False)
    with pytest.raises(ConfigError, match="not a released checkpoint: 'input_proj"):
        from_published({"transformer.decoder.layers.0.linear1.weight": torch.zeros(2, 2)})


# Training by the command


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_pieces_as_the_whole(tmp_path):
    simulate(tmp_path / "set", draw_annotations(20, 3), lazy=True)
    (tmp_path / "a.yaml").write_text(
        "name: a\noutput: run\n"
        "data: {annotations: set/annotations/unav100_annotations.json, features: set/av_features, kind: i3d-vggish}\n"
        "model: {name: tadtr, max_length: 192, width: 16, hidden: 32, num_queries: 12, dropout: 0.0}\n"
        # at a low rate: AdamW turns the rounding of gradients that should be zero into whole steps
        "recipe: {epochs: 2, warmup_epochs: 1, batch_size: 4, learning_rate: 1e-5, clip_norm: 0.1}\n"
    )

    def run(name: str, *options: str, processes: int = 1) -> list[float]:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        own = start if processes > 1 else []
        command = [sys.executable, *own, "-m", "davel", "train", tmp_path / "a.yaml", "-o", tmp_path / name, *options]
        done = subprocess.run(
            [*map(str, command), "--device", "cpu"],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        parts = ("class", "segment", "iou", "actionness", "gradient_norm")
        return [line[part] for line in lines for part in parts]

    one = run("one")
    assert len(one) == 10
    assert run("two", processes=2) == pytest.approx(one, rel=1e-4)
    assert run("pieces", "--set", "compute.accumulate=2") == pytest.approx(one, rel=1e-4)
    network, info, _ = load_model(Path(tmp_path / "one" / "best"))
    assert isinstance(network, TadTR)
    assert info.config == network.config
    assert network.config.margin == 1.5
