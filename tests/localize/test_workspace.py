"""Models that are open, and what is told while they work."""

from __future__ import annotations

import os

import pytest
from media_files import make_media
from tiny import tiny_model

import davel
from davel.core.errors import MissingError
from davel.localize import Failure, Request, localize_files


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path / "model")


def test_a_model_is_opened_once(model):
    workspace = davel.Workspace()
    localizer = workspace.localizer(model, "cpu")
    assert workspace.localizer(str(model), "cpu") is localizer
    assert davel.Workspace().localizer(model, "cpu") is not localizer


def test_a_model_that_has_changed_is_read_again(model):
    workspace = davel.Workspace()
    before = workspace.localizer(model, "cpu")
    os.utime(model / "model.json", ns=(1, 1))
    assert workspace.localizer(model, "cpu") is not before


def test_the_model_that_was_not_used_for_longest_goes_first(model, tmp_path):
    others = [tiny_model(tmp_path / name) for name in ("a", "b")]
    workspace = davel.Workspace(most_models=2)
    first = workspace.localizer(model, "cpu")
    second = workspace.localizer(others[0], "cpu")
    assert workspace.localizer(model, "cpu") is first
    workspace.localizer(others[1], "cpu")
    assert workspace.localizer(model, "cpu") is first
    assert workspace.localizer(others[0], "cpu") is not second


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MissingError, match="no model 'nobody'"):
        davel.Workspace().localizer("nobody")


def test_exported_models_lie_in_the_workspaces_folder(model, tmp_path, monkeypatch):
    asked = []

    def exported(name, folder):
        asked.append(folder)
        raise MissingError("no exporter here")

    monkeypatch.setattr("davel.models.onnx.exported", exported)
    with pytest.raises(MissingError, match="no exporter"):
        davel.Workspace(home=tmp_path / "mine").localizer(model, runtime="onnx")
    assert asked == [tmp_path / "mine"]


def test_files_share_the_model_that_is_open_and_tell_how_far_they_are(model, tmp_path, monkeypatch):
    files = [make_media(tmp_path / f"{name}.mkv", seconds=3) for name in "ab"]
    requests = [Request(path, str(model), "cpu") for path in (*files, tmp_path / "gone.mkv")]
    workspace, told, written = davel.Workspace(), [], []

    def report(step, done, total, note=""):
        told.append((step, round(done, 3), total, note))

    workspace.localizer(str(model), "cpu")
    monkeypatch.setattr("davel.localize.workspace.load", lambda *args, **kwargs: pytest.fail("opened again"))
    outcomes = list(localize_files(requests, written.append, workspace=workspace, report=report))
    assert [result.info.path for result in written] == files
    assert isinstance(outcomes[2], Failure)
    assert {step for step, *_ in told} == {"localize"}
    assert {total for _, _, total, _ in told} == {3}
    done = [done for _, done, _, _ in told]
    assert done == sorted(done)
    assert done[-1] == 3
    assert any(0 < d < 1 and note.startswith("a.mkv: 0:00:0") for _, d, _, note in told)


def test_progress_is_the_old_name_of_report(model, tmp_path):
    path, seconds, reports = make_media(tmp_path / "a.mkv", seconds=3), [], []
    localizer = davel.load(model, "cpu")
    with pytest.warns(DeprecationWarning, match="progress is report now"):
        localizer.localize(path, progress=seconds.append)
    localizer.localize(path, report=lambda step, done, total, note="": reports.append((step, done, note)))
    assert [done for _, done, _ in reports] == seconds
    assert {(step, note) for step, _, note in reports} == {("localize", "a.mkv")}
