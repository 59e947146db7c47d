"""Does what waits, each thing in a process of its own that ends if it takes too much."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from davel.web.child import Task, to_json
from davel.web.jobs import Job, Jobs, Kind
from davel.web.settings import ServerSettings

WANTS_MEMORY = "memory|alloc|pthread_create|failed to map|temporarily unavailable"
"""What libraries say, each in its own words, of a process that gets no more."""
log = logging.getLogger(__name__)


class Stopped(Exception):
    """The server ends."""


class Runner:
    """Threads that take job after job, and one more for copies, before which somebody sits and waits."""

    def __init__(
        self, jobs: Jobs, settings: ServerSettings, *, look_seconds: float = 0.2, sweep_seconds: float = 60.0
    ) -> None:
        """What waits is looked for, and what runs looked at, every `look_seconds`; what is old, `sweep_seconds`."""
        self.jobs, self.settings, self.limits = jobs, settings, settings.limits
        self.look_seconds = look_seconds
        self.sweep_seconds = min(sweep_seconds, self.limits.keep_days * 86400 / 4)
        self.command: tuple[str, ...] = (sys.executable, "-m", "davel.web.child")
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(kind,), name=f"davel-{kind}-{n}")
            for kind, number in (("events", settings.workers), ("copy", 1))
            for n in range(number)
        ]
        self._threads.append(threading.Thread(target=self._sweep, name="davel-sweep"))

    def start(self) -> None:
        for key in self.jobs.after_a_restart():
            self.remove_files(key)
        _remove_unfinished(self.settings.data / "results", "*/")
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
        """Where that lies which was made of a job."""
        return self.settings.data / "results" / key

    def media(self, job: Job) -> Path:
        """The file of a job's video."""
        videos = None if job.source == "upload" else self.settings.videos
        return (videos or self.settings.data / "uploads") / job.media

    def copy(self, key: str) -> Path:
        """The copy of a job's video that browsers can play."""
        return self.folder(key) / "copy.mp4"

    def delete(self, key: str) -> None:
        self.jobs.delete(key)
        self.remove_files(key)

    def delete_copy(self, key: str) -> None:
        self.jobs.drop_copy(key)
        self.copy(key).unlink(missing_ok=True)

    def remove_files(self, key: str) -> None:
        """An upload's id is its file's name."""
        (self.settings.data / "uploads" / key).unlink(missing_ok=True)
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def _sweep(self) -> None:
        """Delete uploads that have been here for long, after each file's identity is known."""
        with contextlib.suppress(Stopped, sqlite3.Error):
            for job in self.jobs.all():
                if job.state == "done":
                    self._identify(job)
        while not self._stop.wait(self.sweep_seconds):
            try:
                for job in self.jobs.all():
                    old = job.finished is not None and time.time() - job.finished > 86400 * self.limits.keep_days
                    if old and job.source == "upload":
                        self.delete(job.id)
            except (OSError, sqlite3.Error) as error:
                log.warning("old uploads are not deleted: %s", error)

    def _identify(self, job: Job) -> None:
        """Note what the video is, by its file's sha256; what cannot be read is told when it is worked on."""
        if not job.content.startswith("job:"):
            return
        digest = sha256()
        with contextlib.suppress(OSError), self.media(job).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
                if self._stop.is_set():
                    raise Stopped
            self.jobs.identify(job.id, digest.hexdigest())

    def _work(self, kind: Kind) -> None:
        """Take one after another. Nothing but the server's end ends this thread, a full disk neither."""
        while not self._stop.is_set():
            try:
                job = self.jobs.claim(kind)
            except sqlite3.Error as error:
                log.warning("the server's database does not answer: %s", error)
                self._stop.wait(self.look_seconds)
                continue
            if job is None:
                with self.jobs.changed:
                    self.jobs.changed.wait(1.0)
                continue
            try:
                wrong = self._run(job, kind)
            except Stopped:
                return
            except Exception as problem:  # noqa: BLE001  # a thread that ends takes its jobs with it
                wrong = f"{job.name}: cannot be worked on: {getattr(problem, 'strerror', None) or problem}"
            self._end(job, kind, wrong)

    def _end(self, job: Job, kind: Kind, error: str | None) -> None:
        """Note how it went, as soon as the database takes it."""
        while not self._stop.is_set():
            try:
                if not self.jobs.end(kind, job.id, error):
                    self._discard(job.id, kind)
                return
            except sqlite3.Error as problem:
                log.warning("%s: how it ended cannot be noted yet: %s", job.name, problem)
                self._stop.wait(self.look_seconds)

    def _discard(self, key: str, kind: Kind) -> None:
        """What is not wanted any more leaves nothing."""
        self.copy(key).unlink(missing_ok=True)
        if kind == "events" or key not in self.jobs:
            shutil.rmtree(self.folder(key), ignore_errors=True)

    def _run(self, job: Job, kind: Kind) -> str | None:
        """What went wrong, if anything did."""
        folder, settings = self.folder(job.id), self.settings
        folder.mkdir(parents=True, exist_ok=True)
        self._identify(job)
        task = Task(
            kind, str(self.media(job)), job.name, str(folder), self.limits.memory_bytes, settings.model, settings.device
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
        furthest = -1.0, 0.0
        while True:
            try:
                line = lines.get(timeout=self.look_seconds)
            except queue.Empty:
                line = ""
            if self._stop.is_set():
                raise Stopped
            if not self._is_wanted(job, kind):
                return "cancelled"
            if line is None:
                child.wait()
                listener.join(1.0)
                return last_words(job.name, child.returncode, said)
            now = time.monotonic()
            news = _news(line)
            if news:
                if "error" in news:
                    return str(news["error"])
                reached = news["seconds"], news.get("drawn", 0.0)
                if reached > furthest:
                    furthest, moved = reached, now
                with contextlib.suppress(sqlite3.Error):  # the next will be noted
                    self.jobs.progress(kind, job.id, news["seconds"], news["duration"])
                if news.get("done"):
                    return None
            if now - moved > self.limits.stall_seconds:
                return f"{job.name}: nothing moved for {self.limits.stall_seconds:g} s: convert it with another tool"
            if now - began > 3600 * self.limits.job_hours:
                return f"{job.name}: took longer than {self.limits.job_hours:g} h: cut it into parts"

    def _is_wanted(self, job: Job, kind: Kind) -> bool:
        try:
            return self.jobs.runs(kind, job.id)
        except sqlite3.Error:
            return True  # as far as anybody knows


def _remove_unfinished(folder: Path, inside: str = "") -> None:
    """What a process that was ended had not yet given its name."""
    for path in folder.glob(f"{inside}.*.tmp"):
        path.unlink(missing_ok=True)


def _news(line: str) -> dict[str, Any]:
    """What a line tells; nothing if it broke off, as those of a process do that is ended in the middle of one."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def _pump(pipe: Any, lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            lines.put(line)
    lines.put(None)


def _keep_last(pipe: Any, said: list[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            said[:] = [*said, line.strip()][-3:]


def last_words(name: str, code: int, said: Sequence[str]) -> str:
    """Why a process ended that told nothing, as far as its code and the last lines of its stderr tell.

    One that gets no memory may be ended by the library that wanted it, with a word or without.
    """
    heard = [line for line in said if line]
    if not heard or re.search(WANTS_MEMORY, " ".join(heard), re.IGNORECASE) or code < 0:
        return f"{name}: takes more memory than a job may, or breaks its decoder: convert it, or raise --memory-gb"
    return f"{name}: the process that read it ended with {code}: {heard[-1]}"
