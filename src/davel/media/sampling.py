"""Frames and samples at any times in, pictures and sound at even times out.

Times are exact fractions of a second on the clock of `davel.media`, whose zero is `origin` in the file's own time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
import numpy as np
import soxr
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from davel.media import resampy as kaiser

COLOURS = ("declared", "bt601")
"""The matrix that makes RGB: what the file declares, or BT.601 whatever it says, as old tools did."""
RESAMPLERS = ("soxr", *kaiser.FILTERS)
STILL_SECONDS = 1
"""A picture that stands longer than the file says by more than this: the next ones are missing."""
MANY_CHANNELS = 8
"""From so many on, PyAV 18 reads a plane too many of planar sound and crashes; packed sound has one plane."""
JITTER_SECONDS = 0.05
"""Sound whose time stamp is off by no more than this follows on what came before."""


@dataclass(frozen=True)
class Picture:
    index: int
    """n of the grid: this is what is shown at n / fps seconds."""
    rgb: NDArray[np.uint8]
    """(H, W, 3); the same object when the picture is the same."""


@dataclass(frozen=True)
class Sound:
    first: int
    """The number of the first sample; sample n is at n / sample_rate seconds."""
    samples: NDArray[np.float32]
    """(N,), the mean of all channels."""


@dataclass
class Track:
    stream: Any
    origin: Fraction
    limit: float | None
    """Seconds; a time stamp beyond is damaged."""
    begin: Fraction = Fraction(0)
    """Seconds; what lies before is left out."""
    start: Fraction | None = None
    """Seconds, of the first frame."""
    end: Fraction = Fraction(0)
    damaged: bool = False
    """Something was lost since the last frame."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Seconds, of what is missing or broken between the first frame and the last."""

    def miss(self, start: Fraction, end: Fraction) -> None:
        """Nothing, or nothing to be trusted, is there from `start` to `end`."""
        if end <= self.begin:
            return
        first, last = round(float(max(start, self.begin)), 6), round(float(end), 6)
        if self.gaps and first <= self.gaps[-1][1]:
            first = self.gaps.pop()[0]
        self.gaps.append((first, last))

    def time_of(self, frame: Any) -> Fraction:
        """A frame's presentation time; where it has none that can be, it follows on the one before."""
        if frame.pts is None or frame.time_base is None:
            return self.end
        time = Fraction(frame.pts * frame.time_base) - self.origin
        return time if self.limit is None or time <= self.limit else self.end


class Grid(Track):
    """Frames at any times in, a picture at every n / fps out."""

    def __init__(
        self,
        stream: Any,
        origin: Fraction,
        limit: float | None,
        fps: Fraction,
        size: tuple[int, int] | None,
        colours: str = "declared",
        begin: Fraction = Fraction(0),
    ) -> None:
        super().__init__(stream, origin, limit, begin)
        self.colours = colours
        self.lasts_until = Fraction(0)
        """How long the frame may stand there, if it is slow."""
        self.fps = fps
        self.size = size
        self.next = _round(begin * fps)
        self.frame: Any = None
        self.rgb: NDArray[np.uint8] | None = None
        self.reformatter = VideoReformatter()
        self.deinterlacer: Deinterlacer | None = None

    def push(self, frame: Any) -> Iterator[Picture]:
        if frame.interlaced_frame and self.deinterlacer is None:
            self.deinterlacer = Deinterlacer()
        for ready in self.deinterlacer.push(frame) if self.deinterlacer else (frame,):
            yield from self._show(ready)

    def finish(self) -> Iterator[Picture]:
        if self.deinterlacer:
            for ready in self.deinterlacer.push(None):
                yield from self._show(ready)
        yield from self._until(_round(self.end * self.fps))

    def _show(self, frame: Any) -> Iterator[Picture]:
        time = self.time_of(frame)
        if self.frame is not None:
            yield from self._until(_round(time * self.fps))
        mean = 1 / Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
        length = frame.duration * frame.time_base if frame.duration else mean
        lost = self.damaged or time > self.lasts_until + STILL_SECONDS
        if self.start is not None and lost and time - self.end > length / 2:
            self.miss(self.end, time)
        if frame.is_corrupt:
            self.miss(time, time + length)
        self.damaged = False
        self.start = max(time, self.begin) if self.start is None else self.start
        self.frame, self.rgb = frame, None
        self.end = max(self.end, time + length)
        self.lasts_until = time + max(length, mean)

    def _until(self, end: int) -> Iterator[Picture]:
        while self.next < end:
            if self.rgb is None:
                self.rgb = self._convert(self.frame)
            yield Picture(self.next, self.rgb)
            self.next += 1

    def _convert(self, frame: Any) -> NDArray[np.uint8]:
        turns = round(frame.rotation / 90) % 4
        options: dict[str, Any] = {}
        if self.size:
            height, width = self.size[:: -1 if turns % 2 else 1]
            options = {"width": width, "height": height, "interpolation": Interpolation.AREA}
        if self.colours == "bt601":
            options |= {"src_colorspace": Colorspace.ITU601, "dst_colorspace": Colorspace.ITU601}
        converted = self.reformatter.reformat(frame, format="rgb24", **options)
        rgb = np.rot90(converted.to_ndarray(), turns)
        return np.ascontiguousarray(rgb)


