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
    videos: Path | None = typer.Option(None, help="Folder of the videos."),
    features: Path | None = typer.Option(None, help="Instead, a folder of features that were extracted before."),
    cache: Path | None = typer.Option(None, help="Where features of videos are kept (default: features/ beside)."),
    subset: str = typer.Option("test", help="The subset to evaluate."),
    without: Modality | None = typer.Option(None, help="Zero the features of one modality."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
) -> None:
    """Average mAP of a model, and the part of the decoys that it reports; a JSON object on stdout."""
    from davel.data.annotations import read_annotations
    from davel.data.folder import DataConfig
    from davel.evaluate import predict, score
    from davel.localize import load

    localizer = load(model, device)
    extractor = localizer.info.features.name
    try:
        data = DataConfig(annotations=annotations, videos=videos, features=features, cache=cache, extractor=extractor)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    chosen = read_annotations(annotations).subset(subset)
    with console.progress_bar() as bar:
        task = bar.add_task("features", total=len(chosen), note="")
        dataset = data.open(chosen, lambda done, total: bar.update(task, completed=done, total=total))
    localizer.require(dataset.spec, next(iter(chosen.values())).events.labels, str(annotations))
    found = predict(localizer.model, dataset, without=without.value if without else None)
    print(json.dumps(score(found, chosen, localizer.info.config.num_classes), indent=2))
