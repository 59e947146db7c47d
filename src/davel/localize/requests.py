"""Which files are meant, and what is to be found and written of each: decided before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from davel import formats
from davel.core.events import EventList
from davel.core.options import OptionError, changed, flags
from davel.localize.localizer import Localizer, Runtime
from davel.localize.options import LocalizeOptions
from davel.localize.workspace import Workspace
from davel.media.inputs import meant, named

FOLLOWED = ("model", "threshold", "device", "runtime", "follow", "idle", "colours", "resampler", "classes")
"""The options that a recording that goes on takes."""
HARMLESS = {"output": ("-",), "format": ("jsonl",)}
"""Values that say what is done anyway."""


@dataclass(frozen=True)
class Request:
    """One file's events, as a process that has nothing but this can find them."""

    path: Path
    model: str
    device: str = "auto"
    colours: str | None = None
    resampler: str | None = None
    threshold: float | Literal["auto"] | None = None
    top_k: int | None = None
    kept: Path | None = None
    """A folder of features to use, and to keep others in."""
    start: float = 0.0
    end: float | None = None
    """Seconds between which events are looked for."""
    runtime: Runtime | None = None
    classes: Path | None = None
    """A file of embeddings of the classes to find instead of the model's."""
    target: Path | None = None
    """Where results go, without a format's suffix; None: they are printed."""
    truth: EventList | None = None
    """The events that are in the file, to be drawn."""

    def localizer(self, workspace: Workspace) -> Localizer:
        """What answers it. ConfigError or MissingError if the model cannot be read."""
        return workspace.localizer(
            self.model,
            self.device,
            colours=self.colours,
            resampler=self.resampler,
            runtime=self.runtime,
            classes=self.classes,
        )

    def outputs(self, options: LocalizeOptions) -> dict[str, Path]:
        """The file of each format; none where results are printed."""
        if self.target is None:
            return {}
        return {
            name: self.target.with_name(f"{self.target.name}.{formats.named(name).suffix}")
            for name in format_names(options)
        }


def format_names(options: LocalizeOptions) -> tuple[str, ...]:
    """What is written. ConfigError if there is no such format, OptionError if none is named."""
    names = tuple(name.strip() for name in (options.format or "json").split(",") if name.strip())
    if not names:
        raise OptionError("format", "name at least one format")
    for name in names:
        formats.writer(name)
    return names


def plan(inputs: Sequence[Path], options: LocalizeOptions) -> list[Request]:
    """A request for each file that is meant, each with a name of its own to write to.

    Files are named by their stem; where two of a folder or a glob have one, by their folder and stem. OptionError if
    the options do not go together, ConfigError if a format or file of annotations is not one, if a folder or glob holds
    no video, or if two results would have one name.
    """
    if options.follow:
        return [_followed(inputs, options)]
    if options.idle is not None:
        raise OptionError("idle", "goes with --follow only")
    names, to_stdout = format_names(options), options.output == "-"
    if to_stdout and (len(names) != 1 or options.plot):
        raise OptionError("output", "stdout takes one format and no plot")
    if options.annotations and not options.plot:
        raise OptionError("annotations", "is drawn with --plot only")
    if options.end is not None and options.end <= options.start:
        raise OptionError("end", f"must lie behind --start, got {options.end:g}")
    if options.features and (options.start or options.end is not None):
        raise OptionError(("features", "start", "end"), "are for whole files: leave one out")
    truth = formats.read_annotations(options.annotations, durations=False).videos if options.annotations else {}
    requests: dict[Path, Request] = {}
    for file, name in named(inputs):
        video = truth.get(file.within.as_posix()) or truth.get(file.path.stem)
        target = None if to_stdout else Path(options.output) / name
        request = _request(file.path, options, target, video.events if video else None)
        other = requests.setdefault(file.path if to_stdout else name, request)
        if other is not request:
            raise OptionError(
                "output",
                f"{other.path} and {file.path} would both be written to {target}.*: use two runs, two -o",
            )
    return list(requests.values())


def _request(
    path: Path, options: LocalizeOptions, target: Path | None = None, truth: EventList | None = None
) -> Request:
    return Request(
        path=path,
        model=options.model,
        device=options.device,
        colours=options.colours,
        resampler=options.resampler,
        threshold=options.threshold,
        top_k=options.top_k,
        kept=options.features,
        start=options.start,
        end=options.end,
        runtime=options.runtime,
        classes=options.classes,
        target=target,
        truth=truth,
    )


def _followed(inputs: Sequence[Path], options: LocalizeOptions) -> Request:
    """OptionError if there is more than one file, or an option that goes with whole files only."""
    for field, value in changed(options, LocalizeOptions()):
        if field.name not in FOLLOWED and value not in HARMLESS.get(field.name, ()):
            raise OptionError("follow", f"takes no {flags(field)[0]}: events are printed as they come")
    if len(inputs) != 1:
        raise OptionError("follow", "takes one file, or - for stdin")
    return _request(inputs[0], options)


def expand(inputs: Sequence[Path]) -> list[Path]:
    """The files meant by files, folders (the videos right in them) and globs, in order and each once.

    A file that is not there stays, for its reader to complain of. ConfigError if a folder or glob holds no video.
    """
    return [file.path for file in meant(inputs)]
