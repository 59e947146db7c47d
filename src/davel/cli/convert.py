"""`davel convert`: from any file of events to any other."""

from __future__ import annotations

from pathlib import Path

import typer

from davel.cli import console
from davel.core.errors import printable


def convert(
    source: Path = typer.Argument(help="A file of events."),
    to_write: str = typer.Argument(
        metavar="TARGET", help="The file to write, or a folder (with --to) for one file per video."
    ),
    from_: str | None = typer.Option(None, "--from", metavar="FORMAT", help="Of the source (default: as it looks)."),
    to: str | None = typer.Option(None, "--to", metavar="FORMAT", help="Of the target (default: as its name ends)."),
) -> None:
    """Convert events between formats.

    Formats: json (davel.events/1), csv, tsv, jsonl, activitynet, results, labelstudio, dcase, audacity, raven, rttm,
    vtt, srt, eaf, edl. What the target cannot hold is said.
    """
    from davel import formats
    from davel.core.errors import ConfigError

    target = Path(to_write)
    videos = formats.read(source, from_)
    try:
        if target.is_dir() or (to and to_write.endswith("/")):
            if to is None:
                raise typer.BadParameter("is needed for a folder", param_hint="--to")
            target.mkdir(parents=True, exist_ok=True)
            names = [target / f"{video.id}.{formats.named(to).suffix}" for video in videos]
            for video, name in zip(videos, names, strict=True):
                formats.write([video], name, to)
            lost = formats.losses(videos, formats.named(to))
        else:
            lost, names = formats.write(videos, target, to), [target]
    except OSError as error:
        raise ConfigError(f"{printable(error.filename or target)}: cannot write: {error.strerror}") from error
    count = sum(len(video.events) for video in videos)
    where = printable(target) if len(names) == 1 else f"{len(names)} files in {printable(target)}"
    console.results().print(f"{len(videos)} videos, {count} events: {where}", markup=False)
    for line in lost:
        console.complain(f"davel: {line}")
