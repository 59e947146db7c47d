"""Files of events that people's tools read and write: one reader and one writer for each.

`read` and `write` go between files and `Video`s; `losses` says what a format cannot hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from davel.core.errors import ConfigError, printable
from davel.core.files import replacing
from davel.core.result import Result
from davel.formats import eaf, edl, objects, subtitles, tables
from davel.formats.base import Format, Video

__all__ = ["FORMATS", "Format", "Video", "losses", "read", "save", "sniff", "write", "write_text", "writer"]

ALL = frozenset({"scores", "durations", "many"})
MILLI, MICRO = 1e-3, 1e-6
FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            name="json", suffix="json", dumps=objects.dump_events, loads=objects.load_events,
            holds=frozenset({"scores", "durations"}), unit=0,
        ),
        Format(
            name="csv", suffix="csv", dumps=tables.dump_csv, loads=tables.load_csv,
            holds=frozenset({"scores", "many"}), unit=MILLI,
        ),
        Format(
            name="tsv", suffix="tsv", dumps=tables.dump_tsv, loads=tables.load_tsv,
            holds=frozenset({"scores", "many"}), unit=MILLI,
        ),
        Format(name="jsonl", suffix="jsonl", dumps=tables.dump_jsonl, loads=tables.load_jsonl, holds=ALL, unit=0),
        Format(
            name="activitynet", suffix="activitynet.json", dumps=objects.dump_truth, loads=objects.load_truth,
            holds=frozenset({"durations", "many"}), unit=0,
        ),
        Format(
            name="results", suffix="results.json", dumps=objects.dump_results, loads=objects.load_results,
            holds=frozenset({"scores", "many"}), unit=0,
        ),
        Format(
            name="labelstudio", suffix="labelstudio.json", dumps=objects.dump_labelstudio,
            loads=objects.load_labelstudio, holds=frozenset({"scores", "many"}), unit=0,
        ),
        Format(
            name="dcase", suffix="dcase.tsv", dumps=tables.dump_dcase, loads=tables.load_dcase,
            holds=frozenset({"many"}), unit=MILLI,
        ),
        Format(name="audacity", suffix="audacity.txt", dumps=tables.dump_audacity, loads=tables.load_audacity),
        Format(
            name="raven", suffix="raven.txt", dumps=tables.dump_raven, loads=tables.load_raven,
            holds=frozenset({"scores", "many"}), more="videos without events",
        ),
        Format(
            name="rttm", suffix="rttm", dumps=tables.dump_rttm, loads=tables.load_rttm,
            holds=frozenset({"scores", "many"}), more="videos without events, and spaces in names, which become _",
        ),
        Format(
            name="vtt", suffix="vtt", dumps=subtitles.dump_vtt, loads=subtitles.load_vtt,
            holds=frozenset({"scores"}), unit=MILLI,
        ),
        Format(name="srt", suffix="srt", dumps=subtitles.dump_srt, loads=subtitles.load_srt, unit=MILLI),
        Format(name="eaf", suffix="eaf", dumps=eaf.dumps, loads=eaf.loads, unit=MILLI),
        Format(
            name="edl", suffix="edl", dumps=edl.dumps, loads=edl.loads, holds=frozenset({"scores"}), unit=1 / edl.FPS,
        ),
    )
}  # fmt: skip
"""By name."""


def named(name: str) -> Format:
    """ConfigError if the format is not known."""
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    return FORMATS[name]


def of_name(path: Path) -> Format:
    """The format that a file is to be written in, by what its name ends in. ConfigError if that tells none."""
    endings = sorted(FORMATS.values(), key=lambda f: -len(f.suffix))
    found = next((f for f in endings if path.name.lower().endswith(f".{f.suffix}")), None)
    if found is None:
        known = ", ".join(f".{f.suffix}" for f in FORMATS.values())
        raise ConfigError(f"{printable(path)}: what format is that? Say --to, or end the name in one of {known}")
    return found


def sniff(path: Path, text: str) -> Format:
    """The format of a file, by its name where that is enough, else by its content. ConfigError if neither tells."""
    ending = path.suffix.lower()
    if ending in (".csv", ".jsonl", ".vtt", ".srt", ".eaf", ".rttm", ".edl"):
        return FORMATS[ending[1:]]
    head = text.lstrip("\ufeff").partition("\n")[0].rstrip("\r")
    if ending == ".json":
        return FORMATS[_kind_of_json(path, text)]
    columns = head.split("\t")
    if "Begin Time (s)" in columns:
        return FORMATS["raven"]
    if "event_label" in columns:
        return FORMATS["dcase"]
    if {"label", "start", "end"} <= set(columns):
        return FORMATS["tsv"]
    if len(columns) == 3 and ending == ".txt":
        return FORMATS["audacity"]
    raise ConfigError(f"{printable(path)}: not a file of events that davel knows: say --from, if it is one")


def _kind_of_json(path: Path, text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{printable(path)}: not JSON: {error}") from error
    if isinstance(content, list):
        return "labelstudio"
    keys = {"schema": "json", "database": "activitynet", "results": "results"}
    for key, kind in keys.items():
        if isinstance(content, dict) and key in content:
            return kind
    raise ConfigError(f"{printable(path)}: JSON, but without {', '.join(keys)}: not a file of events")


def read(path: Path, name: str | None = None) -> list[Video]:
    """The videos of a file and their events, in the format of that name, or in the one that it seems to have.

    ConfigError says what is wrong with the file, and where.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot read: {error.strerror}") from error
    form = named(name) if name else sniff(path, text)
    try:
        return form.loads(text, path.name.partition(".")[0])
    except (ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"{printable(path)}: as {form.name}: {error}") from error


def write(videos: Sequence[Video], path: Path, name: str | None = None) -> list[str]:
    """Write videos whole or not at all; what the format cannot hold, a line each. ConfigError if it holds but one."""
    form = named(name) if name else of_name(path)
    text = form.dumps(videos)
    write_text(path, text)
    return losses(videos, form)


def losses(videos: Sequence[Video], form: Format) -> list[str]:
    """What a format does not hold of these videos."""
    lines = []
    if "scores" not in form.holds and any((v.events.scores != 1).any() for v in videos):
        lines.append(f"{form.name} holds no scores")
    if "durations" not in form.holds and any(v.duration is not None for v in videos):
        lines.append(f"{form.name} holds no durations of videos")
    if form.unit >= MILLI and any(v.events for v in videos):
        lines.append(f"{form.name} holds times to {form.unit:g} s")
    if form.more:
        lines.append(f"{form.name} holds no {form.more}")
    return lines


def writer(name: str) -> Callable[[Result], str]:
    """A localizer's result as text; davel's own format holds all of it. ConfigError if the format is not known."""
    form = named(name)
    if name == "json":
        return objects.dump_result
    return lambda result: form.dumps(
        [Video(result.info.path.stem, result.events, result.duration, str(result.info.path))]
    )


def save(result: Result, path: str | Path) -> Path:
    """Write a localizer's result whole, in the format that the name ends in (`.json`, `.csv`, `.vtt`, ...)."""
    path = Path(path)
    write_text(path, writer(of_name(path).name)(result))
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; bytes of names that are not text are kept."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
