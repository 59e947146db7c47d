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
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

LEAST_SCORE = 0.05
"""What scores less is not kept for the page."""
MAX_OUTPUT_BYTES = 2**30
SPARE = 0.25
"""The part of its memory that a job must leave: where it gets none, FFmpeg drops pictures without a word."""


@dataclass(frozen=True)
class Task:
    path: str
    name: str
    """What people call the file."""
    model: str
    device: str
    output: str
    """The folder for `result.json` and `peaks.bin`."""
    memory_bytes: int


def limit(task: Task) -> None:
    """What this process may take. The memory is that which it writes to, not what it maps."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    memory = task.memory_bytes if most == resource.RLIM_INFINITY else min(task.memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def tell(**content: object) -> None:
    print(json.dumps(content), flush=True)


def work(task: Task) -> None:
    """Localize, and draw the sound's peaks."""
    from davel.errors import DavelError, printable
    from davel.files import replacing
    from davel.formats import write_text, writer
    from davel.localize import load
    from davel.media import probe
    from davel.web.peaks import measure

    path, told = Path(task.path), 0.0

    def progress(seconds: float) -> None:
        nonlocal told
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            tell(seconds=seconds, duration=duration)

    try:
        duration = probe(path).duration_seconds
        tell(seconds=0.0, duration=duration)
        outcome = load(task.model, task.device).localize(path, threshold=LEAST_SCORE, progress=progress)
        peaks = measure(path, lambda: progress(outcome.duration))
        if _most_memory() > (1 - SPARE) * task.memory_bytes:
            raise MemoryError
    except (DavelError, MemoryError, OSError, RuntimeError) as error:
        text = str(error)
        if _out_of_memory(error) or _most_memory() > (1 - SPARE) * task.memory_bytes:
            text = f"{task.name}: takes more memory than a job may: convert it, or raise --memory-gb"
        elif not isinstance(error, DavelError):
            raise
        tell(error=text.replace(printable(path), task.name))
        return
    folder = Path(task.output)
    with replacing(folder / "peaks.bin") as temporary:
        temporary.write_bytes(peaks.tobytes())
    result = replace(outcome, info=replace(outcome.info, path=Path(task.name)))
    write_text(folder / "result.json", writer("json")(result))
    tell(seconds=outcome.duration, duration=outcome.duration, done=True)


def _most_memory() -> int:
    """At least the bytes that this process had for itself at any time; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, peak, all_now = (int(lines[name].split()[0]) for name in ("VmData", "VmPeak", "VmSize"))
    return 1024 * (now + peak - all_now)


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
    task = Task(**json.loads(sys.stdin.readline()))
    limit(task)

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
