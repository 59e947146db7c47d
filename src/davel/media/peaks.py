"""The outline of a file's sound, fine enough to zoom into.

Shapes: N bins, each the least and the greatest sample of its span.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from davel.core.progress import Report, silent
from davel.media import Picture, open_media

PEAKS_PER_SECOND = 100
SAMPLE_RATE = 8000


def extremes(
    path: Path, per_second: int = PEAKS_PER_SECOND, report: Report = silent, seconds: float | None = None
) -> NDArray[np.float32]:
    """(N, 2) of a file's sound, of so many a second, in -1..1; the last span is filled up with silence.

    `report` is told the seconds that are drawn, of so many. MediaError if the file cannot be read.
    """
    width = SAMPLE_RATE // per_second
    parts, rest = [np.zeros((0, 2), np.float32)], np.zeros(0, np.float32)
    with open_media(path) as source:
        for item in source.read(fps=None, sample_rate=width * per_second):
            assert not isinstance(item, Picture)
            samples = np.concatenate([rest, item.samples])
            whole = len(samples) // width * width
            parts.append(_extremes(samples[:whole].reshape(-1, width)))
            rest = samples[whole:]
            report("peaks", (item.first + len(item.samples)) / (width * per_second), seconds, path.name)
    if len(rest):
        parts.append(_extremes(np.pad(rest, (0, width - len(rest)))[None]))
    return np.concatenate(parts)


def _extremes(bins: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, W) -> (N, 2)"""
    return np.stack([bins.min(1), bins.max(1)], axis=1).clip(-1, 1)


def measure(path: Path, report: Report = silent, seconds: float | None = None) -> NDArray[np.int8]:
    """(N, 2), of `PEAKS_PER_SECOND`, as int8 of full scale: small enough to keep. As `extremes` otherwise."""
    return np.asarray(np.round(127 * extremes(path, report=report, seconds=seconds)), np.int8)


def between(peaks: NDArray[np.int8], start: float, end: float, bins: int) -> NDArray[np.int8]:
    """(bins, 2): those from `start` to `end` seconds; nothing is where there is no sound."""
    edges = np.linspace(start * PEAKS_PER_SECOND, end * PEAKS_PER_SECOND, bins + 1)
    firsts = np.floor(edges[:-1]).astype(int).clip(0, len(peaks))
    lasts = np.maximum(np.ceil(edges[1:]).astype(int), firsts + 1).clip(0, len(peaks))
    found = np.zeros((bins, 2), np.int8)
    for i, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        if first < last:
            found[i] = peaks[first:last, 0].min(), peaks[first:last, 1].max()
    return found
