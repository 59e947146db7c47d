from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel.features.light import FRAME_SIZE, SPEC, LightAudio, LightVisual


def describe(frames) -> np.ndarray:
    visual = LightVisual()
    for frame in frames:
        visual.push(frame)
    return visual.take()


def listen(samples: np.ndarray, pieces: int = 1) -> np.ndarray:
    audio = LightAudio()
    for piece in np.array_split(samples, pieces):
        audio.push(piece)
    return audio.take()


def plain(value=90) -> np.ndarray:
    return np.full((*FRAME_SIZE, 3), value, np.uint8)


@pytest.mark.parametrize("frames", [0, 1, 24, 25, 32, 33, 40, 41, 100])
def test_visual_steps_are_as_many_as_the_published_protocols(frames):
    expected = 0 if frames < 25 else (frames - 25) // 8 + 1
    assert describe([plain()] * frames).shape == (expected, SPEC.visual_dim)


@pytest.mark.parametrize("samples", [0, 15599, 15600, 20719, 20720, 16000 * 10])
def test_audio_steps_are_as_many_as_the_published_protocols(samples):
    spectra = max((samples - 400) // 160 + 1, 0)
    expected = max((spectra - 96) // 32 + 1, 0)
    assert listen(np.zeros(samples, np.float32)).shape == (expected, SPEC.audio_dim)


@given(st.integers(0, 40000), st.integers(1, 60), st.integers(0, 99))
def test_sound_may_come_in_pieces_of_any_size(n, pieces, seed):
    samples = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    whole, parts = listen(samples), listen(samples, pieces)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)  # products of other sizes may round otherwise


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_picture_has_finite_features(value):
    assert np.isfinite(describe([plain(value)] * 33)).all()


@pytest.mark.parametrize("samples", [np.zeros(32000), np.ones(32000), np.full(32000, -1.0)])
def test_silence_and_constant_pressure_have_finite_features(samples):
    assert np.isfinite(listen(samples.astype(np.float32))).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_damaged_sample_leaves_features_finite(value):
    samples = np.zeros(32000, np.float32)
    samples[5000] = value
    assert np.isfinite(listen(samples)).all()
    assert np.abs(listen(samples)).max() < 5


def flashing(at: int, frames: int = 100) -> list[np.ndarray]:
    return [plain(240 if n == at else 60) for n in range(frames)]


def test_a_flash_shows_in_exactly_the_steps_that_see_it():
    still, flash = describe([plain(60)] * 100), describe(flashing(50))
    changed = np.flatnonzero(np.abs(flash - still).max(1) > 1e-6)
    # Step k sees frames 8k to 8k + 24 (the last one as the end of a motion).
    assert changed.tolist() == [k for k in range(len(still)) if 8 * k <= 50 <= 8 * k + 24]


def test_a_click_shows_in_exactly_the_steps_that_hear_it():
    samples = np.zeros(16000 * 5, np.float32)
    at = 16000 * 2 + 100
    silent, heard = listen(samples), None
    samples[at] = 0.9
    heard = listen(samples)
    changed = np.flatnonzero(np.abs(heard - silent).max(1) > 1e-6)
    first = [k * 32 * 160 for k in range(len(silent))]
    assert changed.tolist() == [k for k, s in enumerate(first) if s < at < s + 95 * 160 + 400]


def moving_square(colour: tuple[int, int, int], step: int) -> list[np.ndarray]:
    frames = []
    for n in range(41):
        frame = plain(90)
        x = (5 + step * n) % 50
        frame[15:30, x : x + 12] = colour
        frames.append(frame)
    return frames


def test_another_colour_and_another_motion_give_other_features():
    red, blue = describe(moving_square((220, 20, 20), 1)), describe(moving_square((20, 20, 220), 1))
    resting = describe(moving_square((220, 20, 20), 0))
    assert np.abs(red - blue).max() > 0.5
    assert np.abs(red - resting).max() > 0.5


def test_another_place_gives_nearly_the_same_colours():
    here = describe([np.roll(f, 0, axis=0) for f in moving_square((220, 20, 20), 1)])
    there = describe([np.roll(f, 10, axis=0) for f in moving_square((220, 20, 20), 1)])
    np.testing.assert_allclose(here[:, :96], there[:, :96], atol=0.2)


def test_another_pitch_gives_other_features():
    t = np.arange(32000) / 16000
    low, high = (listen(0.3 * np.sin(2 * np.pi * f * t).astype(np.float32)) for f in (300, 3000))
    assert np.abs(low - high).max() > 0.5


def test_steps_share_their_slots():
    features = describe(moving_square((200, 90, 10), 2))
    slot = features.shape[1] // 3
    np.testing.assert_array_equal(features[0, slot:], features[1, : 2 * slot])


def test_steps_that_are_taken_early_are_the_same():
    frames = np.random.default_rng(0).integers(0, 256, (60, *FRAME_SIZE, 3), dtype=np.uint8)
    visual, parts = LightVisual(), []
    for frame in frames:
        visual.push(frame)
        parts.append(visual.take())
        assert len(visual) <= 3
    np.testing.assert_array_equal(np.concatenate(parts), describe(frames))
