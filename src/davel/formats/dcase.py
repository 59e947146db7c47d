"""Tables as DCASE's challenges (DESED's strong labels) and sed_eval have them: filename, onset, offset, event_label.

How long the files are stands in a table of filename and duration, where one lies beside: for `validation.tsv` it is
`validation_durations.tsv` or `durations.tsv`.
"""

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
    seconds = _durations(file)
    for where, row in file.rows("\t", *COLUMNS[1:], quoted=False):
        media = row.get("filename")
        video = found.video(media=media, duration=seconds.get(media or ""))
        if row["onset"]:
            found.add(video, where, label=row["event_label"], start=row["onset"], end=row["offset"])


def _durations(file: File) -> dict[str, str]:
    """By file name, as they stand there. ValueError if there is such a table and it is of another kind."""
    for name in (f"{file.stem}_durations.tsv", "durations.tsv"):
        if table := file.beside(name):
            try:
                return {row["filename"]: row["duration"] for _, row in table.rows("\t", "filename", "duration")}
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return {}


FORMAT = Format(
    name="dcase",
    suffix="dcase.tsv",
    about="DCASE challenges (DESED), sed_eval",
    dumps=dumps,
    loads=loads,
    recognise=lambda file: file.ending not in NAMED - {"csv"} and "event_label" in file.columns,
    holds=frozenset({"many"}),
    unit=MILLI,
)
