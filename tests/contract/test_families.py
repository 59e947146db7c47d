"""What every family of features keeps: davel's own, and one of another installed package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import own_family
import pytest
import small_one_peace
from media_files import grey, make_media
from small_networks import published
from web_server import assert_alike, start

from davel.core.errors import ConfigError
from davel.features import light
from davel.features.family import FAMILIES, Family, broken, families, family, read_spec
from davel.features.reading import Extractors, Settings, extract
from davel.features.spec import MODALITIES, FeatureSpec
from davel.features.store import FeatureStore, Missing, Ready, Stale
from davel.features.weights import find
from davel.media import Picture, open_media

OWN = "grid-tone"


@pytest.fixture(params=[*FAMILIES, OWN])
def made(request, monkeypatch, tmp_path_factory) -> Family:
    """A family whose weights are there."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "i3d-vggish":
        published(monkeypatch, home)
    elif request.param == "one-peace":
        small_one_peace.install(monkeypatch, home)
    elif request.param == OWN:
        own_family.install(monkeypatch, tmp_path_factory.mktemp("site"), home)
    return family(request.param)


@pytest.fixture
def makes(made) -> Family:
    if made.open is None:
        pytest.skip("only reads published files")
    return made


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("clip") / "a.mkv", seconds=5, picture=lambda t: grey(int(40 * t)))


def test_a_specification_survives_json(made):
    assert read_spec(json.loads(json.dumps(made.spec.to_dict()))) == made.spec
    assert made.name in families()


def test_what_davel_0_1_wrote_of_a_protocol_is_the_same(made):
    old = {name: value for name, value in made.spec.to_dict().items() if name != "options"}
    assert read_spec(old) == made.spec


def test_its_streams_are_as_wide_as_its_modalities(made):
    for modality in MODALITIES:
        assert sum(made.of(modality).values()) == made.spec.dim(modality)


def test_an_unknown_option_is_told_in_a_line_with_those_there_are(made):
    with pytest.raises(
        ConfigError, match=f"^features '{made.name}': no option 'smell': choose from colours, resampler"
    ):
        made.specified({"smell": 3})


def test_a_family_that_is_only_read_says_so(monkeypatch):
    monkeypatch.setattr(light, "FAMILY", replace(light.FAMILY, open=None))
    with pytest.raises(ConfigError, match="'light' are read from published files, davel does not make them"):
        Extractors().get(Settings.named("light"))


def test_pieces_of_any_size_give_what_the_whole_gives(makes, clip):
    maker = Extractors().get(Settings.named(makes.name)).maker
    fps, rate = makes.spec.picture_grid()[0], makes.spec.sample_rate
    with open_media(clip) as source:
        items = list(source.read(fps=fps, sample_rate=rate, size=makes.frames.size))
    sound = np.concatenate([item.samples for item in items if not isinstance(item, Picture)])

    def rows(length: int) -> dict[str, np.ndarray]:
        stream, parts = maker.audio(), {}
        for first in range(0, len(sound), length):
            for name, steps in stream.push(sound[first : first + length]):
                parts.setdefault(name, []).append(steps)
        for name, steps in stream.finish():
            parts.setdefault(name, []).append(steps)
        return {name: np.concatenate(several) for name, several in parts.items()}

    whole = rows(len(sound))
    for length in (997, 16001):
        for name, steps in rows(length).items():
            np.testing.assert_allclose(steps, whole[name], rtol=1e-4, atol=1e-5)


def test_there_are_as_many_steps_as_its_protocol_promises(makes, clip):
    features = extract(clip, makes.name)
    assert features.spec == makes.specified({})
    assert makes.is_ours(features.spec)
    promised = makes.spec.timing.num_steps(features.coverage.duration_seconds)
    assert promised - makes.frames.lookahead <= len(features) <= promised
    assert np.isfinite(features.visual).all()
    assert np.isfinite(features.audio).all()