class Deinterlacer:
    """Makes whole frames of interlaced ones; others pass unchanged."""

    def __init__(self) -> None:
        self.graph: Any = None
        self.shape: tuple[int, int, str] | None = None

    def push(self, frame: Any) -> list[Any]:
        """The frames that are ready; None for the last ones."""
        ready = []
        if frame is not None and self.shape != (frame.width, frame.height, frame.format.name):
            ready = self._drain()
            self.shape = (frame.width, frame.height, frame.format.name)
            self.graph = av.filter.Graph()
            source = self.graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            self.graph.link_nodes(
                source, self.graph.add("bwdif", "mode=send_frame:deint=interlaced"), self.graph.add("buffersink")
            ).configure()
        if frame is None:
            return ready + self._drain()
        self.graph.push(frame)
        return ready + self._pull()

    def _drain(self) -> list[Any]:
        if self.graph is None:
            return []
        self.graph.push(None)
        return self._pull()

    def _pull(self) -> list[Any]:
        frames = []
        while True:
            try:
                frames.append(self.graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return frames


class Mono(Track):
    """Frames of sound at any times in, samples without gaps at one rate out."""

    def __init__(
        self,
        stream: Any,
        origin: Fraction,
        limit: float | None,
        sample_rate: int,
        resampler: str = "soxr",
        begin: Fraction = Fraction(0),
    ) -> None:
        super().__init__(stream, origin, limit, begin)
        self.kind = resampler
        self.out_rate = sample_rate
        self.in_rate = 0
        self.resampler: Any = None
        self.position = 0
        """Samples taken in at `in_rate`, since time zero."""
        self.begun = False
        """Whether any sample was taken in."""
        self.written = _round(begin * sample_rate)
        self.waiting: list[NDArray[np.float32]] = []

    def push(self, frame: Any) -> Iterator[Sound]:
        samples = _mono(frame)
        if frame.sample_rate != self.in_rate:
            yield from self._restart(frame.sample_rate)
        time = self.time_of(frame)
        gap = _round(time * self.in_rate) - self.position
        if self.start is None:
            self.start = max(time, self.begin)
        if not self.begun:
            pass  # what lies before the beginning is cut off to the sample
        elif abs(gap) <= JITTER_SECONDS * self.in_rate:
            gap = 0
        elif gap > 0:
            self.miss(self.end, time)
        while gap > 0:  # silence where there is none, at most a second at a time
            part = min(gap, self.in_rate)
            yield from self._take(np.zeros(part, np.float32))
            gap -= part
        kept = samples[-gap:] if gap else samples
        self.begun |= len(kept) > 0
        yield from self._take(kept)
        self.end = Fraction(self.position, self.in_rate)

    def finish(self) -> Iterator[Sound]:
        if self.resampler is not None:
            yield from self._resample(last=True)

    def _restart(self, rate: int) -> Iterator[Sound]:
        yield from self.finish()
        before = Fraction(self.position, self.in_rate) if self.in_rate else self.begin
        self.position = _round(before * rate)
        self.in_rate = rate
        if self.kind == "soxr":
            self.resampler = soxr.ResampleStream(rate, self.out_rate, 1, dtype="float32")
        else:
            self.resampler = kaiser.Resampler(rate, self.out_rate, self.kind)

    def _take(self, samples: NDArray[np.float32]) -> Iterator[Sound]:
        self.position += len(samples)
        self.waiting.append(samples)
        if sum(map(len, self.waiting)) >= self.in_rate // 2:
            yield from self._resample(last=False)

    def _resample(self, last: bool) -> Iterator[Sound]:
        samples = np.concatenate([np.zeros(0, np.float32), *self.waiting])
        self.waiting = []
        out = self.resampler.resample_chunk(samples, last=last)
        if len(out):
            yield Sound(self.written, out)
            self.written += len(out)


def _mono(frame: Any) -> NDArray[np.float32]:
    """The mean of a frame's channels, in -1..1."""
    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels >= MANY_CHANNELS:
        (frame,) = av.AudioResampler(format=frame.format.packed.name).resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if samples.dtype.kind in "iu":
        bits = 8 * samples.dtype.itemsize
        offset = 2 ** (bits - 1) if samples.dtype.kind == "u" else 0
        samples = (samples.astype(np.float32) - offset) / np.float32(2 ** (bits - 1))
    mono: NDArray[np.float32] = np.nan_to_num(samples.mean(axis=0, dtype=np.float32))
    return mono


def _round(x: Fraction) -> int:
    """To the nearest whole number, halves away from zero."""
    n = int(abs(x) + Fraction(1, 2))
    return n if x >= 0 else -n
