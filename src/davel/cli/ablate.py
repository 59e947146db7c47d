"""`davel ablate`: the paper's tables of comparisons, at a chosen scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from davel.cli import console
from davel.core.errors import printable

if TYPE_CHECKING:
    from davel.train import Reporting
    from davel.train.ablate import Measured


def ablate(
    table: int = typer.Argument(min=1, max=4, help="1 baseline, 2 modules, 3 branches of CMCC, 4 parts of MTGC."),
    data: Path = typer.Option(help="The data set's folder, in UnAV-100's layout."),
    output: Path = typer.Option(Path("runs/ablation"), "-o", "--output", help="Folder for the runs, shared by tables."),
    config: str = typer.Option("ccnet-i3d", help="The configuration that rows differ from."),
    classes: int | None = typer.Option(None, min=1, help="Only so many classes, those with most events."),
    videos: int | None = typer.Option(None, min=1, help="Only so many videos for training, a third of it to test."),
    width: int | None = typer.Option(None, min=4, help="Channels of a modality (a quarter of it for each class)."),
    epochs: int | None = typer.Option(None, min=2, help="Passes over the videos, a ninth of them to warm up."),
    seeds: str = typer.Option("0", help="Seeds, by commas: the table then has means and standard deviations."),
    change: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Another value, as recipe.batch_size=8."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
) -> None:
    """Train and test the rows of one of the paper's tables, and print it beside the paper's figures.

    Runs that are there are gone on with. The folder gets table-N.json and table-N.md.
    """
    from dataclasses import replace

    from davel.compute.device import choose_device
    from davel.core.files import replacing
    from davel.evaluate.report import SHOWN, markdown_table
    from davel.models import model_module
    from davel.train.ablate import TABLES
    from davel.train.ablate import ablate as run
    from davel.train.recipe import load_train_config, model_of

    changes = _scale(classes, videos, epochs) + change
    if width:
        model = model_of(config, changes)
        fields = model_module(model).Config.scaled(width)
        if not fields:
            message = f"the model {printable(model)} has no `scaled` sizes: set its fields with --set"
            raise typer.BadParameter(message, param_hint="--width")
        changes = [f"model.{key}={value}" for key, value in fields.items()] + changes
    settings = replace(load_train_config(config, data, changes), output=output)
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected whole numbers by commas, got {seeds!r}", param_hint="--seeds") from None
    measured = []
    with console.progress() as progress:

        def report(name: str) -> Reporting:
            from davel.train import Reporting

            def on_progress(step: str, done: float, total: float | None, note: str = "") -> None:
                progress(step, done, total, name if step == "train" else note)

            def on_epoch(line: dict[str, Any]) -> None:
                mean = 100 * line["validation"]["average_mAP"]
                console.complain(f"{name}: epoch {line['epoch']}: average mAP {mean:.1f}")

            return Reporting(on_progress, on_epoch)

        chosen = TABLES[table]
        for row in run(chosen, settings, seeds=numbers, device=choose_device(device), report=report):
            measured.append(row)
    origin = _origin(measured)
    scale = [f"{config} on {origin or data.name}", *changes, f"seeds {seeds}"]
    content = {
        "table": table,
        "scale": scale,
        "rows": [{"key": m.row.key, "published": m.row.published, "runs": m.runs} for m in measured],
    }
    lines = _lines(measured, [*chosen.columns, *SHOWN, "Avg.", "Avg. in the paper"])
    title = f"Table {table}, {chosen.title}: mAP on the test subset; {', '.join(scale)}"
    with replacing(output / f"table-{table}.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with replacing(output / f"table-{table}.md") as temporary:
        temporary.write_text(f"{title}\n\n{markdown_table(lines)}", encoding="utf-8")
    shown = Table(*lines[0], title=title, title_justify="left")
    for line in lines[1:]:
        shown.add_row(*line)
    console.results().print(shown)


def _scale(classes: int | None, videos: int | None, epochs: int | None) -> list[str]:
    """The options as changes of the configuration, whatever its model."""
    changes = {"data.classes": classes, "data.limit": videos, "recipe.epochs": epochs}
    if epochs:
        changes["recipe.warmup_epochs"] = max(epochs // 9, 1)
    return [f"{key}={value}" for key, value in changes.items() if value is not None]


def _origin(measured: list[Measured]) -> str | None:
    return next((str(run["data"]) for m in measured for run in m.runs if "data" in run), None)


def _lines(measured: list[Measured], head: list[str]) -> list[list[str]]:
    from davel.evaluate.report import SHOWN

    lines = [head]
    for m in measured:
        cells = []
        for threshold in (*SHOWN, None):
            mean, deviation = m.mean(threshold)
            cells.append(f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if len(m.runs) > 1 else ""))
        lines.append([*m.row.cells, *cells, f"{m.row.published}" if m.row.published else "–"])
    return lines
