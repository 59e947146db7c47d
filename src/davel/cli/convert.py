"""`davel convert`: from any file of events to any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from typer.core import TyperCommand

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import option


class Command(TyperCommand):
    """Lists the formats that there are when it is asked for help, and not before: they take time to import."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from davel.formats import FORMATS, READERS

        self.help = f"{self.help}\n\nFormats: {', '.join(FORMATS)}. Read only: {', '.join(READERS)}."
        super().format_help(ctx, formatter)


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """From what to what, and what happens to what is no event."""

    from_: str | None = option(None, "--from", metavar="FORMAT")
    """Of the source (default: as it looks)."""
    to: str | None = option(None, metavar="FORMAT")
    """Of the target (default: as its name ends)."""
    problems: Literal["refuse", "skip", "clip"] = "clip"
    """Events that are none: refuse the file, skip them, or clip times and refuse the others."""


@with_options(ConvertOptions)
def convert(
    source: Path = typer.Argument(help="A file of events."),
    to_write: str = typer.Argument(
        metavar="TARGET", help="The file to write, or a folder (with --to) for one file per video."
    ),
    *,
    options: ConvertOptions,
) -> None:
    """Convert events between formats.

    What the target cannot hold is said, and so is what was clipped or skipped.
    """
    from davel import formats
    from davel.core.errors import ConfigError
    from davel.core.files import is_below, safe_names

    target = Path(to_write)
    videos, found = formats.read_videos(source, options.from_, policy=options.problems)
    try:
        if target.is_dir() or (options.to and to_write.endswith("/")):
            if options.to is None:
                raise typer.BadParameter("is needed for a folder", param_hint="--to")
            if outside := [video.id for video in videos if not is_below(video.id)]:
                raise ConfigError(
                    f"{printable(source)}: the id {printable(outside[0])!r} names no file below a folder: rename it, "
                    "or convert into one file"
                )
            form = formats.named(options.to)
            stems = safe_names([video.id for video in videos])
            names = [target / f"{stems[video.id]}.{form.suffix}" for video in videos]
            for video, name in zip(videos, names, strict=True):
                name.parent.mkdir(parents=True, exist_ok=True)
                formats.write([video], name, options.to)
            lost = formats.losses(videos, form)
        else:
            lost, names = formats.write(videos, target, options.to), [target]
    except OSError as error:
        raise ConfigError(f"{printable(error.filename or target)}: cannot write: {error.strerror}") from error
    count = sum(len(video.events) for video in videos)
    where = printable(target) if len(names) == 1 else f"{len(names)} files in {printable(target)}"
    console.results().print(f"{len(videos)} videos, {count} events: {where}", markup=False)
    for line in (*formats.told(found), *lost):
        console.complain(f"davel: {printable(line)}")
