"""ONE-PEACE as a family: converted weights, streams, memory, and what is told of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_values import published_state
from media_files import grey, make_media
from safetensors import safe_open
from small_one_peace import WIDTH, base_state, install, narrow, put_vocabulary, save_base, save_kinetics
from tiny import CONFIG, tiny_model

from davel.core.errors import ConfigError
from davel.features import one_peace
from davel.features.embeddings import TextEmbeddings
from davel.features.family import Weights, family, read_spec
from davel.features.one_peace import embeddings, storage, stream
from davel.features.one_peace.audio import OnePeaceAudio, prepare_audio
from davel.features.one_peace.encoder import Encoder
from davel.features.one_peace.published import AUDIO, BASE, KINETICS, TEXT, VIDEO
from davel.features.one_peace.storage import StoredEncoder, convert
from davel.features.one_peace.stream import OnePeaceMaker, Pictures
from davel.features.one_peace.text import OnePeaceText, batch
from davel.features.one_peace.video import OnePeaceVideo, normalise, prepare_frame
from davel.features.reading import Extractors, Settings, extract
from davel.features.spec import FeatureSpec
from davel.features.store import FeatureStore
from davel.features.weights import sha256
from davel.media import Picture, open_media
from davel.models.saved import load_model

CPU = torch.device("cpu")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def clip(shared):
    def moving(t: float) -> np.ndarray:
        rng = np.random.default_rng(round(25 * t))
        return np.kron(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8), np.ones((12, 12, 1), np.uint8))

    return shared("moving.mkv", lambda path: make_media(path, seconds=2.5, picture=moving))


# What davel makes is what the encoders make.


def test_features_of_a_clip_are_those_of_the_released_route(monkeypatch, home, clip):
    install(monkeypatch, home, "float32")
    features = extract(clip, Settings.named("one-peace", weights="float32"))
    with open_media(clip) as source:
        items = list(source.read(fps=16, sample_rate=16000, resampler="resampy-0.4.3"))
    frames = np.stack([prepare_frame(item.rgb, 64) for item in items if isinstance(item, Picture)])
    sound = np.concatenate([item.samples for item in items if not isinstance(item, Picture)])
    T = min((len(frames) - 16) // 4, (len(sound) - 16000) // 4000) + 1
    assert len(features) == T == 7
    video = OnePeaceVideo.from_published(published_state("one_peace/video_small"))
    audio = OnePeaceAudio.from_published(published_state("one_peace/audio_small"))
    pixels = normalise(torch.from_numpy(frames)).permute(3, 0, 1, 2)
    with torch.inference_mode():
        visual = torch.cat([video(pixels[None, :, 4 * i : 4 * i + 16]) for i in range(T)])
        heard = torch.cat([audio(torch.from_numpy(prepare_audio(sound[4000 * i :][:16000]))[None]) for i in range(T)])
    np.testing.assert_allclose(features.visual, visual, rtol=1e-4, atol=1e-5 * float(visual.std()))
    np.testing.assert_allclose(features.audio, heard, atol=1e-5 * float(heard.std()))


def test_ten_seconds_have_37_steps_of_each(monkeypatch, home):
    install(monkeypatch, home)
    maker = Extractors().get(Settings.named("one-peace")).maker
    pictures, sound = maker.visual(), maker.audio()
    frames = [np.full((20, 30, 3), n, np.uint8) for n in range(160)]
    rows = [row for frame in frames for row in pictures.push(frame)] + list(pictures.finish())
    heard = list(sound.push(np.zeros(160000, np.float32))) + list(sound.finish())
    assert sum(len(steps) for _, steps in rows) == sum(len(steps) for _, steps in heard) == 37


def test_windows_of_one_picture_are_computed_once(monkeypatch, home):
    install(monkeypatch, home)
    maker = Extractors().get(Settings.named("one-peace")).maker
    computed = []
    forward = OnePeaceVideo.forward
    monkeypatch.setattr(OnePeaceVideo, "forward", lambda self, x, **more: computed.append(len(x)) or forward(self, x))
    for at_once in (1, 16):
        pictures = maker.visual()
        assert isinstance(pictures, Pictures)
        pictures.at_once = at_once
        still, other = (grey(value) for value in (90, 200))
        computed.clear()
        rows = [row for n in range(48) for row in pictures.push(other if n == 47 else still)] + list(pictures.finish())
        table = np.concatenate([steps for _, steps in rows])
        assert len(table) == 9
        assert sum(computed) == 2
        assert (table[:8] == table[0]).all()
        assert np.abs(table[8] - table[0]).max() > 1e-4


def test_several_windows_at_once_are_the_same(monkeypatch, home):
    install(monkeypatch, home)
    maker = Extractors().get(Settings.named("one-peace")).maker
    frames = np.random.default_rng(0).integers(0, 256, (60, 40, 50, 3), dtype=np.uint8)
    tables = []
    for at_once in (1, 5):
        pictures = maker.visual()
        assert isinstance(pictures, Pictures)
        pictures.at_once = at_once
        rows = [row for frame in frames for row in pictures.push(frame)] + list(pictures.finish())
        tables.append(np.concatenate([steps for _, steps in rows]))
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-3, atol=1e-4)


# Whose features they are.


def test_davel_s_features_are_not_taken_for_the_authors(monkeypatch, home, clip, tmp_path):
    made = install(monkeypatch, home)
    ours = Settings.named("one-peace").spec
    assert dict(ours.options) == {"origin": "davel", "weights": "float16"}
    assert ours.resampler == "resampy-0.4.3"
    with pytest.raises(ConfigError, match="origin is 'authors' in these but 'davel' in those"):
        made.spec.require(ours, "these", "those")
    store = FeatureStore(tmp_path / "out")
    with pytest.raises(ConfigError, match="of origin 'authors' are read, not written"):
        store.write(clip, "a", Settings(made.spec))
    store.write(clip, "a", Settings(ours))
    assert store.spec("a") == ours
    assert (made.doubt(ours), "try it, and train it again" in made.doubt(made.spec)) == ("", True)


def test_what_was_written_before_davel_made_any_is_of_the_authors(monkeypatch):
    spec = one_peace.SPEC
    new = ("options", "visual_text_dim", "audio_text_dim")
    old = {name: value for name, value in spec.to_dict().items() if name not in new} | {"resampler": "soxr"}
    assert FeatureSpec.from_dict(old).resampler == "soxr"
    assert read_spec(old) == spec


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"origin": "mine"}, "origin is 'mine': choose from authors, davel"),
        ({"weights": "int8"}, "weights is 'int8': choose from float16, bfloat16, float32"),
        ({"weights": None}, "davel's features need one of"),
    ],
)
def test_options_that_cannot_be_are_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        family("one-peace").specified(options)


def test_a_model_of_the_authors_features_is_tried_and_told(monkeypatch, home, clip, run, tmp_path):
    made = install(monkeypatch, home)
    tiny_model(tmp_path / "tiny", replace(CONFIG, visual_dim=WIDTH, audio_dim=WIDTH))
    facts = json.loads((tmp_path / "tiny" / "model.json").read_text())
    for spec, told in ((made.spec, True), (Settings.named("one-peace").spec, False)):
        (tmp_path / "tiny" / "model.json").write_text(json.dumps(facts | {"features": spec.to_dict()}))
        assert load_model(tmp_path / "tiny")[1].features == spec
        code, _, err = run("localize", clip, "-m", "tiny", "-o", "found", "--device", "cpu")
        assert code == 0, err
        assert ("the model learnt from the authors' own one-peace features" in err) == told
        found = json.loads((tmp_path / "found" / "moving.json").read_text())
        assert found["model"]["features"]["options"]["origin"] == ("authors" if told else "davel")


# Converting.


def test_checkpoints_are_converted_by_the_command_and_are_not_needed_again(monkeypatch, home, run, clip):
    monkeypatch.setenv("DAVEL_HOME", str(home))
    narrow(monkeypatch)
    code, _, err = run("extract", clip, "-o", "out", "--features", "one-peace")
    assert code == 5
    assert "run `davel weights fetch one-peace-k400` (6.629 GB), then `davel weights convert one-peace-video`" in err
    (home / "weights").mkdir(parents=True)
    base, kinetics = save_base(home / "weights" / BASE.file), save_kinetics(home / "weights" / KINETICS.file)
    code, _, err = run("extract", clip, "-o", "out", "--features", "one-peace")
    assert (code, "are not there: run `davel weights convert one-peace-video`" in err) == (5, True)
    assert run("weights", "verify", BASE.name, KINETICS.name)[0] == 0
    code, out, err = run("weights", "convert", "one-peace")
    assert code == 0, err
    assert [Path(line).name for line in out.split()] == [w.file for w in (TEXT, VIDEO, AUDIO)]
    base.unlink(), kinetics.unlink()
    assert run("weights", "verify", VIDEO.name, AUDIO.name, TEXT.name)[:2] == (
        0,
        "one-peace-video: whole\none-peace-audio: whole\none-peace-text: whole\n",
    )
    code, out, err = run("extract", clip, "-o", "out", "--features", "one-peace")
    assert code == 0, err
    assert "3 s of media: 10 steps of 17.2 TFLOP, 0.176 PFLOP in all\n" in err
    described = json.loads(Path("out/moving.features.json").read_text())
    assert described["spec"]["options"] == {"origin": "davel", "weights": "float16"}
    assert described["made_with"]["weights"].keys() == {VIDEO.name, AUDIO.name}
    assert sorted(path.name for path in Path("out").glob("*.npy")) == [
        "moving_one_peace_audio.npy",
        "moving_one_peace_video_finetune.npy",
    ]


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_matrices_are_reduced_and_all_else_is_not(tmp_path, precision):
    convert(OnePeaceAudio, save_base(tmp_path / "a.pt"), tmp_path / "a.safetensors", precision)
    expected = OnePeaceAudio.from_published(base_state()).state_dict()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        facts, names = file.metadata(), set(file.keys())
        assert names == set(expected)
        for name in names:
            reduced = name.startswith("layers.") and expected[name].dim() == 2
            kept = getattr(torch, precision) if reduced else torch.float32
            assert file.get_tensor(name).dtype == kept
            torch.testing.assert_close(file.get_tensor(name), expected[name].to(kept), rtol=0, atol=0)
    assert (facts["branch"], facts["weights"]) == ("audio", precision)
    assert facts["source_sha256"] == sha256(tmp_path / "a.pt")


def test_a_source_that_is_something_else_or_not_whole_leaves_nothing(monkeypatch, home, run, tmp_path):
    monkeypatch.setenv("DAVEL_HOME", str(home))
    kinetics = save_kinetics(tmp_path / "k.pth")
    part = tmp_path / "part.pt"
    part.write_bytes(save_base(tmp_path / "base.pt").read_bytes()[:-1000])
    missing = base_state()
    del missing["encoder_wrapper.fusion_model.layers.1.self_attn.q_proj.bias"]
    torch.save({"model": missing}, tmp_path / "missing.pt")
    old = tmp_path / "old.pt"
    torch.save({"model": base_state()}, old, _use_new_zipfile_serialization=False)
    for checkpoint, code, problem in (
        (kinetics, 4, "nothing of its audio encoder is in it"),
        (part, 4, "part.pt: is not whole, its end is missing after"),
        (tmp_path / "missing.pt", 4, "1 tensors are missing, first 'layers.1.attention.query.bias'"),
        (old, 4, "takes memory for all of it at once"),
        (tmp_path / "none.pt", 5, "there is no such file"),
    ):
        ended, _, err = run("weights", "convert", "one-peace-audio", "--checkpoint", checkpoint)
        assert (ended, err.count("\n")) == (code, 1), err
        assert problem in err
    assert list((home / "weights").iterdir()) == []


def test_values_beyond_half_precision_and_a_full_disk_are_told(monkeypatch, tmp_path):
    state, large = base_state(), "encoder_wrapper.fusion_model.layers.0.audio_ffn.3.weight"
    state[large] = state[large].clone()
    state[large][3, 4] = 70000
    torch.save({"model": state}, tmp_path / "a.pt")
    target = tmp_path / "out" / "a.safetensors"
    target.parent.mkdir()
    with pytest.raises(ConfigError, match=r"'layers.0.feed_forward.out.weight' has values .* use --to bfloat16"):
        convert(OnePeaceAudio, tmp_path / "a.pt", target, "float16")
    convert(OnePeaceAudio, tmp_path / "a.pt", target, "bfloat16")
    state[large][3, 4] = torch.nan
    torch.save({"model": state}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="the file is damaged: fetch it again"):
        convert(OnePeaceAudio, tmp_path / "a.pt", target, "float32")
    monkeypatch.setattr(storage, "free_bytes", lambda _: 1000)
    with pytest.raises(ConfigError, match=r"takes \d\.\d GB, 0.0 GB are free there: make room"):
        convert(OnePeaceAudio, tmp_path / "a.pt", target, "float32")


def test_what_is_published_as_it_is_cannot_be_converted(run):
    code, _, err = run("weights", "convert", "raft")
    assert (code, "the weights 'raft' are used as they are published: choose from one-peace-" in err) == (4, True)
    assert run("weights", "convert", "one-peace", "--to", "int8")[0] == 2
    assert run("weights", "convert", "one-peace", "--checkpoint", "x.pt")[0] == 2


# Converted files.


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_converted_file_that_is_not_whole_is_refused(monkeypatch, home, share):
    install(monkeypatch, home)
    path = home / "weights" / VIDEO.file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ConfigError, match=r"damaged, or not whole .*: make it again: `davel weights convert"):
        Extractors().get(Settings.named("one-peace"))


def test_a_converted_file_of_another_kind_is_refused(monkeypatch, home):
    install(monkeypatch, home)
    video, audio = (home / "weights" / weights.file for weights in (VIDEO, AUDIO))
    content = video.read_bytes()
    video.write_bytes(audio.read_bytes())
    with pytest.raises(ConfigError, match=r"is the audio encoder, expected video"):
        Extractors().get(Settings.named("one-peace"))
    storage.write_tensors(video, {"x": (torch.float32, (2,))}, lambda _: torch.ones(2), {"schema": "another"})
    with pytest.raises(ConfigError, match=r"not a converted encoder of ONE-PEACE"):
        Extractors().get(Settings.named("one-peace"))
    video.write_bytes(content)
    with pytest.raises(ConfigError, match=r"holds float16, features of bfloat16 weights are asked for"):
        Extractors().get(Settings.named("one-peace", weights="bfloat16"))
    monkeypatch.setattr(one_peace, "FAMILY", replace(one_peace.FAMILY, spec=one_peace.SPEC, streams=STREAMS))
    with pytest.raises(ConfigError, match="makes 64 channels, expected 1536"):
        Extractors().get(Settings.named("one-peace"))


STREAMS = one_peace.FAMILY.streams


# Memory.


def test_layers_that_are_read_one_at_a_time_give_the_same(monkeypatch, home):
    install(monkeypatch, home, text=True)
    x: dict[Weights, tuple[type[Encoder], torch.Tensor]] = {
        AUDIO: (OnePeaceAudio, torch.randn(3, 16000)),
        VIDEO: (OnePeaceVideo, torch.randn(2, 3, 16, 64, 64)),
        TEXT: (OnePeaceText, batch([[5, 6, 7, 2], [9, 2]])),
    }
    for weights, (kind, inputs) in x.items():
        stored = StoredEncoder(home / "weights" / weights.file, kind)
        whole, streamed = (kind.from_file(stored, torch.float32, CPU, streamed) for streamed in (False, True))
        with torch.inference_mode():
            torch.testing.assert_close(streamed(inputs), whole(inputs), rtol=1e-5, atol=1e-6)
        assert sum(p.numel() for p in streamed.parameters()) < sum(p.numel() for p in whole.parameters())


def test_an_encoder_stays_in_memory_if_there_is_room_and_is_refused_if_not_even_a_layer_has(monkeypatch, home):
    install(monkeypatch, home)
    path = home / "weights" / VIDEO.file
    stored = StoredEncoder(path, OnePeaceVideo)
    working = OnePeaceVideo.from_file(stored, torch.float32, CPU, False).working_bytes(1, 1)

    def opened(free: float | None) -> OnePeaceVideo:
        monkeypatch.setattr(stream, "available_bytes", lambda _: free)
        return stream.open_encoder(path, OnePeaceVideo, torch.float32, CPU, WIDTH, rows=1)

    assert isinstance(opened(None).layers, torch.nn.ModuleList)
    assert isinstance(opened((stored.num_bytes + working) / stream.SHARE + 1).layers, torch.nn.ModuleList)
    one_layer = 2 * stored.layer_bytes + working
    assert not isinstance(opened(one_layer / stream.SHARE + 1).layers, torch.nn.ModuleList)
    read = []
    monkeypatch.setattr(StoredEncoder, "tensors", lambda self, *_, **__: read.append(self.path))
    with pytest.raises(ConfigError, match=r"needs 0.00 GB of memory on cpu with one layer at a time, 0.00 GB are free"):
        opened(one_layer / 2)
    assert read == [], "it is told before anything is read"


def test_layers_that_are_read_one_at_a_time_cannot_be_compiled(monkeypatch, home):
    install(monkeypatch, home)
    monkeypatch.setattr(stream, "has_room", lambda *_: False)
    with pytest.raises(ConfigError, match="cannot be compiled: no --compile"):
        Extractors().get(Settings.named("one-peace", compile=True))


def test_a_processor_is_not_kept_busy_for_hours_unless_one_asks_for_it(monkeypatch, home):
    install(monkeypatch, home)
    monkeypatch.setattr(OnePeaceVideo, "tflop", 17.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"17.0 TFLOP a window of pictures.*: give `--device cpu` if that is meant"):
        Extractors().get(Settings.named("one-peace"))
    assert Extractors().get(Settings.named("one-peace", device="cpu"))


def test_values_beyond_a_precision_are_no_features(monkeypatch, home):
    install(monkeypatch, home)
    maker = Extractors().get(Settings.named("one-peace", precision="float16")).maker
    assert isinstance(maker, OnePeaceMaker)
    maker.sound.layers[0].attention_scale.fill_(torch.inf)
    with pytest.raises(ConfigError, match=r"one_peace_audio has values beyond torch.float16: use --precision bfloat16"):
        list(maker.audio().push(np.random.default_rng(0).standard_normal(80000)))


FULL_SIZE = r"""
import json, re, sys, torch
from pathlib import Path
from davel.features.one_peace.published import encoders
from davel.features.one_peace.storage import StoredEncoder
(kind,) = encoders(sys.argv[2])
stored = StoredEncoder(Path(sys.argv[1]), kind)
encoder = kind.from_file(stored, torch.float32, torch.device("cpu"), True)
inputs = {"audio": torch.randn(2, 16000), "text": torch.full((2, 12), 5)}[sys.argv[2]]
with torch.inference_mode():
    made = encoder(inputs)
