"""`davel evaluate`: how good a model, or a file of predictions, is on annotated videos."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.evaluate.options import EvaluateOptions

if TYPE_CHECKING:
    from davel.evaluate import Evaluation


@with_options(EvaluateOptions)
def evaluate(
    source: str = typer.Argument(help="A model, or a file of predictions in any format."), *, options: EvaluateOptions
) -> None:
    """Average mAP with intervals, by class and duration, with the errors that cost it."""
    from davel.evaluate import evaluate_source

    with console.progress() as report:
        evaluated = evaluate_source(source, options, report)
    for line in evaluated.told:
        console.complain(f"davel: {printable(line)}")
    if options.output is not None:
        evaluated.save(options.output)
    if options.as_json:
        print(json.dumps(evaluated.evaluation.to_dict(), indent=2))
    else:
        _show(evaluated.evaluation, evaluated.subset)


def _show(evaluation: Evaluation, subset: str) -> None:
    from davel.evaluate import report

    figures = evaluation.figures
    told = "".join(f"\n{note}" for note in evaluation.notes)
    title = f"{evaluation.name}: mAP on {figures['videos']} videos ({subset}), {figures['events']} events{told}"
    table = Table("temporal IoU", *report.SHOWN, "Avg.", title=escape(printable_lines(title)), title_justify="left")
    table.add_row("mAP", *report.cells(evaluation))
    for name, ends in zip(("95 % from", "95 % to"), report.interval_cells(evaluation), strict=False):
        table.add_row(name, *ends)
    for row in figures["durations"]:
        at = [""] * len(report.SHOWN)
        at[0] = report.percent(row.get("mAP@0.5"))
        table.add_row(f"{row['over']:g}–{row['to']:g} s", *at, report.percent(row.get("average_mAP")))
    out = console.results()
    out.print(table)
    gains = figures["errors"]["gains"]
    out.print("without errors: " + ", ".join(f"{kind} +{100 * gain:.1f}" for kind, gain in gains.items()))
    if "f1" in figures:
        f1 = figures["f1"]
        out.print(
            f"F1 at the model's thresholds: {report.percent(f1['micro'])} (classes: {report.percent(f1['macro'])})"
        )
    if "decoys" in figures:
        out.print(f"decoys reported: {report.percent(figures['decoys_reported'])} % of {figures['decoys']}")
    if figures["without_predictions"]:
        out.print(f"videos without predictions: {figures['without_predictions']}")


def printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
