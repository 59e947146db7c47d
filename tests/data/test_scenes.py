from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from davel.core.errors import ConfigError
from davel.data.scenes.classes import CLASSES
from davel.data.scenes.render import (
    FPS,
    LABELS,
    MARGIN_SECONDS,
    Element,
    Scene,
    draw_frames,
    make_sound,
    plan_scene,
    render_scene,
    render_scenes,
)
from davel.formats import read_annotations
from davel.media import probe

SCENES = [plan_scene(7, index) for index in range(600)]


def element(label_id: int, start: float, end: float, **more) -> Element:
    fixed = {"centre": (160.0, 120.0), "radius": 38.0, "hue": 0.0, "light": 1.0, "pitch": 1.0, "tempo": 1.0}
    return Element(label_id=label_id, start=start, end=end, level=0.1, noise_seed=1, **(fixed | more))


def scene(*elements: Element, duration: float = 3.0) -> Scene:
    return Scene(
        id="s",
        duration=duration,
        elements=elements,
        sample_rate=16000,
        background_level=0.005,
        sensor_noise=1.0,
        seed=(1, 2),
    )


def test_a_seed_and_a_number_make_one_scene():
    assert plan_scene(3, 4) == plan_scene(3, 4)
    assert plan_scene(3, 4) != plan_scene(3, 5)
    assert plan_scene(3, 4) != plan_scene(4, 4)


def test_there_are_2_8_events_and_as_many_decoys_in_a_scene():
    assert np.mean([len(s.events) for s in SCENES]) == pytest.approx(2.8, abs=0.15)
    assert all(len(s.events) == len(s.decoys) >= 1 for s in SCENES)
    kinds = [e.seen for s in SCENES for e in s.decoys]
    assert np.mean(kinds) == pytest.approx(0.5, abs=0.05)


def test_durations_are_mixed_as_in_unav_100():
    lengths = np.array([e.end - e.start for s in SCENES for e in s.events])
    assert np.mean(lengths <= 5) == pytest.approx(0.44, abs=0.04)
    assert np.mean((lengths > 5) & (lengths <= 20)) == pytest.approx(0.30, abs=0.04)
    assert np.mean(lengths > 20) == pytest.approx(0.26, abs=0.04)
    assert lengths.min() > 0.9


def test_scenes_last_20_to_60_seconds_and_hold_their_elements():
    for s in SCENES:
        assert 20 <= s.duration <= 60
        assert all(0 <= e.start < e.end <= s.duration + 1e-9 for e in s.elements)


def test_two_things_of_a_class_keep_apart_and_different_ones_may_overlap():
    overlaps = 0
    for s in SCENES:
        for i, a in enumerate(s.elements):
            for b in s.elements[:i]:
                gap = max(a.start - b.end, b.start - a.end)
                overlaps += gap < 0
                assert a.label_id != b.label_id or gap >= MARGIN_SECONDS - 1e-9
    assert overlaps > 100


def test_every_class_happens():
    assert {e.label_id for s in SCENES for e in s.events} == set(range(len(CLASSES)))
    assert len(set(LABELS)) == len(LABELS) >= 10


