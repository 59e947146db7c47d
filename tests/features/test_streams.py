"""The published features frame by frame: the same as window by window, and nothing twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import small_networks

from davel.features import vggish
from davel.features.i3d import flow_input, rgb_input
from davel.features.i3d_vggish.stream import Networks, Sound, TwoStream, num_steps
from davel.features.raft import pad_to_scale
from davel.features.resize import resize, short_side_size


def frames(count: int, size: tuple[int, int] = (30, 40), seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def streamed(networks: Networks, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    stream, parts = TwoStream(networks, 20), {"rgb": [np.zeros((0, 1024))], "flow": [np.zeros((0, 1024))]}
    for picture in pictures:
        for name, rows in stream.push(picture):
            parts[name].append(rows)
    for name, rows in stream.finish():
        parts[name].append(rows)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def window_by_window(networks: Networks, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    """As it was published: every window starts from its frames."""
    size = short_side_size(*pictures[0].shape[:2])
    parts = {"rgb": [], "flow": []}
    for first in range(0, len(pictures) - 24, 8):
        x = torch.stack([resize(torch.from_numpy(p), size) for p in pictures[first : first + 25]]).permute(0, 3, 1, 2)
        padded = pad_to_scale(x.float())
        maps = networks.raft.encode(padded)
        flow = networks.raft.flow(maps[:-1], maps[1:], networks.raft.context(padded[:-1]), 20)
        for name, network, window in (
            ("rgb", networks.rgb, rgb_input(x[:24])),
            ("flow", networks.flow, flow_input(flow)),
        ):
            with torch.inference_mode():
                parts[name].append(network(window.transpose(0, 1)[None])[0].numpy())
    return {name: np.stack(rows) for name, rows in parts.items()}


@pytest.mark.parametrize("count", [25, 32, 33, 57, 60])
@pytest.mark.parametrize("at_once", [1, 8])
def test_a_stream_gives_what_windows_give(count, at_once, monkeypatch):
    monkeypatch.setattr(Networks, "at_once", at_once)
    monkeypatch.setattr(Networks, "steps_at_once", (at_once + 1) // 2)
    networks, pictures = small_networks(), frames(count)
    ours, theirs = streamed(networks, pictures), window_by_window(networks, pictures)
    for name in ("rgb", "flow"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-4)


def test_each_frame_is_encoded_and_each_pair_compared_once():
    networks = small_networks()
    assert len(streamed(networks, frames(73))["flow"]) == 7
    assert (networks.raft.encoded, networks.raft.pairs) == (73, 72)


def test_frames_that_complete_no_step_are_not_worked_on():
    networks = small_networks()
    streamed(networks, frames(40))
    assert networks.raft.encoded == 33


def test_a_picture_that_stands_is_encoded_once_and_gives_the_same():
    networks = small_networks()
    a, b = frames(2)
    standing = [a] * 20 + [b] * 20 + [a]
    apart = [picture.copy() for picture in standing]
    expected = window_by_window(networks, apart)
    networks.raft.encoded = networks.raft.pairs = 0
    ours = streamed(networks, standing)
    assert networks.raft.encoded == 3
    assert networks.raft.pairs < 20
    for name in ("rgb", "flow"):
        np.testing.assert_allclose(ours[name], expected[name], rtol=1e-4, atol=1e-4)


@given(st.integers(0, 200))
def test_steps_are_as_many_as_25_frames_fit_every_8(count):
    assert num_steps(count) == (0 if count < 25 else (count - 25) // 8 + 1)


@pytest.mark.parametrize(("seconds", "steps"), [(1, 1), (5, 13), (10, 29), (30, 91), (60, 185)])
def test_lengths_are_those_of_the_published_features(seconds, steps):
    assert num_steps(25 * seconds) == steps
    assert len(vggish.examples(np.zeros(((16000 * seconds - 400) // 160 + 1, 64)))) == steps


@pytest.mark.parametrize("count", [0, 1, 23, 24])
def test_too_few_frames_give_no_step(count):
    assert len(streamed(small_networks(), frames(count))["rgb"]) == 0


def test_frames_that_change_their_size_become_as_large_as_the_first():
    networks = small_networks()
    ours = streamed(networks, frames(20) + frames(20, (60, 30), seed=1))
    assert ours["rgb"].shape == (2, 1024)
    assert np.isfinite(ours["flow"]).all()


def test_memory_does_not_grow_with_the_video():
    stream, sound = TwoStream(small_networks(), 20), Sound(small_networks())
    for number, picture in enumerate(frames(200)):
        for _ in stream.push(picture):
            pass
        for _ in sound.push(np.zeros(640, np.float32)):
            pass
        assert len(stream.waiting) <= 8, number
        assert len(stream.crops) <= 32, number
        assert len(sound.samples) + 160 * len(sound.spectra) < 16000 * 8, number


@given(st.lists(st.integers(0, 40000), min_size=1, max_size=5))
def test_sound_gives_the_same_in_pieces_of_any_size(sizes):
    networks = small_networks()
    waveform = np.random.default_rng(0).uniform(-1, 1, sum(sizes)).astype(np.float32)
    sound, parts = Sound(networks), [np.zeros((0, 128), np.float32)]
    for piece in np.split(waveform, np.cumsum(sizes)[:-1]):
        parts += [rows for _, rows in sound.push(piece)]
    parts += [rows for _, rows in sound.finish()]
    expected = vggish.embed(networks.vggish, waveform).numpy()
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4, atol=1e-4)


def test_sound_beyond_full_scale_is_cut():
    sound = Sound(small_networks())
    loud = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30] * 5000, np.float32)
    steps = np.concatenate([rows for part in (sound.push(loud), sound.finish()) for _, rows in part])
    assert len(steps) == 2
    assert np.isfinite(steps).all()
