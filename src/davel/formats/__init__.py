"""Files of events that people's tools read and write: one reader and one writer for each.

`read_videos` and `write` go between files and `Video`s, `read_annotations` and `write_annotations` between files and
data sets; `losses` says what a format cannot hold. A format is one module and one line of `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from davel.core.annotations import Annotations, Problem, Vocabulary
from davel.core.errors import ConfigError, printable, refuse
from davel.core.events import Video
from davel.core.files import replacing
from davel.core.result import Result
from davel.formats import (
    activitynet,
    audacity,
    ave_pm,
    davel_json,
    dcase,
    delimited,
    eaf,
    edl,
    jsonl,
    labelstudio,
    llp,
    ov_ave,
    raven,
    rttm,
    subtitles,
    thumos,
)
from davel.formats.base import MILLI, POLICIES, TOLD, Collector, Contents, File, Format, Policy, Reader, id_of, ids_of

__all__ = [
    "FORMATS", "POLICIES", "READERS", "TOLD", "Collector", "Contents", "File", "Format", "Policy", "Reader", "Video",
    "annotations_of",
    "id_of", "ids_of", "inspect", "inspect_annotations", "losses", "read", "read_annotations", "read_videos",
    "recognised", "save", "table", "told", "write", "write_annotations", "write_text", "writer",
]  # fmt: skip

ENTRY_POINTS = "davel.formats"
OWN = (
    davel_json.FORMAT,
    delimited.CSV,
    delimited.TSV,
    jsonl.FORMAT,
    activitynet.TRUTH,
    activitynet.RESULTS,
    labelstudio.FORMAT,
    dcase.FORMAT,
    audacity.FORMAT,
    raven.FORMAT,
    rttm.FORMAT,
    subtitles.VTT,
    subtitles.SRT,
    eaf.FORMAT,
    edl.FORMAT,
)
FORMATS: dict[str, Format] = {
    form.name: form for form in (*OWN, *(point.load() for point in entry_points(group=ENTRY_POINTS)))
}
"""By name, what is read and written; those of other packages last."""
READERS: dict[str, Reader] = {form.name: form for form in (ave_pm.READER, ov_ave.READER, llp.READER, thumos.READER)}
"""By name, what is only read: the annotations of others' data sets."""


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


def reader(name: str) -> Reader:
    """ConfigError if the format is not known."""
    if name not in FORMATS and name not in READERS:
        raise ConfigError(f"unknown format {name!r}: choose from {', '.join([*FORMATS, *READERS])}")
    return FORMATS[name] if name in FORMATS else READERS[name]


def recognised(file: File) -> Reader | None:
    """The format of a file, by its name where that is enough, else by its content; None if it is of none.

    What another package brings comes before davel's own, and a data set's own layout before a table of any content.
    """
    own = [form.name for form in OWN]
    others = [form for form in reversed(FORMATS.values()) if form.name not in own]
    known = (*others, *READERS.values(), *(FORMATS[name] for name in reversed(own)))
    return next((form for form in known if form.recognises(file)), None)


def open_file(path: Path) -> File:
    """ConfigError if it cannot be read."""
    try:
        return File.open(path)
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot read: {error.strerror}") from error


def collect(path: Path, name: str | None = None, vocabulary: Vocabulary | None = None) -> tuple[Reader, Collector]:
    """What a file says, unchecked, and its format: that of the name, or the one that it seems to have.

    ConfigError if it is of no format, or not of this one.
    """
    file = open_file(path)
    form = reader(name) if name else recognised(file)
    if form is None:
        raise ConfigError(f"{printable(path)}: {_strange(file)}")
    try:
        return form, form.collect(file, vocabulary=vocabulary)
    except (ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"{printable(path)}: as {form.name}: {printable(error)}") from error


def _strange(file: File) -> str:
    """What is to be said of a file that no format recognises."""
    if file.ending != "json":
        return "not a file of events that davel knows: say --from, if it is one"
    try:
        return f"JSON, but without {'a list' if file.json == [] else 'schema, database, results'}: not a file of events"
    except ValueError as error:
        return str(error)


def inspect(
    path: Path, name: str | None = None, *, clip: bool = True, truth: bool = False, vocabulary: Vocabulary | None = None
) -> Contents:
    """All of a file that makes sense, and all that is wrong with the rest. ConfigError if it is no file of events.

    `clip` and `truth`: see `Collector.contents`. `vocabulary` are the classes that there are, where they are known.
    """
    return collect(path, name, vocabulary)[1].contents(clip=clip, truth=truth)


