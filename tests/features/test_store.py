"""Features in a folder: whole, kept as long as they are true, and no longer."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from media_files import make_media
from safetensors.numpy import save_file

from davel.core.errors import ConfigError
from davel.core.events import EventList, Video
from davel.data.sources import open_features, open_videos
from davel.features import batch, light
from davel.features.family import family
from davel.features.light import SPEC
from davel.features.reading import Settings, extract
from davel.features.store import FeatureStore, Missing, Ready, Stale, cache_key

LIGHT = Settings.named("light")


def annotated(*keys: str) -> dict[str, Video]:
    none = EventList.of([], ("bark",))
    return {key: Video(key, none, duration=4.0, subset="train") for key in keys}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("clip") / "a.mkv", seconds=4)


@pytest.fixture
def store(clip, tmp_path):
    """A folder that has the clip's features."""
    store = FeatureStore(tmp_path / "out")
    store.extracted(clip, "a", LIGHT)
    return store


def change(store: FeatureStore, **values: object) -> None:
    """Write other facts into the description of `a`."""
    facts = json.loads(store.described("a").read_text())
    store.described("a").write_text(json.dumps(facts | values))


def test_features_come_back_as_they_were_made(clip, store):
    made, again = extract(clip), store.read("a")
    np.testing.assert_array_equal(again.visual, made.visual)
    np.testing.assert_array_equal(again.audio, made.audio)
    assert (again.spec, again.info, again.coverage) == (made.spec, made.info, made.coverage)


def test_what_is_there_is_ready_and_what_is_not_is_missing(clip, store):
    assert store.status("a", LIGHT, clip) == Ready()
    assert store.status("a", LIGHT) == Ready()
    assert store.status("b", LIGHT, clip) == Missing()


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"spec": SPEC.to_dict() | {"version": 99}}, "version is 99 in these but 1 in what is asked for"),
        ({"spec": SPEC.to_dict() | {"colours": "bt601"}}, "colours is 'bt601' in these"),
        ({"spec": SPEC.to_dict() | {"smell_dim": 3}}, "was written by a newer one"),
        ({"made_with": {"precision": "bfloat16", "weights": {}}}, "precision was bfloat16"),
        ({"source": [1, 2]}, "the file has changed"),
        ({"spec": None}, "damaged"),
        ({"schema": "davel.other/1"}, "not a description of features"),
    ],
)
def test_what_would_be_made_otherwise_is_stale_and_says_why(clip, store, values, why):
    change(store, **values)
    status = store.status("a", LIGHT, clip)
    assert isinstance(status, Stale)
    assert why in status.why


def test_weights_of_other_families_change_nothing(clip, store):
    change(store, made_with={"precision": "float32", "weights": {"raft": "0" * 64, "clip": "1" * 64}})
    assert store.status("a", LIGHT, clip) == Ready()


def test_an_option_with_a_default_that_a_family_has_got_since_changes_nothing(clip, store, monkeypatch):
    newer = replace(light.FAMILY, Options=NewOptions, spec=SPEC.with_options(sharpness=3))
    monkeypatch.setattr(light, "FAMILY", newer)
    settings = Settings.named("light")
    assert settings.spec.options == {"sharpness": 3}
    store = FeatureStore(store.folder)
    assert store.status("a", settings, clip) == Ready()
    assert isinstance(store.status("a", Settings.named("light", sharpness=4), clip), Stale)


@dataclass(frozen=True)
class NewOptions:
    """As a later version of a family may have."""

    sharpness: int = 3


def test_a_stream_that_is_gone_makes_the_rest_stale(clip, store):
    family("light").path(store.folder, "a", "light-audio").unlink()
    assert store.status("a", LIGHT, clip) == Stale("the stream 'light-audio' is missing")
    with pytest.raises(ConfigError, match=r"damaged features \(a_light-audio\.npy: is missing\): delete"):
        store.read("a")


def test_a_file_that_was_only_touched_or_copied_is_the_same(tmp_path, store, clip):
    copy = tmp_path / "a.mkv"
    copy.write_bytes(clip.read_bytes())
    os.utime(copy, (1, 1))
    assert store.status("a", LIGHT, copy) == Ready()
    make_media(copy, seconds=2)
    assert store.status("a", LIGHT, copy) == Stale("the file has changed")
    assert len(store.extracted(copy, "a", LIGHT)) == 4


def test_a_damaged_description_is_refused_by_name_and_made_again(clip, store):
    before = store.read("a")
    for content in ("", "nonsense", "[]", "null", "{}"):
        store.described("a").write_text(content)
        with pytest.raises(ConfigError, match=r"a\.features\.json: "):
            store.read("a")
        np.testing.assert_array_equal(store.extracted(clip, "a", LIGHT).visual, before.visual)


