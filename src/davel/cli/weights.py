"""`davel weights`: the published weights of the feature networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import OptionError

if TYPE_CHECKING:
    from davel.features.family import Precision, Weights

app = typer.Typer(name="weights", help="The published weights of the feature families.", no_args_is_help=True)
NAMES = "Which, by their name or their family's (default: all but the largest)."


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
        stated = "made here" if weights.source else stated
        texts = (printable(text) for text in (weights.licence, stated, weights.origin))
        table.add_row(printable(name), here, f"{weights.megabytes:g}", *map(escape, texts))
    console.results().print(table)
    for weights in known.values():
        made_of = f"made of {weights.source} by `davel weights convert {weights.name}`"
        print(f"{printable(weights.name)}: {printable(weights.url) or made_of}")
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
    for weights in _chosen(names):
        if weights.source is None or weights.name in (names or ()):
            console.results().print(printable(_fetch(weights.name, options.offline)), markup=False)


def _chosen(names: list[str] | None) -> list[Weights]:
    """By names of weights; that of a family stands for all of its own. ConfigError if there are none of a name."""
    from davel.features.family import families
    from davel.features.weights import catalogue, weights_of

    if not names:
        return [weights for weights in catalogue().values() if not weights.on_request]
    known = families()
    chosen = [[*known[name].sources, *known[name].weights] if name in known else [weights_of(name)] for name in names]
    return list({weights.name: weights for several in chosen for weights in several}.values())


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
    chosen = _chosen(names)
    if not names:
        chosen += [w for w in weights.catalogue().values() if w.on_request and weights.location(w).is_file()]
    for name in (each.name for each in chosen):
        if problem := weights.verify(name):
            problems.append(name)
            console.complain(f"davel: {problem}")
        else:
            console.results().print(f"{name}: whole", markup=False)
    if problems:
        raise ConfigError(f"not what they should be: {', '.join(problems)}")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What large checkpoints become."""

    to: str = "float16"
    """float16, bfloat16 or float32: what each value takes, and part of the features' protocol."""
    checkpoint: Path | None = None
    """The checkpoint, where it does not lie among davel's weights."""


@app.command()
@with_options(ConvertOptions)
def convert(
    names: list[str] = typer.Argument(help="Which, by their name or their family's."),
    *,
    options: ConvertOptions,
) -> None:
    """Make what davel runs of large checkpoints, once: one network in a file, with fewer bits, and nothing else."""
    from davel.features.weights import convert

    if options.to not in ("float16", "bfloat16", "float32"):
        raise OptionError("to", f"expected float16, bfloat16 or float32, got {options.to!r}")
    chosen = _chosen(names)
    if len(chosen) > 1:
        chosen = [weights for weights in chosen if weights.source]
    if options.checkpoint and len({weights.source for weights in chosen}) > 1:
        raise OptionError("checkpoint", f"these are made of several: name one of {', '.join(w.name for w in chosen)}")
    for weights in chosen:
        with console.progress() as report:
            path = convert(weights.name, cast("Precision", options.to), options.checkpoint, report)
        console.results().print(printable(path), markup=False)
