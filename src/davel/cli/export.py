"""`davel export`: a model for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import ConfigError, printable
from davel.core.options import option


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is written."""

    output: Path | None = option(None, "-o", "--output")
    """The file (default: the model's name and .onnx)."""


@with_options(ExportOptions)
def export(
    model: str = typer.Argument(help="A built-in model or a model's folder."),
    *,
    options: ExportOptions,
) -> None:
    """Write a model as an ONNX file, checked against what it was made of; `davel localize -m FILE.onnx` runs it."""
    from davel.models.onnx import export as write

    target = options.output or Path(f"{Path(model).name}.onnx")
    if target.suffix != ".onnx":
        raise typer.BadParameter(f"name a file that ends in .onnx, not {target.name}", param_hint="--output")
    try:
        difference = write(model, target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot write: {error.strerror}") from error
    size = target.stat().st_size / 1e6
    console.results().print(
        f"{printable(target)}: {size:.1f} MB, outputs within {difference:.1g} of the model's", markup=False
    )
