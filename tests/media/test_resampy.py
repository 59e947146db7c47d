"""The resamplers of resampy 0.2.2 and 0.4.3, against their formula written out."""

from __future__ import annotations

import numpy as np
import pytest

from davel.media.resampy import FILTERS, Resampler

OLD = FILTERS["resampy-0.2.2"]


def written_out(x: np.ndarray, in_rate: int, count: int) -> np.ndarray:
    """The first samples at 16 kHz, tap by tap."""
    ratio = 16000 / in_rate
    scale = min(1.0, ratio)
    step = int(scale * OLD.precision)
    table = OLD.half_window() * scale
    slope = np.append(np.diff(table), 0)
    out, time = [], 0.0
    for _ in range(count):
        n, total = int(time), 0.0
        for part, start, direction in ((scale * (time - n), n, -1), (scale - scale * (time - n), n + 1, 1)):
            offset = int(part * OLD.precision)
            rest = part * OLD.precision - offset
            for tap in range((len(table) - offset) // step):
                at = start + direction * tap
                if 0 <= at < len(x):
                    total += (table[offset + tap * step] + rest * slope[offset + tap * step]) * x[at]
        out.append(total)
        time += 1 / ratio
    return np.array(out)


@pytest.mark.parametrize("in_rate", [44100, 48000, 22050, 8000, 96000])
def test_samples_follow_the_formula(in_rate):
    x = np.random.default_rng(0).standard_normal(in_rate // 10)
    y = Resampler(in_rate, 16000).resample_chunk(x, last=True)
    assert len(y) == int(len(x) * 16000 / in_rate)
    np.testing.assert_allclose(y[:60], written_out(x, in_rate, 60), atol=1e-6)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("in_rate", [44100, 8000, 16000])
def test_pieces_give_the_same_as_the_whole(in_rate, kind):
    x = np.random.default_rng(1).standard_normal(in_rate // 2)
    whole = Resampler(in_rate, 16000, kind).resample_chunk(x, last=True)
    resampler, parts = Resampler(in_rate, 16000, kind), []
    for first in range(0, len(x), 777):
        parts.append(resampler.resample_chunk(x[first : first + 777]))
        assert len(resampler.samples) < 3000, "it keeps no more than it needs"
    parts.append(resampler.resample_chunk(np.zeros(0), last=True))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_filter_is_a_windowed_sinc_from_its_largest_value_on():
    window = OLD.half_window()
    assert len(window) == 64 * 512 + 1
    assert window[0] == window.max() == pytest.approx(0.9475937167399596)
    sinc = np.sinc(window[0] * np.arange(len(window)) / 512)
    crossing = np.flatnonzero(np.diff(np.sign(window)))
    np.testing.assert_array_equal(np.sign(window[crossing + 1]), np.sign(sinc[crossing + 1]))
    np.testing.assert_allclose(crossing + 1, np.arange(1, len(crossing) + 1) * 512 / window[0], atol=1)
    lobes = [np.abs(lobe).max() for lobe in np.split(window, crossing + 1)]
    assert (np.diff(lobes) < 0).all(), "each lobe is lower than the one before: the window only falls"
