"""`davel weights`: the published weights of the feature networks."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table

from davel.cli import console
from davel.core.errors import printable

app = typer.Typer(name="weights", help="The published weights of the feature networks.", no_args_is_help=True)
NAMES = "Which (default: all)."


@app.command("list")
def list_() -> None:
    """Name, size, licence, checksum and source of each, and whether it is there."""
    from davel.features import weights as pretrained

    table = Table("name", "here", "MB", "licence", "sha256", "origin", box=None, padding=(0, 2, 0, 0))
    for name, weights in pretrained.WEIGHTS.items():
        here = "yes" if pretrained.location(name).is_file() else "no"
        stated = f"{weights.sha256_prefix}…" if weights.sha256_prefix else "not stated"
        table.add_row(name, here, f"{weights.megabytes:g}", weights.licence, stated, weights.origin)
    console.results().print(table)
    for weights in pretrained.WEIGHTS.values():
        print(f"{weights.name}: {weights.url}")


@app.command()
def fetch(
    names: list[str] | None = typer.Argument(None, help=NAMES),
    offline: bool = typer.Option(False, "--offline", help="Only say what is missing (as DAVEL_OFFLINE=1 does)."),
) -> None:
    """Download what is not there; an interrupted download is gone on with."""
    from davel.features import weights as pretrained

    for name in names or pretrained.WEIGHTS:
        console.results().print(printable(_fetch(name, offline)), markup=False)


def _fetch(name: str, offline: bool) -> Path:
    from davel.features import weights as pretrained

    with console.progress_bar() as bar:
        task = bar.add_task(f"{name}, MB", total=None, note="")

        def progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done >> 20, total=total and total >> 20)

        return pretrained.fetch(name, progress, offline)


@app.command()
def path(name: str = typer.Argument(help="Which.")) -> None:
    """Where the weights are, or belong; ends with 5 if they are not there."""
    from davel.features import weights as pretrained

    print(pretrained.location(name))
    pretrained.find(name)


@app.command()
def verify(names: list[str] | None = typer.Argument(None, help=NAMES)) -> None:
    """Compare checksums where the publisher states them, and load each file."""
    from davel.core.errors import ConfigError
    from davel.features import weights as pretrained

    problems = []
    for name in names or pretrained.WEIGHTS:
        if problem := pretrained.verify(name):
            problems.append(name)
            console.complain(f"davel: {problem}")
        else:
            console.results().print(f"{name}: whole", markup=False)
    if problems:
        raise ConfigError(f"not what they should be: {', '.join(problems)}")
