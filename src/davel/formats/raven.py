"""Selection tables of Raven, over all frequencies of 16 kHz sound; annotation, file and score are columns."""

from __future__ import annotations

from collections.abc import Sequence

from davel.core.events import Video
from davel.formats.base import MICRO, NAMED, Collector, File, Format, name_of, one_line, spans

TIMES = ("Begin Time (s)", "End Time (s)")
COLUMNS = ("Selection", "View", "Channel", *TIMES, "Low Freq (Hz)", "High Freq (Hz)")
MORE = ("Begin File", "Annotation", "Score")


def dumps(videos: Sequence[Video]) -> str:
    rows = ["\t".join(COLUMNS + MORE)]
    for video in videos:
        for a, b, e in spans(list(video.events), MICRO):
            times = (f"{a / 1e6:.6f}", f"{b / 1e6:.6f}")
            about = (one_line(name_of(video)), one_line(e.label), f"{e.score:.6f}")
            rows.append("\t".join((str(len(rows)), "Spectrogram 1", "1", *times, "0", "8000", *about)))
    return "\n".join(rows) + "\n"


def loads(file: File, found: Collector) -> None:
    label = next((name for name in ("Annotation", "Species", "Label", "Tags") if name in file.columns), "Annotation")
    if "Begin File" not in file.columns:
        found.video()
    seen: set[tuple[str | None, ...]] = set()
    for where, row in file.rows("\t", *TIMES, label, quoted=False):
        entry = tuple(row.get(name) for name in ("Selection", *TIMES, label, "Begin File"))
        if entry in seen and row.get("View"):
            continue  # the same selection in another view
        seen.add(entry)
        video = found.video(media=row.get("Begin File"))
        found.add(video, where, label=row[label], start=row[TIMES[0]], end=row[TIMES[1]], score=row.get("Score"))


FORMAT = Format(
    name="raven",
    suffix="raven.txt",
    about="Raven's selection tables",
    dumps=dumps,
    loads=loads,
    recognise=lambda file: file.ending not in NAMED and TIMES[0] in file.columns,
    holds=frozenset({"scores", "many"}),
    more="videos without events",
)
