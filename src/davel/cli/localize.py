"""`davel localize`: from media files to events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.cluster import CPUS_HELP, GPUS_HELP, RAY_HELP, cluster_of
from davel.core.errors import printable

if TYPE_CHECKING:
    from davel.core.events import EventList
    from davel.localize import Request, Result


def localize(
    inputs: list[Path] = typer.Argument(help="Media files, folders of them, or globs."),
    output: str = typer.Option(".", "-o", "--output", help="Folder for the results, or - for stdout."),
    format: str | None = typer.Option(
        None, "-f", "--format", help="Formats to write, by commas (default: json); see `davel convert`."
    ),
    model: str = typer.Option("scenes", "-m", "--model", help="A built-in model, a model's folder, or an ONNX file."),
    threshold: str | None = typer.Option(
        None, metavar="SCORE", help="Least score of an event, or auto: one for each class (default: the model's)."
    ),
    top_k: int | None = typer.Option(None, "--top-k", min=1, help="Most events of a file."),
    plot: bool = typer.Option(False, "--plot", help="Also draw each result as a PNG."),
    annotations: Path | None = typer.Option(None, help="True events to draw, in UnAV-100's schema (with --plot)."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    runtime: Literal["torch", "onnx"] | None = typer.Option(
        None, help="What runs the network; for onnx it is exported once (default: as the model is)."
    ),
    start: str = typer.Option("0", help="Look for events from here on: seconds, or H:MM:SS."),
    end: str | None = typer.Option(None, help="And up to here."),
    follow: bool = typer.Option(
        False,
        "--follow",
        help="The file is still being written, or is a pipe (-: stdin): print its events as JSON lines.",
    ),
    idle: float | None = typer.Option(
        None, min=0, help="With --follow: a file that has not grown for so many seconds is at its end (default: 10)."
    ),
    features: Path | None = typer.Option(
        None, help="Folder that `davel extract` wrote: its features are used, others are made and kept there."
    ),
    colours: str | None = typer.Option(None, help="declared or bt601, if not as the model says."),
    resampler: str | None = typer.Option(None, help="soxr or resampy-0.2.2, if not as the model says."),
    ray: str | None = typer.Option(None, metavar="ADDRESS", help=RAY_HELP),
    ray_cpus: float = typer.Option(1, min=0, help=CPUS_HELP),
    ray_gpus: float = typer.Option(0, min=0, help=GPUS_HELP),
) -> None:
    """Find the audio-visual events of each file.

    Writes FILE.json (schema davel.events/1) and what else -f names, and prints a table.
    """
    from davel import formats
    from davel.core.errors import ConfigError
    from davel.localize import Failure, Request, Workspace, expand, localize_files

    least = _threshold(threshold)
    if follow:
        given = {
            "-o": output not in (".", "-"), "-f": format not in (None, "jsonl"), "--top-k": top_k, "--plot": plot,
            "--annotations": annotations, "--start": start != "0", "--end": end, "--features": features, "--ray": ray,
            "--ray-cpus": ray_cpus != 1, "--ray-gpus": ray_gpus,
        }  # fmt: skip
        unfit = [name for name, value in given.items() if value]
        if unfit or len(inputs) != 1:
            raise typer.BadParameter(
                f"takes no {unfit[0]}: events are printed as they come" if unfit else "takes one file, or - for stdin",
                param_hint="--follow",
            )
        request = Request(inputs[0], model, device, colours, resampler, least, runtime=runtime)
        _follow(request, 10.0 if idle is None else idle)
        return
    if idle is not None:
        raise typer.BadParameter("goes with --follow only", param_hint="--idle")
    names = [name.strip() for name in (format or "json").split(",") if name.strip()]
    writers = {name: formats.writer(name) for name in names}
    if not writers:
        raise typer.BadParameter("name at least one format", param_hint="-f")
    to_stdout = output == "-"
    if to_stdout and (len(writers) != 1 or plot):
        raise typer.BadParameter("stdout takes one format and no plot", param_hint="-o -")
    if annotations and not plot:
        raise typer.BadParameter("is drawn with --plot only", param_hint="--annotations")
    if plot:
        from davel.plot import require_matplotlib

        require_matplotlib()
    first, last = _seconds(start, "--start"), None if end is None else _seconds(end, "--end")
    if last is not None and last <= first:
        raise typer.BadParameter(f"must lie behind --start, got {end}", param_hint="--end")
    if features and (first or last):
        raise typer.BadParameter("are for whole files: leave one out", param_hint="--features and --start, --end")
    truth = _truth(annotations)
    files = expand(inputs)
    folder = Path("." if to_stdout else output)
    targets = {path: folder / path.stem for path in files}
    for target in set(targets.values()):
        same = [path for path in files if targets[path] == target]
        if len(same) > 1 and not to_stdout:
            both = " and ".join(printable(path) for path in same[:2])
            raise typer.BadParameter(f"{both} would both be written to {printable(target)}.*: use two runs, two -o")
    requests = [
        Request(path, model, device, colours, resampler, least, top_k, features, first, last, runtime) for path in files
    ]
    cluster, workspace = cluster_of(ray, ray_cpus, ray_gpus), Workspace()
    if cluster is None:
        requests[0].localizer(workspace)  # what is wrong with the model is told before anything is read
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{printable(folder)}: cannot make this folder: {error.strerror}") from error

    def write(result: Result) -> None:
        if to_stdout:
            print(*(dumps(result) for dumps in writers.values()), sep="", end="", flush=True)
            return
        target = targets[result.info.path]
        for name in writers:
            result.save(target.with_name(f"{target.name}.{formats.named(name).suffix}"))
        if plot:
            from davel.plot import draw

            draw(result, target.with_name(f"{target.name}.png"), truth=truth.get(target.name))

    failures = []
    with console.progress() as report:
        for outcome in localize_files(requests, write, workspace=workspace, cluster=cluster, report=report):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                console.complain(f"davel: {outcome.reason}")
                continue
            for warning in outcome.coverage.warnings:
                console.complain(f"davel: {printable(outcome.info.path)}: {warning}")
            if not to_stdout:
                console.results().print(events_table(outcome))
    console.end([failure.path for failure in failures], len(files))


def _follow(request: Request, idle_seconds: float) -> None:
    """Print each event as soon as it is certain, and what is to be known of the recording at its end."""
    from davel import formats
    from davel.core.errors import MediaError
    from davel.core.events import EventList
    from davel.localize import Workspace

    path = request.path
    following = request.localizer(Workspace()).follow(path, threshold=request.threshold, idle_seconds=idle_seconds)
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
    for warning in following.coverage.warnings:
        console.complain(f"davel: {name}: {warning}")


def _threshold(text: str | None) -> float | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"expected a score from 0 to 1, or auto, got {text!r}", param_hint="--threshold")
    return value


def _seconds(text: str, option: str) -> float:
    """Of `90`, `1:30` or `0:01:30`."""
    try:
        parts = [float(part) for part in text.split(":")]
        if len(parts) > 3 or min(parts) < 0:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"expected seconds or H:MM:SS, got {text!r}", param_hint=option) from None
    return sum(part * factor for part, factor in zip(reversed(parts), (1, 60, 3600), strict=False))


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


def _truth(annotations: Path | None) -> dict[str, EventList]:
    """The true events of each video, by id."""
    if annotations is None:
        return {}
    from davel.formats import read_annotations

    return {key: video.events for key, video in read_annotations(annotations).videos.items()}
