"""What every format of events is made of: a file's text, the events that a reader collects of it, the one check of
them, and what writers share. Times are seconds.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from davel.core.annotations import Problem, Vocabulary
from davel.core.errors import ConfigError
from davel.core.events import KINDS, NO_EVENTS, Event, EventList, Video
from davel.core.facts import without_suffix

MILLI, MICRO = 1e-3, 1e-6
ALL = frozenset({"scores", "durations", "many", "kinds"})
NAMED = frozenset({"csv", "edl", "eaf", "json", "jsonl", "rttm", "srt", "vtt"})
"""Endings that alone tell what a file is."""
ROUNDING = 1e-3
"""Seconds by which an event may end after its video without a word: what writers round differs by so much."""

Policy = Literal["refuse", "skip", "clip"]
"""What a caller wants of events that cannot be taken as they are.

`refuse`: a ConfigError that lists them. `skip`: they are left out. `clip`: times are cut to the video's, scores of
another range are brought into 0..1 in their order, and what is wrong otherwise is refused.
"""
POLICIES: tuple[Policy, ...] = ("refuse", "skip", "clip")
TOLD = ("cut", "outside", "score")
"""The kinds of problems that the policy `clip` mends."""


class File:
    """A file's name and text. Its JSON is parsed once, however many ask for it."""

    def __init__(self, name: str, text: str, folder: Path | None = None) -> None:
        """`folder`: where it lies, for data sets of several files."""
        self.name = name
        self.text = text.removeprefix("\ufeff")
        self.folder = folder

    @classmethod
    def open(cls, path: Path) -> File:
        """Bytes that are not text are kept. OSError if it cannot be read."""
        return cls(path.name, path.read_bytes().decode("utf-8", "surrogateescape"), path.parent)

    def beside(self, name: str) -> File | None:
        """Another file of its folder; None if there is none that can be read."""
        if self.folder is None or name == self.name or not (self.folder / name).is_file():
            return None
        try:
            return File.open(self.folder / name)
        except OSError:
            return None

    @property
    def stem(self) -> str:
        """The name without the last dot and what follows it."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def ending(self) -> str:
        """What follows the last dot of the name, in small letters."""
        return self.name.rpartition(".")[2].lower() if "." in self.name else ""

    @property
    def lines(self) -> list[str]:
        """Without what ends them; line 1 is the first."""
        return re.split(r"\r\n|\r|\n", self.text)

    @cached_property
    def columns(self) -> list[str]:
        """The first line, parted at tabs."""
        return self.heading("\t")

    def heading(self, delimiter: str) -> list[str]:
        """The first line, parted at a character."""
        return [name.strip() for name in self.text.partition("\n")[0].rstrip("\r").split(delimiter)]

    @cached_property
    def json(self) -> Any:
        """ValueError if it is not JSON."""
        try:
            return json.loads(self.text)
        except RecursionError:
            raise ValueError("not JSON: too deep") from None
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from None

    def has_key(self, key: str) -> bool:
        """Whether it is a JSON object with such a key."""
        if self.ending != "json":
            return False
        try:
            return isinstance(self.json, dict) and key in self.json
        except ValueError:
            return False

    def rows(self, delimiter: str, *needed: str, quoted: bool = True) -> Iterator[tuple[str, dict[str, str]]]:
        """Where each row of a table with a heading stands, and its values by column, stripped; rows without any are
        left out. ValueError if there is no column of one of the names."""
        stream = io.StringIO(self.text, newline="")
        reader = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        try:
            names = [name.strip() for name in next(reader, [])]
            if not set(needed) <= set(names):
                listed = ", ".join(names)[:80]
                raise ValueError(f"line 1: expected the columns {', '.join(needed)}, got {listed or 'nothing'}")
            for values in reader:
                if any(value.strip() for value in values):
                    filled = [*values, *[""] * (len(names) - len(values))]
                    yield f"line {reader.line_num}", {n: v.strip() for n, v in zip(names, filled, strict=False)}
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None


@dataclass
class Row:
    """An event as a file gives it: nothing of it is checked."""

    where: str
    label: object
    start: object
    end: object
    score: object
    kind: object
    label_id: object
    is_decoy: bool


@dataclass(eq=False)
class Entry:
    """A video as a file gives it."""

    media: str | None = None
    duration: object = None
    subset: str | None = None
    scored_by: str | None = None
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Contents:
    """What a file of events says."""

    videos: list[Video]
    vocabulary: Vocabulary
    problems: list[Problem]
    """What of it could not be taken as it is; of the kinds `TOLD` where it was mended."""
    origin: str | None
    """What must be said wherever a figure on it is printed, if the file says so: that features are simulated."""


class Collector:
    """What a reader finds, in order. It checks nothing: `contents` does, for all formats alike."""

    def __init__(self, own: str = "", vocabulary: Vocabulary | None = None) -> None:
        self.own = own
        """The id of the video of a file that names none."""
        self.known = vocabulary
        """The classes that there are, where the caller knows; a `label_id` without a label is one of these."""
        self.listed: tuple[str, ...] = ()
        """The classes that the file lists, by label_id."""
        self.origin: str | None = None
        self.entries: dict[tuple[str, str], Entry] = {}
        self.problems: list[tuple[tuple[str, str] | None, str]] = []

    def video(self, id: str | None = None, *, media: str | None = None, **more: Any) -> tuple[str, str]:
        """A video, by its id or else by its media file, or else the file's own; what `add` needs to name it.

        More: `duration`, `subset`, `scored_by`.
        """
        if id is None and not media:
            id = self.own
        key = ("media", str(media)) if id is None else ("id", id)
        entry = self.entries.setdefault(key, Entry())
        entry.media = media or entry.media
        for name, value in more.items():
            if value is not None:
                setattr(entry, name, value)
        return key

    def add(
        self,
        video: tuple[str, str],
        where: str,
        *,
        label: object,
        start: object,
        end: object,
        score: object = None,
        kind: object = None,
        label_id: object = None,
        is_decoy: bool = False,
    ) -> None:
        """An event, and where it stands: whatever the file gives for each of these."""
        self.entries[video].rows.append(Row(where, label, start, end, score, kind, label_id, is_decoy))

    def add_object(
        self,
        video: tuple[str, str],
        where: str,
        event: object,
        *,
        times: Literal["start", "segment"] = "start",
        is_decoy: bool = False,
        with_ids: bool = False,
    ) -> None:
        """An event that is a JSON object, with its times as `start` and `end` or as a `segment` of both.

        Its `label_id` counts where it has no label, or `with_ids`.
        """
        if not isinstance(event, dict):
            self.problem(f"{where}: expected an object, got {type(event).__name__}", video)
            return
        start, end = event.get("start"), event.get("end")
        if times == "segment":
            segment = event.get("segment")
            if not isinstance(segment, list) or len(segment) != 2:
                self.problem(f"{where}: segment needs two times, got {str(segment)[:60]}", video)
                return
            start, end = segment
        label = event.get("label")
        self.add(
            video,
            where,
            label=label,
            start=start,
            end=end,
            score=event.get("score"),
            kind=event.get("kind"),
            label_id=event.get("label_id") if with_ids or label is None else None,
            is_decoy=is_decoy,
        )

    def problem(self, text: str, video: tuple[str, str] | None = None) -> None:
        """What is wrong with the file and no event."""
        self.problems.append((video, text))

    def contents(self, *, clip: bool, truth: bool = False, tolerated: float = math.inf) -> Contents:
        """All of it that makes sense, and what is wrong with the rest.

        With `clip` times are cut to those of the video, of ends that are too late those by up to `tolerated` seconds;
        scores of another range than 0..1 are brought into it, in their order. What is `truth` has no scores but 1.
        """
        ids = self._merge()
        problems = [Problem(ids[key] if key else "", "annotation", text) for key, text in self.problems]
        labels = self._labels(ids, problems)
        scale = self._scale() if clip and not truth else None
        if scale:
            low, high = scale
            problems.append(Problem("", "score", f"scores from {low:g} to {high:g} were brought into 0..1"))
        videos = []
        for key, entry in self.entries.items():
            try:
                duration = None if entry.duration is None else _seconds(entry.duration)
            except ValueError:
                text = f"needs a duration in seconds, got {entry.duration!r}"[:100]
                problems.append(Problem(ids[key], "annotation", text))
                duration = None
            lists: tuple[list[Event], list[Event]] = ([], [])
            for row in entry.rows:
                try:
                    event, cut = self._event(row, duration, clip, truth, tolerated, scale)
                except _Outside as error:
                    problems.append(Problem(ids[key], "outside", f"{row.where}: {error}"))
                    continue
                except ValueError as error:
                    problems.append(Problem(ids[key], "annotation", f"{row.where}: {error}"))
                    continue
                if event.label not in labels:  # as told by _labels
                    continue
                if cut:
                    problems.append(Problem(ids[key], "cut", f"{row.where}: {cut}"))
                lists[row.is_decoy].append(event)
            events, decoys = (EventList.of(found, tuple(labels)) for found in lists)
            videos.append(
                Video(
                    ids[key], events, duration, entry.media, entry.subset, decoys if decoys else NO_EVENTS,
                    entry.scored_by, self.origin,
                )
            )  # fmt: skip
        return Contents(videos, Vocabulary(tuple(labels)), problems, self.origin)

    def _merge(self) -> dict[tuple[str, str], str]:
        """The videos' ids by key, those that are given and those of media files; of one id there is one entry left."""
        media = ids_of([name for what, name in self.entries if what == "media"])
        ids = {key: key[1] if key[0] == "id" else media[key[1]] for key in self.entries}
        first: dict[str, Entry] = {}
        for key, entry in list(self.entries.items()):
            if (other := first.setdefault(ids[key], entry)) is not entry:
                other.rows += entry.rows
                other.duration = entry.duration if other.duration is None else other.duration
                del self.entries[key]
        return ids

    def _labels(self, ids: Mapping[tuple[str, str], str], problems: list[Problem]) -> dict[str, int]:
        """The classes by name, with their label_id: as listed or known, else by the events' label_ids where all have
        one, else in alphabetical order."""
        before = len(problems)
        listed = tuple(self.known) if self.known else self.listed
        found: dict[str, object] = {label: i for i, label in enumerate(listed)}
        if len(found) < len(listed):
            problems.append(Problem("", "annotation", "the list of classes names one twice"))
        rows = [(key, row) for key, entry in self.entries.items() for row in entry.rows]
        for key, row in rows:
            if row.label is None and isinstance(row.label_id, int) and 0 <= row.label_id < len(listed):
                row.label, row.label_id = listed[row.label_id], None
            label = row.label
            if not isinstance(label, str) or not label:
                continue  # _event tells
            if self.known and label not in found:
                text = f"{row.where}: there is no class {label!r}"
                problems.append(Problem(ids[key], "annotation", text))
            elif found.get(label) is None:
                found[label] = row.label_id
            elif row.label_id is not None and found[label] != row.label_id:
                text = f"{row.where}: label {label!r} has label_id {row.label_id}, elsewhere {found[label]}"
                problems.append(Problem(ids[key], "annotation", text))
        if self.known or any(label_id is None for label_id in found.values()):
            return {label: i for i, label in enumerate((*listed, *sorted(found.keys() - set(listed))))}
        names: dict[int, str] = {}
        for label, label_id in found.items():
            if not isinstance(label_id, int) or label_id < 0:
                text = f"label {label!r}: label_id must be a number from 0, got {label_id!r}"
                problems.append(Problem("", "annotation", text))
            elif label_id in names:
                text = f"label_id {label_id} is both {names[label_id]!r} and {label!r}"
                problems.append(Problem("", "annotation", text))
            else:
                names[label_id] = label
        missing = sorted(set(range(len(names))) - set(names))
        if len(problems) == before and missing:
            text = f"label_id {missing[0]} is not used: list all classes in order, as `labels` beside `database`"
            problems.append(Problem("", "annotation", text))
        return {names[i]: n for n, i in enumerate(sorted(names))}

    def _scale(self) -> tuple[float, float] | None:
        """The range of the scores, if some lie outside of 0..1."""
        scores = []
        for row in (row for entry in self.entries.values() for row in entry.rows if row.score not in (None, "")):
            try:
                scores.append(number(row.score, "score"))
            except ValueError:
                continue  # _event tells
        finite = np.array([score for score in scores if math.isfinite(score)])
        if len(finite) == 0 or (finite.min() >= 0 and finite.max() <= 1):
            return None
        return min(float(finite.min()), 0.0), max(float(finite.max()), 1.0)

    def _event(
        self,
        row: Row,
        duration: float | None,
        clip: bool,
        truth: bool,
        tolerated: float,
        scale: tuple[float, float] | None,
    ) -> tuple[Event, str]:
        """The event of a row, and how its times were cut. ValueError says why it is none."""
        start, end = number(row.start, "start"), number(row.end, "end")
        if not (math.isfinite(start) and math.isfinite(end) and start < end) or (start < 0 and not clip):
            raise ValueError(f"an event needs 0 <= start < end, got {start:g} and {end:g} s")
        if row.label is None and row.label_id is not None:
            raise ValueError(f"there is no label_id {row.label_id!r} among {len(self.known or self.listed)} classes")
        if not isinstance(row.label, str) or not row.label:
            raise ValueError(f"the event from {start:g} to {end:g} s has no label")
        if truth and not _is_one(row.score):
            raise ValueError(
                f"score {row.score}: a model found this event and nobody looked at it: correct it on the page of "
                "`davel serve`, or leave that column out"
            )
        score = 1.0 if row.score in (None, "") else number(row.score, "score")
        if scale and math.isfinite(score):
            score = (score - scale[0]) / (scale[1] - scale[0])
        if not 0 <= score <= 1:
            raise ValueError(f"a score must be from 0 to 1, got {score:g}")
        kind = "both" if row.kind in (None, "") else row.kind
        if kind not in KINDS:
            raise ValueError(f"an event is of the kind {', '.join(KINDS)}, got {kind!r}")
        first, last = max(start, 0.0), end if duration is None else min(end, duration)
        late = 0.0 if duration is None else end - duration
        cut = f"{start:g} to {end:g} s cut to {first:g} to {last:g} s" if start < 0 or late > ROUNDING else ""
        if cut and duration is not None and (not clip or late > tolerated or (first >= last and tolerated < math.inf)):
            raise ValueError(f"the event ends at {end:g} s, its video at {duration:.2f} s")
        if first >= last:
            raise _Outside(f"an event from {start:g} to {end:g} s lies outside of its video")
        return Event(row.label, first, last if clip else end, score, kind), cut


