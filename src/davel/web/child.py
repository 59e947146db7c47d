"""The process that reads one video: `python -m davel.web.child`, with a task as JSON on stdin's first line.

It has limits of its own, so that a file that was made to do harm harms no more than itself, and ends with the server:
stdin stays open as long as that lives. Tells its progress, and how it ended, as JSON lines on stdout.
"""

from __future__ import annotations

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
    from davel.errors import DavelError, MediaError, printable
    from davel.files import replacing
    from davel.formats import write_text, writer
    from davel.localize import Failure, Request, answer
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
        outcome = answer(Request(path, task.model, task.device, threshold=LEAST_SCORE), progress)
        if isinstance(outcome, Failure):
            raise MediaError(outcome.reason)
        peaks = measure(path, lambda: progress(outcome.duration))
    except (DavelError, MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, MemoryError) or re.search("allocate memory|not enough memory", text):  # FFmpeg's, torch's
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
