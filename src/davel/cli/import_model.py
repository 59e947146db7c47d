"""`davel import`: a released checkpoint as a model of ours."""

from __future__ import annotations

from pathlib import Path

import typer

from davel.cli import console


def import_model(
    checkpoint: Path = typer.Argument(help="A released checkpoint of one of davel's models, as model_best.pth.tar."),
    annotations: Path = typer.Option(help="The annotations it was trained on: they name its classes."),
    output: Path = typer.Option(..., "-o", "--output", help="The model's folder."),
) -> None:
    """Make a model's folder of a released checkpoint, for evaluate, plot and localize; its weights stay the same."""
    from davel.formats import read_annotations
    from davel.models.saved import import_published

    info = import_published(checkpoint, output, read_annotations(annotations, durations=False).labels)
    console.complain(
        f"{info.config.num_classes} classes, {info.config.max_length} steps, reads {info.features.name} features"
    )
    print(output)
