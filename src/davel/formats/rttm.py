"""NIST's rich transcription time marks, an event in place of a speaker; the score is the confidence."""

from __future__ import annotations

from collections.abc import Sequence

from davel.core.errors import ConfigError, printable
from davel.core.events import Video
from davel.formats.base import MICRO, Collector, File, Format, number, one_line, spans


def _word(text: str) -> str:
    return "_".join(one_line(text).split())


def dumps(videos: Sequence[Video]) -> str:
    lines = []
    names: dict[str, str] = {}
    for video in videos:
        name = _word(video.id)
        if (other := names.setdefault(name, video.id)) != video.id:
            raise ConfigError(f"{printable(other)} and {printable(video.id)} are both {name!r} in RTTM: rename one")
        for a, b, e in spans(list(video.events), MICRO):
            times = f"{a / 1e6:.6f} {(b - a) / 1e6:.6f}"
            lines.append(f"SPEAKER {name} 1 {times} <NA> <NA> {_word(e.label)} {e.score:.6f} <NA>\n")
    return "".join(lines)


def loads(file: File, found: Collector) -> None:
    for n, line in enumerate(file.lines, 1):
        fields = line.split()
        if not fields or line.startswith(";") or fields[0] != "SPEAKER":
            continue
        if len(fields) < 9:
            found.problem(f"line {n}: expected at least 9 fields, got {len(fields)}")
            continue
        video = found.video(fields[1])
        try:
            start, duration = number(fields[3], "onset"), number(fields[4], "duration")
        except ValueError as error:
            found.problem(f"line {n}: {error}", video)
            continue
        score = None if fields[8] == "<NA>" else fields[8]
        found.add(video, f"line {n}", label=fields[7], start=start, end=round(start + duration, 6), score=score)


FORMAT = Format(
    name="rttm",
    suffix="rttm",
    about="pyannote, NIST's tools",
    dumps=dumps,
    loads=loads,
    holds=frozenset({"scores", "many"}),
    more="videos without events, and spaces in names, which become _",
)
