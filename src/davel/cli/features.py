"""`davel features`: what one has, against what others have."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import option

app = typer.Typer(name="features", help="Feature files.", no_args_is_help=True)
MOST_ROWS = 30


@app.callback()
def _features() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """How a comparison is shown."""

    as_json: bool = option(False, "--json")
    """Print every comparison as JSON."""


@app.command()
@with_options(VerifyOptions)
def verify(
    ours: Path = typer.Argument(help="A folder of features, or one .npy file."),
    reference: Path = typer.Argument(help="The published ones, likewise."),
    *,
    options: VerifyOptions,
) -> None:
    """Compare features with published ones: lengths, offset, cosine, and why they differ.

    Ends with 4 if a stream does not match.
    """
    from davel.features.verify import compare_folders, summary

    results = compare_folders(ours, reference)
    if options.as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        table = Table("file", "steps", "reference", "offset", "cosine", "")
        shown = sorted(results, key=lambda r: (r.matches, r.cosine))[:MOST_ROWS]
        for r in shown:
            name = escape(printable(f"{r.key}_{r.stream}" if r.stream else r.key))
            verdict = escape(r.cause) or "matches"
            table.add_row(name, str(r.length), str(r.reference_length), str(r.offset), f"{r.cosine:.4f}", verdict)
        console.results().print(table)
        if len(shown) < len(results):
            console.results().print(f"and {len(results) - len(shown)} more (--json has all)")
        for stream, (count, matching, cosine) in summary(results).items():
            console.results().print(f"{stream or 'features'}: {matching} of {count} match, median cosine {cosine:.4f}")
    if not all(result.matches for result in results):
        raise typer.Exit(4)
