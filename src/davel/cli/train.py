"""`davel train`: a model from annotated videos."""

from __future__ import annotations

import os
from typing import Any

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.train.options import TrainOptions


@with_options(TrainOptions)
def train(
    config: str = typer.Argument(help="A YAML file, or a shipped one: ccnet-i3d, ccnet-onepeace, unav-i3d, ..."),
    *,
    options: TrainOptions,
) -> None:
    """Train a model on annotated videos or features; prints the folder of the best model.

    With `tasks` in the file, one network learns several at once, and the folder has a model of each.
    Paths in a file are taken from where it stands. For several GPUs: torchrun --nproc-per-node N -m davel train ...
    """
    from davel.compute.device import choose_device
    from davel.train import Reporting, losses_of, train_joint
    from davel.train import train as train_one
    from davel.train.recipe import JointConfig

    settings = options.configured(config)

    def on_epoch(line: dict[str, Any]) -> None:
        losses = " ".join(f"{printable(name)} {value:.3f}" for name, value in losses_of(line).items())
        mean = 100 * line["validation"]["average_mAP"]
        console.complain(
            f"epoch {line['epoch']}/{settings.recipe.epochs}: {losses} · average mAP {mean:.1f} · "
            f"{line['videos_per_second']:.1f} videos/s · {line['seconds']:.0f} s"
        )

    def on_skipped(ids: tuple[str, ...]) -> None:
        more = ", ..." if len(ids) > 5 else ""
        listed = ", ".join(printable(key) for key in ids[:5])
        console.complain(f"davel: {len(ids)} videos are left out as missing or broken: {listed}{more}")

    with console.progress() as report:
        device, told = choose_device(options.device), Reporting(report, on_epoch, on_skipped)
        if isinstance(settings, JointConfig):
            best = train_joint(settings, resume=options.resume, device=device, report=told)
        else:
            best = train_one(settings, resume=options.resume, device=device, report=told)
    if int(os.environ.get("RANK", 0)) == 0:
        print(best)
