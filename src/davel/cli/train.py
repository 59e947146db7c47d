"""`davel train`: a model from annotated videos."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from davel.cli import console
from davel.core.errors import printable

if TYPE_CHECKING:
    from davel.train import Progress


def train(
    config: str = typer.Argument(help="A YAML file, or a shipped one: ccnet-i3d, ccnet-onepeace, unav-i3d, ..."),
    data: Path | None = typer.Option(None, "--data", help="The folder that the data's paths are taken from."),
    output: Path | None = typer.Option(None, "-o", "--output", help="The run's folder instead of the configuration's."),
    change: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Another value, as recipe.epochs=5."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in the output folder."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
) -> None:
    """Train a model on annotated videos or features; prints the folder of the best model.

    Paths in a file are taken from where it stands. For several GPUs: torchrun --nproc-per-node N -m davel train ...
    """
    from davel.compute.device import choose_device
    from davel.train import Reporting, losses_of
    from davel.train import train as run
    from davel.train.recipe import load_train_config

    settings = load_train_config(config, data, change)
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
            losses = " ".join(f"{printable(name)} {value:.3f}" for name, value in losses_of(line).items())
            mean = 100 * line["validation"]["average_mAP"]
            bar.console.print(
                f"epoch {line['epoch']}/{settings.recipe.epochs}: {losses} · average mAP {mean:.1f} · "
                f"{line['videos_per_second']:.1f} videos/s · {line['seconds']:.0f} s",
                highlight=False,
            )

        def on_skipped(ids: tuple[str, ...]) -> None:
            more = ", ..." if len(ids) > 5 else ""
            listed = ", ".join(printable(key) for key in ids[:5])
            console.complain(f"davel: {len(ids)} videos are left out as missing or broken: {listed}{more}")

        report = Reporting(on_progress, on_epoch, on_features, on_skipped)
        best = run(settings, resume=resume, device=choose_device(device), report=report)
    if int(os.environ.get("RANK", 0)) == 0:
        print(best)
