"""`davel demo`: the whole way, on a scene that no model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.options import option

SEED = 2056
"""Of no scene that a shipped model was trained on."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Which scene, and where it goes."""

    output: Path = option(Path("demo"), "-o", "--output")
    """Folder for the video and what is found in it."""
    seed: int = option(SEED, minimum=1)
    """Another seed is another scene (the model was trained on those of 0)."""


@with_options(DemoOptions)
def demo(
    *,
    options: DemoOptions,
) -> None:
    """Render a scene, find its events, and compare them with the truth."""
    from davel.data.scenes.render import render_scenes
    from davel.evaluate.metrics import decoys_reported, pair
    from davel.formats import read_annotations
    from davel.localize import load
    from davel.plot import draw, require_matplotlib

    require_matplotlib()
    annotations = read_annotations(
        render_scenes(options.output, num_videos=1, seed=options.seed, subset="test", workers=1)
    )
    ((key, video),) = annotations.videos.items()
    path = options.output / "videos" / f"{key}.mp4"
    result = load("scenes").localize(path)
    json_path = result.save(options.output / f"{key}.json")
    picture = draw(result, options.output / f"{key}.png", truth=video.events)

    table = Table("event", "true", "found", "score", "overlap", title=escape(f"{path}"), title_justify="left")
    for true, found, overlap in pair(video.events, result.events):
        event = true or found
        assert event is not None
        table.add_row(
            event.label,
            f"{true.start:.2f} - {true.end:.2f}" if true else "nothing",
            f"{found.start:.2f} - {found.end:.2f}" if found else "missed",
            f"{found.score:.2f}" if found else "",
            f"{overlap:.2f}" if true and found else "",
        )
    reported, decoys = decoys_reported({key: result.events}, {key: video.decoys})
    out = console.results()
    out.print(table)
    out.print(f"{decoys} decoys, only seen or only heard, are in the scene; {reported} of them were taken for events.")
    out.print(escape(f"events   {json_path}\npicture  {picture}"))
