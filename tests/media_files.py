"""Small media files for tests, each made where it is used."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)


def grey(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_media(
    path: Path,
    *,
    seconds: float = 3.0,
    times: list[float] | None = None,
    picture: Callable[[float], np.ndarray] | None = lambda t: grey(int(40 + 20 * t)),
    samples: np.ndarray | None = None,
    sound: bool = True,
    sample_rate: int = 16000,
    layout: str = "mono",
    video_start: float = 0.0,
    audio_start: float = 0.0,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    rotation: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A file with a picture at each of `times` (by default 25 per second) and a tone, or the given samples."""
    times = list(np.arange(round(seconds * 25)) / 25) if times is None else times
    samples = tone(seconds, sample_rate) if samples is None else samples
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if picture is not None:
            first = picture(times[0])
            video = container.add_stream(video_codec, rate=25)
            video.height, video.width = first.shape[:2]
            video.pix_fmt = "yuv444p" if first.shape[0] % 2 or first.shape[1] % 2 else "yuv420p"
            video.codec_context.time_base = MILLISECOND if video_codec == "libx264" else Fraction(1, 25)
            if video_codec == "libx264":
                video.options = {"preset": "ultrafast", "crf": "10", "bf": "0"}
            if rotation is not None:
                video.set_display_rotation(rotation)
        if sound:
            audio = container.add_stream(audio_codec, rate=sample_rate, layout=layout)
        if audio is not None:
            channels = audio.codec_context.layout.nb_channels
            shaped = np.repeat(samples.astype(np.float32), channels)[None]
            resampler = av.AudioResampler(format=audio.codec_context.format, layout=layout, rate=sample_rate)
            frame = av.AudioFrame.from_ndarray(shaped, format="flt", layout=layout)
            frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
            frame.pts = round(audio_start * sample_rate)
            for part in resampler.resample(frame):
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
        if video is not None and picture is not None:
            unit = video.codec_context.time_base
            for t in times:
                frame = av.VideoFrame.from_ndarray(picture(t), format="rgb24")
                frame.pts, frame.time_base = round((t + video_start) / unit), unit
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
    return path


INTERLEAVED = {"max_interleave_delta": "0"}


def record(path: Path, seconds: float = 50.0, **options) -> Path:
    options = {"options": INTERLEAVED} | options
    return make_media(path, seconds=seconds, picture=lambda t: grey(int(90 + 80 * np.sin(t))), **options)
