"""A small copy of a video that browsers can play: H.264 and AAC in MP4, on the media clock."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from davel.core.errors import DavelError, MissingError, printable
from davel.core.progress import Report, silent
from davel.core.returning import consume
from davel.media import Picture, Sound, Source, open_media

MAX_HEIGHT, MAX_WIDTH = 360, 1280
FPS = 25
SAMPLE_RATE = 48_000
SOUND_BITS = 64_000
"""A second."""
PICTURE_BITS = 600_000
"""A second, at most: an hour takes 300 MB, mostly less."""
LEAST_PICTURE_BITS = 30_000
"""A second, however long the video is."""
FILLED = 0.9
"""Of the bytes that a copy may have; the rest is for the index, and for what the coder takes beyond its rate."""
KEY_SECONDS = 2
"""From one picture that can be sought to the next."""
BT601 = 6  # SMPTE 170M in H.264's table of matrices


def write_copy(path: Path, target: Path, most_bytes: int, report: Report = silent) -> float:
    """Write an MP4 of at most so many bytes: its seconds. `report` is told those that are done.

    Its time zero is that of `davel.media`, so events lie in it where they lie in the video. MediaError if that cannot
    be read, MissingError if this PyAV has no coder, DavelError if the copy does not fit.
    """
    name = printable(path)
    try:
        av.Codec("libx264", "w")
    except ValueError as error:
        raise MissingError(f"{name}: cannot be copied: this PyAV has no libx264: pip install --upgrade av") from error
    try:
        with open_media(path) as source:
            return _write(source, target, most_bytes, report)
    except av.error.FFmpegError as error:
        why = {
            errno.EFBIG: f"the copy takes more than {most_bytes / 1e9:.3g} GB: cut the video into parts",
            errno.ENOSPC: "the server's disk is full: delete some videos",
        }.get(error.errno or 0, f"{error.strerror}: convert it with another tool")
        raise DavelError(f"{name}: cannot be copied: {why}") from error


def _write(source: Source, target: Path, most_bytes: int, report: Report = silent) -> float:
    height, width = size_of(source)
    bits = picture_bits(source.info.duration_seconds, most_bytes)
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as copy:
        video = copy.add_stream("libx264", rate=FPS)
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = BT601, 1
        video.options = {
            "preset": "superfast", "crf": "28", "maxrate": str(bits), "bufsize": str(2 * bits),
            "g": str(KEY_SECONDS * FPS), "bf": "0",
        }  # fmt: skip
        audio = copy.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = SOUND_BITS
        reformatter, seen, heard = VideoReformatter(), 0.0, 0.0

        def write(item: Picture | Sound) -> None:
            nonlocal seen, heard
            if isinstance(item, Picture):
                seen = (item.index + 1) / FPS
                copy.mux(video.encode(_picture(item, reformatter)))
            else:
                heard = (item.first + len(item.samples)) / SAMPLE_RATE
                copy.mux(audio.encode(_sound(item)))
            # both, so that it also moves where a file holds one track behind the other
            report("copy", (seen + heard) / 2, source.info.duration_seconds)

        coverage = consume(source.read(fps=FPS, sample_rate=SAMPLE_RATE, size=(height, width)), write)
        copy.mux(video.encode(None))
        copy.mux(audio.encode(None))
    return coverage.duration_seconds


def size_of(source: Source) -> tuple[int, int]:
    """(height, width) of the copy's pictures: as displayed, of square pixels, not enlarged, and even."""
    video = source.info.video
    assert video is not None
    width = video.width * source.pixel_aspect
    scale = min(Fraction(1), Fraction(MAX_HEIGHT, video.height), MAX_WIDTH / width)
    return _even(video.height * scale), _even(width * scale)


def _even(x: Fraction) -> int:
    return max(int(x) // 2 * 2, 2)


def picture_bits(seconds: float | None, most_bytes: int) -> int:
    """A second, so that a video of so many seconds fits."""
    if not seconds:
        return PICTURE_BITS
    return round(min(max(8 * FILLED * most_bytes / seconds - SOUND_BITS, LEAST_PICTURE_BITS), PICTURE_BITS))


def _picture(picture: Picture, reformatter: VideoReformatter) -> av.VideoFrame:
    rgb = av.VideoFrame.from_ndarray(picture.rgb, format="rgb24")
    frame = reformatter.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.ITU601)
    frame.pts, frame.time_base = picture.index, Fraction(1, FPS)
    return frame


def _sound(sound: Sound) -> av.AudioFrame:
    samples = np.ascontiguousarray(sound.samples.clip(-1, 1)[None])  # what is far beyond, the coder refuses
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, sound.first, Fraction(1, SAMPLE_RATE)
    return frame
