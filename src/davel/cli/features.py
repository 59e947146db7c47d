"""`davel features`: what one has, against what others have; and names of classes as text towers embed them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import OptionError, option

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


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How names of classes are embedded."""

    output: Path | None = option(None, "-o", "--output")
    """The file to write (default: CLASSES.safetensors)."""
    prompt: str = "An audio visual event of {}."
    """What is said of a class, {} being its name."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    precision: str = "float32"
    """float32, bfloat16 or float16."""


@app.command()
@with_options(EmbedOptions)
def embed(
    classes: Path = typer.Argument(help="Annotations, or a text file with the name of a class in each line."),
    *,
    options: EmbedOptions,
) -> None:
    """Embed names of classes with ONE-PEACE's text encoder, once: the file travels without the encoder."""
    from davel.features.embeddings import read_labels
    from davel.features.family import Precision, family
    from davel.features.one_peace.embeddings import embed_classes

    if options.precision not in get_args(Precision):
        raise OptionError("precision", f"expected float32, bfloat16 or float16, got {options.precision!r}")
    labels = read_labels(classes)
    width = family("one-peace").spec.dim("visual")
    made = embed_classes(labels, options.prompt, width, options.device, cast("Precision", options.precision))
    output = options.output or classes.with_suffix(".safetensors")
    made.save(output)
    console.results().print(f"{printable(output)}: {len(labels)} classes, {made.rows.shape[1]} channels", markup=False)
