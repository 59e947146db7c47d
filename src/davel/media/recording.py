"""A recording that is not at its end yet, or a pipe: read from the front as it comes, never sought in."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any

import av.error

from davel.core.errors import MediaError
from davel.core.facts import MediaInfo
from davel.media.sampling import Track
from davel.media.source import Source, container

LOOK_SECONDS = 0.1
MOST_BACK_SECONDS, MOST_ON_SECONDS = 0.5, 3600.0
"""Pictures and sound come in order: a time stamp that is off by more is damaged, or of another recording or clock."""
MOST_STRAYS = 50
"""Frames in a row whose time stamps are so."""
MOST_APART_SECONDS = 60.0
"""By which one track may be ahead of the other."""
TS_PERIOD = Fraction(2**33, 90_000)
"""Seconds, after which the time stamps of MPEG-TS begin again."""


class Growing:
    """What FFmpeg needs of a stream that it cannot seek in: `read`."""

    def __init__(self, path: Path, idle_seconds: float) -> None:
        """`-` is standard input. A file is at its end when it has not grown for so long, a pipe when it is closed."""
        given = str(path) == "-"
        self._file = FileIO(sys.stdin.fileno() if given else path, closefd=not given)
        self._may_grow = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._idle_seconds = idle_seconds
        self._stopped = threading.Event()
        self._broken: BaseException | None = None

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; none at the end, and from then on.

        FFmpeg, which calls this, would take no notice of an interrupt or an error: it is given the end, and `check`
        raises what it was.
        """
        try:
            part = b"" if self._stopped.is_set() else self._next(size)
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            self._broken, part = error, b""
        if not part:
            self._stopped.set()
        return part

    def _next(self, size: int) -> bytes:
        until = time.monotonic() + self._idle_seconds
        while not self._stopped.is_set():
            if self._may_grow or select.select([self._file], [], [], LOOK_SECONDS)[0]:
                part = self._file.read(size)
                if part or not self._may_grow or time.monotonic() > until:
                    return part or b""
                self._stopped.wait(LOOK_SECONDS)
        return b""

    def stop(self) -> None:
        """Whoever reads, in whatever thread, is at the end."""
        self._stopped.set()

    def check(self, name: str) -> None:
        """Raise what ended the reading, if that was not the end."""
        if isinstance(self._broken, OSError):
            raise MediaError(f"{name}: cannot be read on: {self._broken.strerror}: follow it anew") from self._broken
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        self._file.close()


class Live(Source):
    """A source whose end is not known, whatever its header says.

    Its rotation is not known either, before its first picture; pictures are turned all the same.
    """

    _threads = "SLICE"  # frame threads keep a picture each
    _remedy = "record as MPEG-TS, Matroska or fragmented MP4, whose beginning is enough to read them"

    def __init__(self, path: Path, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._strays = Counter[int]()
        """Of each stream, in a row."""
        self._last: dict[int, Fraction] = {}
        """Of each stream, the time of its last frame."""
        super().__init__(path)

    def stop(self) -> None:
        self._file.stop()

    def _open(self) -> tuple[Any, Any]:
        file = self._opened(lambda: Growing(self.path, self._idle_seconds))
        try:
            opened = container(file)
            file.check(self._name)
            return file, opened
        except av.error.FFmpegError as error:
            file.close()
            file.check(self._name)
            raise MediaError(f"{self._name}: nothing that can be followed: {self._remedy}") from error
        except BaseException:
            file.close()
            raise

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        for packet in super()._packets(streams):
            self._file.check(self._name)
            yield packet

    def _describe(self) -> MediaInfo:
        return replace(super()._describe(), duration_seconds=None)

    def _rotation(self) -> int:
        return 0

    def _is_of_this_clock(self, track: Track, frame: Any) -> bool:
        """A stray time stamp is damage; many, one after the other, are another clock. MediaError then."""
        key, time = track.stream.index, track.time_of(frame)
        last = self._last.get(key, time)
        if self._container.format.name == "mpegts" and time - last < -TS_PERIOD / 2:
            track.origin -= TS_PERIOD
            time += TS_PERIOD
        if -MOST_BACK_SECONDS < time - last < MOST_ON_SECONDS:
            self._strays[key], self._last[key] = 0, time
            self._check_tracks()
            return True
        track.damaged = True
        self._strays[key] += 1
        if self._strays[key] > MOST_STRAYS:
            raise MediaError(
                f"{self._name}: its clock went from {float(last):.1f} s to {float(time):.1f} s: follow it anew: events "
                "would stand at wrong times"
            )
        return False

    def _check_tracks(self) -> None:
        """MediaError if one track has ended, or has not begun, while the other goes on."""
        behind, ahead = sorted(self._tracks, key=lambda track: track.end)
        if ahead.end - behind.end > MOST_APART_SECONDS:
            what = {"video": "pictures", "audio": "sound"}[behind.stream.type]
            raise MediaError(
                f"{self._name}: its {what} stopped at {float(behind.end):.1f} s: nothing more can be found: look at "
                "the recorder, and follow it anew"
            )

    def _check_end(self, end: float, declared: float, what: str, slack: float) -> None:
        """What was declared when it was opened says nothing of the end."""
