"""JSON lines: an object per event, or for a video without events one that names the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from davel.core.events import Video
from davel.formats.base import ALL, Collector, File, Format, id_of, plain


def dumps(videos: Sequence[Video]) -> str:
    lines = []
    for video in videos:
        about: dict[str, Any] = {"file": video.media or video.id}
        if video.media and id_of(video.media) != video.id:
            about["id"] = video.id
        if video.duration is not None:
            about["duration"] = video.duration
        lines += [json.dumps(about | plain(event)) for event in video.events] or [json.dumps(about)]
    return "".join(f"{line}\n" for line in lines)


def loads(file: File, found: Collector) -> None:
    for n, line in enumerate(file.lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("expected an object")
        except ValueError as error:
            found.problem(f"line {n}: {error}")
            continue
        own, media = row.get("id"), row.get("file")
        video = found.video(
            own if isinstance(own, str) else None, media=str(media) if media else None, duration=row.get("duration")
        )
        if "start" in row or "label" in row:
            found.add_object(video, f"line {n}", row)


FORMAT = Format(
    name="jsonl",
    suffix="jsonl",
    about="programs, a line per event",
    dumps=dumps,
    loads=loads,
    holds=ALL,
    unit=0,
)
