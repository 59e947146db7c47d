"""Features of files: in step, refused where they do not fit, kept as long as they are true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from media_files import make_media, tone

from davel.core.errors import ConfigError, MediaError
from davel.core.timeline import Timing
from davel.features.light import SPEC
from davel.features.reading import extract
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


def test_a_step_of_sound_must_last_as_long_as_a_step_of_pictures():
    with pytest.raises(ValueError, match="must last as long as"):
        replace(SPEC, stride=4)


def test_a_specification_survives_as_plain_values():
    assert FeatureSpec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(ConfigError, match="not a feature specification"):
        FeatureSpec.from_dict({"name": "light"})


def test_what_a_newer_davel_wrote_is_told_in_a_line():
    with pytest.raises(ConfigError, match="'smell_dim' was written by a newer one: update davel"):
        FeatureSpec.from_dict(SPEC.to_dict() | {"smell_dim": 3})


def test_steps_and_seconds_are_inverse():
    timing = Timing(25, 8, 24)
    assert timing.seconds(np.array([0.0, 1.0])).tolist() == [0.48, 0.8]
    np.testing.assert_allclose(timing.steps(timing.seconds(np.arange(9.0))), np.arange(9.0))
