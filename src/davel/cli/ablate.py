"""`davel ablate` and `davel table1`: the paper's tables of comparisons, at a chosen scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.train.options import AblateOptions, ScaleOptions, Table1Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from davel.train import Reporting
    from davel.train.recipe import TrainConfig
    from davel.train.tables import Report, Row
    from davel.train.tables import Table as Comparison


@with_options(AblateOptions)
def ablate(
    table: int = typer.Argument(
        min=1, max=5, help="1 baseline, 2 parts of MTGC, 3 branches of CMCC, 4 MTGC's order, 5 modules (ours)."
    ),
    *,
    options: AblateOptions,
) -> None:
    """Train and test the rows of one of the paper's tables, and print it beside the paper's figures.

    Runs that are there are gone on with. The folder gets table-N.json and table-N.md.
    """
    from davel.train.tables import TABLES

    chosen, source = TABLES[table], f"{options.config} on {{}}"
    _print(_compared(chosen, options.configured, options.scale, options.output, options.data.name, source).lines())


@with_options(Table1Options)
def table1(*, options: Table1Options) -> None:
    """Train and test every method of the paper's Table 1, and print it beside the paper's figures.

    Also parameters, GFLOP, seconds for a video of 40 s, and how much each method's average mAP differs from CCNet's,
    with a 95 % interval. Runs that are there are gone on with. The folder gets table-1.json and table-1.md.
    """
    names = " and ".join(folder.name for folder in options.folders.values())
    report = _compared(options.table(), options.configured, options.scale, options.output, names, "{}")
    _print(report.lines())
    _print(report.comparison())


def _compared(
    table: Comparison,
    configured: Callable[[Row], TrainConfig],
    scale: ScaleOptions,
    output: Path,
    data: str,
    source: str,
) -> Report:
    """The table, trained, tested and written."""
    from davel.compute.device import choose_device
    from davel.train.tables import Report, measure_rows

    for row in table.rows:
        configured(row)  # what is wrong with any is told before the first is trained
    with console.progress() as progress:

        def report(name: str) -> Reporting:
            from davel.train import Reporting

            def on_progress(step: str, done: float, total: float | None, note: str = "") -> None:
                progress(step, done, total, name if step == "train" else note)

            def on_epoch(line: dict[str, Any]) -> None:
                mean = 100 * line["validation"]["average_mAP"]
                console.complain(f"{name}: epoch {line['epoch']}: average mAP {mean:.1f}")

            return Reporting(on_progress, on_epoch)

        device = choose_device(scale.device)
        rows = tuple(measure_rows(table, configured, seeds=scale.seeds, device=device, report=report))
    origins = dict.fromkeys(str(run.figures["data"]) for row in rows for run in row.runs if "data" in run.figures)
    written = Report(table, (source.format(" and ".join(origins) or data), *scale.told()), rows)
    written.save(output)
    console.results().print(written.title, markup=False)
    return written


def _print(lines: list[list[str]]) -> None:
    head, *rows = lines
    shown = Table(*head)
    for row in rows:
        shown.add_row(*row)
    console.results().print(shown)
