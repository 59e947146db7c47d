"""Pictures are resized as Pillow does it, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from davel.features.resize import resize, short_side_size

Image = pytest.importorskip("PIL.Image")


def pillow(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
def test_any_size_comes_out_as_from_pillow(H, W, h, w, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)
    columns_first = pillow(pillow(picture, (H, w)), (h, w))  # as Pillow did by itself until it learned to choose
    np.testing.assert_array_equal(resize(torch.from_numpy(picture), (h, w)), columns_first)


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((360, 640), (256, 455)),
        ((1080, 1920), (256, 455)),
        ((480, 854), (256, 455)),
        ((240, 320), (256, 341)),
        ((240, 426), (256, 454)),
        ((640, 360), (455, 256)),
        ((256, 256), (256, 256)),
    ],
)
def test_the_short_side_becomes_256_and_the_long_one_is_rounded_down(source, size):
    assert short_side_size(*source) == size
    picture = np.random.default_rng(0).integers(0, 256, (*source, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(torch.from_numpy(picture), size), pillow(picture, size))


def test_many_frames_are_resized_as_each_alone():
    frames = torch.randint(0, 256, (3, 20, 30, 3), dtype=torch.uint8)
    together = resize(frames, (9, 14))
    for frame, alone in zip(frames, together, strict=True):
        assert torch.equal(resize(frame, (9, 14)), alone)


def test_only_bytes_are_resized():
    with pytest.raises(ValueError, match="expected bytes, got"):
        resize(torch.zeros(4, 4, 3), (2, 2))
