"""Events as subtitles: WebVTT and SRT. A cue is an event, its text the label."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from davel.core.events import Video
from davel.formats.base import MILLI, Collector, File, Format, one, one_line, spans

CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})"
ARROW = re.compile(rf"^\s*{CLOCK}\s+-->\s+{CLOCK}")


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def dump_vtt(videos: Sequence[Video]) -> str:
    """Players show it as it is; the score is in the cue's identifier."""
    cues = ["WEBVTT\n"]
    for n, (a, b, e) in enumerate(spans(list(one(videos, "vtt").events), MILLI), 1):
        label = html.escape(one_line(e.label), quote=False)
        cues.append(f"{n} score={e.score:.4f}\n{_clock(a, '.')} --> {_clock(b, '.')}\n{label}\n")
    return "\n".join(cues)


def dump_srt(videos: Sequence[Video]) -> str:
    cues = []
    for n, (a, b, e) in enumerate(spans(list(one(videos, "srt").events), MILLI), 1):
        label = one_line(e.label)
        if ARROW.match(label):  # would be a cue of its own
            label = label.replace("-->", "->")
        cues.append(f"{n}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{label}\n")
    return "\n".join(cues)


def load_vtt(file: File, found: Collector) -> None:
    if not file.text.startswith("WEBVTT"):
        raise ValueError("expected the first line to be WEBVTT")
    _load(file, found, lambda label: html.unescape(re.sub(r"<[^<>]*>", "", label)))


def load_srt(file: File, found: Collector) -> None:
    _load(file, found, lambda label: re.sub(r"</?(?:b|i|u|font)\b[^<>]*>", "", label))


def _load(file: File, found: Collector, plain: Callable[[str], str]) -> None:
    """A cue is its times, and all lines until an empty one, or until the next times."""
    video = found.video()
    lines = file.lines
    n = 0
    while n < len(lines):
        match, first = ARROW.match(lines[n]), n
        n += 1
        if match is None:
            if "-->" in lines[first]:
                found.problem(f"line {n}: expected HH:MM:SS.mmm --> HH:MM:SS.mmm", video)
                while n < len(lines) and lines[n].strip():
                    n += 1
            continue
        while n < len(lines) and lines[n].strip() and not ARROW.match(lines[n]):
            n += 1
        clock = [float(part or 0) for part in match.groups()]
        start, end = (h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (clock[:4], clock[4:]))
        score = re.search(r"score=([\d.]+)$", lines[first - 1]) if first else None
        label = plain(" ".join(line.strip() for line in lines[first + 1 : n]))
        found.add(video, f"line {first + 1}", label=label, start=start, end=end, score=score and score[1])


VTT = Format(
    name="vtt",
    suffix="vtt",
    about="browsers and players",
    dumps=dump_vtt,
    loads=load_vtt,
    holds=frozenset({"scores"}),
    unit=MILLI,
)
SRT = Format(name="srt", suffix="srt", about="players", dumps=dump_srt, loads=load_srt, unit=MILLI)
