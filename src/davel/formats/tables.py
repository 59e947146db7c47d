"""Formats with a line per event: CSV, TSV, JSON lines, DCASE, Audacity's labels, Raven's selections, RTTM."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from davel.formats.base import Collector, Video, each_row, id_of, number, one, one_line, spans

COLUMNS = ("file", "label", "start", "end", "score")
MILLI, MICRO = 1e-3, 1e-6


def _delimited(delimiter: str) -> tuple[Any, Any]:
    def dumps(videos: Sequence[Video]) -> str:
        stream = io.StringIO()
        rows = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        rows.writerow(COLUMNS)
        for video in videos:
            media = video.media or video.id
            for e in video.events:
                start, end, _ = spans([e], MILLI)[0]
                rows.writerow([media, e.label, f"{start / 1000:.3f}", f"{end / 1000:.3f}", f"{e.score:.4f}"])
            if not video.events:
                rows.writerow([media, "", "", "", ""])
        return stream.getvalue()

    def loads(text: str, key: str) -> list[Video]:
        found = Collector()
        rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        if not {"label", "start", "end"} <= set(names):
            raise ValueError(f"expected the columns label, start, end (and file, score), got {', '.join(names)[:80]}")

        def read(row: dict[str, Any]) -> None:
            media = row.get("file") or key
            found.video(id_of(media), media=media)
            if not (row["label"] or row["start"] or row["end"]):
                return  # a video without events
            score = number(row.get("score") or 1, "score")
            label = row["label"] or ""
            found.add(id_of(media), label, number(row["start"], "start"), number(row["end"], "end"), score)

        each_row((rows.line_num, lambda row=row: read(row)) for row in rows)  # type: ignore[misc]
        return found.videos()

    return dumps, loads


dump_csv, load_csv = _delimited(",")
dump_tsv, load_tsv = _delimited("\t")


def dump_jsonl(videos: Sequence[Video]) -> str:
    lines = []
    for video in videos:
        about = {"file": video.media or video.id} | ({"duration": video.duration} if video.duration else {})
        lines += [json.dumps(about | _plain(e)) for e in video.events] or [json.dumps(about)]
    return "".join(f"{line}\n" for line in lines)


def _plain(event: Any) -> dict[str, Any]:
    return {"label": event.label, "start": event.start, "end": event.end, "score": event.score}


def load_jsonl(text: str, key: str) -> list[Video]:
    found = Collector()

    def read(line: str) -> None:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("expected an object")
        media = str(row.get("file") or key)
        duration = row.get("duration")
        found.video(id_of(media), None if duration is None else number(duration, "duration"), media)
        if "start" in row or "label" in row:
            start, end = (number(row.get(name), name) for name in ("start", "end"))
            found.add(id_of(media), str(row.get("label") or ""), start, end, number(row.get("score", 1), "score"))

    lines = enumerate(text.splitlines(), 1)
    each_row((n, lambda line=line: read(line)) for n, line in lines if line.strip())  # type: ignore[misc]
    return found.videos()


def dump_dcase(videos: Sequence[Video]) -> str:
    """As DCASE's challenges and sed_eval have it: filename, onset, offset, event_label."""
    rows = ["filename\tonset\toffset\tevent_label"]
    for video in videos:
        media = one_line(video.media or video.id)
        found = spans(list(video.events), MILLI)
        rows += [f"{media}\t{a / 1000:.3f}\t{b / 1000:.3f}\t{one_line(e.label)}" for a, b, e in found]
        if not found:
            rows.append(f"{media}\t\t\t")
    return "\n".join(rows) + "\n"


def load_dcase(text: str, key: str) -> list[Video]:
    found = Collector()
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    if not {"onset", "offset", "event_label"} <= set(rows.fieldnames or ()):
        raise ValueError("expected the columns filename, onset, offset, event_label")

    def read(row: dict[str, str | None]) -> None:
        media = row.get("filename") or key
        found.video(id_of(media), media=media)
        if row["onset"]:
            times = number(row["onset"], "onset"), number(row["offset"], "offset")
            found.add(id_of(media), row["event_label"] or "", *times)

    each_row((rows.line_num, lambda row=row: read(row)) for row in rows)  # type: ignore[misc]
    return found.videos()