def test_features_come_back_from_their_folder_and_are_stale_when_and_only_when_they_would_be_others(
    makes, clip, tmp_path
):
    store, settings = FeatureStore(tmp_path, Extractors()), Settings.named(makes.name)
    assert store.status("a", settings, clip) == Missing()
    kept, direct = store.extracted(clip, "a", settings), extract(clip, settings)
    np.testing.assert_array_equal(kept.visual, direct.visual)
    np.testing.assert_array_equal(kept.audio, direct.audio)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == sorted(f"a_{name}.npy" for name in makes.streams)
    facts = json.loads(store.described("a").read_text())
    facts["made_with"]["weights"]["of-another-family"] = "0" * 64
    store.described("a").write_text(json.dumps(facts))
    for same in (settings, replace(settings, device="cpu")):
        assert store.status("a", same, clip) == Ready()
    for other in (replace(settings, precision="bfloat16"), Settings.named(makes.name, colours="bt601")):
        assert isinstance(store.status("a", other, clip), Stale)
    for weights in makes.weights:
        content = find(weights).read_bytes()
        find(weights).write_bytes(content + b"another")
        assert store.status("a", settings, clip) == Stale(f"the weights {weights.name!r} are others")
        find(weights).write_bytes(content)
    assert store.status("a", settings, clip) == Ready()


@pytest.fixture
def own(monkeypatch, tmp_path_factory, tmp_path):
    """The package of docs/own-features.md, installed, its weights at home."""
    home = tmp_path_factory.mktemp("home")
    own_family.install(monkeypatch, tmp_path_factory.mktemp("site"), home)
    return home


