"""`davel demo`: the whole way, on a scene that no model was trained on."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table

from davel.cli import console

SEED = 20_26_11
"""Of no training scene."""


def demo(
    output: Path = typer.Option(Path("demo"), "-o", "--output", help="Folder for the video and what is found in it."),
    seed: int = typer.Option(SEED, min=0, help="Another seed is another scene."),
) -> None:
    """Render a scene, find its events, and compare them with the truth."""
    from davel.data.annotations import read_annotations
    from davel.data.scenes import render_scenes
    from davel.localize import load
    from davel.metrics import temporal_iou
    from davel.plot import draw, require_matplotlib

    require_matplotlib()
    annotations = read_annotations(render_scenes(output, num_videos=1, seed=seed, subset="test", workers=1))
    video = next(iter(annotations.videos.values()))
    path = output / "videos" / f"{video.id}.mp4"
    result = load("scenes").localize(path)
    json_path = result.save(output / f"{video.id}.json")
    picture = draw(result, output / f"{video.id}.png", truth=video.events)

    found = list(result.events)
    table = Table("event", "true", "found", "score", "overlap", title=f"{path}", title_justify="left")
    for true in sorted(video.events, key=lambda e: e.start):
        segments = [[(true.start, true.end), (e.start, e.end)] for e in found if e.label == true.label]
        import numpy as np

        overlaps = [float(temporal_iou(np.array(a), np.array(b))) for a, b in segments]
        best = max(
            zip(overlaps, [e for e in found if e.label == true.label], strict=True), default=None, key=lambda x: x[0]
        )
        row = ("-", "-", "-")
        if best and best[0] > 0:
            found.remove(best[1])
            row = (f"{best[1].start:.2f} - {best[1].end:.2f}", f"{best[1].score:.2f}", f"{best[0]:.2f}")
        table.add_row(true.label, f"{true.start:.2f} - {true.end:.2f}", *row)
    for e in found:
        table.add_row(e.label, "-", f"{e.start:.2f} - {e.end:.2f}", f"{e.score:.2f}", "-")
    out = console.results()
    out.print(table)
    seen = sum(1 for _ in video.decoys)
    out.print(f"{seen} decoys (only seen or only heard) are in the scene and should not be found.")
    out.print(f"events:  {json_path}\npicture: {picture}")
