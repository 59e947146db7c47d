"""What is to be found and written, decided before anything is read: no terminal, no model, no media."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from davel.core.errors import ConfigError
from davel.core.options import OptionError
from davel.localize import LocalizeOptions, plan


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cam1/0001.mp4", "cam2/0001.mp4", "cam2/0002.mp4", "cam2/0002.mkv", "x/a.b.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return tmp_path


def targets(*inputs: str, **options) -> dict[str, str]:
    requests = plan([Path(name) for name in inputs], LocalizeOptions(**{"output": "out"} | options))
    return {request.path.as_posix(): str(request.target) for request in requests}


def test_a_file_gives_its_name_to_its_results(folder):
    assert targets("x/a.b.mp4", "gone.mp4") == {"x/a.b.mp4": "out/a.b", "gone.mp4": "out/gone"}
    (request,) = plan([Path("x/a.b.mp4")], LocalizeOptions(output="out", format="json, vtt"))
    assert request.outputs(LocalizeOptions(format="json, vtt")) == {
        "json": Path("out/a.b.json"),
        "vtt": Path("out/a.b.vtt"),
    }


def test_files_of_one_name_from_a_glob_keep_their_folders(folder):
    assert targets("*/0001.mp4") == {"cam1/0001.mp4": "out/cam1/0001", "cam2/0001.mp4": "out/cam2/0001"}
    assert targets(str(folder / "cam*" / "*1.mp4"))[str(folder / "cam1/0001.mp4")] == "out/cam1/0001"
    assert targets("cam[1]/*.mp4", "x") == {"cam1/0001.mp4": "out/0001", "x/a.b.mp4": "out/a.b"}


def test_files_of_one_name_from_two_folders_keep_their_folders(folder):
    assert targets("cam1", "cam2/0001.mp4") == {"cam1/0001.mp4": "out/cam1/0001", "cam2/0001.mp4": "out/0001"}
    Path("cam2/0002.mkv").unlink()
    assert targets("cam1", "cam2") == {
        "cam1/0001.mp4": "out/cam1/0001",
        "cam2/0001.mp4": "out/cam2/0001",
        "cam2/0002.mp4": "out/0002",
    }


@pytest.mark.parametrize("inputs", [("cam1/0001.mp4", "cam2/0001.mp4"), ("cam2",), ("*/0002.m*",)])
def test_what_cannot_be_told_apart_is_refused(folder, inputs):
    with pytest.raises(OptionError, match=r"and .* would both be written to .*: use two runs, two -o"):
        targets(*inputs)
    assert set(targets(*inputs, output="-").values()) == {"None"}, "on stdout nothing is overwritten"


def test_no_name_of_a_glob_leads_out_of_the_folder(folder):
    Path("cam1/deep").mkdir()
    found = targets("cam1/*/../0001.mp4", "cam2/0001.mp4", output="-")
    assert len(found) == 2
    with pytest.raises(OptionError, match="would both"):
        targets("cam1/*/../0001.mp4", "cam2/0001.mp4")


def test_true_events_are_those_of_the_video(folder):
    entry = {"duration": 9.0, "subset": "test", "annotations": []}
    other = entry | {"annotations": [{"segment": [1.0, 2.0], "label": "bark", "label_id": 0}]}
    content = {"database": {"0001": entry, "a.b": other}}
    Path("truth.json").write_text(json.dumps(content))
    options = LocalizeOptions(plot=True, annotations=Path("truth.json"))
    with_truth, without = plan([Path("x/a.b.mp4"), Path("cam2/0002.mp4")], options)
    assert [event.label for event in with_truth.truth] == ["bark"]
    assert without.truth is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": " , "}, "format: name at least one format"),
        ({"output": "-", "format": "json,csv"}, "output: stdout takes one format and no plot"),
        ({"output": "-", "plot": True}, "stdout takes one format and no plot"),
        ({"annotations": Path("a.json")}, "is drawn with --plot only"),
        ({"start": 60.0, "end": 59.0}, "must lie behind --start, got 59"),
        ({"features": Path("kept"), "end": 2.0}, "are for whole files"),
        ({"idle": 3.0}, "goes with --follow only"),
        ({"follow": True, "top_k": 3}, "takes no --top-k"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, options, message):
    with pytest.raises(OptionError, match=message):
        plan([Path("x/a.b.mp4")], LocalizeOptions(**options))


def test_an_unknown_format_is_refused_before_any_work(folder):
    with pytest.raises(ConfigError, match="unknown format 'doc'") as refused:
        plan([Path("x/a.b.mp4")], LocalizeOptions(format="doc"))
    assert refused.value.exit_code == 4


def test_one_file_is_followed(folder):
    (request,) = plan([Path("-")], LocalizeOptions(follow=True, output="-", format="jsonl", idle=1.0, threshold=0.5))
    assert request.target is None
    assert request.threshold == 0.5
    with pytest.raises(OptionError, match="takes one file"):
        plan([Path("a.ts"), Path("b.ts")], LocalizeOptions(follow=True))
