"""The process that reads one video: `python -m davel.web.child`, with a task as JSON on stdin's first line.

It has limits of its own, so that a file that was made to do harm harms no more than itself, and ends with the server:
stdin stays open as long as that lives. Tells its progress, and how it ended, as JSON lines on stdout.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from davel.core.progress import Report
from davel.web.jobs import Kind
from davel.web.settings import LEAST_SCORE, SPARE_BYTES

MAX_OUTPUT_BYTES = 2**30
SPARE = 0.25
"""The part of its memory that a job must leave: where it gets none, FFmpeg drops pictures without a word."""


@dataclass(frozen=True)
class Task:
    kind: Kind
    path: str
    name: str
    """What people call the file."""
    output: str
    """The folder for `result.json` and `peaks.bin`, or for `copy.mp4`."""
    memory_bytes: int
    model: str
    device: str


def limit(task: Task) -> None:
    """What this process may take. The memory is that which it writes to, not what it maps."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    memory = task.memory_bytes if most == resource.RLIM_INFINITY else min(task.memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Memory:
    """What this process took of what it may take, as far as the system tells."""

    def __init__(self) -> None:
        self.limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        self.loaded()

    def loaded(self) -> None:
        """What was mapped until now, and let go, does not count."""
        self.known_peak = self._sizes()[1]

    @property
    def is_short(self) -> bool:
        """Whether more than the limit less `SPARE` was taken since; not seen where more had been mapped before."""
        data, peak, size = self._sizes()
        is_limited = self.limit != resource.RLIM_INFINITY
        return is_limited and peak > self.known_peak and data + peak - size > (1 - SPARE) * self.limit

    @staticmethod
    def _sizes() -> tuple[int, int, int]:
        """Bytes that can be written, most that were mapped, and those that are; 0 where the system does not tell."""
        status = Path("/proc/self/status")
        if not status.exists():
            return 0, 0, 0
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        data, peak, size = (1024 * int(lines[name].split()[0]) for name in ("VmData", "VmPeak", "VmSize"))
        return data, peak, size


def tell(**content: object) -> None:
    print(json.dumps(content), flush=True)


def work(task: Task) -> None:
    """Do it, and tell how it goes."""
    from davel.core.errors import DavelError, printable
    from davel.media import probe

    path, told, memory = Path(task.path), 0.0, Memory()

    def report(step: str, done: float, total: float | None, note: str = "") -> None:
        nonlocal told
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            seconds, drawn = (total or 0.0, done) if step == "peaks" else (done, 0.0)
            tell(seconds=seconds, duration=duration, drawn=drawn)

    try:
        duration = probe(path).duration_seconds
        tell(seconds=0.0, duration=duration)
        make = find_events if task.kind == "events" else make_copy
        duration = make(task, report, memory)
    except (DavelError, MemoryError, OSError, RuntimeError) as error:
        text = str(error)
        if _out_of_memory(error) or memory.is_short:
            text = f"{task.name}: takes more memory than a job may: convert it, or raise --memory-gb"
        elif not isinstance(error, DavelError):
            raise
        tell(error=text.replace(printable(path), task.name))
        return
    tell(seconds=duration, duration=duration, done=True)


def find_events(task: Task, report: Report, memory: Memory) -> float:
    """Localize, and draw the sound's peaks: the video's seconds."""
    import numpy as np

    from davel.core.files import replacing
    from davel.formats import write_text, writer
    from davel.localize import load
    from davel.media.peaks import measure

    path, folder = Path(task.path), Path(task.output)
    localizer = load(task.model, task.device)
    memory.loaded()
    found = localizer.localize(path, threshold=LEAST_SCORE, report=report)
    peaks = measure(path, report, found.duration) if found.info.audio else np.zeros((0, 2), np.int8)
    if memory.is_short:
        raise MemoryError
    with replacing(folder / "peaks.bin") as temporary:
        temporary.write_bytes(peaks.tobytes())
    result = replace(found, info=replace(found.info, path=Path(task.name)))
    write_text(folder / "result.json", writer("json")(result))
    return found.duration


def make_copy(task: Task, report: Report, memory: Memory) -> float:
    """Write a copy that browsers can play: its seconds."""
    from davel.core.errors import DavelError
    from davel.core.files import replacing
    from davel.web.copies import write_copy

    def checked(step: str, done: float, total: float | None, note: str = "") -> None:
        if shutil.disk_usage(task.output).free < SPARE_BYTES:
            raise DavelError(f"{task.name}: cannot be copied: the server's disk is full: delete some videos")
        report(step, done, total, note)

    with replacing(Path(task.output) / "copy.mp4") as temporary:
        seconds = write_copy(Path(task.path), temporary, MAX_OUTPUT_BYTES, checked)
        if memory.is_short:
            raise MemoryError
    return seconds


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether this, or what caused it, is a want of memory: each library has its own word for it."""
    while error is not None:
        if isinstance(error, MemoryError) or (
            isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)
        ):
            return True  # EAGAIN is what FFmpeg says where a thread gets no stack
        if type(error) is RuntimeError and re.search("allocate memory|not enough memory|new thread", str(error)):
            return True
        error = error.__cause__
    return False


def main() -> None:
    from davel.compute.allocator import keep_freed_memory

    task = Task(**json.loads(sys.stdin.readline()))
    limit(task)
    if task.kind == "events":
        keep_freed_memory()  # for tensors: a copy has none

    def end_with_the_server() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=end_with_the_server, daemon=True).start()
    work(task)
    sys.stdout.flush()
    os._exit(0)  # the thread above may hold stdin


def to_json(task: Task) -> str:
    return json.dumps(asdict(task))


if __name__ == "__main__":
    main()
