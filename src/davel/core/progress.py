"""How work tells how far it is: one signature, whoever works and whoever listens."""

from __future__ import annotations

import math
from typing import Protocol


class Report(Protocol):
    """Called now and then with what is being done, how much of it is done, and how much there is (None: not known).

    `note` is for people: which file, how far in it. What is counted (files, seconds, bytes) is the step's own.
    """

    def __call__(self, step: str, done: float, total: float | None, note: str = "") -> None: ...


def silent(step: str, done: float, total: float | None, note: str = "") -> None:
    """Tells nobody."""


def clock(seconds: float) -> str:
    """A time as players show it: `0:01:30`; `?` where none is known."""
    if not math.isfinite(seconds):
        return "?"
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def in_words(seconds: float) -> str:
    """A duration for people: `3 h 20 min`, `4 min 10 s`, `12 s`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
