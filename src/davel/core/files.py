"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from davel.core.errors import ConfigError, printable


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` if all goes well, and goes away if not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, otherwise: str) -> Iterator[None]:
    """Have a file that no other process has meanwhile. ConfigError, with `otherwise`, if one has."""
    import fcntl  # not on every system

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(otherwise) from error
        yield


def read_json(path: Path, what: str) -> Any:
    """What a JSON file holds. ConfigError if it cannot be read: `what` says what it was to be."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot read the {what}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{printable(path)}: not JSON: {error}") from error


def home() -> Path:
    """Where davel keeps what it downloads."""
    return Path(os.environ.get("DAVEL_HOME") or Path.home() / ".cache" / "davel")