@pytest.mark.parametrize("label_id", range(len(CLASSES)), ids=LABELS)
def test_an_element_is_seen_and_heard_throughout_its_time_and_at_no_other(label_id):
    happening = scene(element(label_id, 0.4, 2.2))
    pictures = np.stack(list(draw_frames(happening))).astype(int)
    empty = np.stack(list(draw_frames(replace(happening, elements=())))).astype(int)
    differs = np.abs(pictures - empty).max((1, 2, 3)) > 40
    assert np.flatnonzero(differs).tolist() == list(range(10, 55))  # frames at 0.4 s to 2.2 s

    rate = happening.sample_rate
    sound = make_sound(happening) - make_sound(replace(happening, elements=()))
    loud = np.abs(sound[: len(sound) // 800 * 800]).reshape(-1, 800).max(1) > 0.02  # every 50 ms
    assert not loud[: int(0.4 * 20)].any()
    assert not loud[int(2.2 * 20) :].any()
    heard = np.flatnonzero(loud) / 20
    assert heard[0] <= 0.45
    assert heard[-1] >= 1.75
    assert np.diff(heard).max() < 0.5
    assert np.sqrt(np.mean(sound[int(0.4 * rate) : int(2.2 * rate)] ** 2)) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("label_id", range(len(CLASSES)), ids=LABELS)
def test_an_element_moves_or_changes_all_the_time(label_id):
    pictures = np.stack(list(draw_frames(replace(scene(element(label_id, 0, 3)), sensor_noise=0.01)))).astype(int)
    change = np.abs(np.diff(pictures, axis=0)).max((1, 2, 3)) > 30
    still = np.diff(np.concatenate([[-1], np.flatnonzero(change), [len(change)]])) / FPS
    assert still.max() <= 0.33


def test_a_seen_decoy_makes_no_sound_and_a_heard_one_no_picture():
    nothing = scene()
    seen = scene(element(2, 0.5, 2, heard=False))
    heard = scene(element(2, 0.5, 2, seen=False))
    assert (make_sound(seen) == make_sound(nothing)).all()
    assert not (make_sound(heard) == make_sound(nothing)).all()
    pictures = {name: np.stack(list(draw_frames(s))) for name, s in (("no", nothing), ("seen", seen), ("heard", heard))}
    assert (pictures["heard"] == pictures["no"]).all()
    assert not (pictures["seen"] == pictures["no"]).all()


def test_a_rendered_scene_is_a_media_file_of_the_stated_length(tmp_path):
    short = scene(element(0, 0.5, 2), duration=2.6)
    render_scene(short, tmp_path / "a.mp4")
    info = probe(tmp_path / "a.mp4")
    assert info.video is not None
    assert info.audio is not None
    assert (info.video.codec, info.audio.codec) == ("h264", "aac")
    assert info.duration_seconds == pytest.approx(2.6, abs=0.05)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same two scenes, rendered by one process and by two."""
    short = [replace(plan_scene(5, i), duration=3.0, elements=()) for i in range(2)]
    plan = {(s.seed): s for s in short}
    out = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("davel.data.scenes.render.plan_scene", lambda seed, index: plan[seed, index])
        render_scenes(out / "one", num_videos=2, seed=5, workers=1)
        told = []

        def report(step, done, total, note=""):
            told.append((done, total))

        render_scenes(out / "two", num_videos=2, seed=5, workers=2, report=report)
    return out


def test_the_same_seed_makes_the_same_bytes_however_many_workers(folders):
    names = sorted(path.name for path in (folders / "one" / "videos").iterdir())
    assert names == ["scene-5-00000.mp4", "scene-5-00001.mp4"]
    contents = {name: (folders / "one" / "videos" / name).read_bytes() for name in names}
    assert contents == {name: (folders / "two" / "videos" / name).read_bytes() for name in names}
    assert contents[names[0]] != contents[names[1]]


def test_annotations_are_in_unav_100s_schema(tmp_path, monkeypatch):
    monkeypatch.setattr("davel.data.scenes.render.render_scene", lambda scene, path: None)
    path = render_scenes(tmp_path, num_videos=20, seed=7, workers=1)
    annotations = read_annotations(path)
    assert annotations.labels == LABELS
    assert [len(annotations.subset(name)) for name in ("train", "validation", "test")] == [16, 2, 2]
    entry = json.loads(path.read_text())["database"]["scene-7-00003"]
    planned = plan_scene(7, 3)
    assert entry["duration"] == planned.duration
    assert [e["segment"] for e in entry["annotations"]] == [[e.start, e.end] for e in planned.events]
    assert {e["kind"] for e in entry["decoys"]} <= {"seen", "heard"}
    assert set(annotations.subset("test")) == {"scene-7-00009", "scene-7-00019"}


@pytest.mark.parametrize("wrong", [{"num_videos": 0}, {"seed": -1}, {"subset": "exam"}])
def test_what_cannot_be_rendered_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="scenes need num_videos >= 1"):
        render_scenes(tmp_path, **({"num_videos": 1, "seed": 0} | wrong))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: cannot make this folder"):
        render_scenes(tmp_path / "file", num_videos=1, seed=0)
