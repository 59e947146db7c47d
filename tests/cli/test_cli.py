"""The commands as their users call them: what is written where, and the exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import make_media
from tiny import LABELS, tiny_model

import davel


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


def clip(folder: Path, name: str = "clip.mp4", seconds: float = 3) -> Path:
    return make_media(folder / name, seconds=seconds)


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text


def test_help_needs_no_torch():
    code = "import sys, davel.cli; davel.cli.app; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    text = subprocess.run([sys.executable, "-m", "davel", "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("localize", "train", "evaluate", "compare", "ablate", "plot", "data", "scenes", "demo"):
        assert command in text


def test_version(run):
    assert run("--version") == (0, f"davel {davel.__version__}\n", "")


def test_localize_writes_json_beside_and_a_table_on_stdout(run, model, tmp_path):
    code, out, err = run("localize", clip(tmp_path), "-m", model)
    assert code == 0
    assert err == ""
    content = json.loads((tmp_path / "clip.json").read_text())
    assert f"clip.mp4: {len(content['events'])} events in 0.0-" in out
    assert any(label in out for label in LABELS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.json", "clip.mp4"]


def test_localize_writes_what_is_asked_for_where_it_is_asked_for(run, model, tmp_path):
    pytest.importorskip("matplotlib")
    clip(tmp_path, "a b.mp4")
    code, *_ = run("localize", tmp_path, "-m", model, "-o", "out/deep", "-f", "json,csv", "--plot", "--top-k", 3)
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "out" / "deep").iterdir()) == ["a b.csv", "a b.json", "a b.png"]
    assert len(json.loads((tmp_path / "out" / "deep" / "a b.json").read_text())["events"]) == 3
    assert (tmp_path / "out" / "deep" / "a b.png").read_bytes().startswith(b"\x89PNG")


def test_thresholds_of_the_classes_are_used_and_drawn(run, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tiny_model(tmp_path / "model")
    clip(tmp_path)
    code, _, err = run("localize", "clip.mp4", "-m", folder, "--threshold", "auto")
    assert code == 4
    assert "fit them on validation videos with `davel evaluate MODEL --fit-thresholds`" in err
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | {"thresholds": [1.0, 1.0, 0.0]}))
    code, _, err = run("localize", "clip.mp4", "-m", folder, "--threshold", "auto", "--plot")
    assert code == 0, err
    events = json.loads((tmp_path / "clip.json").read_text())["events"]
    assert {event["label"] for event in events} == {LABELS[2]}


def test_localize_to_stdout_writes_nothing_else(run, model, tmp_path):
    code, out, _ = run("localize", clip(tmp_path), "-m", model, "-o", "-")
    assert code == 0
    assert json.loads(out)["schema"] == "davel.events/1"
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_terminal_shows_how_far_it_is_and_how_long_it_takes(model, tmp_path):
    path = make_media(tmp_path / "long.mkv", seconds=100, picture=lambda t: np.full((48, 64, 3), 90, np.uint8))
    master, slave = pty.openpty()
    code = "import sys, davel.cli as cli; sys.argv[0] = 'davel'; cli.main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "localize", path, "-m", model, "-o", tmp_path],
        stdout=subprocess.DEVNULL,
        stderr=slave,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    ) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(master, 65536):
                shown += part
    os.close(master)
    assert process.returncode == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown)
    assert re.search(rb"0:\d\d:\d\d \S*0:\d\d:\d\d\S* long.mkv: 0:0\d:\d\d of 0:01:40", plain)


def test_the_command_and_the_api_find_the_same(run, model, tmp_path):
    path = clip(tmp_path)
    run("localize", path, "-m", model)
    assert (
        json.loads((tmp_path / "clip.json").read_text())["events"]
        == davel.load(model).localize(path).to_dict()["events"]
    )


def test_failed_files_are_listed_and_the_others_done(run, model, tmp_path):
    good = clip(tmp_path)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("words " * 99)
    code, out, err = run("localize", good, "empty.mp4", "words.mp4", "gone.mp4", "-m", model)
    assert code == 3
    assert (tmp_path / "clip.json").exists()
    assert "clip.mp4:" in out
    lines = err.splitlines()
    assert lines[0].startswith("davel: empty.mp4: is empty")
    assert lines[1].startswith("davel: words.mp4: not a media file")
    assert lines[2].startswith("davel: gone.mp4: cannot open: No such file")
    assert lines[3] == "davel: 3 of 4 files failed, the others are done:"
    assert not list(tmp_path.glob("*.tmp"))
    assert not (tmp_path / "empty.json").exists()


def test_names_are_shown_as_they_are(run, model, tmp_path):
    code, out, _ = run("localize", clip(tmp_path, "take [bold]1.mp4"), "-m", model)
    assert code == 0
    assert "take [bold]1.mp4: " in out


@pytest.mark.parametrize("name", ["new\nline.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_a_strange_name_is_written_and_told_on_one_line(run, model, tmp_path, name):
    os.rename(clip(tmp_path, "plain.mp4"), tmp_path / name)
    code, out, _ = run("localize", tmp_path / name, "-m", model, "-f", "json,csv")
    assert code == 0
    out.encode("utf-8")
    assert Path(tmp_path / name).with_suffix(".json").exists()
    (tmp_path / name).write_bytes(b"")
    code, _, err = run("localize", tmp_path / name, "-m", model)
    assert code == 3
    assert one_line(err)


def test_a_full_disk_is_told_and_leaves_no_half_result(run, model, tmp_path, monkeypatch):
    def full(self, text, **kwargs):
        raise OSError(28, "No space left on device", str(self))

    path = clip(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run("localize", path, "-m", model)
    assert code == 3
    assert one_line(err)
    assert "No space left on device" in err
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_two_inputs_of_one_name_are_refused_before_any_work(run, model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        clip(tmp_path / folder)
    code, _, err = run("localize", "a/clip.mp4", "b/clip.mp4", "-m", model)
    assert code == 2
    assert "would both be written" in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "clip.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["localize"], 2, "Missing argument"),
        (["localize", "x.mp4", "--threshold", "2"], 2, "expected a score from 0 to 1, or auto, got '2'"),
        (["localize", "x.mp4", "-o", "-", "--plot"], 2, "stdout takes one format"),
        (["localize", "x.mp4", "--annotations", "a.json"], 2, "--plot only"),
        (["localize", "x.mp4", "-f", "doc"], 4, "unknown format 'doc'"),
        (["localize", ".", "-m", "tiny"], 4, "no videos in this folder"),
        (["localize", "x.mp4", "-m", "nobody"], 5, "no model 'nobody'"),
        (["localize", "x.mp4", "--device", "abacus"], 4, "device 'abacus' is not there"),
        (["train", "none.yaml"], 4, "cannot read the configuration"),
        (["fly"], 2, "No such command"),
        (["scenes", "out", "--videos", "0"], 2, "greater than or equal to 1"),
        (["scenes", "out", "--subset", "exam"], 4, "scenes need"),
    ],
)
def test_each_mistake_has_its_exit_code_and_its_line(run, model, arguments, code, message):
    if "abacus" in arguments:
        arguments = [*arguments, "-m", model]
    got, out, err = run(*arguments)
    assert got == code, err
    assert message in " ".join(err.replace("│", " ").split())
    assert out == ""
    assert code == 2 or one_line(err)


def test_an_unexpected_error_ends_in_one_line(run, monkeypatch):
    def break_down(*args, **kwargs):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("davel.localize.plan", break_down)
    code, _, err = run("localize", "x.mp4")
    assert code == 1
    assert one_line(err)
    assert "unexpected ZeroDivisionError" in err


def test_an_interrupted_command_exits_with_130(run, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("davel.localize.plan", interrupt)
    assert run("localize", "x.mp4")[0] == 130


def test_without_matplotlib_a_plot_is_refused_with_the_remedy(run, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run("localize", clip(tmp_path), "-m", model, "--plot")
    assert code == 5
    assert err == "davel: pictures need matplotlib: pip install 'davel[plots]'\n"


def test_warnings_go_to_stderr_and_into_the_result(run, model, tmp_path):
    path = clip(tmp_path, "a.ts", seconds=6)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    code, _, err = run("localize", path, "-m", model)
    assert code == 0
    assert "damaged" in err
    assert json.loads((tmp_path / "a.json").read_text())["coverage"]["warnings"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--start", "soon"], "expected seconds or H:MM:SS, got 'soon'"),
        (["--start", "1:00", "--end", "59"], "must lie behind --start"),
        (["--end", "-3"], "expected seconds or H:MM:SS"),
        (["--start", "3", "--features", "kept"], "are for whole files"),
    ],
)
def test_parts_that_cannot_be_are_refused(run, tmp_path, options, complaint):
    make_media(tmp_path / "clip.mp4", seconds=2)
    code, _, err = run("localize", "clip.mp4", *options)
    assert code == 2
    assert complaint in " ".join(err.replace("│", " ").split())


def test_a_part_is_localized(run, tmp_path):
    make_media(tmp_path / "clip.mp4", seconds=8)
    code, _, err = run("localize", "clip.mp4", "--start", "0:02", "--end", "6.5", "--threshold", "0")
    assert code == 0, err
    content = json.loads((tmp_path / "clip.json").read_text())
    assert all(2 <= e["start"] < e["end"] <= 6.5 for e in content["events"])
    code, _, err = run("localize", "clip.mp4", "--start", "1:00:00")
    assert code == 3
    assert "clip.mp4: ends at 8.0 s, before the start: choose an earlier one" in err
