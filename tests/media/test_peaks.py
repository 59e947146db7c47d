"""The outline of a file's sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import make_media, tone

from davel.media import peaks


@given(st.integers(1, 500), st.floats(0, 6), st.floats(0.01, 6), st.integers(1, 300))
def test_no_peak_of_what_is_shown_is_lost(N, start, length, bins):
    whole = np.stack([-np.arange(N) % 100, np.arange(N) % 101], axis=1).astype(np.int8)
    found = peaks.between(whole, start, start + length, bins)
    first, last = int(start * 100), int(np.ceil((start + length) * 100))
    inside = whole[first:last]
    assert found.shape == (bins, 2)
    assert found[:, 1].max(initial=0) == inside[:, 1].max(initial=0)
    assert found[:, 0].min(initial=0) == inside[:, 0].min(initial=0)


def test_the_outline_is_that_of_the_sound(tmp_path):
    samples = np.concatenate([tone(1.0, 16000), np.zeros(16000), -0.25 * np.ones(8000)])
    path = make_media(tmp_path / "x.mkv", seconds=2.5, samples=samples, sample_rate=16000, audio_codec="pcm_s16le")
    told: list[float] = []
    whole = peaks.measure(path, lambda *now: told.append(now[1]))
    assert whole.dtype == np.int8
    assert whole.shape == (250, 2)
    assert np.abs(whole[5:95] - [-63, 63]).max() <= 3
    assert np.abs(whole[105:195]).max() <= 1
    assert np.abs(whole[210:240] + 32).max() <= 2
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2.5, abs=0.01)
    assert peaks.extremes(path, 50).shape == (125, 2)


def test_the_last_span_is_filled_up(tmp_path):
    path = make_media(tmp_path / "x.mkv", seconds=1.003, samples=np.ones(16048), sample_rate=16000,
                      audio_codec="pcm_s16le")  # fmt: skip
    last = peaks.extremes(path)[-1]
    assert last[0] <= 0 < last[1]
