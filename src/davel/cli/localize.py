"""`davel localize`: from media files to events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.localize.options import LocalizeOptions

if TYPE_CHECKING:
    from davel.core.events import EventList
    from davel.localize import Localizer, Request, Result


@with_options(LocalizeOptions)
def localize(
    inputs: list[Path] = typer.Argument(help="Media files, folders of them, or globs."), *, options: LocalizeOptions
) -> None:
    """Find the audio-visual events of each file.

    Writes FILE.json (schema davel.events/1) and what else -f names, and prints a table.
    """
    from davel import formats
    from davel.core.errors import ConfigError
    from davel.localize import Failure, Workspace, format_names, localize_files, plan

    requests = plan(inputs, options)
    if options.follow:
        _follow(requests[0], options)
        return
    if options.plot:
        from davel.plot import require_matplotlib

        require_matplotlib()
    cluster, workspace = options.cluster.cluster(), Workspace()
    if cluster is None:
        _tell_doubt(requests[0].localizer(workspace))  # what is wrong with the model is told before anything is read
    by_path = {request.path: request for request in requests}
    for folder in {request.target.parent for request in requests if request.target}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot make this folder: {error.strerror}") from error

    def write(result: Result) -> None:
        request = by_path[result.info.path]
        if request.target is None:
            text = "".join(formats.writer(name)(result) for name in format_names(options))
            print(text, end="", flush=True)
            return
        for path in request.outputs(options).values():
            result.save(path)
        if options.plot:
            from davel.plot import draw

            draw(result, request.target.with_name(f"{request.target.name}.png"), truth=request.truth)

    failures = []
    with console.progress() as report:
        for outcome in localize_files(requests, write, workspace=workspace, cluster=cluster, report=report):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                console.complain(f"davel: {outcome.reason}")
                continue
            for warning in outcome.coverage.warnings:
                console.complain(f"davel: {printable(outcome.info.path)}: {warning}")
            if options.output != "-":
                console.results().print(events_table(outcome))
    console.end([failure.path for failure in failures], len(requests))


def _tell_doubt(localizer: Localizer) -> None:
    """Whether the model learnt from features that davel can only make the like of, or finds classes that it did not
    learn."""
    from davel.features.family import family

    features = localizer.info.features
    if doubt := family(features.name).doubt(features):
        console.complain(f"davel: {doubt}")
    for label, other in localizer.info.stand_ins.items():
        told = f"{printable(label)!r} has no boundaries of its own: those of {printable(other)!r} stand in for them"
        console.complain(f"davel: {told}, which nobody has measured")


def _follow(request: Request, options: LocalizeOptions) -> None:
    """Print each event as soon as it is certain, and what is to be known of the recording at its end."""
    from davel import formats
    from davel.core.errors import MediaError
    from davel.core.events import EventList
    from davel.localize import Workspace

    path = request.path
    idle = 10.0 if options.idle is None else options.idle
    localizer = request.localizer(Workspace())
    _tell_doubt(localizer)
    following = localizer.follow(path, threshold=request.threshold, idle_seconds=idle)
    name = printable(path)

    def tell(events: EventList) -> None:
        """A line per event; if there is none, one that names the file."""
        print(formats.FORMATS["jsonl"].dumps([formats.Video(path.stem, events, media=str(path))]), end="", flush=True)

    console.complain(f"davel: following {name}: an event comes {following.latency_seconds:.0f} s after its end at most")
    try:
        any_told = False
        for event in following:
            tell(EventList.of([event], [event.label]))
            any_told = True
        if not any_told:
            tell(EventList.of([], []))
    except MediaError as error:
        console.complain(f"davel: {error}")
        raise typer.Exit(error.exit_code) from error
    for warning in following.coverage.warnings if following.coverage else ():
        console.complain(f"davel: {name}: {warning}")


def events_table(result: Result) -> Table:
    """The events in order of time."""
    start, end = result.span
    title = escape(f"{printable(result.info.path.name)}: {len(result.events)} events in {start:.1f}-{end:.1f} s")
    table = Table("start", "end", "event", "score", title=title, title_justify="left", title_style="bold")
    for column in (0, 1, 3):
        table.columns[column].justify = "right"
    for e in sorted(result.events, key=lambda e: e.start):
        table.add_row(f"{e.start:.2f}", f"{e.end:.2f}", escape(e.label), f"{e.score:.2f}")
    return table
