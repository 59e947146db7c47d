"""CMX 3600 edit decision lists, as Premiere and Resolve read them: a cut per event, its label as comment and marker."""

from __future__ import annotations

import re
from collections.abc import Sequence

from davel.formats.base import Collector, Video, id_of, one, one_line, spans

FPS = 25
"""Of the time codes, without dropped frames."""
CUT = re.compile(r"^\d{3,6}\s+\S+\s+\S+\s+\S+(?:\s+\d+)?\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$")
CODE = re.compile(r"^(\d+):(\d{2}):(\d{2})[:;](\d{2})$")


def _code(frames: int) -> str:
    seconds, frame = divmod(frames, FPS)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame:02}"


def dumps(videos: Sequence[Video]) -> str:
    """Source times are those of the media; the record side lays the events one behind the other."""
    video = one(videos, "edl")
    name = one_line(video.media or video.id).replace("\\", "/").rpartition("/")[2]
    lines = [f"TITLE: {one_line(video.id)}", "FCM: NON-DROP FRAME", ""]
    position = 3600 * FPS  # by custom a programme begins at one hour
    for n, (a, b, e) in enumerate(spans(list(video.events), 1 / FPS), 1):
        after = position + b - a
        lines.append(f"{n:03}  AX       AA/V  C        {_code(a)} {_code(b)} {_code(position)} {_code(after)}")
        lines.append(f"* FROM CLIP NAME: {name}")
        lines.append(f"* LOC: {_code(position)} GREEN   {one_line(e.label)}")
        lines.append(f"* COMMENT: score {e.score:.4f}")
        lines.append("")
        position = after
    return "\n".join(lines) + "\n"


def loads(text: str, key: str) -> list[Video]:
    """The cuts' source times; a cut's label is its marker, or else its clip's name."""
    found = Collector()
    media: str | None = None
    cut: dict[str, str | float] = {}
    rows = []

    for n, line in enumerate(text.splitlines(), 1):
        if match := CUT.match(line):
            cut = {"line": n, "start": _seconds(match[1], n), "end": _seconds(match[2], n)}
            rows.append(cut)
        elif line.startswith("* FROM CLIP NAME:"):
            cut["clip"] = line.partition(":")[2].strip()
        elif line.startswith("* LOC:"):
            cut["label"] = " ".join(line.split()[4:])
        elif match := re.match(r"^\* COMMENT: score ([\d.]+)$", line):
            cut["score"] = float(match[1])
    names = {str(row["clip"]) for row in rows if "clip" in row}
    if len(names) == 1 and all("label" in row for row in rows):
        media = names.pop()
    own = id_of(media) if media else key
    found.video(own, media=media)
    for row in rows:
        label = str(row.get("label") or row.get("clip") or "")
        try:
            found.add(own, label, float(row["start"]), float(row["end"]), float(row.get("score", 1)))
        except ValueError as error:
            raise ValueError(f"line {row['line']}: {error}") from None
    return found.videos()


def _seconds(code: str, line: int) -> float:
    match = CODE.match(code)
    if match is None:
        raise ValueError(f"line {line}: expected a time code HH:MM:SS:FF, got {code[:20]!r}")
    hours, minutes, seconds, frames = map(int, match.groups())
    if frames >= FPS:
        raise ValueError(f"line {line}: frame {frames} of a second: only {FPS} frames a second are read")
    return hours * 3600 + minutes * 60 + seconds + frames / FPS
