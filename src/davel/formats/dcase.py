"""Tables as DCASE's challenges and sed_eval have them: filename, onset, offset, event_label."""

from __future__ import annotations

from collections.abc import Sequence

from davel.core.events import Video
from davel.formats.base import MILLI, NAMED, Collector, File, Format, name_of, one_line, spans

COLUMNS = ("filename", "onset", "offset", "event_label")


def dumps(videos: Sequence[Video]) -> str:
    rows = ["\t".join(COLUMNS)]
    for video in videos:
        media = one_line(name_of(video))
        found = spans(list(video.events), MILLI)
        rows += [f"{media}\t{a / 1000:.3f}\t{b / 1000:.3f}\t{one_line(e.label)}" for a, b, e in found]
        if not found:
            rows.append(f"{media}\t\t\t")
    return "\n".join(rows) + "\n"


def loads(file: File, found: Collector) -> None:
    for where, row in file.rows("\t", *COLUMNS[1:], quoted=False):
        video = found.video(media=row.get("filename"))
        if row["onset"]:
            found.add(video, where, label=row["event_label"], start=row["onset"], end=row["offset"])


FORMAT = Format(
    name="dcase",
    suffix="dcase.tsv",
    about="DCASE challenges, sed_eval",
    dumps=dumps,
    loads=loads,
    recognise=lambda file: file.ending not in NAMED and "event_label" in file.columns,
    holds=frozenset({"many"}),
    unit=MILLI,
)
