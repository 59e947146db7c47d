"""`davel evaluate`: how good a model is on annotated videos."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

import typer

from davel.cli import console


class Modality(StrEnum):
    audio = "audio"
    visual = "visual"


def evaluate(
    model: str = typer.Argument(help="A built-in model or a model's folder."),
    annotations: Path = typer.Option(help="True events, in UnAV-100's schema."),
    videos: Path = typer.Option(help="Folder of the videos."),
    cache: Path | None = typer.Option(None, help="Folder for features (default: features/ beside the videos)."),
    subset: str = typer.Option("test", help="The subset to evaluate."),
    without: Modality | None = typer.Option(None, help="Zero the features of one modality."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
) -> None:
    """Average mAP of a model, and the part of the decoys that it reports; a JSON object on stdout."""
    from davel.data.annotations import read_annotations
    from davel.data.folder import open_dataset
    from davel.evaluate import predict, score
    from davel.localize import load

    localizer = load(model, device)
    chosen = read_annotations(annotations).subset(subset)
    with console.progress_bar() as bar:
        task = bar.add_task("features", total=len(chosen), note="")
        dataset = open_dataset(
            chosen,
            videos,
            cache or videos.parent / "features",
            localizer.info.features.name,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    localizer.require(dataset.spec, next(iter(chosen.values())).events.labels, str(annotations))
    found = predict(localizer.model, dataset, without=without.value if without else None)
    print(json.dumps(score(found, chosen, localizer.info.config.num_classes), indent=2))
