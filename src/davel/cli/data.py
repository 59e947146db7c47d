"""`davel data`: check, start, count and simulate data sets."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import option

if TYPE_CHECKING:
    from davel.data.check import Report
    from davel.data.stats import Statistics

app = typer.Typer(name="data", help="Check, start, count and simulate data sets.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What of a data set is read."""

    features: str | None = None
    """Which features, where the folder does not tell."""
    annotations: Path | None = None
    """Another annotation file."""
    workers: int = option(4, minimum=1)
    """Threads that read."""
    as_json: bool = option(False, "--json")
    """Everything, as a JSON object."""


@app.command()
@with_options(CheckOptions)
def check(
    folder: Path = typer.Argument(help="A data set in UnAV-100's layout: annotations/ and av_features/."),
    *,
    options: CheckOptions,
) -> None:
    """Read every annotation and feature file, and list all that is wrong. Exit code 4 if something is."""
    from davel.data.check import check as run
    from davel.data.sources import DataConfig

    config = DataConfig.unav100(folder, options.features)
    assert config.features is not None
    with console.progress() as report:
        found = run(
            options.annotations or config.annotations,
            config.features,
            config.kind,
            workers=options.workers,
            report=report,
        )
    if options.as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        _show(found)
    if found.problems:
        raise typer.Exit(4)


def _show(report: Report) -> None:
    from davel.models.targets import REGRESSION_RANGES

    out = console.results()
    subsets = ", ".join(f"{count} {subset or 'of no subset'}" for subset, count in report.subsets.items())
    kind = report.origin or f"{report.features} features"
    out.print(
        f"{sum(report.subsets.values())} videos ({subsets}), {report.events} events, {report.classes} classes; {kind}"
    )
    for note in report.notes:
        out.print(escape(f"note: {printable(note)}"))
    if grid := report.grid:
        out.print(
            f"longest video: {grid.longest} steps; model.max_length: {grid.length} holds all, "
            f"{grid.length_for_most} holds 99 %"
        )
        out.print(f"events without a positive point: {grid.unreached} of {report.events} with the released ranges")
        if grid.ranges == REGRESSION_RANGES:
            out.print("the released regression ranges fit these durations")
        else:
            ranges = [[int(low), int(high)] for low, high in grid.ranges]
            without = f"{grid.unreached_with_ranges} events without a positive point"
            out.print(escape(f"recipe.regression_ranges for these durations: {ranges} ({without})"))
    if not report.problems:
        out.print("nothing is wrong")
        return
    table = Table("problem", "videos", "first of them")
    for kind, count in Counter(problem.kind for problem in report.problems).most_common():
        first = [str(problem) for problem in report.problems if problem.kind == kind][:3]
        table.add_row(kind, str(count), escape("\n".join(map(printable, first))))
    out.print(table)
    out.print(f"{len(report.problems)} problems (all of them: --json)")


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """How a table becomes a data set."""

    videos: Path | None = None
    """Folder of the videos (default: the table's)."""
    output: Path = option(Path("."), "-o", "--output")
    """Folder for annotations.json and train.yaml."""
    split: str = "80/10/10"
    """Parts of the videos for training, validation and test."""
    seed: int = option(0, minimum=0)
    """Which videos go where."""


@app.command()
@with_options(InitOptions)
def init(
    table: Path = typer.Argument(metavar="CSV", help="Lines of file,start,end,label; a file alone has no event."),
    *,
    options: InitOptions,
) -> None:
    """Start from a table of events: annotations with a options.split, and a configuration to train with."""
    from davel.data.setup import write_project
    from davel.data.table import Split, read_table

    try:
        parts = Split.read(options.split)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--split") from None
    folder = options.videos or table.parent
    with console.progress() as report:
        annotations = read_table(table, folder, parts, options.seed, report)
    config = write_project(options.output, annotations, folder)
    counts = Counter(video.subset for video in annotations.videos.values())
    listed = ", ".join(f"{count} {subset}" for subset, count in counts.items())
    console.complain(f"{len(annotations.videos)} videos ({listed}), {len(annotations.labels)} classes")
    console.complain(f"next: davel train {printable(config)}")
    print(config)


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions:
    """How a data set is counted."""

    plot: Path | None = None
    """Also draw them into this PNG."""
    as_json: bool = option(False, "--json")
    """Everything, as a JSON object."""