def read_videos(
    path: Path, name: str | None = None, *, policy: Policy = "clip", vocabulary: Vocabulary | None = None
) -> tuple[list[Video], list[Problem]]:
    """The videos of a file with their events, and what of it was mended or left out.

    The format is that of the name, or the one that the file seems to have. ConfigError says what is wrong with the
    file, and where, if the policy does not let it pass.
    """
    if policy not in POLICIES:
        raise ConfigError(f"unknown policy {policy!r}: choose from {', '.join(POLICIES)}")
    form, found = collect(path, name, vocabulary)
    contents = found.contents(clip=policy == "clip")
    if policy != "skip":
        wrong = [p for p in contents.problems if policy == "refuse" or p.kind not in TOLD]
        refuse(f"{printable(path)}: as {form.name}", wrong)
    return contents.videos, contents.problems


def read(path: Path, name: str | None = None) -> list[Video]:
    """The videos of a file and their events; ConfigError as `read_videos`, with its policy `clip`."""
    return read_videos(path, name)[0]


def told(problems: Sequence[Problem]) -> list[str]:
    """What was mended or left out, a line for each kind of problem."""
    lines = []
    for kind, text in (
        ("cut", "events reached out of their video and were cut"),
        ("outside", "events lay outside of their video and were left out"),
        ("annotation", "events or videos were left out"),
    ):
        if those := [problem for problem in problems if problem.kind == kind]:
            lines.append(f"{len(those)} {text}: {those[0]}{' ...' if len(those) > 1 else ''}")
    return lines + [problem.text for problem in problems if problem.kind == "score"]


def read_annotations(path: Path, *, durations: bool = True) -> Annotations:
    """A data set from a file of any format. ConfigError lists what is wrong with it, by video.

    Events that end after their video are cut, which `told` says. `durations`: whether every video needs one.
    """
    annotations, problems = inspect_annotations(path, durations=durations)
    refuse(path, problems)
    return annotations


def inspect_annotations(path: Path, *, durations: bool = True) -> tuple[Annotations, list[Problem]]:
    """What of a file can be used as truth, and all that is wrong with the rest. ConfigError if it is no such file."""
    annotations, problems = annotations_of(path, inspect(path, truth=True))
    videos = annotations.videos
    if durations:
        named = {problem.id for problem in problems if "needs a duration" in problem.text}
        missing = [key for key, video in videos.items() if video.duration is None]
        problems += [
            Problem(key, "annotation", "needs a duration in seconds, got None") for key in missing if key not in named
        ]
        videos = {key: video for key, video in videos.items() if key not in set(missing)}
    return replace(annotations, videos=videos), problems


def annotations_of(path: Path, contents: Contents) -> tuple[Annotations, list[Problem]]:
    """The same of what was read of a file already. ConfigError if it has no videos."""
    if not contents.videos:
        raise ConfigError(f"{printable(path)}: has no videos: name those without events too")
    problems = [problem for problem in contents.problems if problem.kind != "cut"]
    cut = tuple(problem for problem in contents.problems if problem.kind == "cut")
    return Annotations(contents.vocabulary, {video.id: video for video in contents.videos}, cut), problems


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write a file that `read_annotations` reads."""
    write_text(path, activitynet.dump_truth(list(annotations.videos.values()), annotations.labels))


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
    if "kinds" not in form.holds and any(v.events.kinds is not None for v in videos):
        lines.append(f"{form.name} does not hold whether events are seen or heard")
    if form.name != activitynet.TRUTH.name and any(v.decoys for v in videos):
        lines.append(f"{form.name} holds no decoys")
    if form.name != activitynet.RESULTS.name and (origin := next((v.origin for v in videos if v.origin), None)):
        lines.append(f"{form.name} does not hold what its figures must say: {origin}")
    if form.unit >= MILLI and any(v.events for v in videos):
        lines.append(f"{form.name} holds times to {form.unit:g} s")
    if form.more:
        lines.append(f"{form.name} holds no {form.more}")
    return lines


def table() -> str:
    """All formats as a table in Markdown, for the documentation."""
    lines = ["| format | ends in | for | holds |", "|---|---|---|---|"]
    for form in FORMATS.values():
        holds = ["many videos" if "many" in form.holds else "one video"]
        holds += [name for name in ("scores", "durations", "kinds") if name in form.holds]
        unit = f"; times to {form.unit:g} s" if form.unit >= MILLI else ""
        more = f"; no {form.more}" if form.more else ""
        lines.append(f"| `{form.name}` | `.{form.suffix}` | {form.about} | {', '.join(holds)}{unit}{more} |")
    return "\n".join(lines)


def writer(name: str) -> Callable[[Result], str]:
    """A localizer's result as text; davel's own format holds all of it. ConfigError if the format is not known."""
    form = named(name)
    if name == davel_json.FORMAT.name:
        return davel_json.dump_result
    return lambda result: form.dumps([result.video])


def save(result: Result, path: str | Path) -> Path:
    """Write a localizer's result whole, in the format that the name ends in (`.json`, `.csv`, `.vtt`, ...)."""
    path = Path(path)
    write_text(path, writer(of_name(path).name)(result))
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; bytes of names that are not text are kept."""
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair of UTF-16, which JSON may hold
        content = text.encode("utf-8", "backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(content)
