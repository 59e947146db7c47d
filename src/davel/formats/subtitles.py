"""Events as subtitles: WebVTT and SRT. A cue is an event, its text the label."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from davel.formats.base import Collector, Video, one, one_line, spans

MILLI = 1e-3
ARROW = re.compile(r"^\s*(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})\s+-->\s+(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})")


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
    cues = [
        f"{n}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{one_line(e.label)}\n"
        for n, (a, b, e) in enumerate(spans(list(one(videos, "srt").events), MILLI), 1)
    ]
    return "\n".join(cues)


def load_vtt(text: str, key: str) -> list[Video]:
    if not text.lstrip("\ufeff").startswith("WEBVTT"):
        raise ValueError("expected the first line to be WEBVTT")
    return _load(text, key, lambda label: html.unescape(re.sub(r"<[^>]*>", "", label)))


def load_srt(text: str, key: str) -> list[Video]:
    return _load(text, key, lambda label: re.sub(r"</?(?:b|i|u|font)\b[^>]*>", "", label))


def _load(text: str, key: str, plain: Callable[[str], str]) -> list[Video]:
    found = Collector()
    found.video(key)
    lines = text.lstrip("\ufeff").splitlines()
    for n, line in enumerate(lines):
        match = ARROW.match(line)
        if match is None:
            if "-->" in line:
                raise ValueError(f"line {n + 1}: expected HH:MM:SS.mmm --> HH:MM:SS.mmm")
            continue
        clock = [int(part or 0) for part in match.groups()]
        start, end = (h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (clock[:4], clock[4:]))
        body = []
        for following in lines[n + 1 :]:
            if not following.strip():
                break
            body.append(following.strip())
        label = plain(" ".join(body))
        score = re.search(r"score=([\d.]+)$", lines[n - 1]) if n else None
        try:
            found.add(key, label, start, end, float(score[1]) if score else 1.0)
        except ValueError as error:
            raise ValueError(f"line {n + 1}: {error}") from None
    return found.videos()