@app.command()
@with_options(StatisticsOptions)
def stats(
    source: Path = typer.Argument(metavar="FILE_OR_DIR", help="Annotations, or a folder in UnAV-100's layout."),
    *,
    options: StatisticsOptions,
) -> None:
    """Count videos, events and classes; say how long they are, and how much happens at once."""
    from davel.data.stats import statistics
    from davel.data.unav100 import ANNOTATIONS
    from davel.formats import read_annotations

    if options.plot:
        from davel.plot import draw_statistics, require_matplotlib

        require_matplotlib()
    annotations = read_annotations(source / ANNOTATIONS if source.is_dir() else source)
    counted = statistics(annotations)
    if options.plot:
        draw_statistics(annotations, counted, options.plot)
    if options.as_json:
        print(json.dumps(counted.to_dict(), indent=1))
    else:
        _count(counted)


def _count(s: Statistics) -> None:
    def percentiles(seconds: dict[int, float]) -> str:
        return ", ".join(f"{p} %: {value:g}" for p, value in seconds.items())

    classes = list(s.classes.items())
    several = {n: count for n, count in s.events_per_video.items() if n > 8}
    per_video = [f"{n}: {count}" for n, count in s.events_per_video.items() if n <= 8]
    per_video += [f"more: {sum(several.values())}"] if several else []
    table = Table(show_header=False)
    for name, value in {
        "videos": f"{s.videos} ({', '.join(f'{count} {subset}' for subset, count in s.subsets.items())}), {s.hours} h",
        "events": f"{s.events} of {len(s.classes)} classes",
        "seconds of a video": percentiles(s.video_seconds),
        "seconds of an event": percentiles(s.event_seconds),
        "videos by events": ", ".join(per_video),
        "most frequent": ", ".join(f"{label} {count}" for label, count in classes[:5]),
        "least frequent": ", ".join(f"{label} {count}" for label, count in classes[-5:]),
        "videos by classes": ", ".join(f"{n}: {count}" for n, count in s.classes_per_video.items()),
        "overlapping": f"{s.overlapping:.1%} of the events, {s.overlapping_same_class:.1%} with one of their class",
        "something happens": f"{s.covered:.1%} of the time, {s.at_once:.2f} events at once",
        "hours by events at once": ", ".join(f"{n}: {hours:.2f}" for n, hours in s.hours_by_events.items()),
    }.items():
        table.add_row(name, escape(printable(value)))
    console.results().print(table)


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """What is drawn."""

    annotations: Path | None = None
    """For these videos and events (default: drawn ones)."""
    features: str = "i3d-vggish"
    """Which features to imitate in size and timing."""
    seed: int = option(0, minimum=0)
    """Which: the same seed gives the same features."""
    lazy: bool = False
    """Draw features when they are read: nothing but annotations on disk."""
    videos: int | None = option(None, minimum=1)
    """How many to draw (default: 100); of given ones, so many to train and a third for the others."""
    classes: int | None = option(None, minimum=1)
    """How many to draw (default: 10), or to keep of given ones."""
    workers: int = option(2, minimum=1)
    """Threads that draw and write."""


@app.command()
@with_options(SimulateOptions)
def simulate(
    output: Path = typer.Argument(help="Folder for annotations/ and av_features/."),
    *,
    options: SimulateOptions,
) -> None:
    """Draw features of real size, where the real ones cannot be had; figures made of them are marked as simulated."""
    from davel.data.simulate import draw_annotations
    from davel.data.simulate import simulate as run
    from davel.formats import read_annotations

    if options.annotations:
        chosen = read_annotations(options.annotations).limited(options.classes, options.videos)
    else:
        chosen = draw_annotations(options.videos or 100, options.classes or 10, options.seed)
    with console.progress() as report:
        folder = run(
            output,
            chosen,
            features=options.features,
            seed=options.seed,
            lazy=options.lazy,
            workers=options.workers,
            report=report,
        )
    print(folder)