class _Outside(ValueError):
    """Nothing of an event lies within its video."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A kind of file that davel reads: the annotations of others' data sets."""

    name: str
    about: str = ""
    """What it is for, in the documentation's table."""
    loads: Callable[[File, Collector], None]
    """Collect the events of a file. ValueError says what is wrong where it is not of this format at all."""
    recognise: Callable[[File], bool] | None = None
    """Whether a file is of this format."""

    def recognises(self, file: File) -> bool:
        return self.recognise is not None and self.recognise(file)

    def collect(self, file: File, own: str | None = None, vocabulary: Vocabulary | None = None) -> Collector:
        """What a file says, unchecked. ValueError if it is not of this format at all."""
        found = Collector(self.own_id(file.name) if own is None else own, vocabulary)
        self.loads(file, found)
        return found

    def own_id(self, name: str) -> str:
        """The id of the video of a file that names none."""
        name = name.replace("\\", "/").rpartition("/")[2]
        return id_of(name.rpartition(".")[0] or name)


@dataclass(frozen=True, kw_only=True)
class Format(Reader):
    """A kind of file that is read and written: its reader, its writer, how it is known, and what it can hold.

    One of another installed package is found by its entry point in the group `davel.formats`.
    """

    suffix: str
    """What files that davel writes end in."""
    dumps: Callable[[Sequence[Video]], str]
    """The text of a file with these videos. ConfigError if it cannot be one."""
    recognise: Callable[[File], bool] | None = None
    """Whether a file is of this format; by default one whose name ends as davel's."""
    holds: frozenset[str] = frozenset()
    """Of `scores`, `durations`, `many` (videos), `kinds` (of events)."""
    unit: float = MICRO
    """Seconds to which times are rounded; a shorter event becomes one unit long."""
    more: str = ""
    """What else it cannot hold, for people."""

    def recognises(self, file: File) -> bool:
        if self.recognise is None:
            return file.name.lower().endswith(f".{self.suffix}")
        return self.recognise(file)

    def own_id(self, name: str) -> str:
        """The id of the video of a file that names none: what its name is before this format's ending."""
        name = name.replace("\\", "/").rpartition("/")[2]
        if name.lower().endswith(f".{self.suffix}") and len(name) > len(self.suffix) + 1:
            return id_of(name[: -len(self.suffix) - 1])
        return super().own_id(name)