# of this program alone: getrusage also counts what the one that started it had
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"peak": peak, "shape": list(made.shape)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not tell a program's peak so")
@pytest.mark.parametrize("name", ["audio", "text"])
def test_a_branch_of_full_size_runs_in_less_than_4_gb(monkeypatch, tmp_path, name):
    """Its weights are zeros, in a file with holes: what is measured is memory. Video: benchmarks/one_peace.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    path = import_module("one_peace").sparse_weights(tmp_path / "full.safetensors", name)
    assert path.stat().st_size > 3e9
    done = subprocess.run([sys.executable, "-c", FULL_SIZE, path, name], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["shape"] == [2, 1536]
    assert told["peak"] < 2e9 < path.stat().st_size


# Names of classes.


@pytest.fixture
def text_home(monkeypatch, home):
    install(monkeypatch, home, "float32", text=True)
    put_vocabulary(monkeypatch, home, {" event": 515, " dog": 2335})
    return home


def test_classes_are_embedded_into_a_small_file(text_home, run, tmp_path):
    (tmp_path / "names.txt").write_text("dog barking\n\nMan speaking\n")
    code, out, err = run("features", "embed", "names.txt", "-o", "classes.safetensors")
    assert code == 0, err
    assert out == "classes.safetensors: 2 classes, 64 channels\n"
    made = TextEmbeddings.load(tmp_path / "classes.safetensors")
    assert made.labels == ("dog barking", "Man speaking")
    assert made.prompts == ("An audio visual event of dog barking.", "An audio visual event of Man speaking.")
    assert made.encoder_sha256 == sha256(text_home / "weights" / TEXT.file)
    encoder = OnePeaceText.from_published(base_state())
    tokenizer = embeddings.open_tokenizer()
    with torch.inference_mode():
        alone = torch.cat([encoder(batch([tokenizer(prompt)])) for prompt in made.prompts])
    np.testing.assert_allclose(made.rows, alone, atol=1e-6)
    for modality in ("visual", "audio"):
        np.testing.assert_array_equal(family("one-peace").embed(made.labels, modality), made.rows)
    np.testing.assert_array_equal(made.of(("Man speaking",)), made.rows[1:])
    with pytest.raises(ConfigError, match="no embeddings of cat: make them with `davel features embed`"):
        made.of(("cat",))


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        ("dog\ndog\n", (), "names 'dog' twice"),
        ("\n", (), "names no classes"),
        ("dog\n", ("--prompt", "an event"), "expected one {}, where the class's name stands"),
    ],
)
def test_names_that_cannot_be_embedded_are_told(text_home, run, tmp_path, content, options, problem):
    (tmp_path / "names.txt").write_text(content)
    code, _, err = run("features", "embed", "names.txt", *options)
    assert (code, problem in err, err.count("\n")) == (4, True, 1), err
    assert not (tmp_path / "names.safetensors").exists()


def test_weights_of_the_text_encoder_that_are_not_there_end_with_5(monkeypatch, home, run, tmp_path):
    install(monkeypatch, home)
    put_vocabulary(monkeypatch, home, {})
    (tmp_path / "names.txt").write_text("dog\n")
    code, _, err = run("features", "embed", "names.txt")
    assert (code, "'one-peace-text' are not there" in err) == (5, True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": ("a", "a")}, "a class's name stands there twice"),
        ({"prompts": ("one",)}, "2 classes have 1 prompts"),
        ({"rows": np.ones((2, 4), np.float32)}, "not of unit norm"),
        ({"rows": np.full((2, 4), np.nan, np.float32)}, "not of unit norm"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(changes, problem):
    good = {
        "labels": ("a", "b"),
        "prompts": ("an a", "a b"),
        "rows": np.eye(2, 4, dtype=np.float32),
        "family": "one-peace",
        "encoder_sha256": "0" * 64,
    }
    TextEmbeddings(**good)
    with pytest.raises(ValueError, match=problem):
        TextEmbeddings(**good | changes)


def test_a_file_of_no_embeddings_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="not a file of class embeddings"):
        TextEmbeddings.load(tmp_path / "a.safetensors")
