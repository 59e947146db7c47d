"""`davel import`: a released checkpoint as a model of ours."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.options import option


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a checkpoint does not tell."""

    annotations: Path
    """The annotations it was trained on: they name its classes."""
    output: Path = option(MISSING, "-o", "--output")
    """The model's folder."""
    task: str | None = None
    """Of a checkpoint of several tasks, the one to take: TAL, AVEL or SED of UniAV's (default: AVEL)."""
    embeddings: Path | None = None
    """Embeddings of the names of the classes, for UniAV: a file of `davel features embed`, or an array of rows by
    label_id (default: those shipped of UnAV-100 and DESED)."""


@with_options(ImportOptions)
def import_model(
    checkpoint: Path = typer.Argument(help="A released checkpoint of one of davel's models, as model_best.pth.tar."),
    *,
    options: ImportOptions,
) -> None:
    """Make a model's folder of a released checkpoint, for evaluate, plot and localize; its weights stay the same."""
    from davel.formats import read_annotations
    from davel.models.saved import import_published

    labels = read_annotations(options.annotations, durations=False).labels
    info = import_published(checkpoint, options.output, labels, task=options.task, embeddings=options.embeddings)
    console.complain(
        f"{info.config.num_classes} classes, {info.config.max_length} steps, reads {info.features.name} features"
    )
    print(options.output)
