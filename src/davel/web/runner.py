"""Does what waits, each thing in a process of its own that ends if it takes too much."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from davel.web.child import Kind, Task, to_json
from davel.web.jobs import Job, Jobs

LOOK_SECONDS = 0.2
SWEEP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What strangers may ask of this machine."""

    max_upload_bytes: int = 4_000_000_000
    max_uploads: int = 100
    keep_days: float = 7.0
    """After so many days an upload is deleted, with its events; the table of corrections stays."""
    memory_bytes: int = 4_000_000_000
    """Of one job's process."""
    stall_seconds: float = 120.0
    """A job that shows no progress for so long is ended."""
    job_hours: float = 24.0
    """A job that takes longer is ended."""


class Stopped(Exception):
    """The server ends."""


class Runner:
    """Threads that take job after job, and one more for copies, before which somebody sits and waits."""

    def __init__(
        self, jobs: Jobs, data: Path, videos: Path | None, model: str, device: str, limits: Limits, workers: int = 1
    ) -> None:
        """`data` is the server's folder, `videos` that of the files on the server that may be chosen."""
        self.jobs, self.data, self.videos, self.limits = jobs, data, videos, limits
        self.model, self.device = model, device
        self.command: tuple[str, ...] = (sys.executable, "-m", "davel.web.child")
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(kind,), name=f"davel-{kind}-{n}")
            for kind, number in (("events", workers), ("copy", 1))
            for n in range(number)
        ]
        self._threads.append(threading.Thread(target=self._sweep, name="davel-sweep"))

    def start(self) -> None:
        for key in self.jobs.after_a_restart():
            self.remove_files(key)
        _remove_unfinished(self.data / "results", "*/")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """What runs waits for the next start."""
        self._stop.set()
        with self.jobs.changed:
            self.jobs.changed.notify_all()
        for thread in self._threads:
            thread.join()

    def folder(self, key: str) -> Path:
        """Of what was made of a job."""
        return self.data / "results" / key

    def media(self, job: Job) -> Path:
        return (self.data / "uploads" if job.source == "upload" or self.videos is None else self.videos) / job.media

    def copy(self, key: str) -> Path:
        """Of a job's video, for browsers."""
        return self.folder(key) / "copy.mp4"

    def delete(self, key: str) -> None:
        self.jobs.delete(key)
        self.remove_files(key)

    def delete_copy(self, key: str) -> None:
        self.jobs.drop_copy(key)
        self.copy(key).unlink(missing_ok=True)

    def remove_files(self, key: str) -> None:
        """An upload's id is its file's name."""
        (self.data / "uploads" / key).unlink(missing_ok=True)
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def _sweep(self) -> None:
        """Delete uploads that have been here for long."""
        while not self._stop.wait(min(SWEEP_SECONDS, self.limits.keep_days * 86400 / 4)):
            for job in self.jobs.all():
                old = job.finished is not None and time.time() - job.finished > 86400 * self.limits.keep_days
                if old and job.source == "upload":
                    self.delete(job.id)

    def _work(self, kind: Kind) -> None:
        while not self._stop.is_set():
            job = self.jobs.claim(kind)
            if job is None:
                with self.jobs.changed:
                    self.jobs.changed.wait(1.0)
                continue
            try:
                error = self._run(job, kind)
            except Stopped:
                return
            except Exception as problem:  # the thread must live on
                error = f"{job.name}: cannot be worked on: {getattr(problem, 'strerror', None) or problem}"
            if not self.jobs.end(kind, job.id, error):
                self._discard(job.id, kind)

    def _discard(self, key: str, kind: Kind) -> None:
        """What is not wanted any more leaves nothing."""
        self.copy(key).unlink(missing_ok=True)
        if kind == "events" or key not in self.jobs:
            shutil.rmtree(self.folder(key), ignore_errors=True)

    def _run(self, job: Job, kind: Kind) -> str | None:
        """What went wrong, if anything did."""
        folder = self.folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        task = Task(
            kind, str(self.media(job)), job.name, str(folder), self.limits.memory_bytes, self.model, self.device
        )
        child = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))},
        )
        assert child.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(to_json(task) + "\n")
                child.stdin.flush()
            return self._watch(job, kind, child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            _remove_unfinished(folder)

    def _watch(self, job: Job, kind: Kind, child: subprocess.Popen[str]) -> str | None:
        lines: queue.Queue[str | None] = queue.Queue()
        said: list[str] = []
        threading.Thread(target=_pump, args=(child.stdout, lines), daemon=True).start()
        listener = threading.Thread(target=_keep_last, args=(child.stderr, said), daemon=True)
        listener.start()
        began = moved = time.monotonic()
        furthest = -1.0
        while True:
            try:
                line = lines.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                line = ""
            if self._stop.is_set():
                raise Stopped
            if not self.jobs.runs(kind, job.id):
                return "cancelled"
            if line is None:
                child.wait()
                listener.join(1.0)
                return _last_words(job.name, child.returncode, said)
            now = time.monotonic()
            if line:
                news: dict[str, Any] = json.loads(line)
                if "error" in news:
                    return str(news["error"])
                if news["seconds"] > furthest:
                    furthest, moved = news["seconds"], now
                self.jobs.progress(kind, job.id, news["seconds"], news["duration"])
                if news.get("done"):
                    return None
            if now - moved > self.limits.stall_seconds:
                return f"{job.name}: nothing moved for {self.limits.stall_seconds:g} s: convert it with another tool"
            if now - began > 3600 * self.limits.job_hours:
                return f"{job.name}: took longer than {self.limits.job_hours:g} h: cut it into parts"


def _remove_unfinished(folder: Path, inside: str = "") -> None:
    """What a process that was ended had not yet given its name."""
    for path in folder.glob(f"{inside}.*.tmp"):
        path.unlink(missing_ok=True)


def _pump(pipe: Any, lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            lines.put(line)
    lines.put(None)


def _keep_last(pipe: Any, said: list[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            said[:] = [*said, line.strip()][-3:]


def _last_words(name: str, code: int, said: list[str]) -> str:
    """Why a process ended that told nothing."""
    last = next((line for line in reversed(said) if line), "")
    if "memory" in last.lower() or code in (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT):
        return f"{name}: takes more memory than a job may, or breaks its decoder: convert it, or raise --memory-gb"
    return f"{name}: the process that read it ended with {code}: {last or 'it said nothing'}"
