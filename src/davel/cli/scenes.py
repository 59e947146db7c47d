"""`davel scenes`: render videos with known truth."""

from __future__ import annotations

from pathlib import Path

import typer

from davel.cli import console


def scenes(
    output: Path = typer.Argument(help="Folder for videos/ and annotations.json."),
    videos: int = typer.Option(100, min=1, help="How many."),
    seed: int = typer.Option(0, min=0, help="Which: the same seed gives the same files."),
    subset: str | None = typer.Option(None, help="Subset of all (default: 80 % train, 10 % validation, 10 % test)."),
    workers: int | None = typer.Option(None, min=1, help="Processes (default: one per core)."),
) -> None:
    """Render scenes with sound whose events are known, and decoys that are only seen or only heard."""
    from davel.data.scenes.render import render_scenes

    with console.progress() as report:
        annotations = render_scenes(output, num_videos=videos, seed=seed, subset=subset, workers=workers, report=report)
    print(annotations)