def number(value: object, what: str) -> float:
    """ValueError if it is none."""
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{what} is {str(value)[:40]!r}: expected a number") from None


def _is_one(score: object) -> bool:
    try:
        return score in (None, "") or float(str(score)) == 1
    except ValueError:
        return False


def _seconds(value: object) -> float:
    """A duration. ValueError if it is none."""
    seconds = number(value, "duration")
    if not 0 < seconds < math.inf:
        raise ValueError(f"a duration is seconds above 0, got {seconds:g}")
    return seconds


def mapping(value: object, what: str) -> dict[str, Any]:
    """ValueError if it is no JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected an object, got {type(value).__name__}")
    return value


def items(value: object, what: str) -> list[Any]:
    """ValueError if it is no JSON list."""
    if not isinstance(value, list):
        raise ValueError(f"{what}: expected a list, got {type(value).__name__}")
    return value


# ---- identity


def id_of(media: str) -> str:
    """The id of the video in a media file: its path without the file's ending; of a path from the root, or of a URL,
    the name alone."""
    return ids_of([media])[media]


def ids_of(media: Sequence[str]) -> dict[str, str]:
    """The ids of media files that are named beside each other: different files have different ids.

    Of paths from the root and of URLs that is what lies below the folder that they share.
    """
    parts: dict[str, tuple[str, ...]] = {}
    far: list[str] = []
    for name in dict.fromkeys(media):
        path = name.replace("\\", "/")
        steps = [step for step in path.split("/") if step not in ("", ".")] or [name]
        parts[name] = tuple(steps)
        if path.startswith("/") or re.match(r"^[A-Za-z][\w+.-]*:", path) or ".." in steps:
            far.append(name)
    shared = min((len(parts[name]) - 1 for name in far), default=0)
    while any(parts[name][:shared] != parts[far[0]][:shared] for name in far):
        shared -= 1
    for name in far:
        parts[name] = tuple(step for step in parts[name][shared:] if step != "..")
    ids = {name: without_suffix("/".join(steps)) or name for name, steps in parts.items()}
    files: dict[str, set[str]] = {}
    for name, key in ids.items():
        if "/".join(parts[name]) != key:  # the others are named by their ids
            files.setdefault(key, set()).add("/".join(parts[name]))
    return {name: "/".join(parts[name]) if len(files.get(key, ())) > 1 else key for name, key in ids.items()}


def name_of(video: Video) -> str:
    """What a format that names each video once writes of it: the file, where its id can be told of that again."""
    if video.media is None:
        return video.id
    media = id_of(video.media)
    return video.media if media == video.id or media.endswith(f"/{video.id}") else video.id


# ---- what writers share


def plain(event: Event) -> dict[str, Any]:
    """Plain values; the kind only where it is not `both`."""
    values = {"label": event.label, "start": event.start, "end": event.end, "score": event.score}
    return values | ({} if event.kind == "both" else {"kind": event.kind})


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


def one_line(text: str) -> str:
    """A label or name where a line or a column ends it: line ends and control characters are escaped."""
    text = text.replace("\t", " ").encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cn") else c for c in text
    )
