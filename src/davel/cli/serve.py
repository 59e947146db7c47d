"""`davel serve`: the page and its API."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import MissingError, printable
from davel.core.files import locked
from davel.web.options import ServeOptions


@with_options(ServeOptions)
def serve(
    videos: Path | None = typer.Argument(None, help="A folder of videos to choose from."), *, options: ServeOptions
) -> None:
    """Open a page to drop videos on, look at their events, and correct them.

    Corrections are kept in DATA/events.csv, which `davel data init` makes training data of.
    """
    for name in ("fastapi", "uvicorn"):
        if find_spec(name) is None:
            raise MissingError(f"davel serve needs {name}: pip install 'davel[web]'")
    from davel.web.app import create_app
    from davel.web.http import run

    settings = options.settings(videos)
    folder = settings.data
    with locked(folder / "lock", f"{printable(folder)}: another davel serve uses it: give another --data"):

        def ready(address: str) -> None:
            print(f"davel: {address}{'/?token=TOKEN' if settings.token else ''} (Ctrl+C ends it)", flush=True)
            console.complain(f"davel: corrections are kept in {printable(settings.table)}")

        run(create_app(settings), options.host, options.port, ready)
