"""A data set from a table: a CSV of `file,start,end,label`, one line per event, and a folder of videos.

A line with a file alone says that the video has no event. Times are seconds. A column `score`, as `davel convert`
writes it, must be 1 throughout: what a model found is no truth. A column `id`, as `davel serve` writes it, is not read.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import escape
from itertools import islice
from pathlib import Path

import numpy as np

from davel.core.errors import ConfigError, MediaError, printable, refuse
from davel.core.events import Event, EventList
from davel.core.files import replacing
from davel.data.annotations import AnnotatedVideo, Annotations
from davel.media import MEDIA_SUFFIXES, probe

COLUMNS = ("file", "start", "end", "label")
TOLERATED_SECONDS = 0.5
"""By which an event may end after its video; what is too long is cut off."""


@dataclass(frozen=True)
class Split:
    """The parts of the videos for training, validation and test."""

    parts: tuple[float, float, float] = (0.8, 0.1, 0.1)

    def __post_init__(self) -> None:
        if min(self.parts) < 0 or not sum(self.parts) or not self.parts[0] or not self.parts[1]:
            raise ValueError("training and validation need a part of the videos each, and no part is negative")

    @classmethod
    def read(cls, text: str) -> Split:
        """As `80/10/10`. ValueError if it is not of this form."""
        try:
            train, validation, test = (float(part) for part in text.split("/"))
        except ValueError:
            raise ValueError(f"expected three parts as 80/10/10, got {text!r}") from None
        total = (train + validation + test) or 1.0
        return cls((train / total, validation / total, test / total))

    def assign(self, classes: Sequence[frozenset[str]], seed: int = 0) -> list[str]:
        """The subset of each of at least two videos, given the classes of its events.

        Drawn at random, but a video that is the last of a class stays for training.
        """
        n = len(classes)
        validation = min(max(round(self.parts[1] * n), 1), n - 1)
        test = min(round(self.parts[2] * n), n - 1 - validation)
        left = Counter(label for labels in classes for label in labels)
        subsets = ["train"] * n
        order = np.random.default_rng(seed).permutation(n)
        for name, count in (("validation", validation), ("test", test)):
            spare = (i for i in order if subsets[i] == "train" and all(left[label] > 1 for label in classes[i]))
            for i in islice(spare, count):
                subsets[i] = name
                left.subtract(classes[i])
        if "validation" not in subsets:
            subsets[order[0]] = "validation"
        return subsets


def read_table(
    path: Path,
    videos: Path,
    split: Split | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Annotations:
    """Annotations of the files in the folder `videos`, in the order in which the table names them.

    Classes are in alphabetical order. ConfigError lists what is wrong by line, and files that cannot be read.
    """
    rows, problems = _rows(path)
    refuse(path, problems)
    rows = [(line, _with_suffix(file, videos), event) for line, file, event in rows]
    files = list(dict.fromkeys(file for _, file, _ in rows))
    durations: dict[str, float] = {}
    for done, file in enumerate(files, 1):
        try:
            seconds = probe(videos / file).duration_seconds
            if seconds is None:
                problems.append(f"{file}: does not say how long it is: convert it to mp4 or mkv")
            else:
                durations[file] = seconds
        except MediaError as error:
            problems.append(str(error))
        if progress:
            progress(done, len(files))
    by_file: dict[str, list[Event]] = {file: [] for file in files}
    for line, file, event in rows:
        if event is None or file not in durations:
            continue
        if event.end > durations[file] + TOLERATED_SECONDS or event.start >= durations[file]:
            problems.append(f"line {line}: {file} ends at {durations[file]:.2f} s, the event at {event.end:g} s")
            continue
        by_file[file].append(Event(event.label, event.start, min(event.end, durations[file])))
    names = Counter(Path(file).stem for file in files)
    problems += [f"{name}: two files of this name" for name, count in names.items() if count > 1]
    refuse(path, problems)
    if len(files) < 2:
        raise ConfigError(f"{printable(path)}: names {len(files)} videos: training and validation need one each")
    labels = tuple(sorted({event.label for events in by_file.values() for event in events}))
    if not labels:
        raise ConfigError(f"{printable(path)}: has no event: give at least one start, end and label")
    classes = [frozenset(event.label for event in events) for events in by_file.values()]
    subsets = (split or Split()).assign(classes, seed)
    none = EventList.of([], labels)
    return Annotations(
        labels,
        {
            Path(file).stem: AnnotatedVideo(
                Path(file).stem, durations[file], subset, EventList.of(by_file[file], labels), none
            )
            for file, subset in zip(files, subsets, strict=True)
        },
    )


def put_events(path: Path, file: str, events: Sequence[Event]) -> None:
    """Have a table say that these are all events of a file, whatever it said of it before; a new one, if need be.

    ConfigError if what is there is no such table.
    """
    rows, problems = _rows(path) if path.exists() else ([], [])
    refuse(path, problems)
    lines = [(name, event) for _, name, event in rows if name not in (file, Path(file).stem)]
    lines += [(file, event) for event in sorted(events, key=lambda e: (e.start, e.end))] or [(file, None)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        for name, event in lines:
            values = ("", "", "") if event is None else (f"{event.start:.3f}", f"{event.end:.3f}", event.label)
            table.writerow([name, *values])


def _rows(path: Path) -> tuple[list[tuple[int, str, Event | None]], list[str]]:
    """Line, file and event (None: the video has none) of each row, and what is wrong with the others."""
    rows: list[tuple[int, str, Event | None]] = []
    problems: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            if sorted(name for name in header if name not in ("score", "id")) != sorted(COLUMNS):
                raise ConfigError(
                    f"{printable(path)}: line 1: expected the columns {','.join(COLUMNS)}, "
                    f"got {printable(','.join(header)) or 'nothing'}"
                )
            for values in reader:
                if not any(value.strip() for value in values):
                    continue
                line = reader.line_num
                if len(values) != len(header):
                    problems.append(f"line {line}: expected {len(header)} values, got {len(values)}")
                    continue
                row = {name: value.strip() for name, value in zip(header, values, strict=True)}
                try:
                    rows.append((line, _file(row["file"]), _event(row)))
                except ValueError as error:
                    problems.append(f"line {line}: {error}")
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot read the table: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{printable(path)}: is not a CSV in UTF-8: {error}") from error
    return rows, problems


def _file(name: str) -> str:
    if not name:
        raise ValueError("no file is named")
    if Path(name).name != name:
        raise ValueError(f"{name}: give a file's name without a folder: all videos lie in one")
    return name


def _with_suffix(name: str, videos: Path) -> str:
    """A file's name where a table gives only what stands before its dot, as those of other tools do."""
    if (videos / name).exists():
        return name
    found = [path.name for path in videos.glob(f"{escape(name)}.*") if path.suffix.lower() in MEDIA_SUFFIXES]
    return found[0] if len(found) == 1 else name


def _event(row: dict[str, str]) -> Event | None:
    given = [name for name in COLUMNS[1:] if row[name]]
    if not given:
        return None
    if len(given) < 3:
        missing = ", ".join(name for name in COLUMNS[1:] if not row[name])
        raise ValueError(f"{missing} missing: an event needs start, end and label")
    try:
        start, end = float(row["start"]), float(row["end"])
    except ValueError:
        raise ValueError(f"expected seconds, got {row['start']!r} and {row['end']!r}") from None
    score = row.get("score") or "1"
    try:
        is_true = float(score) == 1
    except ValueError:
        is_true = False
    if not is_true:
        raise ValueError(
            f"score {score}: a model found this event and nobody looked at it: correct it on the page of "
            "`davel serve`, or leave that column out"
        )
    if not 0 <= start < end < float("inf"):
        raise ValueError(f"an event needs 0 <= start < end, got {start:g} and {end:g}")
    return Event(row["label"], start, end)
