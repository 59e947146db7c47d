"""Features of files: in step, refused where they do not fit, kept as long as they are true."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from media_files import make_media, tone
from safetensors.numpy import save_file

from davel.core.errors import ConfigError, MediaError
from davel.core.timeline import Timing
from davel.features import store
from davel.features.light import SPEC
from davel.features.reading import Features, extract
from davel.features.spec import FeatureSpec


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("clip") / "a.mkv", seconds=4)


@pytest.fixture(scope="module")
def features(clip):
    return extract(clip)


def test_both_sequences_are_in_step(features):
    assert features.visual.shape == (10, SPEC.visual_dim)  # (100 - 25) // 8 + 1
    assert features.audio.shape == (10, SPEC.audio_dim)
    assert np.isfinite(features.visual).all()
    assert np.isfinite(features.audio).all()


def test_what_only_the_longer_track_has_is_left_out(tmp_path):
    features = extract(make_media(tmp_path / "a.mkv", seconds=4, samples=tone(2, 16000)))
    assert len(features) == 4
    assert features.coverage.both[1] == pytest.approx(2, abs=0.1)


def test_a_file_shorter_than_a_step_is_refused_with_both_lengths(tmp_path):
    path = make_media(tmp_path / "a.mkv", seconds=0.8)
    with pytest.raises(MediaError, match=r"a\.mkv: is shorter than one step of 1\.00 s \(video ends at 0\.80 s"):
        extract(path)


@pytest.mark.parametrize("track", ["picture", "sound"])
def test_a_file_with_one_track_is_refused(tmp_path, track):
    path = make_media(tmp_path / "a.mkv", **({"picture": None} if track == "picture" else {"sound": False}))
    with pytest.raises(MediaError, match="has no"):
        extract(path)


def test_unknown_features_are_refused(clip):
    with pytest.raises(ConfigError, match="unknown features 'heavy': choose from light, i3d-vggish"):
        extract(clip, "heavy")


def test_features_of_another_size_are_refused(features):
    with pytest.raises(ValueError, match="for light, got"):
        replace(features, audio=features.audio[:-1])


def test_features_come_back_as_they_were_saved(features, tmp_path):
    store.save(features, tmp_path / "a.safetensors")
    again = store.load(tmp_path / "a.safetensors", SPEC)
    np.testing.assert_array_equal(again.visual, features.visual)
    np.testing.assert_array_equal(again.audio, features.audio)
    assert (again.spec, again.info, again.coverage) == (features.spec, features.info, features.coverage)


def test_another_protocol_is_refused_with_both_values(features, tmp_path):
    store.save(features, tmp_path / "a.safetensors")
    expected = replace(SPEC, version=2)
    with pytest.raises(ConfigError, match=r"version is 2 in what is expected but 1 in .*a\.safetensors"):
        store.load(tmp_path / "a.safetensors", expected)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100])
def test_a_damaged_feature_file_is_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="not a davel feature file, or a damaged one: delete it"):
        store.load(tmp_path / "a.safetensors")


def test_a_feature_file_that_is_cut_off_is_refused(features, tmp_path):
    path = tmp_path / "a.safetensors"
    store.save(features, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"a\.safetensors"):
        store.load(path)


@pytest.mark.parametrize("facts", ["[]", "null", "{}", '{"schema": "davel.features/1", "spec": {"name": "light"}}'])
def test_a_feature_file_with_other_facts_is_refused_by_name(tmp_path, facts):
    path = tmp_path / "a.safetensors"
    save_file({"visual": np.zeros(1)}, path, metadata={"davel": facts})
    with pytest.raises(ConfigError, match=r"a\.safetensors: .*extract again"):
        store.load(path)


def test_a_damaged_kept_file_is_made_again(tmp_path):
    path = make_media(tmp_path / "a.mkv", seconds=2)
    first = store.cached(path, tmp_path / "cache", "light")
    store.cache_path(path, tmp_path / "cache", "light").write_bytes(b"nonsense")
    np.testing.assert_array_equal(store.cached(path, tmp_path / "cache", "light").visual, first.visual)


def test_a_file_that_is_replaced_while_it_is_read_is_extracted_again(tmp_path, monkeypatch):
    path = make_media(tmp_path / "a.mkv", seconds=1.5)

    def extract_slowly(*args):
        features = extract(*args)
        make_media(path, seconds=4)
        return features

    monkeypatch.setattr(store, "extract", extract_slowly)
    store.cached(path, tmp_path / "cache", "light")
    monkeypatch.undo()
    assert len(store.cached(path, tmp_path / "cache", "light")) == 10


def test_a_long_name_in_any_script_can_be_kept(tmp_path):
    path = make_media(tmp_path / f"{'音' * 80}.mkv", seconds=1.5)
    store.cached(path, tmp_path / "cache", "light")
    assert store.is_fresh(path, store.cache_path(path, tmp_path / "cache", "light"), "light")


def test_a_cache_that_cannot_be_a_folder_is_refused(clip, tmp_path):
    (tmp_path / "cache").write_text("")
    for use in (lambda c: store.cached(clip, c, "light"), lambda c: store.extract_many([clip], c)):
        with pytest.raises(ConfigError, match="cannot make this folder: File exists: name another"):
            use(tmp_path / "cache")


def _die(*_, **__) -> None:
    os._exit(1)  # as a decoder does that breaks memory


def test_a_file_at_which_processes_die_is_told(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_extract_one", _die)
    result = store.extract_many([clip], tmp_path / "cache", workers=1)
    assert "the process ended that worked on it (out of memory, or a broken decoder)" in result.failures[clip]


def test_kept_features_are_used_until_the_file_changes(tmp_path, monkeypatch):
    path = make_media(tmp_path / "a.mkv", seconds=2)
    calls = []
    monkeypatch.setattr(store, "extract", lambda *a: calls.append(a) or extract(*a))
    first = store.cached(path, tmp_path / "cache", "light")
    store.cached(path, tmp_path / "cache", "light")
    assert len(calls) == 1
    os.utime(path, (1, 1))
    again = store.cached(path, tmp_path / "cache", "light")
    assert len(calls) == 2
    np.testing.assert_array_equal(first.visual, again.visual)


def test_kept_features_of_another_version_are_made_again(tmp_path, monkeypatch):
    path = make_media(tmp_path / "a.mkv", seconds=2)
    old: Features = replace(extract(path), spec=replace(SPEC, version=99))
    store.save(old, store.cache_path(path, tmp_path, "light"))
    assert store.cached(path, tmp_path, "light").spec == SPEC


def test_files_of_one_name_in_two_folders_are_kept_apart(tmp_path):
    here, there = tmp_path / "x" / "a.mp4", tmp_path / "y" / "a.mp4"
    assert store.cache_path(here, tmp_path, "light") != store.cache_path(there, tmp_path, "light")


def test_one_bad_file_of_many_does_not_stop_the_others(tmp_path):
    good = [make_media(tmp_path / f"{i}.mkv", seconds=1.5) for i in range(2)]
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(b"nothing")
    told = []
    result = store.extract_many([*good, bad], tmp_path / "cache", workers=2, progress=lambda *x: told.append(x))
    assert list(result.paths) == good
    assert list(result.failures) == [bad]
    assert "not a media file" in result.failures[bad]
    assert told[-1] == (3, 3)


def test_a_step_of_sound_must_last_as_long_as_a_step_of_pictures():
    with pytest.raises(ValueError, match="must last as long as"):
        replace(SPEC, stride=4)


def test_a_specification_survives_as_plain_values():
    assert FeatureSpec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(ConfigError, match="not a feature specification"):
        FeatureSpec.from_dict({"name": "light"})


def test_steps_and_seconds_are_inverse():
    timing = Timing(25, 8, 24)
    assert timing.seconds(np.array([0.0, 1.0])).tolist() == [0.48, 0.8]
    np.testing.assert_allclose(timing.steps(timing.seconds(np.arange(9.0))), np.arange(9.0))
