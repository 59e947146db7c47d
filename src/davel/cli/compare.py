"""`davel compare`: predictions side by side, with what their differences are worth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import option


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What runs are held against."""

    annotations: Path
    """True events, in any format."""
    subset: str = "test"
    """The subset."""
    bootstrap: int = option(1000, minimum=1)
    """Resamples of the videos, the same for all runs."""
    as_json: bool = option(False, "--json")
    """A JSON object."""


@with_options(CompareOptions)
def compare(
    runs: list[Path] = typer.Argument(help="Files of predictions in any format, or folders of davel evaluate -o."),
    *,
    options: CompareOptions,
) -> None:
    """mAP of each run, and its difference to the first with a 95 % interval over the same resampled videos."""
    from davel.evaluate import differences, evaluate, read_predictions, report

    if len(runs) < 2:
        raise typer.BadParameter("name at least two runs")
    files = [run / "predictions.json" if run.is_dir() else run for run in runs]
    names = [run.name if run.is_dir() else run.stem for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    evaluations = []
    for name, file in zip(names, files, strict=True):
        found = read_predictions(file, options.annotations, options.subset)
        for line in found.told:
            console.complain(f"davel: {printable(line)}")
        labels = next(iter(found.videos.values())).events.labels
        evaluations.append(
            evaluate(found.events, found.videos, labels, name=name, notes=found.notes, resamples=options.bootstrap)
        )
    paired = [differences(evaluations[0], other, options.bootstrap) for other in evaluations[1:]]
    if options.as_json:
        content = {
            "subset": options.subset,
            "runs": [
                {
                    "name": e.name,
                    "notes": list(e.notes),
                    **{k: e.figures[k] for k in ("average_mAP", "averages", "mAP", "intervals", "oracles")},
                }
                for e in evaluations
            ],
            "floors": evaluations[0].figures["floors"],
            "differences": [
                {"from": names[0], "to": name, **difference} for name, difference in zip(names[1:], paired, strict=True)
            ],
        }
        print(json.dumps(content, indent=2))
        return
    out = console.results()
    for note in dict.fromkeys(f"{e.name}: {note}" for e in evaluations for note in e.notes):
        out.print(escape(printable(note)))
    heads = [head.replace(" ", "\n") for head in report.AVERAGED]
    title = f"mAP on {len(evaluations[0].videos)} videos ({options.subset})"
    table = Table("run", *report.SHOWN, *heads, title=title)
    for cells in report.floor_cells(evaluations[0]):
        table.add_row(*cells)
    table.add_section()
    for evaluation in evaluations:
        table.add_row(escape(printable(evaluation.name)), *report.cells(evaluation))
    table.add_section()
    for name, difference in zip(names[1:], paired, strict=True):
        ends = report.columns(difference)
        table.add_row(escape(printable(f"{name} − {names[0]}")), *(f"{100 * d['difference']:+.1f}" for d in ends))
        for i, end in enumerate(("95 % from", "95 % to")):
            table.add_row(end, *(f"{100 * d['interval'][i]:+.1f}" for d in ends))
    out.print(table)
    for name, difference in zip(names[1:], paired, strict=True):
        out.print(
            escape(
                printable(f"{name} is better than {names[0]} in {100 * difference['better']:.1f} % of the resamples")
            )
        )
