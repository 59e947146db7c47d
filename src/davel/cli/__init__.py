"""The command line: every command parses, calls the library, and prints.

Exit codes: 0, 1 unexpected, 2 usage, 3 some inputs failed, 4 bad configuration or data, 5 missing weights or extra,
130 interrupted. Results go to stdout, progress and complaints to stderr.
"""

from __future__ import annotations

import os
import sys

import typer

from davel import __version__
from davel.cli import (
    ablate,
    compare,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    export,
    extract,
    features,
    import_model,
    localize,
    plot,
    scenes,
    serve,
    train,
    weights,
)
from davel.compute.allocator import keep_freed_memory
from davel.core.errors import DavelError, printable

app = typer.Typer(
    name="davel",
    help="Find the events of a video that are both seen and heard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"davel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for command in (
    localize.localize,
    extract.extract,
    convert.convert,
    serve.serve,
    export.export,
    demo.demo,
    scenes.scenes,
    train.train,
    evaluate.evaluate,
    compare.compare,
    ablate.ablate,
    ablate.table1,
    plot.plot,
    doctor.doctor,
):
    app.command(cls=convert.Command if command is convert.convert else None)(command)
app.command("import")(import_model.import_model)
for group in (data.app, features.app, weights.app):
    app.add_typer(group)


def main() -> None:
    """The `davel` command. Unexpected errors end in one line too; DAVEL_DEBUG=1 shows where they come from."""
    keep_freed_memory()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("DAVEL_DEBUG"):
            raise
        known = isinstance(error, DavelError)
        text = str(error) if known else f"unexpected {type(error).__name__}: {error} (DAVEL_DEBUG=1 shows where)"
        print(f"davel: {printable(text)}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, DavelError) else 1)
