"""Jobs in processes of their own: here Python programs stand in for those that read a video."""

from __future__ import annotations

import os
import sqlite3
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from web_server import eventually

from davel.web.database import Database
from davel.web.jobs import Jobs
from davel.web.runner import Runner, last_words
from davel.web.settings import Limits, ServerSettings

BY_KIND = """
import json, sys, time
from pathlib import Path
task = json.loads(sys.stdin.readline())
(Path(task["output"]) / f".{task['kind']}.1.tmp").write_bytes(b"x")
print(json.dumps(dict(seconds=1, duration=2)), flush=True)
time.sleep(600 * (task["kind"] == "KIND"))
print(json.dumps(dict(seconds=2, duration=2, done=True)), flush=True)
"""


def runner_with(tmp_path: Path, program: str, **limits: float) -> tuple[Jobs, Runner]:
    """A runner whose jobs run a Python program instead of reading a video."""
    for name in ("uploads", "results"):
        (tmp_path / name).mkdir()
    jobs = Jobs(Database(tmp_path / "jobs.sqlite"))
    runner = Runner(jobs, ServerSettings(data=tmp_path, device="cpu", limits=Limits(**limits)), look_seconds=0.05)
    runner.command = (sys.executable, "-c", program)
    return jobs, runner


def outcome(jobs: Jobs, runner: Runner) -> tuple[str, str | None]:
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    runner.start()
    eventually(lambda: jobs.get(key).finished is not None)
    runner.stop()
    return jobs.get(key).state, jobs.get(key).error


def test_a_decoder_that_hangs_is_ended(tmp_path):
    tell = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    jobs, runner = runner_with(tmp_path, f"import os; os.chdir({str(tmp_path)!r}); {tell}", stall_seconds=2)
    assert outcome(jobs, runner) == ("failed", "x.mp4: nothing moved for 2 s: convert it with another tool")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_decoder_that_goes_on_for_ever_is_ended(tmp_path):
    program = (
        "import json, time\nfor n in range(10**6): print(json.dumps(dict(seconds=n, duration=9)), flush=True); "
        "time.sleep(.05)"
    )
    jobs, runner = runner_with(tmp_path, program, job_hours=2 / 3600)
    state, error = outcome(jobs, runner)
    assert state == "failed"
    assert "took longer than" in error


def test_a_process_that_dies_is_told(tmp_path):
    jobs, runner = runner_with(tmp_path, "import os; os.kill(os.getpid(), 11)")
    state, error = outcome(jobs, runner)
    assert state == "failed"
    assert "takes more memory than a job may, or breaks its decoder" in error


def test_a_process_that_ends_without_a_word_has_failed(tmp_path):
    jobs, runner = runner_with(tmp_path, "raise SystemExit('out of luck')")
    assert outcome(jobs, runner) == ("failed", "x.mp4: the process that read it ended with 1: out of luck")


def test_old_uploads_are_deleted(tmp_path):
    program = "import json; print(json.dumps(dict(seconds=1, duration=1, done=True)))"
    jobs, runner = runner_with(tmp_path, program, keep_days=1 / 86400)
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    (tmp_path / "uploads" / key).write_bytes(b"x")
    runner.start()
    eventually(lambda: not jobs.all())
    runner.stop()
    assert not jobs.all()
    assert not list((tmp_path / "uploads").iterdir())


def test_a_copy_does_not_wait_for_jobs(tmp_path):
    jobs, runner = runner_with(tmp_path, BY_KIND.replace("KIND", "copy"))
    first = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    runner.start()
    eventually(lambda: jobs.get(first).state == "done")
    runner.command = (sys.executable, "-c", BY_KIND.replace("KIND", "events"))
    second = jobs.add("y.mp4", "upload", "", 1, "queued", 9).id
    eventually(lambda: jobs.get(second).state == "running")
    jobs.ask_copy(first)
    eventually(lambda: jobs.copy(first).state == "done")
    assert jobs.get(second).state == "running"
    runner.stop()


