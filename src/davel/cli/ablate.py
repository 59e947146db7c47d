"""`davel ablate`: the paper's tables of comparisons, at a chosen scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.train.options import AblateOptions

if TYPE_CHECKING:
    from davel.train import Reporting


@with_options(AblateOptions)
def ablate(
    table: int = typer.Argument(min=1, max=4, help="1 baseline, 2 modules, 3 branches of CMCC, 4 parts of MTGC."),
    *,
    options: AblateOptions,
) -> None:
    """Train and test the rows of one of the paper's tables, and print it beside the paper's figures.

    Runs that are there are gone on with. The folder gets table-N.json and table-N.md.
    """
    from davel.compute.device import choose_device
    from davel.train.ablate import TABLES, Report
    from davel.train.ablate import ablate as run

    chosen, settings = TABLES[table], options.configured()
    with console.progress() as progress:

        def report(name: str) -> Reporting:
            from davel.train import Reporting

            def on_progress(step: str, done: float, total: float | None, note: str = "") -> None:
                progress(step, done, total, name if step == "train" else note)

            def on_epoch(line: dict[str, Any]) -> None:
                mean = 100 * line["validation"]["average_mAP"]
                console.complain(f"{name}: epoch {line['epoch']}: average mAP {mean:.1f}")

            return Reporting(on_progress, on_epoch)

        device = choose_device(options.device)
        rows = list(run(chosen, settings, seeds=options.seeds, device=device, report=report))
    written = Report.of(chosen, options, rows)
    written.save(options.output)
    head, *lines = written.lines()
    shown = Table(*head, title=written.title, title_justify="left")
    for line in lines:
        shown.add_row(*line)
    console.results().print(shown)
