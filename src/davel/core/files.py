"""Files that are there whole or not at all, and where davel keeps its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from davel.core.errors import ConfigError

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
"""This machine, in temporary names: a process id says something only on the machine that gave it."""
TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)(-(?P<host>[0-9a-f]{8})-[0-9a-f]{8})?\.tmp")
"""`.NAME.PID-HOST-RANDOM.tmp`; until version 0.1 `.NAME.PID.tmp`."""
ABANDONED_SECONDS = 24 * 3600
"""A temporary file that nobody wrote to for so long has no writer any more, wherever that was."""
SWEEP_SECONDS = 60
"""A folder that is written to again and again is looked through for leftovers no more often."""

MOST_BYTES = 180
"""Of a name that is made of an id; what is added to it still fits into 255."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` if all goes well, and goes away if not.

    No two writers have the same, so that of several the last one wins whole. What writers that were killed left in the
    folder is removed.
    """
    _sweep(path.parent, int(time.monotonic() / SWEEP_SECONDS))
    name = os.fsdecode(os.fsencode(path.name)[:200])  # a file's name has 255 bytes at most
    temporary = path.with_name(f".{name}.{os.getpid()}-{HOST}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@lru_cache(maxsize=256)
def _sweep(folder: Path, when: int) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := TEMPORARY.fullmatch(entry.name)) and not _has_writer(entry, match):
                with suppress(OSError):  # another process was faster
                    os.unlink(entry.path)


def _has_writer(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    """Whether somebody may still write the temporary file."""
    with suppress(FileNotFoundError):
        if time.time() - entry.stat().st_mtime > ABANDONED_SECONDS:
            return False
    if match["host"] != HOST or os.name != "posix":
        return True
    try:
        os.kill(int(match["pid"]), 0)  # asks, and does nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def locked(path: Path, otherwise: str) -> Iterator[None]:
    """Have a file that no other process has meanwhile. ConfigError, with `otherwise`, if one has."""
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(path, timeout=0).acquire()
    except Timeout as error:
        raise ConfigError(otherwise) from error
    with lock:
        yield


def read_json(path: Path, what: str) -> Any:
    """What a JSON file holds. ConfigError if it cannot be read: `what` says what it was to be."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the {what}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error


def is_below(name: str) -> bool:
    """Whether a name from a file, taken as a path, stays within the folder that it is joined to."""
    path = PurePosixPath(name.replace("\\", "/"))
    has_drive = re.match(r"[A-Za-z]:[\\/]", name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not has_drive


def safe_names(ids: Sequence[str]) -> dict[str, PurePosixPath]:
    """A file's name, without ending, for each of different ids: the id itself as a path below a folder, as far as it
    can be one on every system.

    What cannot stand in a name becomes `_`, and of ids that would share a name, also where capitals do not count, the
    later ones get a number.
    """
    names: dict[str, PurePosixPath] = {}
    taken: set[str] = set()
    for key in ids:
        steps = [_safe(step) for step in key.replace("\\", "/").split("/") if step not in ("", ".", "..")]
        stem, number = "/".join(steps) or "_", 1
        name = stem
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names[key] = PurePosixPath(name)
    return names


def _safe(step: str) -> str:
    """One folder or file of a path."""
    forbidden = '<>:"|?*' if os.name == "nt" else ""
    step = "".join("_" if c in forbidden or not _has_bytes(c) else c for c in step)
    while len(step.encode("utf-8", "surrogateescape")) > MOST_BYTES:
        step = step[:-1]
    return (step.rstrip(". ") if os.name == "nt" else step) or "_"


def _has_bytes(c: str) -> bool:
    """Whether a character can stand in a file's name: control characters and halves of pairs cannot."""
    return unicodedata.category(c) not in ("Cc", "Zl", "Zp", "Cs") or "\udc80" <= c <= "\udcff"


def home() -> Path:
    """Where davel keeps what it downloads: `DAVEL_HOME`, or the system's folder for caches.

    Until version 0.1 that was `~/.cache/davel` everywhere: where it exists, and the system's folder does not, it stays.
    """
    if given := os.environ.get("DAVEL_HOME"):
        return Path(given)
    from platformdirs import user_cache_path

    folder, earlier = user_cache_path("davel", appauthor=False), Path.home() / ".cache" / "davel"
    return earlier if earlier.is_dir() and not folder.is_dir() else folder
