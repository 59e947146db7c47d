"""The outline of a video's sound, fine enough to zoom into.

Shapes: N bins, each the least and the greatest sample of its span, as int8 of full scale.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from davel.media import Picture, open_media

PEAKS_PER_SECOND = 100
SAMPLES_PER_PEAK = 80


def measure(path: Path, progress: Callable[[], None] | None = None) -> NDArray[np.int8]:
    """(N, 2) of a file's sound, of `PEAKS_PER_SECOND`. MediaError if it cannot be read."""
    parts, rest = [np.zeros((0, 2), np.int8)], np.zeros(0, np.float32)
    with open_media(path) as source:
        for item in source.read(fps=None, sample_rate=PEAKS_PER_SECOND * SAMPLES_PER_PEAK):
            assert not isinstance(item, Picture)
            samples = np.concatenate([rest, item.samples])
            whole = len(samples) // SAMPLES_PER_PEAK * SAMPLES_PER_PEAK
            parts.append(_peaks(samples[:whole]))
            rest = samples[whole:]
            if progress:
                progress()
    if len(rest):
        parts.append(_peaks(np.pad(rest, (0, SAMPLES_PER_PEAK - len(rest)))))
    return np.concatenate(parts)


def _peaks(samples: NDArray[np.float32]) -> NDArray[np.int8]:
    bins = samples.reshape(-1, SAMPLES_PER_PEAK)
    peaks = np.stack([bins.min(1), bins.max(1)], axis=1).clip(-1, 1) if len(bins) else np.zeros((0, 2))
    return np.asarray(np.round(127 * peaks), np.int8)


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
