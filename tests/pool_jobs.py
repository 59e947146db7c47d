"""What worker processes do in tests: functions that they can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def double(x: int) -> int:
    return 2 * x


def die_at_three(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def refuse_three(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


def wait_for(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(120)


class Tools:
    made = 0

    def __init__(self) -> None:
        Tools.made += 1
        self.number = os.getpid()


def use(job: int, tools: Tools) -> tuple[int, int]:
    return tools.number, Tools.made
