"""Audacity's label tracks: start, end, label, parted by tabs."""

from __future__ import annotations

from collections.abc import Sequence

from davel.core.events import Video
from davel.formats.base import MICRO, Collector, File, Format, one, one_line, spans


def dumps(videos: Sequence[Video]) -> str:
    found = spans(list(one(videos, "audacity").events), MICRO)
    return "".join(f"{a / 1e6:.6f}\t{b / 1e6:.6f}\t{one_line(e.label)}\n" for a, b, e in found)


def loads(file: File, found: Collector) -> None:
    video = found.video()
    for n, line in enumerate(file.lines, 1):
        if not line or line.startswith("\\"):  # the frequencies of the label before
            continue
        start, end, label = [*line.split("\t", 2), "", ""][:3]
        found.add(video, f"line {n}", label=label, start=start, end=end)


FORMAT = Format(
    name="audacity",
    suffix="audacity.txt",
    about="Audacity's label tracks",
    dumps=dumps,
    loads=loads,
    recognise=lambda file: file.ending == "txt" and len(file.columns) == 3 and "event_label" not in file.columns,
)
