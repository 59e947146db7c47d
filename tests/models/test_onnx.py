"""A model as an ONNX file: the same events through ONNX Runtime."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from media_files import grey, make_media
from tiny import CONFIG, INFO, tiny_model
from web_server import assert_alike, start

import davel
from davel.core.errors import ConfigError
from davel.core.events import EventList
from davel.features.light import SPEC
from davel.formats import read
from davel.models import Unav, UnavConfig, build
from davel.models.onnx import TOLERANCE, export, load_onnx
from davel.models.saved import ModelInfo, load_model, save_model
from davel.web.settings import LEAST_SCORE

pytest.importorskip("onnxruntime")


FEW_NODES = replace(CONFIG, num_levels=2, num_heads=1, c2f=False, f2c=False, tdm=False)
"""The exporter's time goes by nodes; the whole networks are in the slow lane."""


@pytest.fixture(scope="module")
def model(shared):
    return shared("few-nodes", lambda folder: tiny_model(folder, FEW_NODES))


@pytest.fixture(scope="module")
def file(model, shared):
    def write(path):
        assert export(model, path) <= TOLERANCE

    return shared("few-nodes.onnx", write)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("clip") / "clip.mkv", seconds=30, picture=lambda t: grey(90))


@pytest.mark.parametrize("T", [1, 2, 15, 31, 32])
def test_outputs_are_those_of_the_model_at_any_length(model, file, T):
    network, _, _ = load_model(model)
    exported, _, _ = load_onnx(file)
    visual, audio = torch.randn(1, T, CONFIG.visual_dim), torch.randn(1, T, CONFIG.audio_dim)
    mask = torch.ones(1, T, dtype=torch.bool)
    with torch.inference_mode():
        expected, found = network(visual, audio, mask), exported(visual, audio, mask)
    ours, theirs = expected.candidates(), found.candidates()
    real = theirs.scores[0].any(-1)  # the others are behind the video's end
    assert real.sum() == ours.scores.shape[1]
    torch.testing.assert_close(theirs.scores[:, real], ours.scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.segments[:, real], ours.segments, atol=1e-4, rtol=1e-4)
    assert expected.curves().keys() == found.curves().keys() == {"gate from audio", "gate from visual"}
    for name, curve in expected.curves().items():
        torch.testing.assert_close(found.curves()[name], curve, atol=1e-4, rtol=1e-4)


def in_time(events: EventList) -> EventList:
    start, end = events.segments.round(2).T
    return events.select(np.lexsort((end, start, events.label_ids)))


def test_events_are_those_of_the_model_also_of_a_long_video(model, file, clip):
    expected = davel.load(model).localize(clip)
    found = davel.load(file).localize(clip)
    assert (found.model, found.weights_sha256) == (expected.model, expected.weights_sha256)
    assert found.features == expected.features
    ours, theirs = in_time(expected.events), in_time(found.events)  # of equal scores, any may come first
    np.testing.assert_array_equal(theirs.label_ids, ours.label_ids)
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-4)
    np.testing.assert_allclose(theirs.segments, ours.segments, atol=1e-3)
    np.testing.assert_allclose(found.gates["audio"], expected.gates["audio"], atol=1e-4)


@pytest.mark.slow
def test_the_whole_network_is_exported(tmp_path):
    assert export(tiny_model(tmp_path / "whole"), tmp_path / "whole.onnx") <= TOLERANCE


@pytest.mark.slow
def test_a_network_without_gates_is_exported_too(tmp_path):
    torch.manual_seed(0)
    config = UnavConfig(
        num_classes=3, visual_dim=SPEC.visual_dim, audio_dim=SPEC.audio_dim, max_length=32, width=8, class_width=4
    )
    network = build(config)
    assert isinstance(network, Unav)
    info = ModelInfo(**vars(INFO) | {"name": "plain", "config": config})
    save_model(tmp_path / "plain", network, info)
    assert export(tmp_path / "plain", tmp_path / "plain.onnx") <= TOLERANCE
    exported, _, _ = load_onnx(tmp_path / "plain.onnx")
    found = exported(torch.zeros(1, 5, SPEC.visual_dim), torch.zeros(1, 5, SPEC.audio_dim), torch.ones(1, 5) > 0)
    assert found.curves() == {}


@pytest.mark.slow
def test_the_commands(run, model, clip, monkeypatch, tmp_path):
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "home"))
    code, out, err = run("export", model, "-o", "m.onnx")
    assert (code, err) == (0, "")
    assert out.startswith("m.onnx: ")
    assert run("localize", clip, "-m", "m.onnx", "-o", "a", "-f", "csv", "--device", "cpu")[0] == 0
    assert run("localize", clip, "-m", model, "-o", "b", "-f", "csv", "--runtime", "onnx", "--device", "cpu")[0] == 0
    assert run("localize", clip, "-m", model, "-o", "c", "-f", "csv", "--device", "cpu")[0] == 0
    ours, theirs = (in_time(read(tmp_path / name / "clip.csv")[0].events) for name in ("a", "b"))
    np.testing.assert_array_equal(theirs.label_ids, ours.label_ids)
    np.testing.assert_allclose(theirs.segments, ours.segments, atol=2e-3)  # the kept file's graph is optimized
    assert len((tmp_path / "c" / "clip.csv").read_text().splitlines()) > 1
    assert len(list((tmp_path / "home" / "onnx").iterdir())) == 1  # exported once, and kept
    code, _, err = run("localize", clip, "-m", "m.onnx", "--runtime", "torch")
    assert code == 4
    assert "not ONNX files" in err
    code, _, err = run("evaluate", "m.onnx", "--annotations", "x.json", "--videos", "v")
    assert code in (4, 5)


@pytest.mark.slow
def test_a_file_is_served_as_it_is_localized(run, file, clip, tmp_path):
    pytest.importorskip("fastapi")
    running = start(tmp_path / "data", "-m", file)
    try:
        assert running.json("GET", "/api/info")["model"]["labels"] == list(INFO.labels)
        found = running.json("GET", f"/api/jobs/{running.done(clip)['id']}/events")["events"]
    finally:
        running.stop()
    assert run("localize", clip, "-m", file, "--threshold", LEAST_SCORE, "--device", "cpu")[0] == 0
    expected = json.loads((tmp_path / "clip.json").read_text())["events"]
    assert_alike(found, expected)


def test_other_files_are_not_served(run, tmp_path):
    pytest.importorskip("fastapi")
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    for name, reason in (("bad.onnx", "not an ONNX model"), ("absent.onnx", "cannot read: No such file")):
        code, _, err = run("serve", "-m", name, "--data", "data")
        assert code == 4
        assert f"{name}: {reason}" in err


def test_other_files_are_refused(run, model, clip, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    code, _, err = run("localize", clip, "-m", "bad.onnx", "--device", "cpu")
    assert code == 4
    assert "bad.onnx: not an ONNX model" in err
    code, _, err = run("localize", clip, "-m", "absent.onnx", "--device", "cpu")
    assert code == 4
    assert "absent.onnx: cannot read: No such file" in err
    code, _, err = run("export", model, "-o", "m.pt")
    assert code == 2


def test_a_file_of_another_program_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    ])  # fmt: skip
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match="was not written by `davel export`"):
        load_onnx(tmp_path / "other.onnx")


@pytest.mark.slow
def test_an_export_that_differs_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr("davel.models.onnx.TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="nothing was written"):
        export(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
