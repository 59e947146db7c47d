"""A recording that is not at its end yet, or a pipe: read from the front as it comes, never sought in."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import av.error

from davel.errors import MediaError
from davel.media import MediaInfo, Source, container
from davel.tracks import Track

LOOK_SECONDS = 0.1
MOST_BACK_SECONDS, MOST_ON_SECONDS = 10.0, 3600.0
"""A time stamp that is off by more is damaged, or of another recording or clock."""
MOST_STRAYS = 50
"""Frames in a row whose time stamps are so; about a second or two."""


class Growing:
    """What FFmpeg needs of a stream that it cannot seek in: `read`."""

    def __init__(self, path: Path, idle_seconds: float) -> None:
        """`-` is standard input. A file is at its end when it has not grown for so long, a pipe when it is closed."""
        given = str(path) == "-"
        self._file = FileIO(sys.stdin.fileno() if given else path, closefd=not given)
        self._may_grow = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._idle_seconds = idle_seconds
        self._broken: BaseException | None = None

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; none at the end.

        FFmpeg, which calls this, would take no notice of an interrupt or an error: it is given the end, and `check`
        raises what it was.
        """
        if self._broken is not None:
            return b""
        try:
            return self._next(size)
        except BaseException as error:
            self._broken = error
            return b""

    def _next(self, size: int) -> bytes:
        until = time.monotonic() + self._idle_seconds
        while not (part := self._file.read(size)):
            closed = part is not None and not self._may_grow
            if closed or (self._may_grow and time.monotonic() > until):
                return b""
            time.sleep(LOOK_SECONDS)
        return part

    def check(self) -> None:
        """Raise what ended the reading, if that was not the end."""
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        self._file.close()


class Live(Source):
    """A source whose end is not known, whatever its header says.

    Its rotation is not known either, before its first picture; pictures are turned all the same.
    """

    _remedy = "record as MPEG-TS, Matroska or fragmented MP4, whose beginning is enough to read them"

    def __init__(self, path: Path, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._strays = Counter[int]()
        """Of each stream, in a row."""
        super().__init__(path)

    def _open(self) -> tuple[Any, Any]:
        file = self._opened(lambda: Growing(self.path, self._idle_seconds))
        try:
            opened = container(file)
            file.check()
            return file, opened
        except av.error.FFmpegError as error:
            file.close()
            file.check()
            raise MediaError(f"{self._name}: nothing that can be followed: {self._remedy}") from error
        except BaseException:
            file.close()
            raise

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        for packet in super()._packets(streams):
            try:
                self._file.check()
            except OSError as error:
                raise MediaError(f"{self._name}: cannot be read on: {error.strerror}: follow it anew") from error
            yield packet

    def _describe(self) -> MediaInfo:
        return replace(super()._describe(), duration_seconds=None)

    def _rotation(self) -> int:
        return 0

    def _is_of_this_clock(self, track: Track, frame: Any) -> bool:
        """A stray time stamp is damage; many, one after the other, are another clock. MediaError then."""
        end = float(track.end)
        jump = float(track.time_of(frame)) - end
        if track.start is None or -MOST_BACK_SECONDS < jump < MOST_ON_SECONDS:
            self._strays[track.stream.index] = 0
            return True
        track.damaged = True
        self._strays[track.stream.index] += 1
        if self._strays[track.stream.index] > MOST_STRAYS:
            raise MediaError(
                f"{self._name}: its clock went from {end:.1f} s to {end + jump:.1f} s: follow it anew: events would "
                "stand at wrong times"
            )
        return False

    def _check_end(self, end: float, declared: float, what: str, slack: float) -> None:
        """What was declared when it was opened says nothing of the end."""
