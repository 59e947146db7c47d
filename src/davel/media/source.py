"""Frames and samples of any media file on one clock, as a stream.

Time zero is the earliest presentation time of the two tracks, which is what players show as 0:00; all times are
presentation times, never a frame's number over a mean rate. Intervals are half-open. Memory does not grow with the
file's length.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import av
import av.error
from av.stream import Disposition

from davel.core.errors import MediaError, printable
from davel.core.facts import AudioTrack, Coverage, MediaInfo, VideoTrack
from davel.media.sampling import Grid, Mono, Picture, Sound, Track

# fmt: off
STILLS = frozenset({"image2", "tty", "bin", "xbin", "adf", "idf"})
"""Formats of pictures and text that FFmpeg would play as video."""


class Readable(Protocol):
    """What FFmpeg reads from; it seeks where there is a `seek`, too."""

    def read(self, size: int, /) -> bytes: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


File = TypeVar("File", bound=Readable)
RUN_UP_SECONDS = 1
"""What is decoded before a start and behind an end, so that pictures and sound are whole there."""










def open_media(path: str | Path) -> Source:
    """Open a file for one pass. MediaError names the file, what is wrong with it, and what to do."""
    return Source(Path(path))


def probe(path: str | Path) -> MediaInfo:
    """What a file says of itself."""
    with open_media(path) as source:
        return source.info


class Source:
    """An open media file. Close it, or use it as a context manager."""

    _remedy = "convert it again"
    _threads = "AUTO"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = printable(path)
        self._file, self._container = self._open()
        try:
            self._video = _best(self._container, "video")
            self._audio = _best(self._container, "audio")
            still = self._container.format.name in STILLS or self._container.format.name.endswith("_pipe")
            if still or (self._video is None and self._audio is None):
                raise MediaError(f"{self._name}: not a video: no moving pictures and no sound; give a media file")
            self._origin = self._start_of_clock()
            self.info = self._describe()
        except BaseException:
            self.close()
            raise
        self._tracks: list[Grid | Mono] = []
        self._warnings: list[str] = []

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Let a read that waits for more, in whatever thread, come to its end; a file's never waits."""

    def close(self) -> None:
        self._container.close()
        self._file.close()

    @property
    def begin(self) -> float:
        """The seconds at which the later of the tracks begins, as far as they have been read."""
        return max((float(track.start) for track in self._tracks if track.start is not None), default=0.0)

    @property
    def pixel_aspect(self) -> Fraction:
        """How wide the video's pixels are for their height, as displayed; 1 where nothing is said of it."""
        aspect = Fraction(getattr(self._video, "sample_aspect_ratio", None) or 1)
        turned = self.info.video is not None and self.info.video.rotation % 180
        return 1 / aspect if turned else aspect

    def read(  # noqa: C901  # one loop over packets: its cases are those of the files that there are
        self,
        *,
        fps: float | None,
        sample_rate: int | None,
        size: tuple[int, int] | None = None,
        colours: str = "declared",
        resampler: str = "soxr",
        start: float = 0.0,
        end: float | None = None,
    ) -> Generator[Picture | Sound, None, Coverage]:
        """Pictures at every n / fps seconds and sound at `sample_rate`, in the file's order; None skips that track.

        Picture n is the last frame whose time, rounded to the grid, is not after n (FFmpeg's rule); before a video
        that starts late its first frame is shown. Sound that starts late follows silence. `size` is (height, width)
        of the pictures, by default as displayed. `colours` and `resampler`: see `davel.media.sampling`. Only
        what lies from `start` to `end` seconds is given, numbered as if all were. Returns what was decoded.
        MediaError if a track is missing or the file ends too early.
        """
        wanted: list[tuple[str, Any]] = []
        if fps is not None:
            wanted.append(("video", self._video))
        if sample_rate is not None:
            wanted.append(("audio", self._audio))
        for kind, stream in wanted:
            if stream is None:
                what = "pictures" if kind == "video" else "sound"
                raise MediaError(
                    f"{self._name}: has no {kind} track; give a file with {what}: events are seen and heard"
                )
        declared = self.info.duration_seconds
        clock = (self._origin, None if declared is None else 2 * declared + 60)
        begin = Fraction(start)
        grid = Grid(self._video, *clock, Fraction(fps), size, colours, begin) if fps is not None else None
        sound = Mono(self._audio, *clock, sample_rate, resampler, begin) if sample_rate is not None else None
        if self._video is not None:
            self._video.thread_type = self._threads
        self._tracks = tracks = [track for track in (grid, sound) if track is not None]
        if start > 0:
            self._seek(start, [stream for _, stream in wanted])

        def within(items: Iterator[Picture] | Iterator[Sound]) -> Iterator[Picture | Sound]:
            try:
                for item in items:
                    if end is None:
                        yield item
                    elif isinstance(item, Picture):
                        if item.index < round(end * (fps or 0)):
                            yield item
                    elif item.first < (last := round(end * (sample_rate or 0))):
                        yield Sound(item.first, item.samples[: last - item.first])
            except av.error.FFmpegError as error:
                raise self._undecodable(error) from error

        damaged = 0
        for packet in self._packets([stream for _, stream in wanted]):
            track: Grid | Mono | None = grid if packet.stream is self._video else sound
            assert track is not None
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.UnknownError, av.error.PatchWelcomeError):
                damaged += 1
                track.damaged = True
                continue
            except (av.error.FFmpegError, OSError) as error:
                raise self._undecodable(error) from error
            damaged += packet.is_corrupt
            track.damaged |= packet.is_corrupt
            for frame in frames:
                if self._is_of_this_clock(track, frame):
                    yield from within(track.push(frame))
            if end is not None and all(t.end > end + RUN_UP_SECONDS for t in tracks):
                break
        for track in tracks:
            yield from within(track.finish())
        gaps = [f"{a:.2f}-{b:.2f} s of {t.stream.type}" for t in (grid, sound) if t for a, b in t.gaps]
        if gaps:
            more = f" and {len(gaps) - 5} more" if len(gaps) > 5 else ""
            self._warnings.append(f"missing or broken: {', '.join(gaps[:5])}{more}")
        if damaged:
            self._warnings.append(
                f"{damaged} damaged packets, what they held is missing: compare with the original file"
            )
        return self._close_coverage(grid, sound, start, end)

    def _undecodable(self, error: Exception) -> MediaError:
        return MediaError(f"{self._name}: cannot decode: {_reason(error)}: convert it with another tool")

    def _seek(self, start: float, streams: list[Any]) -> None:
        """Go on from before `start`, from where all streams can be decoded; if need be, from the beginning."""
        declared = self.info.duration_seconds
        if declared is not None and start >= declared:
            raise MediaError(f"{self._name}: ends at {declared:.1f} s, before the start: choose an earlier one")
        target = int((max(Fraction(start) - RUN_UP_SECONDS, Fraction(0)) + self._origin) * 1_000_000)
        try:
            if self._lands_before(start, target, {stream.index for stream in streams}):
                self._container.seek(target, backward=True)
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{self._name}: cannot go to {start:.1f} s in it ({_reason(error)}): leave out the start, or convert it"
            ) from error

    def _lands_before(self, start: float, target: int, missing: set[int]) -> bool:
        """Whether all tracks go on from before `start` if `target` microseconds are sought, as not in every file."""
        with self.path.open("rb") as file, container(file) as opened:
            opened.seek(target, backward=True)
            for packet in opened.demux(*sorted(missing)):
                if packet.pts is None or not packet.is_keyframe or packet.stream.index not in missing:
                    continue
                if packet.pts * packet.time_base - self._origin > start:
                    return False
                missing.discard(packet.stream.index)
                if not missing:
                    return True
        return False

    def _open(self) -> tuple[Any, Any]:
        file = self._opened(lambda: self.path.open("rb"))
        try:
            if os.fstat(file.fileno()).st_size == 0:
                raise MediaError(f"{self._name}: is empty: copy or record it again")
            return file, container(file)
        except av.error.FFmpegError as error:
            file.close()
            raise MediaError(
                f"{self._name}: not a media file, or one without its index (cut off while it was written): "
                "copy or record it again"
            ) from error
        except BaseException:
            file.close()
            raise

    def _opened(self, opener: Callable[[], File]) -> File:
        try:
            if self.path.is_dir():
                raise MediaError(f"{self._name}: is a folder: name a media file")
            return opener()
        except OSError as error:
            hint = {errno.ENOENT: "check the name", errno.EACCES: "give yourself the right to read it"}
            advice = hint.get(error.errno or 0, "check the file")
            raise MediaError(f"{self._name}: cannot open: {error.strerror or error}: {advice}") from error

    def _start_of_clock(self) -> Fraction:
        starts = [s.start_time * s.time_base for s in (self._video, self._audio) if s and s.start_time is not None]
        return max(min(starts, default=Fraction(0)), Fraction(0))  # what lies before zero is the coder's run-up

    def _describe(self) -> MediaInfo:
        video, audio = None, None
        if self._video is not None:
            context = self._video.codec_context
            rotation = self._rotation()
            width, height = (context.width, context.height)[:: -1 if rotation % 180 else 1]
            video = VideoTrack(
                codec=context.name,
                width=width,
                height=height,
                fps=round(float(self._video.average_rate or self._video.guessed_rate or 0), 6),
                rotation=rotation,
            )
        if self._audio is not None:
            context = self._audio.codec_context
            audio = AudioTrack(codec=context.name, sample_rate=context.sample_rate, channels=context.layout.nb_channels)
        return MediaInfo(
            path=self.path,
            format=self._container.format.name,
            size_bytes=os.fstat(self._file.fileno()).st_size,
            duration_seconds=self._container.duration / 1e6 if self._container.duration else None,
            video=video,
            audio=audio,
        )

    def _rotation(self) -> int:
        """Degrees counterclockwise; it is known from the first frame on."""
        with self.path.open("rb") as file, container(file) as opened:
            try:
                stream = opened.streams.best("video")
                frame: Any = next(iter(opened.decode(stream)), None)
            except av.error.FFmpegError:
                return 0
            return 0 if frame is None else round(frame.rotation / 90) * 90 % 360

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        """All packets; a file that breaks off ends like one that is whole, and is found out by its length."""
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self._warnings.append(f"reading ended early: {_reason(error)}")
                for stream in streams:  # what the decoders still hold
                    yield _Flush(stream)
                return
            yield packet

    def _is_of_this_clock(self, track: Track, frame: Any) -> bool:
        """Whether to take a frame: in a file, the track knows what to make of a damaged time stamp."""
        return True

    def _close_coverage(self, grid: Grid | None, sound: Mono | None, start: float, end: float | None) -> Coverage:
        spans: dict[str, tuple[float, float] | None] = {"video": None, "audio": None}
        for kind, track in (("video", grid), ("audio", sound)):
            if track is None:
                continue
            if track.start is None:
                raise MediaError(f"{self._name}: nothing of its {kind} track can be decoded: {self._remedy}")
            last = float(track.end)
            if end is not None and last > end:
                spans[kind] = (max(float(track.start), 0.0), end)
                continue
            spans[kind] = (max(float(track.start), 0.0), last)
            self._check_length(track.stream, last)
        ends = [span[1] for span in spans.values() if span]
        declared = self.info.duration_seconds
        if declared and "matroska" in self.info.format:
            declared -= float(self._origin)  # it counts from zero, also where nothing begins there
        if grid and sound and declared and (end is None or end > declared):
            self._check_end(max(ends), declared, "file", slack=1.0)
        return Coverage(
            duration_seconds=max(ends),
            video=spans["video"],
            audio=spans["audio"],
            video_gaps=tuple(grid.gaps) if grid else (),
            audio_gaps=tuple(sound.gaps) if sound else (),
            warnings=tuple(self._warnings),
        )

    def _check_length(self, stream: Any, end: float) -> None:
        if stream.duration and stream.start_time is not None:
            # Of an AVI that is cut off, FFmpeg lowers the duration to what is left, but not the number of frames.
            counted = stream.frames if self.info.format == "avi" and stream.type == "video" else 0
            length = max(stream.duration, counted)
            declared = float((stream.start_time + length) * stream.time_base - self._origin)
            self._check_end(end, declared, f"{stream.type} track", slack=0.5)

    def _check_end(self, end: float, declared: float, what: str, slack: float) -> None:
        if end < declared - max(slack, 0.02 * declared):
            raise MediaError(
                f"{self._name}: is cut off: {end:.1f} s of its {what} can be decoded, {declared:.1f} s were expected: "
                "copy it again, or keep what there is with `ffmpeg -i IN -c copy OUT`"
            )


def container(file: Readable) -> Any:
    """Of this file alone: its name is taken for no protocol, and a playlist that names others opens nothing."""
    return av.open(file, mode="r", metadata_errors="replace", options={"protocol_whitelist": "none"})


@dataclass
class _Flush:
    """Stands for the end of a track."""

    stream: Any
    is_corrupt: bool = False

    def decode(self) -> list[Any]:
        return list(self.stream.codec_context.decode(None))


def _best(container: Any, kind: str) -> Any:
    """FFmpeg's choice of a track; pictures of an album's cover are none."""
    stream = container.streams.best(kind)
    if stream is None or stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails):
        return None
    if stream.codec_context is None:
        return None
    return stream


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