def test_one_picture_a_step_and_the_mean_of_finer_sound(own, tmp_path):
    clip = make_media(tmp_path / "a.mkv", seconds=5, picture=lambda t: grey(int(50 * t) // 50 * 50))
    features = extract(clip, OWN)
    assert (features.visual.shape, features.audio.shape) == ((5, 16), (5, 8))
    colours = np.load(own / "weights" / "grid_tone.npy").sum(0)
    np.testing.assert_allclose(features.visual, np.outer([0, 50, 100, 150, 200], colours) / 255, atol=0.3)
    with open_media(clip) as source:
        sound = np.concatenate([x.samples for x in source.read(fps=None, sample_rate=8000)])
    maker = Extractors().get(Settings.named(OWN)).maker.audio()
    finer = np.concatenate([steps for _, steps in maker.push(sound)])
    np.testing.assert_allclose(features.audio, finer[:20].reshape(5, 4, 8).mean(1), rtol=1e-5)


@pytest.mark.slow
def test_a_family_of_another_package_goes_through_extract_train_localize_follow_a_cluster_and_the_page(
    own, run, tmp_path
):
    events = {}
    for i in range(4):
        make_media(tmp_path / f"v{i}.mkv", seconds=8, picture=lambda t: grey(250 if 2 < t < 6 else 0))
        annotations = [{"segment": [2, 6], "label": "flash", "label_id": 0}]
        subset = "train" if i < 2 else "validation"
        events[f"v{i}"] = {"duration": 8.0, "subset": subset, "annotations": annotations}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": events}))
    code, out, err = run("extract", ".", "-o", "made", "--features", OWN, "--workers", "1")
    assert code == 0, err
    assert "4 done" in out
    (tmp_path / "train.yaml").write_text(
        "name: own\noutput: run\ndata: {annotations: annotations.json, features: made}\n"
        "model: {max_length: 32, width: 8, class_width: 4}\n"
        "recipe: {epochs: 60, warmup_epochs: 1, batch_size: 2, learning_rate: 0.005, ema_decay: 0.5}\n"
    )
    code, out, err = run("train", "train.yaml", "--device", "cpu")
    assert code == 0, err
    for command in (("-o", "found"), ("-o", "kept", "--features", "made")):
        code, _, err = run("localize", "v0.mkv", "-m", "run/best", "--device", "cpu", "--threshold", "0", *command)
        assert code == 0, err
    found, kept = (json.loads((tmp_path / name / "v0.json").read_text()) for name in ("found", "kept"))
    assert found["model"]["features"]["picture_seconds"] == [0.5]
    assert found["events"] == kept["events"]
    assert found["events"]
    code, _, err = run("localize", "v0.mkv", "-m", "run/best", "--device", "cpu", "--follow", "--idle", "0.3")
    assert code == 0, err
    model = ("-m", "run/best", "--device", "cpu", "--threshold", "0")
    code, _, err = run("localize", "v0.mkv", *model, "-o", "part", "--start", "2")
    assert code == 0, err
    pytest.importorskip("ray")
    code, out, err = run("extract", "v0.mkv", "-o", "apart", "--features", OWN, "--ray", "local")
    assert (code, "1 done" in out) == (0, True), err
    np.testing.assert_allclose(np.load("apart/v0_grid.npy"), np.load("made/v0_grid.npy"), rtol=1e-5)
    code, _, err = run("localize", "v0.mkv", *model, "-o", "there", "--ray", "local")
    assert code == 0, err
    assert_alike(json.loads(Path("there/v0.json").read_text())["events"], found["events"])
    pytest.importorskip("fastapi")
    server = start(tmp_path / "served", "-m", "run/best", "--device", "cpu")
    try:
        job = server.done(tmp_path / "v0.mkv")
        assert_alike(server.json("GET", f"/api/jobs/{job['id']}/events")["events"], found["events"])
    finally:
        server.stop()


def test_commands_know_the_family_of_another_package(own, run):
    assert "grid-tone-projection" in run("weights", "list")[1]
    assert run("weights", "verify", OWN)[:2] == (0, "grid-tone-projection: whole\n")
    assert OWN in run("doctor")[1]
    code, _, err = run("data", "simulate", "set", "--videos", "5", "--classes", "2", "--features", OWN)
    assert code == 0, err
    code, out, _ = run("data", "check", "set")
    assert (code, "simulated grid-tone features" in out) == (0, True)
    code, _, err = run("extract", "x.mkv", "-o", "out", "--features", OWN, "--option", "floor=loud")
    assert code in (3, 4)
    (own / "weights" / "grid_tone.npy").write_text("nonsense")
    code, _, err = run("weights", "verify", "grid-tone-projection")
    assert code == 4
    assert "is no array of numbers" in err


def test_a_broken_package_is_told_in_a_line_and_hinders_nothing_else(monkeypatch, tmp_path, run):
    own_family.put(tmp_path / "site", "shaky", "raise RuntimeError('no\\nluck')", "shaky = shaky:FAMILY\n")
    own_family.put(tmp_path / "site", "thief", "FAMILY = 3", "light = thief:FAMILY\nother = thief:FAMILY\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    told = broken()
    assert len(told) == 3
    assert any("'light' are davel's own: those of the package thief are not used" in line for line in told)
    assert any("'other' cannot be loaded (expected a Family of that name, got '3')" in line for line in told)
    assert list(families()) == list(FAMILIES)
    with pytest.raises(
        ConfigError, match=r"^features 'shaky' cannot be loaded \(RuntimeError: no\\nluck\): mend or uni"
    ):
        family("shaky")
    code, _, err = run("weights", "list")
    assert code == 0
    assert "shaky" in err
    assert run("doctor")[0] == 0
    code, _, err = run("extract", "x.mp4", "-o", "out", "--features", "nothing")
    assert code == 4
    assert "unknown features 'nothing': choose from light, i3d-vggish, one-peace, shaky, other" in err


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"picture_seconds": (1.5,)}, "within a step's window"),
        ({"picture_seconds": (0.5, 0.2)}, "rising times"),
        ({"audio_stride_seconds": 0.3}, "do not make up one visual step"),
        ({"audio_reduction": "median"}, "choose from mean, max"),
        ({"audio_reduction": None}, "or state a reduction"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(changes, problem):
    fields = {
        "name": "x",
        "version": 1,
        "fps": 1.0,
        "window": 1,
        "stride": 1,
        "sample_rate": 8000,
        "audio_window_seconds": 0.25,
        "audio_stride_seconds": 0.25,
        "audio_reduction": "mean",
        "visual_dim": 1,
        "audio_dim": 1,
    }
    assert FeatureSpec(**fields).audio_per_step == 4
    with pytest.raises(ValueError, match=problem):
        FeatureSpec(**fields | changes)
