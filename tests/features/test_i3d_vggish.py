"""From a raw file to events with the published features, and from extracted features to a model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_values import published_state
from media_files import grey, make_media
from small_networks import published

import davel
from davel.core.errors import ConfigError
from davel.data.sources import open_features
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.features.reading import Settings
from davel.features.spec import FeatureSpec
from davel.features.store import FeatureStore, Ready
from davel.features.weights import location
from davel.formats import read_annotations
from davel.models import CCNet, CCNetConfig
from davel.models.saved import ModelInfo, save_model

LABELS = ("dog barking", "bell ringing")


def make_model(target, features: FeatureSpec = I3D_VGGISH):
    """A model that reads the published features, with random weights."""
    torch.manual_seed(0)
    config = CCNetConfig(num_classes=2, width=16, class_width=8, max_length=64)
    save_model(target, CCNet(config), ModelInfo("tiny", config, features, LABELS, 0.0, {}))
    return target


@pytest.fixture
def networks(monkeypatch, tmp_path_factory):
    """The published features, by networks that are no work."""
    return published(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.fixture
def clip(tmp_path):
    return make_media(tmp_path / "clip.mp4", seconds=4, picture=lambda t: grey(int(40 * t)))


def test_a_model_of_published_features_localizes_a_raw_file(clip, networks, run, tmp_path):
    make_model(tmp_path / "model")
    code, out, err = run("localize", clip, "-m", "model", "--top-k", "5")
    assert code == 0, err
    assert "clip.mp4: 5 events" in out
    result = json.loads((tmp_path / "clip.json").read_text())
    assert result["model"]["features"] == I3D_VGGISH.to_dict()
    assert result["coverage"]["video_gaps"] == []


def test_features_made_before_give_the_same_events(clip, networks, run, tmp_path):
    make_model(tmp_path / "model")
    run("localize", clip, "-m", "model", "-o", "direct")
    assert run("extract", clip, "-o", "kept")[0] == 0
    encoded = networks.raft.encoded
    assert run("localize", clip, "-m", "model", "-o", "kept", "--features", "kept")[0] == 0
    assert networks.raft.encoded == encoded, "nothing was extracted again"
    assert (tmp_path / "kept" / "clip.json").read_text() == (tmp_path / "direct" / "clip.json").read_text()
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(clip, tmp_path / "elsewhere")
    assert run("localize", moved, "-m", "model", "-o", "moved", "--features", "kept")[0] == 0
    assert networks.raft.encoded == encoded, "nothing was extracted again"
    assert json.loads((tmp_path / "moved" / "clip.json").read_text())["media"]["path"] == str(moved)


def test_features_that_are_not_there_are_made_and_kept(clip, networks, run, tmp_path):
    make_model(tmp_path / "model")
    assert run("localize", clip, "-m", "model", "--features", "kept")[0] == 0
    status = FeatureStore(tmp_path / "kept").status("clip", Settings.named("i3d-vggish"), clip)
    assert isinstance(status, Ready)


def test_the_models_protocol_is_followed_unless_one_knows_better(clip, networks, run, tmp_path):
    spec = replace(I3D_VGGISH, resampler="resampy-0.2.2").with_options(flow_updates=12)
    make_model(tmp_path / "model", spec)
    for options, expected in (((), spec), (("--resampler", "soxr"), replace(spec, resampler="soxr"))):
        assert run("localize", clip, "-m", "model", *options)[0] == 0
        assert json.loads((tmp_path / "clip.json").read_text())["model"]["features"] == expected.to_dict()
    code, _, err = run("localize", clip, "-m", "model", "--colours", "sepia")
    assert code == 4
    assert "colours is 'sepia': choose from declared, bt601" in err


def test_a_model_without_its_extractor_says_so(clip, run, tmp_path):
    features = replace(I3D_VGGISH, name="mine")
    make_model(tmp_path / "model", features)
    code, _, err = run("localize", clip, "-m", "model")
    assert code == 4
    assert "unknown features 'mine': choose from light, i3d-vggish" in err


def test_missing_weights_end_with_5(clip, run, tmp_path, monkeypatch):
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "home"))
    make_model(tmp_path / "model")
    code, _, err = run("localize", clip, "-m", "model")
    assert code == 5
    assert "the weights 'i3d-rgb' are not there: run `davel weights fetch i3d-rgb`" in err


@pytest.fixture
def dataset(networks, run, tmp_path):
    """Two videos whose features were extracted with colours of old, and their annotations."""
    for name in "ab":
        make_media(tmp_path / f"{name}.mp4", seconds=3)
    assert run("extract", "a.mp4", "b.mp4", "-o", "features", "--colours", "bt601")[0] == 0
    videos = {
        name: {
            "subset": "train",
            "duration": 3.0,
            "annotations": [{"segment": [0.5, 2.0], "label": LABELS[0], "label_id": 0}],
        }
        for name in "ab"
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"database": videos}))
    return tmp_path


def opened(dataset):
    path = dataset / "annotations.json"
    return open_features(read_annotations(path).videos, dataset / "features", path, "i3d-vggish")


def test_a_data_set_is_of_the_protocol_that_its_features_were_made_with(dataset):
    assert opened(dataset).spec == replace(I3D_VGGISH, colours="bt601")
    for path in (dataset / "features").glob("*.json"):
        path.unlink()
    assert opened(dataset).spec == I3D_VGGISH


def test_features_of_two_origins_are_not_mixed(dataset, run):
    (dataset / "features" / "b.features.json").unlink()
    with pytest.raises(ConfigError, match="the features of a were made by `davel extract`, those of b were not"):
        opened(dataset)
    assert run("extract", "b.mp4", "-o", "features")[0] == 0
    with pytest.raises(ConfigError, match="colours is 'bt601' in a but 'declared' in b"):
        opened(dataset)


@pytest.mark.slow
def test_the_real_networks_localize_a_raw_file(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "home"))
    weights = tmp_path / "home" / "weights"
    weights.mkdir(parents=True)
    for name, state in (("i3d-rgb", "i3d_rgb"), ("i3d-flow", "i3d_flow"), ("raft", "raft"), ("vggish", "vggish")):
        torch.save(published_state(state), location(name))
    clip = make_media(tmp_path / "clip.mp4", seconds=1.4, sample_rate=44100, picture=lambda t: grey(int(90 * t)))
    make_model(tmp_path / "model", I3D_VGGISH.with_options(flow_updates=1))
    code, out, err = run("localize", clip, "-m", "model", "--features", "kept", "--device", "cpu")
    assert code == 0, err
    assert "clip.mp4:" in out
    assert np.load("kept/clip_rgb.npy").shape == np.load("kept/clip_flow.npy").shape == (2, 1024)
    again = davel.load(tmp_path / "model").localize(clip)
    assert [e.label for e in again.events] == [
        e["label"] for e in json.loads((tmp_path / "clip.json").read_text())["events"]
    ]
    code, _, err = run("extract", clip, "-o", "again", "--flow-updates", "1", "--device", "cpu")
    assert code == 0
    assert "raft_large_C_T_SKHT_V1-0b8c9e55.pth: has sha256" in err, "these are not the published weights"
    for stream in ("rgb", "flow", "vggish"):
        np.testing.assert_array_equal(np.load(f"again/clip_{stream}.npy"), np.load(f"kept/clip_{stream}.npy"))
    shutil.rmtree(tmp_path / "home")
