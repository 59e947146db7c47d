"""Simulated features: the same for the same video and seed, in UnAV-100's files, with events in both modalities."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel.core.annotations import Annotations
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList
from davel.data.simulate import Simulation, bytes_of, draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.data.unav100 import ANNOTATIONS, FEATURES
from davel.features.family import FAMILIES, family
from davel.formats import read_annotations, write_annotations

SIMULATION = Simulation(num_classes=4, seed=5)
LABELS = ("a", "b", "c", "d")


def annotated(duration: float, *events: Event, id: str = "v"):
    video = next(iter(draw_annotations(1, 4).videos.values()))
    none = EventList.of([], LABELS)
    return replace(video, id=id, duration=duration, events=EventList.of(events, LABELS), decoys=none)


def strength(x, signature, start, end):
    """What of a signature the steps of some seconds have more than the others."""
    at = np.arange(len(x)) * 0.32 + 0.48
    inside = (at > start) & (at < end)
    along = x @ signature
    return along[inside].mean() - along[~inside].mean()


def test_a_video_is_drawn_alike_whenever_and_in_whatever_order_it_is_drawn():
    videos = list(draw_annotations(4, 4).videos.values())
    forward = [SIMULATION.draw(video) for video in videos]
    backward = [Simulation(num_classes=4, seed=5).draw(video) for video in reversed(videos)][::-1]
    for ours, theirs in zip(forward, backward, strict=True):
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    other = replace(SIMULATION, seed=6).draw(videos[0])
    assert not np.allclose(other[0], forward[0][0])
    assert not np.allclose(forward[0][0][:20], forward[1][0][:20])


def test_an_event_shows_in_both_modalities_and_a_decoy_in_one():
    quiet = replace(SIMULATION, variation=0.0, decoys=0.0)
    visual, audio = quiet.draw(annotated(40, Event("b", 10, 20)))
    for x, modality in ((visual, "visual"), (audio, "audio")):
        assert strength(x, quiet.signatures[modality][1], 10, 20) == pytest.approx(quiet.strength, abs=2)
    several = replace(SIMULATION, variation=0.0, decoys=3.0)
    for i in range(20):
        video = annotated(40, id=f"v{i}")
        seen, heard = several._decoys(video, np.random.default_rng(i))
        assert not set(seen.label_ids) & set(heard.label_ids)
    seen, heard = several._decoys(annotated(40, *(Event(label, 1, 2) for label in LABELS)), np.random.default_rng(0))
    assert len(seen) == len(heard) == 0  # a decoy of a class that happens might be an event


def test_neighbours_are_closer_than_others():
    simulation = Simulation(num_classes=12, seed=1)
    for signatures in simulation.signatures.values():
        likeness = np.abs(signatures @ signatures.T - np.eye(12))
        assert ((likeness > 0.3).sum(1) == simulation.neighbours - 1).all()


@pytest.mark.parametrize(
    ("kind", "steps", "dims"), [("i3d-vggish", 123, (2048, 128)), ("one-peace", 157, (1536, 1536))]
)
def test_sizes_and_steps_are_those_of_the_real_extraction(kind, steps, dims):
    visual, audio = Simulation(features=kind, num_classes=4).draw(annotated(40))
    assert (visual.shape, audio.shape) == ((steps, dims[0]), (steps, dims[1]))


def test_steps_whose_windows_overlap_are_alike():
    visual, _ = replace(SIMULATION, strength=0.0).draw(annotated(60))
    x = visual - visual.mean(0)
    likeness = [float((x[k:] * x[: len(x) - k]).mean() / x.var()) for k in (1, 2, 3)]
    assert likeness == pytest.approx([2 / 3, 1 / 3, 0], abs=0.05)


@pytest.mark.parametrize("kind", FAMILIES)
def test_features_are_the_same_on_disk_as_when_drawn(tmp_path, kind):
    annotations = draw_annotations(6, 4)
    told = []
    for name, lazy in (("disk", False), ("lazy", True)):
        simulate(tmp_path / name, annotations, features=kind, lazy=lazy, report=lambda *x: told.append(x))
    assert told == [("simulate", i + 1, 6, key) for i, key in enumerate(annotations.videos)]
    files = list((tmp_path / "disk" / FEATURES).glob("*.npy"))
    assert len(files) == 6 * len(family(kind).streams)
    assert sum(np.load(path).nbytes for path in files) == bytes_of(annotations, kind)
    assert not list((tmp_path / "lazy" / FEATURES).glob("*.npy"))
    configs = [DataConfig.unav100(tmp_path / name) for name in ("disk", "lazy")]
    disk, drawn = (config.open(config.annotated().videos) for config in configs)
    for key in annotations.videos:
        for a, b in zip(disk.read(key), drawn.read(key), strict=True):
            np.testing.assert_array_equal(a, b)
    assert disk.origin == drawn.origin == f"simulated {kind} features, seed 0"


def test_ids_may_name_folders_within_and_none_without(tmp_path):
    drawn = [replace(video, id=f"cam{i}/0001") for i, video in enumerate(draw_annotations(2, 3).videos.values())]
    annotations = Annotations.of(draw_annotations(2, 3).labels, {video.id: video for video in drawn})
    simulate(tmp_path / "a", annotations)
    config = DataConfig.unav100(tmp_path / "a")
    dataset = config.open(config.annotated().videos)
    assert sorted(dataset.videos) == ["cam0/0001", "cam1/0001"]
    assert len(dataset.read("cam0/0001")[0]) != len(dataset.read("cam1/0001")[0])
    out = replace(drawn[0], id="../out")
    with pytest.raises(ConfigError, match=r"^\.\./out: leads out of the folder of features"):
        simulate(tmp_path / "b", Annotations.of(annotations.labels, {out.id: out}))
    assert not (tmp_path / "b").exists()


def test_nothing_is_written_over(tmp_path):
    annotations = draw_annotations(2, 2)
    simulate(tmp_path, annotations)
    with pytest.raises(ConfigError, match="is not empty"):
        simulate(tmp_path, annotations)


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ConfigError, match=r"need 0\.0 GB, the disk has 0\.0 GB"):
        simulate(tmp_path / "a", draw_annotations(2, 2))
    assert not list((tmp_path / "a").rglob("*.*"))
    simulate(tmp_path / "b", draw_annotations(2, 2), lazy=True)


def test_a_damaged_marker_is_refused(tmp_path):
    simulate(tmp_path, draw_annotations(2, 2), lazy=True)
    marker = tmp_path / FEATURES / "simulated.json"
    marker.write_text(marker.read_text().replace("strength", "strenght"))
    with pytest.raises(ConfigError, match=r"strenght: unknown key; .*did you mean 'strength'"):
        DataConfig.unav100(tmp_path)
    marker.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        DataConfig.unav100(tmp_path)


def test_another_kind_of_features_is_refused(tmp_path):
    simulate(tmp_path, draw_annotations(2, 2), lazy=True)
    with pytest.raises(ConfigError, match="holds simulated i3d-vggish features, not one-peace"):
        DataConfig.unav100(tmp_path, "one-peace")


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 99))
def test_annotations_are_read_as_they_were_written(tmp_path_factory, videos, classes, seed):
    annotations = draw_annotations(videos, classes, seed)
    path = tmp_path_factory.mktemp("a") / ANNOTATIONS.name
    write_annotations(path, annotations)
    read = read_annotations(path)
    assert read.labels == annotations.labels
    assert list(read.videos) == list(annotations.videos)
    for ours, theirs in zip(read.videos.values(), annotations.videos.values(), strict=True):
        assert (ours.duration, ours.subset) == (theirs.duration, theirs.subset)
        np.testing.assert_allclose(ours.events.segments, theirs.events.segments, atol=1e-6)
        np.testing.assert_array_equal(ours.events.label_ids, theirs.events.label_ids)


@given(st.integers(1, 8), st.integers(1, 40))
def test_limited_annotations_keep_the_classes_with_most_events_and_the_first_videos(classes, videos):
    whole = draw_annotations(50, 6, seed=2)
    part = whole.limited(classes, videos)
    counts = {label: sum(e.label == label for v in whole.videos.values() for e in v.events) for label in whole.labels}
    assert len(part.labels) == min(classes, 6)
    assert min(counts[label] for label in part.labels) >= max(
        [counts[label] for label in whole.labels if label not in part.labels], default=0
    )
    for key, video in part.videos.items():
        expected = [e for e in whole.videos[key].events if e.label in part.labels]
        assert list(video.events) == expected
    assert sum(v.subset == "train" for v in part.videos.values()) <= videos
    assert sum(v.subset == "test" for v in part.videos.values()) <= -(-videos // 3)


def test_unlimited_annotations_are_all_of_them():
    whole = draw_annotations(10, 3)
    same = whole.limited(None, None)
    assert isinstance(same, Annotations)
    assert same.videos == whole.videos
