"""Videos of any length: a network sees them in windows, and nobody can tell from the events."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import davel
from davel.core.events import EventList
from davel.core.timeline import Timing
from davel.data.scenes.render import plan_scene, render_scene
from davel.detection import DecodeSettings, decode
from davel.detection.decode import WindowDecoder
from davel.detection.windows import View, Windows, find_events, latency, stretches, views
from davel.features.reading import extract
from davel.models import CCNet, CCNetConfig, Outputs

CONFIG = CCNetConfig(num_classes=3, visual_dim=8, audio_dim=6, width=16, class_width=8, max_length=64)
TIMING = Timing(25, 8, 24)


def network(config: CCNetConfig = CONFIG) -> CCNet:
    torch.manual_seed(0)
    return CCNet(config).eval()


def steps(T: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dims = (CONFIG.visual_dim, CONFIG.audio_dim)
    visual, audio = (torch.randn(T, dim, generator=generator) for dim in dims)
    return visual, audio


def logits(view: View, level: int) -> torch.Tensor:
    assert isinstance(view.outputs, Outputs)
    return view.outputs.logits[level]


def push(decoder: WindowDecoder, view: View) -> EventList:
    return decoder.push(view.outputs, view.start, view.middle, view.is_last)


def in_pieces(video: tuple[torch.Tensor, torch.Tensor], size: int):
    return list(zip(*(x.split(size) for x in video), strict=True))


@pytest.mark.parametrize("T", [1, 31, 64, 65, 96, 97, 200])
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_the_middles_of_the_windows_cover_the_video(T, size):
    parts = list(views(network(), in_pieces(steps(T), size)))
    assert parts[0].middle[0] == 0
    assert parts[-1].middle[1] == T
    assert all(a.middle[1] == b.middle[0] for a, b in pairwise(parts))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    for part in parts:
        n = logits(part, 0).shape[1]
        assert part.start <= part.middle[0] < part.middle[1] <= part.start + n
        assert part.curves()["gate from audio"].shape == (part.middle[1] - part.middle[0],)


@torch.inference_mode()
def test_a_view_is_what_the_network_says_of_its_window():
    model, (visual, audio) = network(), steps(150)
    parts = list(views(model, [(visual, audio)]))
    assert [(part.start, part.middle) for part in parts] == [
        (0, (0, 48)),
        (32, (48, 80)),
        (64, (80, 112)),
        (96, (112, 150)),
    ]
    second = model(visual[None, 32:96], audio[None, 32:96], torch.ones(1, 64, dtype=torch.bool))
    assert torch.equal(logits(parts[1], 2), second.logits[2])
    assert np.array_equal(parts[1].curves()["gate from visual"], second.gates["visual"][0][0, 16:48].numpy())
    last = model(visual[None, 96:], audio[None, 96:], torch.ones(1, 54, dtype=torch.bool))
    assert torch.equal(logits(parts[-1], 0), last.logits[0])


@given(st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_pieces_of_any_size_give_the_same(sizes):
    video, model = steps(sum(sizes)), network()
    whole = list(views(model, [video]))
    pieces = list(views(model, zip(*(x.split(sizes) for x in video), strict=True)))
    for a, b in zip(whole, pieces, strict=True):
        assert (a.start, a.middle) == (b.start, b.middle)
        assert torch.equal(logits(a, 0), logits(b, 0))


def outputs_with(T: int, points: dict[tuple[int, int], tuple[float, float]]) -> Outputs:
    """Of one class, sure at (level, point) of an event from so many steps before the point to so many after."""
    logits = [torch.full((1, math.ceil(T / 2**level), 1), -20.0) for level in range(6)]
    offsets = [torch.zeros(1, math.ceil(T / 2**level), 1, 2) for level in range(6)]
    for (level, point), reach in points.items():
        logits[level][0, point, 0] = 3.0
        offsets[level][0, point, 0] = torch.tensor(reach) / 2**level
    return Outputs(logits, offsets, {"visual": [], "audio": []})


def test_an_event_counts_where_it_lies_in_the_windows_middle():
    decoder = WindowDecoder(TIMING, ("a",), 64, 32)
    # from step 60 to 80, proposed by its own middle and by points near its start, in windows that see it well or badly
    ended_by_the_window = outputs_with(64, {(0, 62): (2.0, 9.0)})  # 60-71
    seen_whole = outputs_with(64, {(0, 30): (2.0, 18.0), (1, 19): (10.0, 10.0)})
    begun_by_the_window = outputs_with(64, {(0, 4): (8.0, 12.0)})  # 60-80 by chance, too far
    assert len(decoder.push(ended_by_the_window, 0, (0, 48), False)) == 0
    assert len(decoder.push(seen_whole, 32, (48, 80), False)) == 0
    [event] = decoder.push(begun_by_the_window, 64, (80, 128), True).above(0.5)
    assert (event.start, event.end) == pytest.approx(TIMING.seconds(np.array([60.0, 80.0])))


def test_an_event_between_two_windows_comes_once():
    for middle in (44.0, 47.9, 48.0, 52.0):
        decoder = WindowDecoder(TIMING, ("a",), 64, 32)
        point = round(middle)
        reach = (10.0 + point - middle, 10.0 - point + middle)
        early = decoder.push(outputs_with(64, {(0, point): reach}), 0, (0, 48), False)
        late = decoder.push(outputs_with(64, {(0, point - 32): reach}), 32, (48, 96), True)
        assert len(early.above(0.5)) + len(late.above(0.5)) == 1


def test_two_windows_of_steps_are_kept_at_most():
    windows = Windows(network())
    for piece in in_pieces(steps(1000), 5):
        for _ in windows.push(*piece):
            pass
        assert len(windows.visual) <= 2 * CONFIG.max_length
    assert len(list(windows.finish())) == 1


def test_no_steps_give_nothing():
    assert list(views(network(), [])) == []
    assert len(find_events(network(), [], TIMING, ("a", "b", "c")).events) == 0


@pytest.mark.parametrize("T", [40, 64])
def test_a_video_of_one_window_has_the_events_of_one_decoding(T):
    model, (visual, audio) = network(), steps(T)
    mask = torch.ones(1, T, dtype=torch.bool)
    with torch.inference_mode():
        outputs = model(visual[None], audio[None], mask)
    labels = ("a", "b", "c")
    (expected,) = decode(outputs, mask, TIMING, 1000.0, labels=labels)
    found = find_events(model, [(visual, audio)], TIMING, labels).events
    np.testing.assert_array_equal(found.segments, expected.segments)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_each_stretch_may_have_as_many_events_as_a_video():
    decoder = WindowDecoder(TIMING, ("a", "b", "c"), 64, 32, replace(DecodeSettings(), min_score=0.0))
    found = []
    for part in views(network(), [steps(400)]):
        found.append(push(decoder, part))
        assert len(decoder.open) <= 5
    assert sum(map(len, found)) > 100


def test_after_days_times_are_as_exact_as_at_the_beginning():
    late = 32 * 10**6  # steps: 119 days
    decoder = WindowDecoder(TIMING, ("a",), 64, 32)
    decoder.settled = decoder.known = late
    outputs = outputs_with(64, {(0, 30): (10.25, 10.3125)})
    (event,) = decoder.push(outputs, late, (late, late + 64), True).above(0.5)
    expected = TIMING.seconds(late + np.array([19.75, 40.3125]))
    assert (event.start, event.end) == pytest.approx(tuple(expected), abs=1e-6)


def test_all_events_are_those_of_all_stretches_best_first():
    model, video, labels = network(), steps(400), ("a", "b", "c")
    whole = find_events(model, [video], TIMING, labels)
    parts = list(stretches(model, [video], TIMING, labels))
    assert sorted(map(repr, whole.events)) == sorted(repr(e) for part in parts for e in part.events)
    assert (np.diff(whole.events.scores) <= 0).all()
    assert whole.curves["gate from audio"].values.shape == (400,)


@given(st.integers(1, 300), st.integers(4, 40))
@example(200, 1)
def test_events_are_certain_after_the_latency_at_the_latest(T, size):
    model, labels, now = network(), ("a", "b", "c"), 0

    def coming():
        nonlocal now
        for visual, audio in in_pieces(steps(T), size):
            now += len(visual)
            yield visual, audio

    most = latency(model, TIMING)
    for found in stretches(model, coming(), TIMING, labels):
        for event in found.events:
            middle = (event.start + event.end) / 2
            assert now <= TIMING.steps(np.array(middle + most)) + size


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """The features of eight scenes, one behind the other, and the model that knows such scenes."""
    folder: Path = tmp_path_factory.mktemp("scenes")
    parts = []
    for seed in range(8):
        path = folder / f"{seed}.mp4"
        render_scene(plan_scene(900, seed), path)
        parts.append(extract(path))
    visual, audio = (np.concatenate([getattr(p, name) for p in parts]) for name in ("visual", "audio"))
    return davel.load("scenes"), torch.from_numpy(visual), torch.from_numpy(audio)


def found_in(localizer: davel.Localizer, visual: torch.Tensor, audio: torch.Tensor) -> EventList:
    timing = localizer.info.features.timing
    return find_events(localizer.model, [(visual, audio)], timing, localizer.info.labels).events.above(0.4)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [32, 64, 160])
def test_events_are_the_same_wherever_the_windows_fall(long_video, shift):
    localizer, visual, audio = long_video
    assert len(visual) > 2 * localizer.model.config.max_length
    overlap = localizer.model.config.max_length // 2 * localizer.info.features.step_seconds
    plain = found_in(localizer, visual, audio)
    quiet = visual[:1].expand(shift, -1), audio[:1].expand(shift, -1)
    later = found_in(localizer, torch.cat([quiet[0], visual]), torch.cat([quiet[1], audio]))
    offset, step = shift * localizer.info.features.step_seconds, localizer.info.features.step_seconds
    inner = [e for e in plain if e.start > 5 and e.duration < overlap and e.score > 0.45]
    assert len(inner) >= 8
    for event in inner:
        twins = [
            e
            for e in later
            if e.label == event.label
            and abs(e.start - offset - event.start) <= step
            and abs(e.end - offset - event.end) <= step
        ]
        assert len(twins) == 1, event


def test_a_window_begins_at_every_step_of_the_coarsest_level():
    windows = Windows(network())
    starts = [view.start for view in (*windows.push(*steps(230)), *windows.finish())]
    assert starts == [0, 32, 64, 96, 128, 160, 192]
