"""`davel scenes`: render videos with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.options import option


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """Which scenes are rendered."""

    videos: int = option(100, minimum=1)
    """How many."""
    seed: int = option(0, minimum=0)
    """Which: the same seed gives the same files."""
    subset: str | None = None
    """Subset of all (default: 80 % train, 10 % validation, 10 % test)."""
    workers: int | None = option(None, minimum=1)
    """Processes (default: one per core)."""


@with_options(SceneOptions)
def scenes(
    output: Path = typer.Argument(help="Folder for videos/ and annotations.json."),
    *,
    options: SceneOptions,
) -> None:
    """Render scenes with sound whose events are known, and decoys that are only seen or only heard."""
    from davel.data.scenes.render import render_scenes

    with console.progress() as report:
        annotations = render_scenes(
            output,
            num_videos=options.videos,
            seed=options.seed,
            subset=options.subset,
            workers=options.workers,
            report=report,
        )
    print(annotations)
