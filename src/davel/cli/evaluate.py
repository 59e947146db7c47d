"""`davel evaluate`: how good a model, or a file of predictions, is on annotated videos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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
    heads = [head.replace(" ", "\n") for head in report.AVERAGED]
    table = Table("temporal IoU", *report.SHOWN, *heads, title=escape(printable_lines(title)), title_justify="left")
    table.add_row("mAP", *report.cells(evaluation))
    for name, ends in zip(("95 % from", "95 % to"), report.interval_cells(evaluation), strict=False):
        table.add_row(name, *ends)
    table.add_section()
    for cells in (*report.floor_cells(evaluation), *report.oracle_cells(evaluation)):
        table.add_row(*cells)
    durations = Table("duration", "events", "found at 0.5", "mAP at 0.5", *heads)
    for row in figures["durations"]:
        averages = row.get("averages", {}).values() or [None] * len(heads)
        values = (row.get("found@0.5"), row.get("mAP@0.5"), *averages)
        durations.add_row(f"{row['over']:g}–{row['to']:g} s", str(row["events"]), *map(report.percent, values))
    out = console.results()
    out.print(table)
    out.print(durations)
    gains = figures["errors"]["gains"]
    out.print("without errors: " + ", ".join(f"{kind} +{100 * gain:.1f}" for kind, gain in gains.items()))
    if "f1" in figures:
        f1 = figures["f1"]
        out.print(
            f"F1 at the model's thresholds: {report.percent(f1['micro'])} (classes: {report.percent(f1['macro'])})"
        )
    for line in _reported(figures):
        out.print(line)
    if "psds" in figures:
        out.print(", ".join(f"{setting} {report.percent(value)}" for setting, value in figures["psds"].items()))
    if "decoys" in figures:
        out.print(f"decoys reported: {report.percent(figures['decoys_reported'])} % of {figures['decoys']}")
    if figures["without_predictions"]:
        out.print(f"videos without predictions: {figures['without_predictions']}")


def _reported(figures: dict[str, Any]) -> Iterator[str]:
    """Lines on the events that are reported."""
    from davel.evaluate.report import percent

    found, seconds = figures["reported"], figures["seconds"]
    least = f"a score of {found['score']:g}" if isinstance(found["score"], float | int) else "their class's threshold"
    shown = ", ".join(f"{percent(found['F1'][t])} at {t}" for t in ("0.3", "0.5", "0.7"))
    yield f"{found['events']} events are reported, from {least} on; of each video and class:"
    yield f"  F1 {shown}; mIoU {percent(found['mIoU'])}; CountF1 {percent(found['CountF1'])}"
    yield (
        f"  on seconds: segment F1 {percent(seconds['segment_F1'])}, segment mAP {percent(seconds['segment_mAP'])}, "
        f"event F1 {percent(seconds['event_F1']['0.5'])} at 0.5, {percent(seconds['event_F1_average'])} on average"
    )


def printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
