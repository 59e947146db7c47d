"""What a file of events says: for each video its events, and what else is known of it. Times are seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from davel.core.errors import ConfigError, printable
from davel.core.events import Event, EventList


@dataclass(frozen=True)
class Video:
    id: str
    events: EventList
    duration: float | None = None
    """Seconds."""
    media: str | None = None
    """The file, as it was named."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file, its reader and its writer, and what it can hold."""

    name: str
    suffix: str
    """What files that davel writes end in."""
    dumps: Callable[[Sequence[Video]], str]
    loads: Callable[[str, str], list[Video]]
    """A text, and the id of its video if the text names none. ValueError says what is wrong with it."""
    holds: frozenset[str] = frozenset()
    """Of `scores`, `durations`, `many` (videos)."""
    unit: float = 1e-6
    """Seconds to which times are rounded; a shorter event becomes one unit long."""
    more: str = ""
    """What else it cannot hold, for people."""


class Collector:
    """Events as they are read, in order, by video."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.durations: dict[str, float] = {}
        self.media: dict[str, str] = {}

    def video(self, key: str, duration: float | None = None, media: str | None = None) -> list[Event]:
        if duration is not None:
            self.durations[key] = duration
        if media is not None:
            self.media[key] = media
        return self.events.setdefault(key, [])

    def add(self, key: str, label: str, start: float, end: float, score: float = 1.0) -> None:
        """ValueError if these are no event."""
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
            raise ValueError(f"an event needs 0 <= start < end, got {start:g} and {end:g} s")
        if not label:
            raise ValueError(f"the event from {start:g} to {end:g} s has no label")
        if not 0 <= score <= 1:
            raise ValueError(f"a score must be from 0 to 1, got {score:g}")
        self.video(key).append(Event(label, start, end, score))

    def videos(self) -> list[Video]:
        labels = tuple(dict.fromkeys(sorted(e.label for events in self.events.values() for e in events)))
        return [
            Video(key, EventList.of(events, labels), self.durations.get(key), self.media.get(key))
            for key, events in self.events.items()
        ]


def number(text: object, what: str) -> float:
    """ValueError if it is none."""
    try:
        return float(str(text))
    except ValueError:
        raise ValueError(f"{what} is {str(text)[:40]!r}: expected a number") from None


def each_row(rows: Iterable[tuple[int, Callable[[], None]]]) -> None:
    """Run a reader per line; ValueErrors say which line."""
    for line, read in rows:
        try:
            read()
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None


def spans(events: Sequence[Event], unit: float) -> list[tuple[int, int, Event]]:
    """Start and end of every event in whole units, at least one apart, in order of time."""
    rounded = []
    for event in events:
        start = round(event.start / unit)
        rounded.append((start, max(round(event.end / unit), start + 1), event))
    return sorted(rounded, key=lambda span: span[:2])


def one(videos: Sequence[Video], name: str) -> Video:
    """The only video. ConfigError if there are more, or none."""
    if len(videos) != 1:
        raise ConfigError(f"a file of the format {name!r} holds one video, not {len(videos)}: give --to and a folder")
    return videos[0]


def id_of(media: str) -> str:
    """A video's id from its file's name, whichever system's."""
    name = media.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] or name


def one_line(text: str) -> str:
    """A label where a line or a column ends it."""
    return printable(text.replace("\t", " "))
