"""A data set from a table: a CSV of `file,start,end,label`, one line per event, and a folder of videos.

A line with a file alone says that the video has no event. Times are seconds. A column `score`, as `davel convert`
writes it, must be 1 throughout: what a model found is no truth. Other columns are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from itertools import islice
from pathlib import Path

import numpy as np

from davel import formats
from davel.core.annotations import Annotations
from davel.core.errors import ConfigError, MediaError, printable, refuse
from davel.core.files import is_below
from davel.core.progress import Report, silent
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
    report: Report = silent,
) -> Annotations:
    """Annotations of the files in the folder `videos`, in the order in which the table names them.

    Classes are in alphabetical order. ConfigError lists what is wrong by line, and files that cannot be read.
    """
    found = formats.collect(path, "csv")[1]
    if any(what == "id" for what, _ in found.entries):
        raise ConfigError(f"{printable(path)}: a line names no file: expected the columns {','.join(COLUMNS)}")
    files = {entry: _with_suffix(name, videos) for (_, name), entry in found.entries.items()}
    problems = []
    for done, (entry, file) in enumerate(files.items(), 1):
        entry.media = file
        if not is_below(file):
            problems.append(f"{file}: give a file's name within the folder of the videos")
            continue
        try:
            entry.duration = probe(videos / file).duration_seconds
            if entry.duration is None:
                problems.append(f"{file}: does not say how long it is: convert it to mp4 or mkv")
        except MediaError as error:
            problems.append(str(error))
        report("videos", done, len(files), file)
    contents = found.contents(clip=True, truth=True, tolerated=TOLERATED_SECONDS)
    refuse(path, [*(p for p in contents.problems if p.kind != "cut"), *problems])
    if len(contents.videos) < 2:
        raise ConfigError(
            f"{printable(path)}: names {len(contents.videos)} videos: training and validation need one each"
        )
    if not len(contents.vocabulary):
        raise ConfigError(f"{printable(path)}: has no event: give at least one start, end and label")
    classes = [frozenset(event.label for event in video.events) for video in contents.videos]
    subsets = (split or Split()).assign(classes, seed)
    return Annotations(
        contents.vocabulary,
        {v.id: replace(v, subset=subset) for v, subset in zip(contents.videos, subsets, strict=True)},
        tuple(contents.problems),
    )


def _with_suffix(name: str, videos: Path) -> str:
    """A file's name where a table gives only what stands before its dot, as those of other tools do."""
    if not is_below(name) or (videos / name).exists():
        return name
    found = [path for path in videos.glob(f"{escape(name)}.*") if path.suffix.lower() in MEDIA_SUFFIXES]
    return found[0].relative_to(videos).as_posix() if len(found) == 1 else name
