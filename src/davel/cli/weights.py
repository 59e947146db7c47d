"""`davel weights`: the published weights of the feature networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable

app = typer.Typer(name="weights", help="The published weights of the feature families.", no_args_is_help=True)
NAMES = "Which, by their name or their family's (default: all)."


@app.command("list")
def list_() -> None:
    """Name, size, licence, checksum and source of each, and whether it is there."""
    from davel.features.family import broken
    from davel.features.weights import catalogue, location

    table = Table("name", "here", "MB", "licence", "sha256", "origin", box=None, padding=(0, 2, 0, 0))
    known = catalogue()
    for name, weights in known.items():
        here = "yes" if location(weights).is_file() else "no"
        stated = f"{weights.sha256[:8]}…" if weights.sha256 else "not stated"
        texts = (printable(text) for text in (weights.licence, stated, weights.origin))
        table.add_row(printable(name), here, f"{weights.megabytes:g}", *map(escape, texts))
    console.results().print(table)
    for weights in known.values():
        print(f"{printable(weights.name)}: {printable(weights.url)}")
    for problem in broken():
        console.complain(f"davel: {problem}")


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """How weights are had."""

    offline: bool = False
    """Only say what is missing (as DAVEL_OFFLINE=1 does)."""


@app.command()
@with_options(FetchOptions)
def fetch(
    names: list[str] | None = typer.Argument(None, help=NAMES),
    *,
    options: FetchOptions,
) -> None:
    """Download what is not there; an interrupted download is gone on with."""
    for name in _chosen(names):
        console.results().print(printable(_fetch(name, options.offline)), markup=False)


def _chosen(names: list[str] | None) -> list[str]:
    """Names of weights; that of a family stands for all of its own."""
    from davel.features.family import families
    from davel.features.weights import catalogue

    if not names:
        return list(catalogue())
    known = families()
    chosen = [[w.name for w in known[name].weights] if name in known else [name] for name in names]
    return list(dict.fromkeys(name for several in chosen for name in several))


def _fetch(name: str, offline: bool) -> Path:
    from davel.features.weights import fetch

    with console.progress() as report:
        return fetch(name, report, offline)


@app.command()
def path(name: str = typer.Argument(help="Which.")) -> None:
    """Where the weights are, or belong; ends with 5 if they are not there."""
    from davel.features.weights import find, location

    print(location(name))
    find(name)


@app.command()
def verify(names: list[str] | None = typer.Argument(None, help=NAMES)) -> None:
    """Compare checksums where the publisher states them, and load each file."""
    from davel.core.errors import ConfigError
    from davel.features import weights

    problems = []
    for name in _chosen(names):
        if problem := weights.verify(name):
            problems.append(name)
            console.complain(f"davel: {problem}")
        else:
            console.results().print(f"{name}: whole", markup=False)
    if problems:
        raise ConfigError(f"not what they should be: {', '.join(problems)}")
