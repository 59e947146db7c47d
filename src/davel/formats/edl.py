"""CMX 3600 edit decision lists, as Premiere and Resolve read them: a cut per event, its label as comment and marker."""

from __future__ import annotations

import re
from collections.abc import Sequence

from davel.core.events import Video
from davel.formats.base import Collector, File, Format, id_of, name_of, one, one_line, spans

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
    name = one_line(name_of(video)).replace("\\", "/").rpartition("/")[2]
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


def loads(file: File, found: Collector) -> None:
    """The cuts' source times; a cut's label is its marker, or else its clip's name."""
    cut: dict[str, str] = {}
    rows: list[dict[str, str]] = []
    title = ""
    for n, line in enumerate(file.lines, 1):
        if match := CUT.match(line):
            cut = {"where": f"line {n}", "start": match[1], "end": match[2]}
            rows.append(cut)
        elif line.startswith("TITLE:"):
            title = line.partition(":")[2].strip()
        elif line.startswith("* FROM CLIP NAME:"):
            cut["clip"] = line.partition(":")[2].strip()
        elif line.startswith("* LOC:"):
            cut["label"] = " ".join(line.split()[4:])
        elif match := re.match(r"^\* COMMENT: score ([\d.]+)$", line):
            cut["score"] = match[1]
    names = {row["clip"] for row in rows if "clip" in row}
    video = found.video()
    if len(names) == 1 and all("label" in row for row in rows):
        [clip] = names
        is_title = id_of(title.rpartition("/")[2]) == id_of(clip)  # a clip's name is without folders
        found.entries.pop(video)
        video = found.video(title if is_title else None, media=clip)
    for row in rows:
        try:
            start, end = _seconds(row["start"]), _seconds(row["end"])
        except ValueError as error:
            found.problem(f"{row['where']}: {error}", video)
            continue
        label = row.get("label") or row.get("clip")
        found.add(video, row["where"], label=label, start=start, end=end, score=row.get("score"))


def _seconds(code: str) -> float:
    match = CODE.match(code)
    if match is None:
        raise ValueError(f"expected a time code HH:MM:SS:FF, got {code[:20]!r}")
    hours, minutes, seconds, frames = map(float, match.groups())
    if frames >= FPS:
        raise ValueError(f"frame {frames:g} of a second: only {FPS} frames a second are read")
    return hours * 3600 + minutes * 60 + seconds + frames / FPS


FORMAT = Format(
    name="edl",
    suffix="edl",
    about="Premiere, Resolve: a cut per event, its label as a marker",
    dumps=dumps,
    loads=loads,
    holds=frozenset({"scores"}),
    unit=1 / FPS,
)
