"""`davel train`: a model from annotated videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from davel.cli import console

if TYPE_CHECKING:
    from davel.train import Progress


def train(
    config: Path = typer.Argument(help="A YAML file; its paths are taken from where it stands."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in the output folder."),
    output: Path | None = typer.Option(None, "-o", "--output", help="The run's folder instead of the configuration's."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
) -> None:
    """Train a model on annotated videos; features are extracted once and kept."""
    from davel.config import load_config
    from davel.localize import choose_device
    from davel.train import TrainConfig
    from davel.train import train as run

    settings = load_config(TrainConfig, config).beside(config.parent)
    if output is not None:
        settings = replace(settings, output=output)
    with console.progress_bar() as bar:
        features = bar.add_task("features", total=None, note="")
        steps = bar.add_task("train", total=None, note="")

        def on_features(done: int, total: int) -> None:
            bar.update(features, completed=done, total=total)

        def on_progress(now: Progress) -> None:
            parts = " ".join(f"{name} {value:.3f}" for name, value in now.parts.items())
            best = "" if now.best is None else f" · best mAP {100 * now.best:.1f}"
            bar.update(steps, completed=now.step, total=now.num_steps, note=f"epoch {now.epoch + 1} · {parts}{best}")

        def on_epoch(line: dict[str, Any]) -> None:
            losses = f"classification {line['classification']:.3f} regression {line['regression']:.3f}"
            mean = 100 * line["validation"]["average_mAP"]
            bar.console.print(
                f"epoch {line['epoch']}/{settings.recipe.epochs}: {losses} · "
                f"average mAP {mean:.1f} · {line['seconds']:.0f} s"
            )

        best = run(
            settings,
            resume=resume,
            device=str(choose_device(device)),
            on_progress=on_progress,
            on_epoch=on_epoch,
            on_features=on_features,
        )
    print(best)
