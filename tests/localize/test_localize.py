"""From files to events, through the Python API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import grey, make_media, tone
from safetensors.torch import save_file
from tiny import INFO, LABELS, tiny_model

import davel
from davel.compute.checkpoint import read_checkpoint
from davel.core.errors import ConfigError, MediaError, MissingError
from davel.features.reading import extract
from davel.features.reading import read as read_features
from davel.localize import expand
from davel.models.saved import load_model


@pytest.fixture(scope="module")
def localizer(tmp_path_factory):
    return davel.load(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("clip") / "a clip.mkv", seconds=5)


@pytest.fixture(scope="module")
def result(localizer, clip):
    return localizer.localize(clip)


def test_a_file_gives_events_in_its_time_best_first(result):
    assert 0 < len(result.events) <= 100
    assert result.duration == pytest.approx(5, abs=0.1)
    start, end = result.coverage.both
    assert all(start <= e.start < e.end <= end for e in result.events)
    scores = [e.score for e in result.events]
    assert scores == sorted(scores, reverse=True)
    assert {e.label for e in result.events} <= set(LABELS)


def test_gates_have_a_value_per_step(result):
    T = (125 - 25) // 8 + 1
    assert {m: g.shape for m, g in result.gates.items()} == {"visual": (T,), "audio": (T,)}
    assert result.times[0] == pytest.approx(0.48)
    assert np.diff(result.times) == pytest.approx(0.32)


def test_threshold_and_top_k_keep_the_best(localizer, clip, result):
    assert localizer.localize(clip, top_k=2).events.scores.tolist() == result.events.scores[:2].tolist()
    threshold = float(result.events.scores[3])
    kept = localizer.localize(clip, threshold=threshold).events.scores
    assert kept.tolist() == [s for s in result.events.scores.tolist() if s >= threshold]


def test_each_class_may_have_its_threshold(localizer, clip, result):
    limits = tuple(np.quantile(result.events.scores[result.events.label_ids == c], 0.5) for c in range(len(LABELS)))
    fitted = davel.Localizer(localizer.model, replace(localizer.info, thresholds=limits), "")
    auto = fitted.localize(clip, threshold="auto")
    assert list(auto.events) == [e for e in result.events if e.score >= limits[LABELS.index(e.label)]]
    assert 0 < len(auto.events) < len(result.events)
    assert auto.settings["threshold"] == list(limits)
    with pytest.raises(ConfigError, match="has no thresholds of its classes: fit them"):
        localizer.localize(clip, threshold="auto")


def test_features_made_before_give_the_same_as_the_file(localizer, clip, result):
    again = localizer.localize_features(extract(clip))
    np.testing.assert_array_equal(again.events.segments, result.events.segments)


def test_features_of_another_protocol_are_refused(localizer, clip):
    features = extract(clip)
    other = replace(features, spec=replace(features.spec, version=7))
    with pytest.raises(ConfigError, match=r"features do not fit: version is 1 in the model but 7 in .*a clip\.mkv"):
        localizer.localize_features(other)


def test_events_lie_where_there_are_pictures_and_sound(localizer, tmp_path):
    path = make_media(tmp_path / "a.mkv", seconds=5, audio_start=1.5, samples=tone(2.0, 16000))
    result = localizer.localize(path)
    assert len(result.events)
    assert result.events.segments.min() >= 1.45
    assert result.events.segments.max() <= 3.6


@pytest.mark.parametrize(
    "content",
    [{"picture": lambda t: np.zeros((48, 64, 3), np.uint8)}, {"samples": np.zeros(48000, np.float32)}],
    ids=["all black", "all silent"],
)
def test_a_black_or_silent_file_is_localized_like_any_other(localizer, tmp_path, content):
    result = localizer.localize(make_media(tmp_path / "a.mkv", **content))
    assert np.isfinite(result.events.scores).all()
    assert all(np.isfinite(gate).all() for gate in result.gates.values())


def needing(localizer, *tracks: str) -> davel.Localizer:
    return davel.Localizer(localizer.model, replace(localizer.info, tracks=tracks), "")


@pytest.mark.parametrize(("needed", "given", "missing"), [("audio", "sound", "video"), ("visual", "pictures", "audio")])
def test_a_model_says_which_tracks_a_file_must_have(localizer, tmp_path, needed, given, missing):
    content = {"picture": None} if given == "sound" else {"sound": False}
    path = make_media(tmp_path / "a.mkv", seconds=4, **content)
    with pytest.raises(MediaError, match=f"has no {missing} track"):
        localizer.localize(path)
    alone = needing(localizer, needed)
    result = alone.localize(path)
    assert len(result.events)
    assert result.coverage.both == getattr(result.coverage, "audio" if given == "sound" else "video")
    (other,) = {"audio", "visual"} - {needed}
    with pytest.raises(MediaError, match=f"has no {missing} track"):
        needing(localizer, other).localize(path)
    features = read_features(path, tracks=(needed,))
    arrays = dict(zip(("visual", "audio"), map(np.concatenate, zip(*features.steps(), strict=True)), strict=True))
    assert not arrays[other].any()
    assert arrays[needed].any()
    assert len(arrays[other]) == len(arrays[needed])


def test_a_track_that_need_not_be_there_is_used_where_it_is(localizer, clip, result):
    assert list(needing(localizer, "audio").localize(clip).events) == list(result.events)


def test_the_json_holds_everything_needed_to_trust_the_events(result, localizer, tmp_path):
    content = json.loads(result.save(tmp_path / "a.json").read_text())
    assert content["schema"] == "davel.events/1"
    assert content["media"]["path"].endswith("a clip.mkv")
    assert content["media"]["video"]["codec"] == "h264"
    assert content["model"]["name"] == "tiny"
    assert content["model"]["weights_sha256"] == localizer.weights_sha256
    assert content["model"]["features"]["name"] == "light"
    assert content["settings"]["threshold"] == 0
    assert content["coverage"]["end"] == result.coverage.both[1]
    event = content["events"][0]
    assert event.keys() == {"id", "label", "label_id", "start", "end", "score"}
    assert content["labels"][event["label_id"]] == event["label"]
    assert len(content["events"]) == len(result.events)
    assert len(content["gates"]["audio"]) == len(result.times)


def test_the_csv_has_a_line_per_event(result, tmp_path):
    lines = result.save(tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "file,label,start,end,score"
    assert len(lines) == 1 + len(result.events)
    assert f",{result.events[0].label},{result.events[0].start:.3f}," in lines[1]


def test_a_part_says_where_it_looked(localizer, tmp_path):
    result = localizer.localize(
        make_media(tmp_path / "a.mkv", seconds=30, picture=lambda t: grey(90)), start=12.0, end=17.5
    )
    assert result.span == (12.0, 17.5)
    assert result.to_dict()["coverage"]["start"] == 12.0
    assert len(result.events)
    assert result.events.segments.min() >= 12
    assert result.events.segments.max() <= 17.5


def test_another_format_is_refused(result, tmp_path):
    with pytest.raises(ConfigError, match=r"a\.doc: what format is that\? Say --to, or end .* \.json, \.csv"):
        result.save(tmp_path / "a.doc")


def test_a_result_is_written_whole_or_not_at_all(result, tmp_path, monkeypatch):
    def full(self, text):
        with self.open("wb") as stream:
            stream.write(text[:50])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_file_is_localized_on_the_files_clock(localizer, tmp_path):
    path = make_media(tmp_path / "a.mkv", seconds=40, picture=lambda t: grey(int(6 * t)))
    part = localizer.localize(path, threshold=0.0, start=21.5, end=33.0)
    assert len(part.events)
    assert all(21.5 <= e.start < e.end <= 33.0 for e in part.events)
    step = part.timing.step_seconds
    assert part.timing.start == pytest.approx(64 * step)  # a multiple of the coarsest level's step
    assert part.times[0] == pytest.approx(part.timing.start + 0.48)
    assert part.coverage.both == (pytest.approx(part.timing.start, abs=0.07), 33.0)
    again = localizer.localize(path, threshold=0.0, start=part.timing.start, end=33.0)
    np.testing.assert_array_equal(again.gates["audio"], part.gates["audio"])


def test_a_part_is_not_looked_for_among_kept_features(localizer, clip, tmp_path):
    with pytest.raises(ConfigError, match="kept features are those of whole files"):
        localizer.localize(clip, kept=tmp_path, start=1.0)


# Models on disk


def test_a_missing_model_is_named_with_those_there_are(tmp_path):
    with pytest.raises(MissingError, match="no model 'nobody'"):
        davel.load("nobody")
    with pytest.raises(MissingError, match=r"expected a folder with model\.json"):
        davel.load(tmp_path)


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    folder = tiny_model(tmp_path)
    model, info, digest = load_model(folder)
    assert info == INFO
    assert len(digest) == 64
    again, _, same = load_model(tiny_model(tmp_path / "again"))
    assert same == digest
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def edit(folder: Path, **changes) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other/1"}, r"expected schema 'davel.model/1', got 'other/1'"),
        ({"config": {"widht": 3}}, r"config: widht: unknown key"),
        ({"labels": ["a"]}, r"3 classes .* but there are 1 labels"),
        ({"features": {"name": "light"}}, r"not a feature specification"),
        ({"threshold": None}, r"not a model's description"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, changes, message):
    edit(tiny_model(tmp_path), **changes)
    with pytest.raises(ConfigError, match=message):
        davel.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    tiny_model(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="these are not the weights of"):
        davel.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ConfigError, match="cannot read the weights"):
        davel.load(tmp_path)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_checkpoint_that_wants_to_run_code_is_refused(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"a\.pt: refused: .* wants to run code"):
        read_checkpoint(tmp_path / "a.pt")
    assert capsys.readouterr().out == ""


def test_a_checkpoint_of_tensors_is_read(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["epoch"] == 3


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.pt: "):
        read_checkpoint(tmp_path / "a.pt")


def test_a_missing_device_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="device 'abacus' is not there: choose auto"):
        davel.load(tiny_model(tmp_path), device="abacus")


# Which files are meant


def test_folders_and_globs_stand_for_their_videos(tmp_path, monkeypatch):
    for name in ("b.mp4", "a.MKV", "notes.txt", "c.json"):
        (tmp_path / name).touch()
    (tmp_path / "sub.mp4").mkdir()
    names = [p.name for p in expand([tmp_path])]
    assert names == ["a.MKV", "b.mp4"]
    monkeypatch.chdir(tmp_path)
    assert expand([Path("*.mp4"), Path("b.mp4")]) == [Path("b.mp4")]
    assert expand([tmp_path / "*.txt"]) == [tmp_path / "notes.txt"]


def test_a_name_with_brackets_is_a_file_if_it_is_there(tmp_path):
    path = tmp_path / "take [1].mp4"
    path.touch()
    assert expand([path]) == [path]


def test_a_folder_or_glob_without_videos_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no videos in this folder"):
        expand([tmp_path])
    with pytest.raises(ConfigError, match="no file has such a name"):
        expand([tmp_path / "*.mp4"])


def test_a_missing_file_is_left_for_its_reader(localizer, tmp_path):
    (path,) = expand([tmp_path / "none.mp4"])
    with pytest.raises(MediaError, match="check the name"):
        localizer.localize(path)


def test_auto_falls_back_to_the_cpu_where_the_models_runtime_has_no_accelerator(localizer, monkeypatch):
    tried = []

    class OnnxOnMac:
        def to(self, device):
            tried.append(device.type)
            if device.type != "cpu":
                raise ConfigError("ONNX Runtime is used on cpu and cuda here, not on mps")

    monkeypatch.setattr("davel.localize.localizer.choose_device", lambda name: torch.device("mps"))
    own = davel.Localizer(OnnxOnMac(), localizer.info, "")
    own.to("auto")
    assert tried == ["mps", "cpu"]
    with pytest.raises(ConfigError, match="not on mps"):
        own.to("mps")
