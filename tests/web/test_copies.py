"""Copies that browsers can play."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media_files import grey, make_media, tone

from davel.core.errors import MissingError
from davel.media import open_media, probe
from davel.web.copies import LEAST_PICTURE_BITS, PICTURE_BITS, SOUND_BITS, picture_bits, size_of, write_copy

FLASH, BEEP = 1.2, 2.6
"""Seconds at which the pictures turn white, and the sound sets in."""


def test_a_pyav_without_the_coder_is_told(short_clip, tmp_path, monkeypatch):
    def absent(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr("av.Codec", absent)
    with pytest.raises(MissingError, match=r"clip.mp4: cannot be copied: this PyAV has no libx264"):
        write_copy(short_clip, tmp_path / "copy.mp4", 2**30)


@pytest.mark.parametrize(
    "starts", [{}, {"audio_start": 2.0}, {"video_start": 1.0}, {"audio_start": 1.0, "video_start": 0.5}]
)
def test_a_copy_is_in_step_with_the_video(tmp_path, starts):
    seconds, rate = 4.0, 16000
    delay = min(starts.get("audio_start", 0.0), starts.get("video_start", 0.0))
    flash, beep = (at + starts.get(name, 0.0) - delay for at, name in ((FLASH, "video_start"), (BEEP, "audio_start")))
    samples = np.where(np.arange(round(seconds * rate)) < BEEP * rate, 0, tone(seconds, rate))
    video = make_media(
        tmp_path / "x.mkv", seconds=seconds, picture=lambda t: grey(235 if t >= FLASH - 1e-6 else 20), samples=samples,
        sample_rate=rate, audio_codec="pcm_s16le", **starts,
    )  # fmt: skip
    told: list[float] = []
    end = write_copy(video, tmp_path / "copy.mp4", 2**30, lambda *now: told.append(now[1]))
    assert end == pytest.approx(seconds + max(starts.values(), default=0.0) - delay, abs=0.05)
    assert told == sorted(told)
    assert probe(tmp_path / "copy.mp4").duration_seconds == pytest.approx(end, abs=0.03)
    with av.open(tmp_path / "copy.mp4") as copy:
        frames = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in copy.decode(video=0)]
    with av.open(tmp_path / "copy.mp4") as copy:
        sound = [(frame.time, frame.sample_rate, frame.to_ndarray()[0]) for frame in copy.decode(audio=0)]
    assert frames[0][0] == 0
    assert next(time for time, level in frames if level > 128) == pytest.approx(flash, abs=0.02)
    onset = next(t + np.argmax(np.abs(x) > 0.1) / rate for t, rate, x in sound if np.abs(x).max() > 0.1)
    assert onset == pytest.approx(beep, abs=0.02)


@pytest.mark.parametrize(("pictures", "sound"), [(75, 5.0), (125, 3.0)])
def test_a_track_that_ends_early_does_not_end_the_copy(tmp_path, pictures, sound):
    video = make_media(tmp_path / "x.mkv", times=[n / 25 for n in range(pictures)], seconds=sound)
    assert write_copy(video, tmp_path / "copy.mp4", 2**30) == pytest.approx(5, abs=0.1)
    assert probe(tmp_path / "copy.mp4").duration_seconds == pytest.approx(5, abs=0.1)


def test_a_copy_has_the_videos_colours_and_stands_upright(tmp_path):
    picture = np.zeros((128, 64, 3), np.uint8)
    picture[:64], picture[64:] = (200, 40, 90), (30, 90, 220)
    video = make_media(tmp_path / "x.mp4", seconds=2, picture=lambda t: picture, rotation=90)
    write_copy(video, tmp_path / "copy.mp4", 2**30)
    shown = []
    for path in (video, tmp_path / "copy.mp4"):
        with open_media(path) as source:
            shown.append(next(item.rgb for item in source.read(fps=1, sample_rate=None)).astype(int))
    assert shown[0].shape == shown[1].shape == (64, 128, 3)
    assert np.abs(shown[0] - shown[1])[8:-8, 8:48].max() <= 8
    assert np.abs(shown[0] - shown[1])[8:-8, 80:-8].max() <= 8


@pytest.mark.parametrize(
    ("video", "aspect", "size"),
    [
        ((1080, 1920), 1, (360, 640)),
        ((1920, 1080), 1, (360, 202)),
        ((576, 720), Fraction(64, 45), (360, 640)),
        ((49, 65), 1, (48, 64)),
        ((1, 1), 1, (2, 2)),
        ((100, 10_000), 1, (12, 1280)),
    ],
)
def test_a_copy_is_small_and_of_even_size(video, aspect, size):
    track = SimpleNamespace(height=video[0], width=video[1])
    assert size_of(SimpleNamespace(info=SimpleNamespace(video=track), pixel_aspect=Fraction(aspect))) == size


def test_a_copy_of_an_anamorphic_video_is_as_wide_as_that_is_shown(tmp_path):
    """As DVDs are: 720 columns that fill a wide screen."""
    with av.open(tmp_path / "dvd.mpg", "w") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.height, video.width, video.pix_fmt = 576, 720, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(64, 45)
        for n in range(10):
            frame = av.VideoFrame.from_ndarray(grey(90, (576, 720)), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with open_media(tmp_path / "dvd.mpg") as source:
        assert source.pixel_aspect == Fraction(64, 45)
        assert size_of(source) == (360, 640)
    square = make_media(tmp_path / "square.mp4", seconds=1, picture=None)
    with open_media(square) as source:
        assert source.pixel_aspect == 1


def test_hours_fit_into_a_copy():
    assert picture_bits(None, 2**30) == picture_bits(60, 2**30) == PICTURE_BITS
    assert picture_bits(1e9, 2**30) == LEAST_PICTURE_BITS
    for hours in (1, 3, 10, 24):
        assert (picture_bits(3600 * hours, 2**30) + SOUND_BITS) * 3600 * hours / 8 < 0.95 * 2**30
