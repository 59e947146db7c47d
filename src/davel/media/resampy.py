"""Resampling as resampy did it (`kaiser_best`), for sound as published features were made of.

Band-limited interpolation (Smith and Gossett, ICASSP 1984) with a tabulated, Kaiser-windowed sinc whose values are
interpolated linearly. Its habits are kept: the table is walked in whole steps, which are rounded down, and in 0.2.2
time is summed up sample by sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OUTPUTS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A version's `kaiser_best`, and what it does at the edges."""

    zero_crossings: int
    precision: int
    """Values of the table between two zero crossings."""
    beta: float
    rolloff: float
    sums_time: bool
    """The next output's time is the last one's and a bit, with the rounding that gathers; else a product."""
    fills: bool
    """As librosa calls it: the last output that is begun is there, and zero."""

    def half_window(self) -> Floats:
        """The right half of the filter, (zero_crossings * precision + 1,)"""
        size = self.zero_crossings * self.precision
        i = np.arange(size + 1)
        sinc = np.sinc(self.rolloff * i / self.precision)
        return np.asarray(self.rolloff * sinc * np.kaiser(2 * size + 1, self.beta)[size:])


FILTERS = {
    "resampy-0.2.2": Filter(
        zero_crossings=64,
        precision=512,
        beta=14.769656459379492,
        rolloff=0.9475937167399596,
        sums_time=True,
        fills=False,
    ),
    "resampy-0.4.3": Filter(
        zero_crossings=50,
        precision=8192,
        beta=12.98458524704442,
        rolloff=0.9173473712608761,
        sums_time=False,
        fills=True,
    ),
}


class Resampler:
    """Samples in, in pieces of any size; the same come out as of all at once. Memory: the filter's reach."""

    def __init__(self, in_rate: int, out_rate: int, kind: str = "resampy-0.2.2") -> None:
        self.filter = FILTERS[kind]
        self.in_rate, self.out_rate = in_rate, out_rate
        self.ratio = out_rate / in_rate
        scale = min(1.0, self.ratio)
        self.scale, self.step = scale, int(scale * self.filter.precision)
        self.table = self.filter.half_window() * scale
        self.slope = np.append(np.diff(self.table), 0.0)
        self.reach = len(self.table) // self.step + 1
        self.samples = np.zeros(0)
        self.first = 0
        """The number of `samples[0]`."""
        self.time = 0.0
        """Of the next output, in samples of the input."""
        self.written = 0

    def resample_chunk(self, samples: NDArray[np.floating], last: bool = False) -> NDArray[np.float32]:
        """The outputs that all samples so far decide."""
        if self.ratio == 1:
            return samples.astype(np.float32)
        self.samples = np.concatenate([self.samples, samples.astype(np.float64)])
        end = self.first + len(self.samples)
        total = int(end * self.ratio)
        parts = [np.zeros(0, np.float32)]
        while self.written < total:
            count = min(OUTPUTS_AT_ONCE, total - self.written)
            times = self._times(count)
            if not last:
                count = int((times[:-1] + self.reach + 1 < end).sum())
            if count == 0:
                break
            parts.append(self._interpolate(times[:count], end).astype(np.float32))
            self.time = float(times[count])
            self.written += count
        keep = max(int(self.time) - self.reach - self.first, 0)
        self.samples, self.first = self.samples[keep:], self.first + len(self.samples[:keep])
        if last and self.filter.fills:
            parts.append(np.zeros(-(-end * self.out_rate // self.in_rate) - self.written, np.float32))
        return np.concatenate(parts)

    def _times(self, count: int) -> Floats:
        """Of so many outputs and the one after them, in samples of the input."""
        if self.filter.sums_time:
            return np.cumsum(np.concatenate([[self.time], np.full(count, 1 / self.ratio)]))
        return np.arange(self.written, self.written + count + 1) / self.ratio

    def _interpolate(self, times: Floats, end: int) -> Floats:
        n = times.astype(np.int64)
        part = self.scale * (times - n)
        left = self._half(n, part, -1, n + 1)
        right = self._half(n + 1, self.scale - part, 1, end - n - 1)
        return left + right

    def _half(self, start: NDArray[np.int64], part: Floats, direction: int, available: NDArray[np.int64]) -> Floats:
        """What the samples at `start` and beyond give, of which there are so many."""
        position = part * self.filter.precision
        offset = position.astype(np.int64)
        taps = np.arange(self.reach)
        count = np.minimum(available, (len(self.table) - offset) // self.step)
        used = taps < count[:, None]
        entry = np.where(used, offset[:, None] + taps * self.step, 0)
        sample = np.where(used, start[:, None] + direction * taps - self.first, 0)
        weights = self.table[entry] + (position - offset)[:, None] * self.slope[entry]
        return np.asarray((np.where(used, weights, 0.0) * self.samples[sample]).sum(1))
