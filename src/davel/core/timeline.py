"""Where the steps of a sequence lie in time, and sequences that know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Timing(NamedTuple):
    """Step i sees the frames from i * stride to i * stride + window, counted from `start` seconds."""

    fps: float
    stride: int
    """Frames from one step to the next."""
    window: int
    """Frames that one step sees."""
    start: float = 0.0
    """Seconds on the media clock at which the first step begins."""

    @property
    def step_seconds(self) -> float:
        return self.stride / self.fps

    def seconds(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """The centres of (fractional) steps."""
        return self.start + (steps * self.stride + self.window / 2) / self.fps

    def steps(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The (fractional) steps whose centres are at given times."""
        return ((seconds - self.start) * self.fps - self.window / 2) / self.stride

    def num_steps(self, duration: float) -> int:
        """The steps whose window lies within so many seconds; at least one."""
        return max(int((duration * self.fps - self.window) // self.stride) + 1, 1)


@dataclass(frozen=True, eq=False)
class Curve:
    """A value at every step, e.g. a gate."""

    timing: Timing
    values: NDArray[np.floating]
    """(T,)"""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def times(self) -> NDArray[np.float64]:
        """The centres of the steps, in seconds: (T,)"""
        return self.timing.seconds(np.arange(len(self.values), dtype=np.float64))
