"""VSGN against the released implementation (`tests/golden/vsgn/`), and what its page says besides."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import GOLDEN, Case, load_case, published_state
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from davel.core.annotations import Annotations
from davel.core.errors import ConfigError
from davel.core.events import EventList
from davel.core.timeline import Timing
from davel.data.dataset import Batch, Dataset
from davel.data.simulate import draw_annotations, simulate
from davel.detection import decode
from davel.detection.windows import find_events
from davel.features import one_peace
from davel.features.i3d_vggish import protocol
from davel.features.light import SPEC
from davel.models import VSGN, VSGNConfig, build, from_published, parse_network, published_name
from davel.models.anchors import AnchorOutputs, AnchorTargets, Stitching, anchors_of, match, refined
from davel.models.detector import Truth
from davel.models.saved import ModelInfo, import_published, load_model, save_model
from davel.models.vsgn import nearest, squared_distances
from davel.train import optimizer_for
from davel.train.loop import Run, complete, fit
from davel.train.recipe import Compute, Recipe, load_train_config

I3D_VGGISH, ONE_PEACE = protocol.SPEC, one_peace.SPEC
CASES = ["small", "plain", "unav"]
TOLERANCE = 1e-5
"""Of the largest value, as the page has it."""
SMALL = {
    "name": "vsgn",
    "num_classes": 3,
    "visual_dim": 10,
    "audio_dim": 6,
    "max_length": 50,
    "length": 128,
    "gap": 4,
    "width": 16,
    "levels": 3,
    "num_neighbours": 4,
    "tower_layers": 1,
}


def golden(name: str) -> Case:
    return load_case(f"vsgn/{name}", repeat_first=True)


def released(name: str) -> VSGN:
    meta = golden(name).meta
    names = ("gap", "num_neighbours", "anchor_scales", "margin", "stitch")
    settings = {key: meta["settings"][key] for key in names}
    state = dict(published_state(f"vsgn/{name}"))
    network = from_published(state, visual_dim=meta["input_dim_visual"], length=meta["T"], **settings)
    assert isinstance(network, VSGN)
    return network


@pytest.fixture(scope="module", params=CASES)
def case(request) -> tuple[Case, VSGN]:
    return golden(request.param), released(request.param)


def small(**fields: Any) -> VSGN:
    torch.manual_seed(0)
    network = build(SMALL | fields)
    assert isinstance(network, VSGN)
    return network


def inputs(*lengths: int) -> tuple[Tensor, Tensor, Tensor]:
    """Videos of the small network, with something behind them that is no number."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    visual, audio = (torch.full((*mask.shape, dim), math.nan) for dim in (10, 6))
    for b, n in enumerate(lengths):
        generator = torch.Generator().manual_seed(n)
        visual[b, :n] = torch.randn(n, 10, generator=generator)
        audio[b, :n] = torch.randn(n, 6, generator=generator)
    return visual, audio, mask


def departure(ours: Tensor, theirs: np.ndarray, scale: np.ndarray) -> float:
    """The largest difference, relative to the size of what is expected of all videos."""
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(scale).max())


