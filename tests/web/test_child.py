"""The process that reads one video, within its limits."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import make_media

from davel.web import child
from davel.web.jobs import Kind
from davel.web.runner import last_words

pytestmark = pytest.mark.slow


def task_of(
    path: Path, folder: Path, model: Path, memory_bytes: int = 4_000_000_000, kind: Kind = "events"
) -> child.Task:
    return child.Task(kind, str(path), path.name, str(folder), memory_bytes, str(model), "cpu")


def run_child(task: child.Task, *command: str) -> list[dict]:
    """What it told, and what the server tells of one that ended without a word."""
    with subprocess.Popen(
        [sys.executable, *(command or ("-m", "davel.web.child"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(child.to_json(task) + "\n")
            process.stdin.flush()
        told = [json.loads(line) for line in process.stdout]
        said = process.stderr.read().splitlines()[-3:]
    ended = told and ("error" in told[-1] or told[-1].get("done"))
    return told if ended else [*told, {"error": last_words(task.name, process.returncode, said)}]


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("huge")
    return make_media(
        folder / "huge.mp4", times=[0.0, 0.04, 0.08], picture=lambda t: np.zeros((8000, 8000, 3), np.uint8), seconds=1
    )


@pytest.mark.parametrize("megabytes", [350, 500, 650, 800])
def test_a_job_takes_no_more_memory_than_it_may(huge, tiny, tmp_path, megabytes):
    """FFmpeg fails in many ways where memory is short, and with some amounts drops pictures without a word."""
    task = task_of(huge, tmp_path, tiny, megabytes * 1_000_000)
    assert "more memory than a job may" in run_child(task)[-1]["error"]
    assert not (tmp_path / "result.json").exists()


def test_a_copy_takes_no_more_memory_than_it_may(huge, tiny, tmp_path):
    task = task_of(huge, tmp_path, tiny, 350_000_000, "copy")
    assert "more memory than a job may" in run_child(task)[-1]["error"]
    assert list(tmp_path.iterdir()) == []


def test_what_was_mapped_and_let_go_is_not_taken_for_memory(tmp_path):
    """As the weights of a large model are."""
    program = (
        "import mmap, resource; from davel.web.child import Memory; "
        "resource.setrlimit(resource.RLIMIT_DATA, (2 * 10**9, 2 * 10**9)); "
        "file = open('big', 'w+b'); file.truncate(10**9); memory = Memory(); "
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); mapped.close(); memory.loaded(); "
        "few = bytearray(10**8); assert not memory.is_short; del few; "
        "much = bytearray(1_700_000_000); assert memory.is_short"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_a_job_that_takes_less_memory_is_done(short_clip, tiny, tmp_path):
    task = task_of(short_clip, tmp_path, tiny)
    assert run_child(task)[-1]["done"]


def test_a_job_ends_with_its_server(long_clip, tiny, tmp_path):
    task = task_of(long_clip, tmp_path, tiny)
    with subprocess.Popen(
        [sys.executable, "-m", "davel.web.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(child.to_json(task) + "\n")
        process.stdin.close()
        assert process.wait(60) == 1
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("child.MAX_OUTPUT_BYTES = 20_000", "the copy takes more than 2e-05 GB: cut the video into parts"),
        ("child.SPARE_BYTES = 2**62", "the server's disk is full: delete some videos"),
    ],
)
def test_a_copy_stays_within_its_limits(short_clip, tiny, tmp_path, limit, reason):
    task = task_of(short_clip, tmp_path, tiny, kind="copy")
    told = run_child(task, "-c", f"from davel.web import child\n{limit}\nchild.main()")
    assert told[-1]["error"] == f"clip.mp4: cannot be copied: {reason}"
    assert list(tmp_path.iterdir()) == []
    assert run_child(task)[-1]["done"]
    assert [p.name for p in tmp_path.iterdir()] == ["copy.mp4"]
