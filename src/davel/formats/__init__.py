"""Writers of results, one file per format: `save(result, path)` picks by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from davel.errors import ConfigError
from davel.files import replacing
from davel.formats import csv_file, json_file

if TYPE_CHECKING:
    from davel.localize import Result

WRITERS: dict[str, Callable[[Result], str]] = {"json": json_file.dumps, "csv": csv_file.dumps}
"""By format name, which is also the file's ending."""


def writer(name: str) -> Callable[[Result], str]:
    """ConfigError if the format is not known."""
    if name not in WRITERS:
        raise ConfigError(f"unknown format {name!r}: choose from {', '.join(WRITERS)}")
    return WRITERS[name]


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; bytes of names that are not text are kept."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
