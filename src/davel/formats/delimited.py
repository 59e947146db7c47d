"""Tables with a line per event: CSV and TSV, of the columns file, label, start, end, score, and kind where one is told.

A line with a file alone says that the video has no events.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from davel.core.events import Video
from davel.formats.base import MILLI, NAMED, Collector, File, Format, name_of, spans

SERVED = re.compile(r"[0-9a-f]{16}|job:.+")
"""The column `id` of what `davel serve` keeps: it tells two videos of one name apart. Others' may be anything."""
COLUMNS = ("file", "label", "start", "end", "score")


class _Lines(list[str]):
    """Rows as they are written: with line ends of CR and LF, so that a CR in a label is quoted."""

    write = list.append


def _format(name: str, delimiter: str, about: str) -> Format:
    def dumps(videos: Sequence[Video]) -> str:
        lines = _Lines()
        rows = csv.writer(lines, delimiter=delimiter)
        with_kinds = any(video.events.kinds is not None for video in videos)
        rows.writerow([*COLUMNS, *(["kind"] if with_kinds else [])])
        for video in videos:
            for e in video.events:
                [(start, end, _)] = spans([e], MILLI)
                times = f"{start / 1000:.3f}", f"{end / 1000:.3f}", f"{e.score:.4f}"
                rows.writerow([name_of(video), e.label, *times, *([e.kind] if with_kinds else [])])
            if not video.events:
                rows.writerow([name_of(video), *[""] * (4 + with_kinds)])
        return "".join(line.removesuffix("\r\n") + "\n" for line in lines)

    def loads(file: File, found: Collector) -> None:
        ids = dict[tuple[str, str], set[str]]()
        for where, row in file.rows(delimiter, "label", "start", "end"):
            video = found.video(media=row.get("file"))
            if SERVED.fullmatch(id := row.get("id") or ""):
                known = ids.setdefault(video, {id})
                if id not in known:
                    both = f"{min(known)} and {id}"
                    found.problem(f"{where}: {video[1]!r} is the name of two videos, {both}: rename one here", video)
                    known.add(id)
            if row["label"] or row["start"] or row["end"]:
                found.add(
                    video, where, label=row["label"], start=row["start"], end=row["end"],
                    score=row.get("score"), kind=row.get("kind"),
                )  # fmt: skip

    def recognise(file: File) -> bool:
        if delimiter == ",":
            return file.ending == "csv"
        return file.ending not in NAMED and {"label", "start", "end"} <= set(file.columns)

    return Format(
        name=name,
        suffix=name,
        about=about,
        dumps=dumps,
        loads=loads,
        recognise=recognise,
        holds=frozenset({"scores", "many", "kinds"}),
        unit=MILLI,
    )


CSV = _format("csv", ",", "spreadsheets; `davel data init`")
TSV = _format("tsv", "\t", "spreadsheets")