def test_a_copy_ended_in_the_middle_leaves_nothing_whatever_ends_it(tmp_path):
    jobs, runner = runner_with(tmp_path, BY_KIND.replace("KIND", "copy"))
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    runner.start()
    eventually(lambda: jobs.get(key).state == "done")
    folder = runner.folder(key)
    assert list(folder.iterdir()) == []

    def begin() -> None:
        jobs.ask_copy(key)
        eventually(lambda: jobs.copy(key).seconds == 1)
        assert [p.name for p in folder.iterdir()] == [".copy.1.tmp"]

    begin()
    runner.delete_copy(key)
    begin()  # at once again: nothing of the first one ends the second
    assert jobs.copy(key).state == "running"
    runner.stop()
    assert list(folder.iterdir()) == []
    assert jobs.copy(key).state == "running"
    (folder / ".copy.2.tmp").write_bytes(b"of a server that was killed")
    again = Runner(jobs, ServerSettings(data=tmp_path, device="cpu"), look_seconds=0.05)
    again.command = (sys.executable, "-c", BY_KIND.replace("KIND", "nothing"))
    again.start()
    eventually(lambda: jobs.copy(key).state == "done")
    assert list(folder.iterdir()) == []
    again.command = runner.command
    again.delete_copy(key)
    begin()
    again.delete(key)
    eventually(lambda: not folder.exists())
    again.stop()
    assert not folder.exists()
    assert jobs.copy(key) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, ["OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily unavailable"]),
        (1, ["OpenBLAS error: Memory allocation still failed after 10 attempts, giving up.", "", "ended"]),
        (1, ["ImportError: libtorch_cpu.so: failed to map segment from shared object"]),
        (1, ["MemoryError"]),
        (-9, ["something"]),
        (-11, []),
        (1, []),
        (0, [""]),
    ],
)
def test_the_likely_reason_of_an_end_without_a_word_is_want_of_memory(code, said):
    assert last_words("x.mp4", code, said).startswith("x.mp4: takes more memory than a job may, or breaks its decoder")


def test_a_disk_that_is_full_for_a_while_ends_no_thread(tmp_path, monkeypatch):
    """The database refuses each call once, in the middle of the work; what was done is noted all the same."""
    program = "import json; print(json.dumps(dict(seconds=1, duration=1))); print('{\"sec')"
    done = "print(json.dumps(dict(seconds=1, duration=1, done=True)))"
    jobs, runner = runner_with(tmp_path, f"{program}; {done}")
    refused = set()
    for name in ("claim", "progress", "runs", "end"):
        kept = getattr(jobs, name)

        def once(*values, name=name, kept=kept):
            if name not in refused:
                refused.add(name)
                raise sqlite3.OperationalError("database or disk is full")
            return kept(*values)

        monkeypatch.setattr(jobs, name, once)
    assert outcome(jobs, runner) == ("done", None)
    assert refused == {"claim", "progress", "runs", "end"}


def test_the_identity_of_a_file_is_noted_before_it_is_read(tmp_path):
    program = "import json; print(json.dumps(dict(seconds=1, duration=1, done=True)))"
    jobs, runner = runner_with(tmp_path, program)
    key = jobs.add("x.mp4", "folder", "x.mp4", 1, "queued", 9).id
    (tmp_path / "uploads" / "x.mp4").write_bytes(b"x")
    runner.start()
    eventually(lambda: jobs.get(key).state == "done")
    runner.stop()
    assert jobs.get(key).content == sha256(b"x").hexdigest()


def test_the_identity_of_what_an_older_server_did_is_noted_at_the_start(tmp_path):
    jobs, runner = runner_with(tmp_path, "raise SystemExit")
    keys = [jobs.add(f"{name}.mp4", "upload", "", 1, "queued", 9).id for name in "ab"]
    for key in keys:
        jobs.claim()
        jobs.end("events", key)
    (tmp_path / "uploads" / keys[0]).write_bytes(b"x")  # the other is gone
    runner.start()
    eventually(lambda: jobs.get(keys[0]).content == sha256(b"x").hexdigest())
    runner.stop()
    assert jobs.get(keys[1]).content == f"job:{keys[1]}"