def bundle(store: FeatureStore, clip: Path, path: Path) -> None:
    """As training kept features before 0.2."""
    features = extract(clip)
    facts = json.loads(store.described("a").read_text())
    kept = {name: facts[name] for name in ("schema", "spec", "info", "coverage", "lengths", "source")}
    path.parent.mkdir(exist_ok=True)
    save_file({"visual": features.visual, "audio": features.audio}, path, metadata={"davel": json.dumps(kept)})


def test_what_training_kept_before_is_read_and_not_made_again(clip, store, tmp_path):
    key = cache_key(clip, "light")
    bundle(store, clip, tmp_path / "cache" / f"{key}.safetensors")
    cache = FeatureStore(tmp_path / "cache")
    assert cache.status(key, LIGHT, clip) == Ready()
    np.testing.assert_array_equal(cache.read(key).audio, store.read("a").audio)
    opened = open_videos(annotated("a"), clip.parent, tmp_path / "cache", workers=1)
    np.testing.assert_array_equal(opened.read("a")[0], store.read("a").visual)
    assert [path.name for path in cache.folder.iterdir()] == [f"{key}.safetensors"]
    from_there = open_features(annotated("a"), cache.folder, tmp_path / "none.json")
    np.testing.assert_array_equal(from_there.read("a")[0], store.read("a").visual)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100])
def test_a_damaged_file_of_before_is_refused_and_made_again(clip, tmp_path, content):
    cache, key = FeatureStore(tmp_path), cache_key(clip, "light")
    cache.bundle(key).write_bytes(content)
    with pytest.raises(ConfigError, match="not a davel feature file, or a damaged one: delete it"):
        cache.read(key)
    assert len(cache.extracted(clip, key, LIGHT)) == 10


def test_training_reads_what_was_extracted(clip, store, tmp_path):
    dataset = open_features(annotated("a"), store.folder, tmp_path / "none.json")
    assert dataset.spec == SPEC
    np.testing.assert_array_equal(dataset.read("a")[0], store.read("a").visual)
    with pytest.raises(ConfigError, match="holds light features, not i3d-vggish"):
        open_features(annotated("a"), store.folder, tmp_path / "none.json", "i3d-vggish")


def test_features_of_several_origins_are_refused(store, tmp_path):
    for stream in light.FAMILY.streams:
        path = light.FAMILY.path(store.folder, "b", stream)
        path.write_bytes(light.FAMILY.path(store.folder, "a", stream).read_bytes())
    with pytest.raises(ConfigError, match="keep features of one origin together"):
        open_features(annotated("a", "b"), store.folder, tmp_path / "none.json")


def test_kept_features_are_used_until_the_file_changes(tmp_path, monkeypatch):
    path = make_media(tmp_path / "a.mkv", seconds=2)
    calls = []
    real = FeatureStore.write
    monkeypatch.setattr(FeatureStore, "write", lambda *a: calls.append(a) or real(*a))
    for store_calls, touched in ((1, None), (1, None), (2, 4)):
        if touched:
            make_media(path, seconds=touched)
        FeatureStore(tmp_path / "cache").extracted(path, cache_key(path, "light"), LIGHT)
        assert len(calls) == store_calls


def test_a_long_name_in_any_script_can_be_kept(tmp_path):
    path = make_media(tmp_path / f"{'音' * 80}.mkv", seconds=1.5)
    cache, key = FeatureStore(tmp_path / "cache"), cache_key(path, "light")
    cache.extracted(path, key, LIGHT)
    assert cache.status(key, LIGHT, path) == Ready()


def test_files_of_one_name_in_two_folders_are_kept_apart(tmp_path):
    here, there = tmp_path / "x" / "a.mp4", tmp_path / "y" / "a.mp4"
    assert cache_key(here, "light") != cache_key(there, "light")


def test_a_cache_that_cannot_be_a_folder_is_refused(clip, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(ConfigError, match="cannot make this folder: File exists: name another"):
        open_videos(annotated("a"), clip.parent, tmp_path / "cache")


def _die(*_: object, **__: object) -> None:
    os._exit(1)  # as a decoder does that breaks memory


def test_a_file_at_which_processes_die_is_told(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "run_job", _die)
    with pytest.raises(ConfigError, match="the process ended that worked on it"):
        open_videos(annotated("a"), clip.parent, tmp_path / "cache", workers=1)


def test_one_bad_file_of_many_does_not_stop_the_others(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in "ab":
        make_media(videos / f"{name}.mkv", seconds=1.5)
    (videos / "bad.mkv").write_bytes(b"nothing")
    told = []
    opened = open_videos(
        annotated("a", "b", "bad"),
        videos,
        tmp_path / "cache",
        workers=2,
        report=lambda *x: told.append(x),
        skip_broken=True,
    )
    assert list(opened.videos) == ["a", "b"]
    assert opened.skipped == ("bad",)
    assert told[-1][:3] == ("extract", 3, 3)
