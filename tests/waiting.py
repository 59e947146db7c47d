"""Waiting for what another process does: as long as it takes, within what any machine needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WAIT_SECONDS = 120


def eventually(ask: Callable[[], T], what: str = "") -> T:
    """The first answer that is true. AssertionError if there is none in two minutes."""
    until = time.monotonic() + WAIT_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < until, f"still not: {what or ask}"
        time.sleep(0.05)
    return answer
