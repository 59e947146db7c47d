"""THUMOS'14's temporal annotations as they were released: a text file for each class, named by it (`Diving_val.txt`).

    video_validation_0000266  72.8 76.4

Their JSON in ActivityNet's schema is read as `activitynet`.
"""

from __future__ import annotations

import re

from davel.formats.base import Collector, File, Reader

VIDEO = re.compile(r"video_(validation|test)_\d+\s")
PART = re.compile(r"_(val|test)$")
AMBIGUOUS = "Ambiguous"


def loads(file: File, found: Collector) -> None:
    label = PART.sub("", file.stem)
    if label == AMBIGUOUS:
        raise ValueError("has what is left out of the evaluation, and no events")
    for n, line in enumerate(file.lines, 1):
        if not line.strip():
            continue
        name, *times = line.split()
        if len(times) != 2 or not (video := VIDEO.match(f"{name} ")):
            found.problem(f"line {n}: expected a video and two times, got {line.strip()[:60]}")
            continue
        found.add(found.video(name, subset=video[1]), f"line {n}", label=label, start=times[0], end=times[1])


READER = Reader(
    name="thumos",
    about="THUMOS'14: `CLASS_val.txt`, `CLASS_test.txt`",
    loads=loads,
    recognise=lambda file: file.ending == "txt" and bool(VIDEO.match(file.text)),
)
