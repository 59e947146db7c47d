"""`davel data`: everything that is wrong with a data set is told at once, and training refuses it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from davel.core.errors import ConfigError
from davel.data.check import check, fit_grid, suggest_ranges
from davel.data.simulate import draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.data.unav100 import ANNOTATIONS, FEATURES
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.models import CCNetConfig
from davel.models.detector import Truth
from davel.models.targets import REGRESSION_RANGES, assign, points, reached

KEYS = [f"sim0-{i:05d}" for i in range(10)]


@pytest.fixture
def data(tmp_path):
    return simulate(tmp_path / "set", draw_annotations(10, 3))


def change(path, how):
    np.save(path, how(np.load(path)))


def break_six(data) -> dict[str, str]:
    """Break the features of six videos, each in its way; the kind of problem by id."""
    folder = data / FEATURES
    (folder / f"{KEYS[0]}_rgb.npy").unlink()
    (folder / f"{KEYS[1]}_flow.npy").write_bytes((folder / f"{KEYS[1]}_flow.npy").read_bytes()[:999])
    change(folder / f"{KEYS[2]}_rgb.npy", np.transpose)
    change(folder / f"{KEYS[4]}_vggish.npy", lambda x: x[: len(x) // 3])
    for stream in ("rgb", "flow", "vggish"):
        change(folder / f"{KEYS[5]}_{stream}.npy", lambda x: x[::2])
    (folder / f"{KEYS[6]}_flow.npy").write_bytes(b"")
    kinds = ("missing", "unreadable", "shape", "unequal", "length", "unreadable")
    return dict(zip([*KEYS[:3], *KEYS[4:7]], kinds, strict=True))


def not_a_number(data, key: str) -> None:
    def put(x):
        x[3, 7] = np.nan
        return x

    change(data / FEATURES / f"{key}_vggish.npy", put)


def test_a_whole_data_set_has_no_problem(data):
    report = check(data / ANNOTATIONS, data / FEATURES, "i3d-vggish")
    assert report.problems == ()
    assert report.subsets == {"train": 6, "validation": 2, "test": 2}
    assert report.origin == "simulated i3d-vggish features, seed 0"


def test_all_problems_are_told_at_once_by_video(data):
    broken = break_six(data)
    not_a_number(data, KEYS[3])
    report = check(data / ANNOTATIONS, data / FEATURES, "i3d-vggish", workers=2)
    assert {problem.id: problem.kind for problem in report.problems} == {**broken, KEYS[3]: "nan"}
    texts = {problem.id: problem.text for problem in report.problems}
    assert "its axes are the other way round" in texts[KEYS[2]]
    assert "a hop of 0.96 s instead of 0.32 s gives a third" in texts[KEYS[4]]
    assert "half of the frame rate" in texts[KEYS[5]]
    assert "1 values are NaN" in texts[KEYS[3]]


def test_invalid_annotations_are_told_beside_broken_features(data):
    path = data / ANNOTATIONS
    content = json.loads(path.read_text())
    content["database"][KEYS[0]]["annotations"] = [{"segment": [5, 3], "label": "class 0", "label_id": 0}]
    content["database"][KEYS[1]]["duration"] = -1
    path.write_text(json.dumps(content))
    (data / FEATURES / f"{KEYS[2]}_rgb.npy").unlink()
    report = check(path, data / FEATURES, "i3d-vggish")
    assert [(p.id, p.kind) for p in report.problems] == [
        (KEYS[0], "annotation"),
        (KEYS[1], "annotation"),
        (KEYS[2], "missing"),
    ]
    assert report.notes[0] == f"1 videos have no event: {KEYS[0]}"


def test_streams_may_differ_by_a_few_steps_which_is_noted(data):
    change(data / FEATURES / f"{KEYS[0]}_rgb.npy", lambda x: x[:-3])
    report = check(data / ANNOTATIONS, data / FEATURES, "i3d-vggish")
    assert report.problems == ()
    assert "1 videos have streams that differ by up to 3 steps" in report.notes[-1]
    change(data / FEATURES / f"{KEYS[0]}_rgb.npy", lambda x: x[:-1])
    assert check(data / ANNOTATIONS, data / FEATURES, "i3d-vggish").problems[0].kind == "unequal"


def test_training_refuses_what_is_broken_unless_it_may_skip_it(data):
    broken = break_six(data)
    config = DataConfig.unav100(data)
    with pytest.raises(ConfigError, match=r"and 1 more\): see `davel data check`, or set data.skip_broken"):
        config.open(config.annotated().videos)
    dataset = DataConfig.unav100(data, skip_broken=True).open(config.annotated().videos)
    assert set(dataset.skipped) == set(broken)
    assert set(dataset.videos) == set(KEYS) - set(broken)
    for key in dataset.videos:
        dataset.sample(key)
    only = {key: config.annotated().videos[key] for key in broken}
    with pytest.raises(ConfigError, match="no video is left"):
        DataConfig.unav100(data, skip_broken=True).open(only)


def test_the_training_command_tells_what_it_leaves_out(data, run):
    break_six(data)
    small: dict[str, object] = {"model.width": 8, "model.class_width": 4}
    small |= {"recipe.epochs": 2, "recipe.warmup_epochs": 1}
    small |= {"recipe.batch_size": 2, "data.train": "validation", "data.validation": "train", "data.workers": 1}
    train = ("train", "ccnet-i3d", "--data", data, "-o", "out", "--device", "cpu")
    train += tuple(f"--set={key}={value}" for key, value in small.items())
    code, out, err = run(*train)
    assert (code, out) == (4, "")
    assert "see `davel data check`" in err
    code, out, err = run(*train, "--set", "data.skip_broken=true")
    assert code == 0, err
    assert "videos are left out as missing or broken: sim0-0000" in err
    assert json.loads((data.parent / out.strip() / "model.json").read_text())["figures"]["skipped"] > 0


def test_a_nan_that_no_header_tells_stops_whoever_reads_it(data):
    not_a_number(data, KEYS[3])
    config = DataConfig.unav100(data)
    dataset = config.open(config.annotated().videos)
    with pytest.raises(ConfigError, match=f"{KEYS[3]}_vggish.npy: 1 values are NaN"):
        dataset.sample(KEYS[3])


def test_the_command_lists_the_problems_and_ends_with_4(data, run):
    code, out, _ = run("data", "check", data)
    assert code == 0
    assert "nothing is wrong" in out
    assert "simulated i3d-vggish features, seed 0" in out
    break_six(data)
    code, out, _ = run("data", "check", data)
    assert code == 4
    assert "6 problems" in out
    code, out, _ = run("data", "check", data, "--json")
    assert code == 4
    content = json.loads(out)
    assert {problem["id"] for problem in content["problems"]} == {*KEYS[:3], *KEYS[4:7]}
    assert content["grid"]["length"] % 32 == 0
    code, _, err = run("data", "check", data / "nowhere")
    assert code == 4
    assert "there is no such folder" in err


def test_a_set_that_is_drawn_when_read_is_checked_too(tmp_path, run):
    code, out, _ = run("data", "simulate", "lazy", "--lazy", "--videos", 8, "--classes", 2, "--features", "one-peace")
    assert (code, out) == (0, "lazy\n")
    code, out, _ = run("data", "check", "lazy")
    assert code == 0
    assert "8 videos (6 train, 1 validation, 1 test)" in out
    assert "simulated one-peace features, seed 0" in out


def test_given_annotations_are_limited_before_features_are_drawn(data, run):
    code, *_ = run("data", "simulate", "less", "--annotations", data / ANNOTATIONS, "--videos", 3, "--classes", 2)
    assert code == 0
    config = DataConfig.unav100(data.parent / "less")
    assert len(config.annotated().labels) == 2
    assert len(config.annotated().subset("train")) == 3


def segments_of(draw) -> np.ndarray:
    """Segments on a grid of eighths, whose differences are exact in any precision."""
    pairs = draw(st.lists(st.tuples(st.integers(-40, 1500), st.integers(1, 1500)), min_size=1, max_size=5))
    return np.array([(start / 8, (start + length) / 8) for start, length in pairs])


@given(st.data())
def test_an_event_is_reached_if_some_point_is_assigned_to_it(data):
    segments = torch.from_numpy(segments_of(data.draw)).float()
    T = data.draw(st.integers(1, 192))
    position, level = points(T, len(REGRESSION_RANGES))
    found = reached(segments, torch.full((len(segments),), T))
    for segment, ours in zip(segments, found, strict=True):
        truth = Truth(segment[None, None], torch.zeros(1, 1, dtype=torch.long))
        assert bool(ours) == bool(assign(position, level, truth, 1).num_positive)


def test_no_events_are_no_events_reached():
    assert reached(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_an_event_between_two_points_is_not_reached():
    steps = torch.tensor([100, 100])
    assert reached(torch.tensor([[3.1, 3.9], [3.1, 4.1]]), steps).tolist() == [False, True]


def test_a_model_length_holds_the_longest_video():
    videos = draw_annotations(300, 3).videos
    grid = fit_grid(videos, I3D_VGGISH)
    steps = [I3D_VGGISH.timing.num_steps(video.duration) for video in videos.values()]
    assert grid.longest == max(steps)
    assert 0 <= grid.length - max(steps) < 32
    assert grid.length_for_most <= grid.length
    assert np.mean(np.array(steps) <= grid.length_for_most) >= 0.99


def test_a_model_length_is_a_multiple_of_the_models_own_hop():
    videos, longest = draw_annotations(300, 3).videos, fit_grid(draw_annotations(300, 3).videos, I3D_VGGISH).longest
    for num_levels in (3, 6, 8):
        network = CCNetConfig(num_levels=num_levels, max_length=256)
        grid = fit_grid(videos, I3D_VGGISH, network)
        assert grid.length % network.hop == grid.length_for_most % network.hop == 0
        assert 0 <= grid.length - longest < network.hop == 2 ** (num_levels - 1)


def test_durations_like_the_published_ones_need_the_released_ranges():
    assert suggest_ranges(np.linspace(0, 154, 100)) == REGRESSION_RANGES
    assert suggest_ranges(np.zeros(0)) == REGRESSION_RANGES


@given(st.floats(1, 10000), st.integers(2, 8))
def test_suggested_ranges_double_and_leave_no_gap(longest, levels):
    ranges = suggest_ranges(np.linspace(0, longest, 50), levels)
    assert len(ranges) == levels
    assert ranges[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert all(high == 2 * low for low, high in ranges[1:-1])
    assert all(low < high for low, high in ranges)