def dump_audacity(videos: Sequence[Video]) -> str:
    """A label track: start, end, label."""
    found = spans(list(one(videos, "audacity").events), MICRO)
    return "".join(f"{a / 1e6:.6f}\t{b / 1e6:.6f}\t{one_line(e.label)}\n" for a, b, e in found)


def load_audacity(text: str, key: str) -> list[Video]:
    found = Collector()
    found.video(key)

    def read(line: str) -> None:
        start, end, label, *_ = [*line.split("\t", 2), "", "", ""][:3]
        found.add(key, label, number(start, "start"), number(end, "end"))

    lines = enumerate(text.splitlines(), 1)  # a line that begins with \ gives the frequencies of the one before
    each_row((n, lambda line=line: read(line)) for n, line in lines if line and line[0] != "\\")  # type: ignore[misc]
    return found.videos()


RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
RAVEN_MORE = ("Begin File", "Annotation", "Score")


def dump_raven(videos: Sequence[Video]) -> str:
    """A selection table of Raven, over all frequencies of 16 kHz sound; annotation, file and score as its columns."""
    rows = ["\t".join(RAVEN + RAVEN_MORE)]
    number_ = 0
    for video in videos:
        for a, b, e in spans(list(video.events), MICRO):
            number_ += 1
            times = (f"{a / 1e6:.6f}", f"{b / 1e6:.6f}")
            about = (one_line(video.media or video.id), one_line(e.label), f"{e.score:.6f}")
            rows.append("\t".join((str(number_), "Spectrogram 1", "1", *times, "0", "8000", *about)))
    return "\n".join(rows) + "\n"


def load_raven(text: str, key: str) -> list[Video]:
    found = Collector()
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    names = rows.fieldnames or ()
    if not {"Begin Time (s)", "End Time (s)"} <= set(names):
        raise ValueError("expected the columns Begin Time (s), End Time (s) and Annotation")
    label = next((name for name in ("Annotation", "Species", "Label", "Tags") if name in names), None)
    if label is None:
        raise ValueError("expected a column Annotation")
    if "Begin File" not in names:
        found.video(key)
    seen: set[tuple[str | None, ...]] = set()

    def read(row: dict[str, str | None]) -> None:
        entry = tuple(row.get(name) for name in ("Selection", "Begin Time (s)", "End Time (s)", label, "Begin File"))
        if entry in seen and row.get("View"):
            return  # the same selection in another view
        seen.add(entry)
        media = row.get("Begin File") or key
        found.video(id_of(media), media=media)
        start, end = (number(row[name], name) for name in ("Begin Time (s)", "End Time (s)"))
        found.add(id_of(media), row[label] or "", start, end, number(row.get("Score") or 1, "Score"))

    each_row((rows.line_num, lambda row=row: read(row)) for row in rows)  # type: ignore[misc]
    return found.videos()


def dump_rttm(videos: Sequence[Video]) -> str:
    """NIST's rich transcription time marks, an event in place of a speaker; the score is the confidence."""
    lines = []
    for video in videos:
        for a, b, e in spans(list(video.events), MICRO):
            name, label = ("_".join(one_line(text).split()) for text in (video.id, e.label))
            lines.append(f"SPEAKER {name} 1 {a / 1e6:.6f} {(b - a) / 1e6:.6f} <NA> <NA> {label} {e.score:.6f} <NA>\n")
    return "".join(lines)


def load_rttm(text: str, key: str) -> list[Video]:
    found = Collector()

    def read(line: str) -> None:
        fields = line.split()
        if fields[0] != "SPEAKER":
            return
        if len(fields) < 9:
            raise ValueError(f"expected at least 9 fields, got {len(fields)}")
        start, duration = number(fields[3], "onset"), number(fields[4], "duration")
        score = 1.0 if fields[8] == "<NA>" else number(fields[8], "confidence")
        found.add(fields[1], fields[7], start, round(start + duration, 6), score)

    lines = enumerate(text.splitlines(), 1)
    each_row((n, lambda line=line: read(line)) for n, line in lines if line.strip() and line[0] != ";")  # type: ignore[misc]
    return found.videos()
