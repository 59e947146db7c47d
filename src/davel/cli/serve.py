"""`davel serve`: the page and its API."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from davel.core.errors import ConfigError, MissingError, printable

if TYPE_CHECKING:
    from davel.core.events import Event

MIN_TOKEN_LENGTH = 16


def serve(
    videos: Path | None = typer.Argument(None, help="A folder of videos to choose from."),
    model: str = typer.Option("scenes", "-m", "--model", help="A built-in model, a model's folder, or an ONNX file."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    annotations: Path | None = typer.Option(None, help="True events to show, in any format of `davel convert`."),
    data: Path | None = typer.Option(
        None, help="Folder for uploads, results, corrections (default: DAVEL_HOME/serve)."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; another than loopback needs a token."),
    port: int = typer.Option(8765, min=0, max=65535, help="Port to listen on; 0: any that is free."),
    token: str | None = typer.Option(None, envvar="DAVEL_TOKEN", help="Everyone must give it; 16 characters or more."),
    workers: int = typer.Option(1, min=1, help="Videos that are worked on at a time."),
    max_upload_gb: float = typer.Option(4.0, min=0.001, help="Largest upload."),
    max_uploads: int = typer.Option(100, min=1, help="Most uploads that are kept."),
    keep_days: float = typer.Option(7.0, min=0.00001, help="After which an upload and its results are deleted."),
    memory_gb: float = typer.Option(4.0, min=0.5, help="Most memory of a video's process."),
    stall_seconds: float = typer.Option(120.0, min=1, help="A video on which nothing moves for so long has failed."),
    job_hours: float = typer.Option(24.0, min=0.001, help="Longest that one video may take."),
) -> None:
    """Open a page to drop videos on, look at their events, and correct them.

    Corrections are kept in DATA/events.csv, which `davel data init` makes training data of.
    """
    for name in ("fastapi", "uvicorn"):
        if find_spec(name) is None:
            raise MissingError(f"davel serve needs {name}: pip install 'davel[web]'")
    from davel.core.files import home, locked
    from davel.web.app import create_app
    from davel.web.http import run
    from davel.web.security import is_loopback
    from davel.web.settings import Limits, ServerSettings

    if not is_loopback(host) and not token:
        raise typer.BadParameter("other machines can reach this address: give a --token", param_hint="--host")
    if token is not None and (len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable()):
        raise typer.BadParameter(f"give at least {MIN_TOKEN_LENGTH} plain characters", param_hint="--token")
    if videos is not None and not videos.is_dir():
        raise ConfigError(f"{printable(videos)}: is no folder: name one with videos")
    folder = (data or home() / "serve").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{printable(folder)}: cannot make this folder: {error.strerror}") from error
    limits = Limits(
        max_upload_bytes=round(max_upload_gb * 1e9),
        max_uploads=max_uploads,
        keep_days=keep_days,
        memory_bytes=round(memory_gb * 1e9),
        stall_seconds=stall_seconds,
        job_hours=job_hours,
    )
    settings = ServerSettings(
        data=folder,
        model=model,
        device=device,
        videos=None if videos is None else videos.absolute(),
        truth=_truth(annotations),
        token=token,
        workers=workers,
        limits=limits,
    )
    with locked(folder / "lock", f"{printable(folder)}: another davel serve uses it: give another --data"):

        def ready(address: str) -> None:
            print(f"davel: {address}{'/?token=TOKEN' if token else ''} (Ctrl+C ends it)", flush=True)
            print(f"davel: corrections are kept in {printable(settings.table)}", file=sys.stderr, flush=True)

        run(create_app(settings), host, port, ready)


def _truth(path: Path | None) -> dict[str, list[Event]]:
    if path is None:
        return {}
    from davel import formats

    return {video.id: list(video.events) for video in formats.read(path)}