def batch(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    return case.batch(max(case.meta["lengths"]), padding=math.nan)


def alone(case: Case, i: int) -> tuple[Tensor, Tensor, Tensor]:
    return case.visual[i][None], case.audio[i][None], torch.ones(1, len(case.visual[i]), dtype=torch.bool)


EQUALLY_NEAR = 89, (94, 123)
"""A position of the first video of `unav`, on the finest of its levels, and two positions that might each be the last
of its neighbours: their distances differ by 1.4e-8, which no float tells. The released run took the first."""


def settled(x: Tensor, count: int, original: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The neighbours, where the rounding of this processor does not choose between those two."""
    found, there = nearest(x, count, original)
    position, (taken, other) = EQUALLY_NEAR
    if original is not None and x.shape[1] == 256:
        for video in (original == (185 + 12) // 2).nonzero()[:, 0].tolist():
            distances = (x[video, position] - x[video, [taken, other]]).square().sum(-1)
            assert distances[0].item() == pytest.approx(distances[1].item(), rel=1e-6)
            neighbours = found[video, position]
            assert int(((neighbours == taken) | (neighbours == other)).sum()) == 1
            neighbours[neighbours == other] = taken
    return found, there


@pytest.fixture
def ties_settled(monkeypatch) -> None:
    monkeypatch.setattr("davel.models.vsgn.nearest", settled)


# The released implementation


@pytest.mark.usefixtures("ties_settled")
@torch.inference_mode()
def test_outputs_are_the_released_ones_alone_and_in_a_batch(case):
    values, network = case
    together = network(*batch(values))
    compared = set()
    for i in range(len(values.visual)):
        for outputs, row in ((network(*alone(values, i)), 0), (together, i)):
            said = {key: getattr(outputs, key) for key in ("logits", "deltas", "segments", "adjusted")}
            said |= {f"{name}ness": cells for name, cells in outputs.maps.items()}
            for key in said.keys() & values.expected.keys():
                expected = values.expected[key]
                assert departure(said[key][row], expected[i], expected) < TOLERANCE, key
                compared.add(key)
    assert compared >= {"logits", "segments", "adjusted", "startness", "endness"}


@pytest.mark.usefixtures("ties_settled")
@torch.inference_mode()
def test_the_canvas_and_every_level_have_the_released_sums(case):
    values, network = case
    levels: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], said: Tensor) -> None:
            if name == "conv0":
                levels["input"] = given[0]
            levels[name] = said.relu()

        return hook

    hooks = [network.conv0.register_forward_hook(keep("conv0"))]
    for j, (encoder, decoder) in enumerate(zip(network.encoder, network.decoder.out, strict=True)):
        hooks.append(encoder.register_forward_hook(keep(f"encoder_{j}")))
        hooks.append(decoder.register_forward_hook(keep(f"decoder_{j}")))
    network(*batch(values))
    for hook in hooks:
        hook.remove()
    assert len(levels) == 2 + 2 * network.config.levels
    for name, x in levels.items():
        stage, _, j = name.partition("_")
        expected = values.expected[f"stage_{stage}"]
        for i, video in enumerate(x.double()):
            total = expected[(int(j), i) if j else i]
            assert float(video.sum()) == pytest.approx(total, abs=2e-6 * float(video.abs().sum())), name


def same_events(case: Case, i: int, events: EventList) -> bool:
    """Whether these are a video's events, best first; two of almost one score may come in another order."""
    segments, scores, labels = (case.expected[f"events_{i}_{part}"] for part in ("segments", "scores", "labels"))
    if len(events) != len(scores) or np.abs(events.scores - scores).max() > 1e-5:
        return False
    free = np.ones(len(scores), bool)
    for segment, score, label in zip(events.segments, events.scores, events.label_ids, strict=True):
        near = free & (np.abs(segments - segment).max(1) < 1e-3) & (labels == label) & (np.abs(scores - score) < 1e-5)
        if not near.any():
            return False
        free[near.argmax()] = False
    return True


@pytest.mark.usefixtures("ties_settled")
@torch.inference_mode()
def test_events_are_the_released_ones(case):
    values, network = case
    visual, audio, mask = batch(values)
    found = decode(network(visual, audio, mask), mask, values.timing, values.durations, network.detection)
    for i, events in enumerate(found):
        assert same_events(values, i, events)
        moved = EventList(events.segments + 0.01, events.scores, events.label_ids, events.labels)
        assert not same_events(values, i, moved)


@pytest.mark.parametrize("name", ["small", "plain"])
def test_anchors_targets_and_matchings_are_the_released_ones(name):
    values, network = golden(name), released(name)
    np.testing.assert_array_equal(network.anchors.numpy(), values.expected["anchors"])
    visual, audio, mask = batch(values)
    criterion = network.criterion(Recipe())
    targets = criterion.targets(mask, values.truth(), values.meta["num_classes"])
    for i in range(len(mask)):
        np.testing.assert_allclose(targets.boxes[i], values.expected[f"targets_{i}_boxes"], atol=2e-5)
        np.testing.assert_array_equal(targets.labels[i] + 1, values.expected[f"targets_{i}_classes"])
    for key, cells in targets.maps.items():
        np.testing.assert_array_equal(cells, values.expected[f"targets_{key}"] > 0)
    with torch.inference_mode():
        segments = network(visual, audio, mask).segments
    anchors = network.anchors.expand_as(segments)
    for key, boxes, threshold in (("anchors", anchors, 0.5), ("decoded", segments, 0.5), ("adjust", segments, 0.7)):
        event = match(boxes, targets, threshold)
        given_labels = torch.where(event >= 0, targets.labels.gather(1, event.clamp(min=0)) + 1, 0)
        np.testing.assert_array_equal(given_labels, values.expected[f"labels_{key}"])


@pytest.mark.parametrize("name", ["small", "plain"])
def test_a_training_step_has_the_released_losses_and_gradients(name):
    values, network = golden(name), released(name).train()
    visual, audio, mask = batch(values)
    criterion = network.criterion(Recipe())
    targets = criterion.targets(mask, values.truth(), values.meta["num_classes"])
    criterion.update(targets.num_positive)
    losses = criterion(network(visual, audio, mask), mask, targets)
    for theirs, ours in (("cls", "class"), ("reg", "regression"), ("adjust", "adjustment")):
        assert losses[ours].item() == pytest.approx(float(values.expected[f"train_{theirs}"]), rel=1e-5)
    # With these weights all maps are within 3 % of 1, and 1 - p + 1e-5 has few digits, whose last is the processor's.
    for name in ("action", "start", "end"):
        assert losses[name].item() == pytest.approx(0.2 * float(values.expected[f"train_{name}"]), rel=1e-4)
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(float(values.expected["train_total"]), rel=1e-5)
    total.backward()
    norms = {published_name(key, "vsgn"): x.grad.norm().item() for key, x in network.named_parameters()}
    expected = dict(
        zip(values.expected["train_grad_names"].tolist(), values.expected["train_grad_norms"].tolist(), strict=True)
    )
    assert norms.keys() == expected.keys()
    for key, norm in expected.items():
        assert norms[key] == pytest.approx(norm, rel=5e-4, abs=1e-6 * max(expected.values())), key


# What its page says


def plain_nearest(x: np.ndarray, count: int, original: int | None) -> list[list[int]]:
    """As the page has it, position by position."""
    rows = []
    for i in range(len(x)):
        order = sorted(range(len(x)), key=lambda j: (((x[i] - x[j]) ** 2).sum(), j))
        if original is None or i < original:
            rows.append(order[:count])
            continue
        taken = order[: count // 2]
        rest = [j for j in order if j < original and j not in taken]
        rows.append(taken + rest[: count - count // 2])
    return rows


@given(st.integers(0, 1000), st.integers(6, 20), st.integers(2, 6), st.one_of(st.none(), st.integers(1, 20)))
def test_neighbours_are_those_of_a_plain_loop(seed, length, count, original):
    x = np.random.default_rng(seed).integers(0, 4, (length, 3)).astype(np.float32)  # with many ties
    limit = None if original is None else torch.tensor([original])
    found, there = nearest(torch.from_numpy(x)[None], count, limit)
    for row, present, expected in zip(found[0], there[0], plain_nearest(x, count, original), strict=True):
        assert sorted(row[present].tolist()) == sorted(expected)


def test_distances_are_those_of_all_pairs_at_once_to_the_last_bit():
    x = torch.randn(200, 150, generator=torch.Generator().manual_seed(1))
    distances = squared_distances(x)  # of more values than are held at once
    assert torch.equal(distances, (x[:, None] - x).square().sum(-1))
    assert torch.equal(distances, distances.mT)


@pytest.mark.parametrize("graph", [True, False])
def test_its_convolutions_start_as_those_of_torch_do(graph):
    for name, x in small(graph=graph, width=32).named_parameters():
        if x.dim() > 1:
            bound = 1 / math.sqrt(x[0].numel())
            assert 0.8 * bound < x.abs().max() <= bound, name
        elif ".tower." in name and int(name.split(".")[-2]) % 3 == 1:  # norms
            assert (x == float(name.endswith("weight"))).all(), name


@pytest.mark.parametrize("level", [0, 1, 2])
def test_anchors_and_their_code_are_those_of_the_page(level):
    anchors, step = anchors_of(128, 3, (1.0, 1.5)), 4 * 2**level
    first = sum(2 * 128 // (4 * 2**j) for j in range(level))
    for i in (0, 1, 128 // step - 1):
        for a, scale in enumerate((1, 1.5)):
            centre, length = step / 2 + i * step, step * scale
            expected = [centre - (length - 1) / 2, centre + (length - 1) / 2]
            assert anchors[first + 2 * i + a].tolist() == expected
    generator = np.random.default_rng(level)
    start = generator.uniform(-10, 100, len(anchors)).astype(np.float32)
    boxes = torch.from_numpy(np.stack([start, start + generator.uniform(2, 60, len(anchors)).astype(np.float32)], 1))
    (a0, a1), (b0, b1) = anchors.T, boxes.T
    length = a1 - a0 + 1
    deltas = torch.stack([10 * ((b0 + b1) / 2 - (a0 + a1) / 2) / length, 5 * ((b1 - b0 + 1) / length).log()], dim=1)
    torch.testing.assert_close(refined(anchors, deltas[None])[0], boxes, atol=1e-3, rtol=0)
    longest = refined(anchors, torch.tensor([[0.0, 1e9]]).expand(1, len(anchors), 2))[0]
    torch.testing.assert_close(longest[:, 1] - longest[:, 0] + 1, 62.5 * length)


@pytest.mark.parametrize(("n", "other", "margin"), [(1, 50, 1.5), (17, 50, 1.5), (50, 3, 2.0), (40, 41, 0.0)])
def test_the_canvas_shows_a_video_twice_as_numpy_draws_it(n, other, margin):
    canvas, (visual, _, mask) = Stitching(128, 4, margin), inputs(n, other)
    drawn = canvas.draw(visual.masked_fill(~mask[..., None], 0), mask.sum(1))[0].numpy()
    video, rest = visual[0, :n].numpy(), 128 - n - 4
    np.testing.assert_array_equal(drawn[:n], video)
    assert (drawn[n : n + 4] == 0).all()
    at = (-margin + (np.arange(rest) + 0.5) / rest * (n + 2 * margin)).clip(0, n - 1)
    expected = np.stack([np.interp(at, np.arange(n), column) for column in video.T], axis=1)
    np.testing.assert_allclose(drawn[n + 4 :], expected, atol=1e-4)


def test_a_video_that_is_not_stitched_is_followed_by_zeros():
    drawn = Stitching(128, 4, 1.5, magnified=False).draw(torch.ones(1, 50, 2), torch.tensor([50]))[0]
    assert (drawn[:50] == 1).all()
    assert (drawn[50:] == 0).all()


@pytest.mark.parametrize("fields", [{}, {"stitch": False, "max_length": 128}, {"graph": False}])
def test_a_video_depends_on_all_its_steps_and_on_no_other_video(fields):
    network = small(**fields).eval()
    visual, audio, mask = inputs(30, 50, 1)
    with torch.inference_mode():
        together = network(visual, audio, mask)
        for b, n in enumerate((30, 50, 1)):
            one = network(visual[b : b + 1, :n], audio[b : b + 1, :n], torch.ones(1, n, dtype=torch.bool))
            torch.testing.assert_close(one.logits[0], together.logits[b], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one.adjusted[0], together.adjusted[b], atol=1e-4, rtol=1e-5)
        visual[0, 29] += 5
        changed = network(visual, audio, mask)
    assert not torch.allclose(changed.logits[0], together.logits[0], atol=1e-3)
    torch.testing.assert_close(changed.logits[1:], together.logits[1:], atol=1e-5, rtol=1e-5)


@given(st.integers(1, 50), st.floats(-1, 52), st.floats(0, 3))
def test_the_magnified_part_shows_the_video_from_end_to_end(steps, at, margin):
    canvas, n = Stitching(128, 4, margin), torch.tensor([steps])
    inside = torch.tensor([[at]], dtype=torch.float64)
    assert canvas.to_steps(canvas.to_positions(inside, n), n).item() == pytest.approx(at, abs=1e-6)
    ends = canvas.to_positions(torch.tensor([[-margin, steps + margin]], dtype=torch.float64), n)[0]
    assert ends.tolist() == pytest.approx([steps + 4 - 0.5, 128 - 0.5])


def test_an_event_lies_on_the_canvas_twice_and_comes_back_from_both():
    canvas, lengths = Stitching(128, 4, 1.5), torch.tensor([40])
    segments = torch.tensor([[[3.0, 9.0], [-5.0, 60.0]]])
    boxes = canvas.boxes(segments, lengths)
    assert boxes.shape == (1, 4, 2)
    assert (boxes[0, 2:, 1] - boxes[0, 2:, 0] > boxes[0, :2, 1] - boxes[0, :2, 0]).all()
    expected = torch.tensor([[3.0, 9.0], [-1.5, 41.5]])
    torch.testing.assert_close(canvas.segments(boxes, lengths)[0], expected.repeat(2, 1))


def said_of(n: int, canvas: Stitching, seed: int) -> AnchorOutputs:
    """Anything, of a video of n steps: boxes within and beyond the canvas, most of them on neither side of the gap."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-9, canvas.length + 9, (1, 40)).astype(np.float32)
    boxes = np.stack([start, start + rng.normal(8, 8, (1, 40)).astype(np.float32)], axis=2)
    boxes[0, :3, 0] = n + canvas.gap / 2 + np.array([-0.25, 0, 0.25])
    maps = {name: torch.from_numpy(rng.random((1, canvas.length), np.float32)) for name in ("action", "start", "end")}
    logits = torch.from_numpy(rng.normal(0, 3, (1, 40, 4)).astype(np.float32))
    adjusted = torch.from_numpy(boxes)
    return AnchorOutputs(logits, torch.zeros(1, 40, 2), adjusted + 3, adjusted, maps, torch.tensor([n]), canvas)


@pytest.mark.parametrize("stitch", [True, False])
@given(st.integers(1, 50), st.integers(0, 100))
def test_candidates_are_those_of_a_plain_loop(stitch, n, seed):
    p, g, T = 1.5, 4, 128
    outputs = said_of(n, Stitching(T, g, p, stitch), seed)
    candidates = outputs.candidates()
    assert candidates.groups == (40,)
    start, end = (outputs.maps[name][0].tolist() for name in ("start", "end"))

    def looked_up(cells: list[float], x: float) -> float:
        x = min(max(x, 0), T - 1)
        return (cells[math.floor(x)] + cells[math.ceil(x)]) / 2

    for i, (s, e) in enumerate(outputs.adjusted[0].tolist()):
        powers = [math.exp(x) for x in outputs.logits[0, i].tolist()]
        boundary = looked_up(start, s) * looked_up(end, e)
        for c in range(3):
            probability = powers[c + 1] / sum(powers)
            expected = probability * boundary if probability > 0.005 else 0.0
            assert candidates.scores[0, i, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)
        if stitch and s >= n + g / 2:
            s, e = ((x - n - g + 0.5) / (T - n - g) * (n + 2 * p) - p for x in (s, e))
        expected_segment = [min(max(x, -p), n + p) for x in (s, e)]
        assert candidates.segments[0, i, 0].tolist() == pytest.approx(expected_segment, abs=1e-4)


def test_probabilities_at_the_threshold_are_none_and_no_overlap_across_classes_is_suppressed():
    settings = VSGN.detection
    assert (settings.min_score, settings.max_candidates, settings.min_length) == (0, 10_000, 0.05)
    nms = settings.nms
    assert (nms.method, nms.per_class, nms.sigma, nms.min_score, nms.max_events) == ("soft", True, 0.4, 1e-4, 100)
    probability = torch.tensor([[0.984, 0.006, 0.004, 0.006]])
    canvas = Stitching(128, 4, 1.5)
    maps = {name: torch.ones(1, 128) for name in ("action", "start", "end")}
    boxes = torch.tensor([[[3.0, 9.0]]])
    outputs = AnchorOutputs(probability[None].log(), boxes, boxes, boxes, maps, torch.tensor([40]), canvas)
    assert outputs.candidates().scores[0, 0].tolist() == pytest.approx([0.006, 0, 0.006], rel=1e-4)
    events = decode(outputs, torch.ones(1, 40, dtype=torch.bool), (1.0, 1, 1), 40.0, settings)[0]
    assert sorted(events.label_ids.tolist()) == [0, 2]
    assert events.scores.tolist() == pytest.approx([0.006, 0.006], rel=1e-4)


def plain_match(boxes: list[list[float]], events: list[list[float]], threshold: float) -> list[int]:
    """As the page has it, row by row and event by event."""

    def overlap(a: list[float], g: list[float]) -> float:
        inter = max(min(a[1], g[1]) - max(a[0], g[0]), 0)
        return inter / ((a[1] - a[0] + 1) + (g[1] - g[0]) - inter)

    table = [[overlap(a, g) for g in events] for a in boxes]
    best = [max(range(len(events)), key=lambda n: (row[n], -n)) for row in table]
    positive = {i for i, row in enumerate(table) if row[best[i]] >= threshold}
    for n in range(len(events)):
        most = max(row[n] for row in table)
        positive |= {i for i, row in enumerate(table) if row[n] == most}
    return [best[i] if i in positive else -1 for i in range(len(boxes))]


BOXES = st.tuples(st.integers(0, 20), st.integers(1, 12)).map(lambda box: [float(box[0]), float(sum(box))])


@given(st.lists(BOXES, min_size=1, max_size=8), st.lists(BOXES, min_size=1, max_size=4), st.sampled_from([0.5, 0.7]))
def test_matches_are_those_of_a_plain_loop_whatever_fills_the_other_rows(boxes, events, threshold):
    targets = AnchorTargets(
        torch.tensor([[*events, [0.0, 30.0]], [[0.0, 30.0]] * (len(events) + 1)]),
        torch.tensor([[1] * len(events) + [-1], [-1] * (len(events) + 1)]),
        {},
    )
    found = match(torch.tensor([boxes, boxes]), targets, threshold)
    assert found[0].tolist() == plain_match(boxes, events, threshold)
    assert found[1].tolist() == [-1] * len(boxes)


@given(st.integers(4, 50), st.lists(st.tuples(st.floats(-3, 55), st.floats(0.5, 30)), min_size=1, max_size=3))
def test_maps_are_those_of_a_plain_loop(n, events):
    network, mask = small(), torch.ones(1, n, dtype=torch.bool)
    truth = Truth(
        torch.tensor([[[s, s + length] for s, length in events]]), torch.zeros(1, len(events), dtype=torch.long)
    )
    targets = network.criterion(Recipe()).targets(mask, truth, 3)
    there = targets.labels[0] >= 0
    boxes = targets.boxes[0][there].double().numpy()
    position = np.arange(128)
    cells: dict[str, np.ndarray] = {name: np.zeros(128, bool) for name in ("action", "start", "end")}
    for s, e in boxes:
        cells["action"] |= (s - 0.5 <= position) & (position <= e + 0.5)
        cells["start"] |= np.abs(position - min(max(s, 0), 127)) < 1.5
        cells["end"] |= np.abs(position - min(max(e, 0), 127)) < 1.5
    for name, expected in cells.items():
        np.testing.assert_array_equal(targets.maps[name][0], expected)


@pytest.mark.parametrize("stitch", [True, False])
def test_an_event_beyond_the_video_is_none(stitch):
    network = small(stitch=stitch)
    mask = torch.ones(1, 20, dtype=torch.bool)
    truth = Truth(torch.tensor([[[30.0, 40.0], [-9.0, -4.0], [2.0, 8.0]]]), torch.tensor([[0, 1, 2]]))
    targets = network.criterion(Recipe()).targets(mask, truth, 3)
    assert targets.labels.tolist() == [[-1, -1, 2] * (2 if stitch else 1)]
    alone = network.criterion(Recipe()).targets(mask, Truth(truth.segments[:, 2:], truth.labels[:, 2:]), 3)
    for name, cells in alone.maps.items():
        assert torch.equal(targets.maps[name], cells)
    anchors = network.anchors[None]
    event, own = match(anchors, targets, 0.5), match(anchors, alone, 0.5)
    assert torch.equal(event >= 0, own >= 0)
    assert 0 < int((event >= 0).sum()) < len(network.anchors) / 4


def test_an_event_keeps_what_overlaps_it_most_and_the_others_need_the_threshold():
    boxes = torch.tensor([[[0.0, 10.0], [0.0, 12.0], [40.0, 44.0], [80.0, 90.0]]])
    targets = AnchorTargets(torch.tensor([[[0.0, 10.0], [43.0, 60.0], [0.0, 0.0]]]), torch.tensor([[2, 1, -1]]), {})
    assert match(boxes, targets, 0.5).tolist() == [[0, 0, 1, -1]]  # 40-44 overlaps 43-60 little, but nothing does more
    assert match(boxes, targets, 0.99).tolist() == [[0, -1, 1, -1]]
    just = torch.tensor([[[0.0, 10.0], [0.0, 19.0], [0.0, 19.001], [43.0, 60.0]]])  # 10 of 20, and a little less
    assert match(just, targets, 0.5).tolist() == [[0, 0, -1, 1]]


def judged(network: VSGN, truth: Truth, lengths: tuple[int, ...] = (50, 17)) -> dict[str, Tensor]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(1)
    visual, audio = (torch.randn(*mask.shape, D, generator=generator) for D in (10, 6))
    criterion = network.criterion(Recipe())
    targets = criterion.targets(mask, truth, 3)
    criterion.update(targets.num_positive)
    losses: dict[str, Tensor] = criterion(network(visual, audio, mask), mask, targets)
    return losses


@pytest.mark.parametrize("num_events", [0, 2], ids=["no event at all", "padding alone"])
def test_a_video_without_events_is_harmless(num_events):
    network = small().train()
    truth = Truth(torch.zeros(2, num_events, 2), torch.full((2, num_events), -1))
    losses = judged(network, truth)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["regression"] == losses["adjustment"] == losses["start"] == 0
    sum(losses.values()).backward()
    assert all(x.grad is None or torch.isfinite(x.grad).all() for x in network.parameters())


def test_losses_of_pieces_are_their_own_means_by_the_videos_that_they_have():
    network = small()
    batch = inputs(50, 33, 17)
    segments = torch.tensor([[[3.0, 9], [20, 45]], [[2, 15], [0, 0]], [[0, 0], [0, 0]]])
    truth = Truth(segments, torch.tensor([[0, 2], [1, -1], [-1, -1]]))
    criterion = network.criterion(Recipe())
    assert not criterion.adds_up

    def run(rows: slice, num_videos: int) -> tuple[dict[str, float], Tensor]:
        network.zero_grad()
        targets = criterion.targets(batch[2][rows], Truth(truth.segments[rows], truth.labels[rows]), 3)
        criterion.update(torch.tensor(float(num_videos)))
        losses = criterion(network(*(x[rows] for x in batch)), batch[2][rows], targets)
        torch.stack(list(losses.values())).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        return {name: loss.item() for name, loss in losses.items()}, gradient

    pieces = [(slice(0, 1), 1), (slice(1, 3), 2)]
    for rows, size in pieces:
        (mean, gradient), (part, weighed) = run(rows, size), run(rows, 3)
        assert list(part) == ["class", "regression", "adjustment", "action", "start", "end"]
        assert part == pytest.approx({name: loss * size / 3 for name, loss in mean.items()}, rel=1e-5)
        torch.testing.assert_close(weighed, gradient * size / 3, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_the_adjustment_also_moves_the_refined_segments():
    network = small()
    batch = inputs(50)
    criterion = network.criterion(Recipe())
    targets = criterion.targets(batch[2], Truth(torch.tensor([[[3.0, 30.0]]]), torch.tensor([[0]])), 3)
    criterion.update(targets.num_positive)
    criterion(network(*batch), batch[2], targets)["adjustment"].backward()
    assert all(p.grad.abs().max() > 0 for p in network.regress.parameters() if p.dim() > 1)
    assert all(p.grad is None or (p.grad == 0).all() for p in network.classify.parameters())


def test_it_learns_the_events_of_two_videos():
    network = small(width=32)
    batch = inputs(50, 40)
    truth = Truth(torch.tensor([[[3.0, 9], [20, 45]], [[12, 36], [0, 0]]]), torch.tensor([[0, 2], [1, -1]]))
    optimizer, criterion = optimizer_for(network, Recipe(learning_rate=4e-3)), network.criterion(Recipe())
    targets = criterion.targets(batch[2], truth, 3)
    criterion.update(targets.num_positive)
    assert found_by(network, batch, truth) != [True, True, True]
    for _ in range(40):
        losses = criterion(network(*batch), batch[2], targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert found_by(network, batch, truth) == [True, True, True]


def found_by(network: VSGN, batch: tuple[Tensor, Tensor, Tensor], truth: Truth) -> list[bool]:
    """Whether the best event of its class and video overlaps each true one by more than half."""
    with torch.inference_mode():
        found = decode(network.eval()(*batch), batch[2], (1.0, 1, 1), batch[2].sum(1).tolist(), network.detection)
    network.train()
    right = []
    for video, row in (truth.labels >= 0).nonzero().tolist():
        start, end = (truth.segments[video, row] + 0.5).tolist()  # of a step, its centre in seconds
        best = next(event for event in found[video] if event.label == str(truth.labels[video, row].item()))
        inter = min(best.end, end) - max(best.start, start)
        right.append(inter > 0.5 * (max(best.end, end) - min(best.start, start)))
    return right


def test_computing_inner_values_again_changes_no_loss_and_no_gradient(monkeypatch):
    batch, times = inputs(40, 33), []

    def counted(*given: Any) -> tuple[Tensor, Tensor]:
        times[-1] += 1
        return nearest(*given)

    monkeypatch.setattr("davel.models.vsgn.nearest", counted)
    networks = small(), small()
    networks[1].recompute_activations()
    assert all(level.recompute for level in networks[1].encoder)
    said = []
    for network in networks:
        times.append(0)
        outputs = network.train()(*batch)
        (outputs.logits.sum() + outputs.adjusted.sum()).backward()
        said.append((outputs.logits, [x.grad for x in network.parameters() if x.grad is not None]))
    assert times == [3, 6]  # once in each level, and once more in the backward pass
    torch.testing.assert_close(*(logits for logits, _ in said))
    for ours, theirs in zip(*(gradients for _, gradients in said), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_network_that_says_no_numbers_is_told_by_the_loss():
    run = Run.start(small().config, Recipe(batch_size=1), Compute(workers=1), 1, torch.device("cpu"))
    visual, audio, mask = inputs(40)
    truth = Truth(torch.tensor([[[3.0, 9]]]), torch.tensor([[0]]))
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 0"):
        fit(run, iter([Batch(visual * math.nan, audio, mask, truth, ("a",))]), lambda losses: None)


def test_every_part_of_a_long_recording_has_events():
    network = small().eval()
    visual, audio, _ = inputs(200)
    events = find_events(network, [(visual[0], audio[0])], Timing(1.0, 1, 1), ("a", "b", "c")).events
    assert len(events) > 100  # those of several windows
    assert (events.segments[:, 0] < 20).any()
    assert (events.segments[:, 1] > 190).any()
    assert events.segments.max() <= 200 + 0.5 + 1.5  # what the last step sees, half of it and the margin
    assert (np.diff(events.scores) <= 0).all()


def test_it_cannot_be_exported():
    with pytest.raises(ConfigError, match="kind VSGN cannot be written as an ONNX file: use its folder"):
        small().exportable()


def test_a_mask_with_a_hole_and_a_video_that_is_too_long_are_refused():
    network = small().eval()
    mask = torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="real steps behind padding"):
        network(torch.zeros(1, 3, 10), torch.zeros(1, 3, 6), mask)
    with pytest.raises(ValueError, match="this model takes 1 to 50 steps, got 51"):
        network(torch.zeros(1, 51, 10), torch.zeros(1, 51, 6), torch.ones(1, 51, dtype=torch.bool))


# Configurations


def test_on_unav_100_it_has_as_many_parameters_as_its_page_says():
    with torch.device("meta"):
        network = build({"name": "vsgn"})
    assert sum(x.numel() for x in network.parameters()) == pytest.approx(8.59e6, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 100}, "length must be a multiple of 16 for 3 levels, got 100"),
        ({"length": 0}, "length must be a multiple of 16 for 3 levels, got 0"),
        ({"num_neighbours": 17}, "num_neighbours must be at most the coarsest level's 16, got 17"),
        ({"num_neighbours": 0}, "num_neighbours must be at least 1, got 0"),
        ({"max_length": 52}, "max_length must be at most 51 on a canvas of 128, got 52"),
        ({"max_length": 129, "stitch": False}, "max_length must be at most 128 on a canvas of 128, got 129"),
        ({"anchor_scales": ()}, "anchor_scales must be positive"),
        ({"anchor_scales": (1.0, math.nan)}, "anchor_scales must be positive"),
        ({"gap": -1}, "gap and margin must be at least 0"),
        ({"margin": math.inf}, "gap and margin must be at least 0"),
        ({"gap": 78}, "gap must be less than 78, what 50 steps leave of a canvas of 128, got 78"),
        ({"levels": 0}, "levels must be at least 1"),
        ({"tower_layers": 0}, "tower_layers must be at least 1"),
        ({"class_width": 4}, "class_width: unknown key"),
        ({"stitch": "yes, please"}, "stitch"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message) as told:
        parse_network(SMALL | fields, "m.yaml")
    assert str(told.value).startswith("m.yaml: ")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("width", [2, 8, 12, 32, 48, 256])
def test_it_is_scaled_by_its_width_alone(width):
    with torch.device("meta"):
        config = build({"name": "vsgn", **VSGNConfig.scaled(width)}).config
        build({"name": "vsgn", **VSGNConfig.small()})
    assert config == VSGNConfig(width=width)


def test_its_weights_of_convolutions_and_graphs_decay_and_nothing_else_does():
    network = small()
    decayed, others = network.parameter_groups(Recipe())
    assert {x.dim() for x in decayed["params"]} == {2, 3}
    assert {x.dim() for x in others["params"]} == {1}


@pytest.mark.parametrize(
    ("name", "fields", "spec", "margin"),
    [
        ("i3d", {"max_length": 204, "length": 512, "gap": 12}, I3D_VGGISH, 1.5),
        ("onepeace", {"max_length": 256, "length": 640, "gap": 15}, ONE_PEACE, 2.0),
    ],
)
def test_the_shipped_configurations_are_those_of_the_page(name, fields, spec, margin, tmp_path):
    ours, baseline = (load_train_config(f"{kind}-{name}", tmp_path) for kind in ("vsgn", "unav"))
    assert ours.model == {"name": "vsgn"} | fields
    assert ours.recipe == baseline.recipe
    assert (ours.recipe.epochs, ours.recipe.learning_rate, ours.recipe.batch_size) == (45, 1e-4, 16)
    assert ours.data == baseline.data
    assert ours.detection is None
    dataset = Dataset({}, lambda key: (np.zeros((1, 1)),) * 2, spec)
    config = complete(ours.model, dataset, Annotations.of(("a", "b"), {}))
    dims = {"visual_dim": spec.visual_dim, "audio_dim": spec.audio_dim}
    assert config == VSGNConfig(num_classes=2, margin=margin, **dims, **fields)
    with pytest.raises(ConfigError, match=r"model: margin: is .* in the data, leave it out, got 1\.0"):
        complete(ours.model | {"margin": 1.0}, dataset, Annotations.of(("a", "b"), {}))


# Released checkpoints

THUMOS = {"length": 1280, "gap": 30}
READ = {"visual_dim": 10, "length": 128, "gap": 4, "max_length": 50, "num_neighbours": 4}


def shapes(name: str) -> dict[str, list[int]]:
    stored = json.loads((GOLDEN / "vsgn" / f"{name}.keys.json").read_text())
    return {key.removeprefix("module."): shape for key, shape in stored.items()}


def state_of(network: VSGN) -> dict[str, Tensor]:
    names = {key: published_name(key, "vsgn") for key in network.state_dict()}
    if not network.config.graph:
        names = {key: theirs.replace("tconv1", "0") for key, theirs in names.items()}
    return {names[key]: x for key, x in network.state_dict().items()}


def test_the_checkpoint_released_for_thumos_loads():
    state = {f"module.{key}": torch.zeros(shape) for key, shape in shapes("thumos14").items()}
    assert len(state) == 104
    network = from_published({"state_dict": state, "epoch": 9}, **THUMOS)
    assert network.config == VSGNConfig(num_classes=20, visual_dim=2048, audio_dim=0, max_length=512, **THUMOS)
    with torch.inference_mode():
        outputs = network(torch.zeros(1, 40, 2048), torch.zeros(1, 40, 0), torch.ones(1, 40, dtype=torch.bool))
    assert outputs.logits.shape == (1, 2 * 620, 21)
    assert outputs.candidates().scores.isfinite().all()


def test_a_window_of_thumos_may_be_as_long_as_the_canvas_where_nothing_is_stitched():
    state = {key: torch.zeros(shape) for key, shape in shapes("thumos14").items()}
    assert from_published(state, stitch=False, **THUMOS).config.max_length == 1280
    with pytest.raises(ConfigError, match="max_length must be at most 512 on a canvas of 1280, got 1280"):
        from_published(state, 1280, **THUMOS)


@pytest.mark.parametrize("name", ["small", "plain", "unav", "thumos14"])
def test_its_parameters_have_the_released_names(name):
    sizes = {"levels": 3, "num_neighbours": 4, "tower_layers": 2} if name in ("small", "plain") else {}
    with torch.device("meta"):
        state = build({"name": "vsgn", **sizes}).state_dict()
    assert {published_name(key, "vsgn") for key in state} == set(shapes(name))


@pytest.mark.parametrize("graph", [True, False])
def test_a_released_checkpoint_is_read_as_it_was_written(graph):
    network = small(graph=graph)
    read = from_published(state_of(network), **READ)
    assert read.config == replace(network.config, num_neighbours=4)
    assert all(torch.equal(x, network.state_dict()[key]) for key, x in read.state_dict().items())


def test_one_without_audio_is_saved_and_used_like_any_other(tmp_path):
    values = golden("small")
    state = dict(published_state("vsgn/small"))
    settings = {"length": 128, "gap": 4, "num_neighbours": 4}
    network = from_published(state, **settings)
    assert (network.config.visual_dim, network.config.audio_dim) == (36, 0)
    spec = replace(SPEC, visual_dim=36, audio_dim=0)
    info = ModelInfo("m", network.config, spec, tuple("abcdefg"), 0.5, {}, tracks=("visual",))
    save_model(tmp_path / "m", network, info)
    again, read, _ = load_model(tmp_path / "m")
    assert read == info
    assert parse_network(json.loads(json.dumps(asdict(network.config))), "model.json") == network.config
    both = torch.cat([values.visual[1], values.audio[1]], dim=-1)[None]
    with torch.inference_mode():
        found = again(both, both[..., :0], torch.ones(1, both.shape[1], dtype=torch.bool))
        expected = released("small")(*alone(values, 1))
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.adjusted, expected.adjusted, atol=1e-5, rtol=1e-6)


def test_a_whole_checkpoint_is_imported_with_the_sizes_of_unav_100(tmp_path):
    state = {f"module.{key}": x for key, x in published_state("vsgn/unav").items()}
    torch.save({"state_dict": state, "epoch": 9}, tmp_path / "best.pth.tar")
    info = import_published(tmp_path / "best.pth.tar", tmp_path / "m", tuple(f"class {c}" for c in range(100)))
    assert info.features == I3D_VGGISH
    assert load_model(tmp_path / "m")[1].config == released("unav").config == VSGNConfig()


@pytest.mark.parametrize(
    ("channels", "settings", "dims"),
    [
        (2176, {"visual_dim": None}, (2048, 128)),
        (3072, {"visual_dim": None}, (1536, 1536)),
        (2048, {"visual_dim": None}, (2048, 0)),
        (2176, {"visual_dim": 2176}, (2176, 0)),
        (36, {"visual_dim": 24}, (24, 12)),
    ],
)
def test_the_visual_channels_are_the_first(channels, settings, dims):
    state = state_of(small())
    state["xGPN.conv0.0.weight"] = torch.zeros(16, channels, 3)
    config = from_published(state, **(READ | settings)).config
    assert (config.visual_dim, config.audio_dim) == dims


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head_startness.0.bias"), r"'head_startness\.0\.bias' is missing"),
        (lambda s: s.pop("xGPN.conv0.0.weight"), r"'xGPN\.conv0\.0\.weight' is missing"),
        (lambda s: s.pop("head_dec.cls_logits.weight"), r"'head_dec\.cls_logits\.weight' is missing"),
        (lambda s: s.pop("xGPN.levels_enc.1.nconv1.mlp.weight"), r"'xGPN\.levels_enc\.1\.nconv1\.mlp\.weight' is m"),
        (lambda s: s.pop("bd_adjust.end_conv.2.bias"), r"'bd_adjust\.end_conv\.2\.bias' is missing"),
        (lambda s: s.update(more=torch.zeros(2)), "not a released vsgn checkpoint: 1 unknown tensors, first 'more'"),
        (
            lambda s: s.update({"xGPN.levels_enc.3.tconv1.weight": torch.zeros(16, 16, 3)}),
            r"1 unknown tensors, first 'xGPN\.levels_enc\.3\.tconv1\.weight'",
        ),
        (lambda s: s.update({"xGPN.conv0.0.bias": torch.zeros(3)}), r"'xGPN\.conv0\.0\.bias' has .* fit, \(3,\)"),
        (lambda s: s.update({"xGPN.conv0.0.weight": torch.zeros(16, 16)}), r"does not fit, \(16, 16\)"),
        (lambda s: s.update({"head_dec.cls_logits.weight": torch.zeros(7, 16, 3)}), r"does not fit, \(7, 16, 3\)"),
        (lambda s: s.update({"head_dec.bbox_pred.weight": torch.zeros(6, 16, 3)}), r"does not fit, \(6, 16, 3\)"),
        (lambda s: s.update({"xGPN.levels_dec.0.0.weight": torch.zeros(16, 8, 3)}), r"does not fit, \(16, 8, 3\)"),
        (lambda s: s.update(epoch=3), "not a released checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(change, message):
    state = state_of(small())
    change(state)
    with pytest.raises(ConfigError, match=message) as told:
        from_published(state, **READ)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"windows": 3},
            "a released vsgn checkpoint takes no windows: its settings are visual_dim, max_length",
        ),
        ({"length": 100}, "not a released checkpoint with these settings: length must be a multiple of 16"),
        ({"length": 0}, "not a released checkpoint with these settings: length must be a multiple of 16"),
        ({"gap": 200}, "not a released checkpoint with these settings: gap must be less than 78"),
        ({"visual_dim": 99}, "visual_dim must be 1 to 16, the checkpoint's channels, got 99"),
        ({"num_neighbours": 99}, "num_neighbours must be at most the coarsest level's 16, got 99"),
        ({"anchor_scales": ()}, "anchor_scales of a released checkpoint must be at least one, got none"),
        ({"anchor_scales": (1, -2)}, "anchor_scales must be positive"),
        ({"anchor_scales": (1, 2, 3)}, "does not fit"),
        ({"max_length": 60}, "max_length must be at most 51 on a canvas of 128, got 60"),
        ({"margin": -2.0}, "gap and margin must be at least 0"),
    ],
)
def test_settings_that_do_not_fit_a_checkpoint_are_refused_in_a_line(settings, message):
    with pytest.raises(ConfigError, match=message) as told:
        from_published(state_of(small()), **(READ | settings))
    assert "\n" not in str(told.value)


def test_a_checkpoint_of_another_model_is_not_taken_for_this_one():
    with pytest.raises(ConfigError, match="a released tadtr checkpoint takes no stitch"):
        from_published(published_state("tadtr/small"), stitch=False)
    with pytest.raises(ConfigError, match=r"not a released checkpoint: 'xGPN\.conv0\.0\.weight' is missing"):
        from_published({"xGPN.levels_enc.0.tconv1.weight": torch.zeros(2, 2, 3)})


# Training by the command


@pytest.mark.slow
def test_two_processes_train_as_two_pieces_of_a_batch(tmp_path):
    simulate(tmp_path / "set", draw_annotations(20, 3), lazy=True)
    (tmp_path / "a.yaml").write_text(
        "name: a\noutput: run\n"
        "data: {annotations: set/annotations/unav100_annotations.json, features: set/av_features, kind: i3d-vggish}\n"
        "model: {name: vsgn, width: 16, tower_layers: 1}\n"
        # at a low rate: AdamW turns the rounding of gradients that should be zero into whole steps
        "recipe: {epochs: 2, warmup_epochs: 1, batch_size: 4, learning_rate: 1e-5}\n"
    )

    def run(name: str, *options: str, processes: int = 1) -> Iterator[dict[str, Any]]:
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
        return map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())

    parts = ("class", "regression", "adjustment", "action", "start", "end", "gradient_norm")
    pieces = [line[part] for line in run("pieces", "--set", "compute.accumulate=2") for part in parts]
    assert len(pieces) == 14
    assert [line[part] for line in run("two", processes=2) for part in parts] == pytest.approx(pieces, rel=1e-4)
    whole = [line[part] for line in run("whole") for part in parts[:-1]]
    assert whole == pytest.approx([x for i, x in enumerate(pieces) if i % 7 < 6], rel=0.1)  # not its means to the digit
    network, info, _ = load_model(tmp_path / "two" / "best")
    assert isinstance(network, VSGN)
    assert info.config == network.config
    assert network.config.margin == 1.5
