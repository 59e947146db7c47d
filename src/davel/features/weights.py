"""The published weights of the feature families: where they are kept, where they come from, whether they are whole.

davel ships none of them. They lie in `$DAVEL_HOME/weights` (by default in the system's folder for caches),
downloaded by `davel weights fetch` or put there by hand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from davel.core.errors import ConfigError, DavelError, MissingError, printable
from davel.core.files import home, locked
from davel.core.progress import Report, silent
from davel.features.family import Family, Precision, Weights, families

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


def is_offline() -> bool:
    """Whether the environment forbids downloads (DAVEL_OFFLINE=1)."""
    return os.environ.get("DAVEL_OFFLINE", "") not in ("", "0")


def catalogue() -> dict[str, Weights]:
    """Of all families, by name; of two files of one name the first family's counts."""
    known: dict[str, Weights] = {}
    for family in families().values():
        for weights in (*family.weights, *family.sources):
            known.setdefault(weights.name, weights)
    return known


def weights_of(name: str) -> Weights:
    """ConfigError if there are none of that name."""
    known = catalogue()
    if name not in known:
        raise ConfigError(f"no weights {printable(name)!r}: choose from {', '.join(known)}")
    return known[name]


def location(name: str | Weights) -> Path:
    """Where the weights are, or belong."""
    weights, folder = weights_of(name) if isinstance(name, str) else name, home() / "weights"
    for file in (weights.file, *weights.aliases):
        if (folder / file).is_file():
            return folder / file
    return folder / weights.file


def find(name: str | Weights) -> Path:
    """Where the weights are. MissingError says what to download and where to put it."""
    weights = weights_of(name) if isinstance(name, str) else name
    path = location(weights)
    if not path.is_file():
        raise MissingError(f"the weights {weights.name!r} are not there: {remedy(weights)}")
    return path


def remedy(weights: Weights) -> str:
    """How one comes to weights that are not there."""
    path = printable(location(weights))
    if weights.source is None:
        return f"run `davel weights fetch {weights.name}`, or download {weights.url} and put it at {path}"
    source = weights_of(weights.source)
    convert = f"`davel weights convert {weights.name}`"
    if location(source).is_file():
        return f"run {convert}"
    return f"run `davel weights fetch {source.name}` ({source.megabytes / 1000:g} GB), then {convert}"


def fetch(name: str, report: Report = silent, offline: bool = False) -> Path:
    """Download weights unless they are there; what an interrupted download left is gone on with.

    `report` is told the megabytes that are there and those expected. MissingError if there is no way to get them,
    ConfigError if another process is at it, DavelError if what came is not what the publisher states.
    """
    weights = weights_of(name)
    path = location(weights)
    if path.is_file():
        return path
    if weights.source is not None:
        raise MissingError(f"the weights {name!r} are not there, and are made of others: {remedy(weights)}")
    if offline or is_offline():
        raise MissingError(
            f"the weights {name!r} are not there, and downloads are forbidden: "
            f"download {weights.url} elsewhere and put it at {printable(path)}"
        )
    busy = f"the weights {name!r} are being downloaded by another davel: wait for it and run again"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(home() / f".{path.name}.lock", busy):  # two must not write one .part
            return path if path.is_file() else _fetch(weights, path, report)
    except OSError as error:
        target = printable(error.filename or path)
        raise ConfigError(f"{target}: cannot write: {error.strerror}: make room or set DAVEL_HOME") from error


def _fetch(weights: Weights, path: Path, report: Report) -> Path:
    part = path.with_name(f"{path.name}.part")
    try:
        _download(weights.url, part, partial(report, f"{weights.name}, MB"))
    except urllib.error.HTTPError as error:
        raise MissingError(
            f"{weights.url}: the server answers {error.code} {error.reason}: {_by_hand(path)}"
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise MissingError(
            f"{weights.url}: cannot download ({printable(reason)}): run again to go on, or {_by_hand(path)}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{printable(part)}: cannot write: {error.strerror}: make room or set DAVEL_HOME") from error
    digest = sha256(part)
    if weights.sha256 and not digest.startswith(weights.sha256):
        part.unlink()
        raise DavelError(
            f"{weights.url}: sent a file with sha256 {digest[:16]}…, expected {_shown(weights.sha256)}: "
            f"it is deleted; try again, or {_by_hand(path)}"
        )
    os.replace(part, path)
    return path


def _by_hand(path: Path) -> str:
    return f"download it by other means and put it at {printable(path)}"


def _download(url: str, part: Path, tell: Callable[[float, float | None], None]) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "davel"} | ({"Range": f"bytes={done}-"} if done else {})
    )
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to send, or the file there is another one
            part.unlink()
            _download(url, part, tell)
            return
        raise
    with response:
        if done and response.status != 206:  # the server sends all of it again
            done = 0
        length = response.headers.get("Content-Length")
        expected = done + int(length) if length else None
        with part.open("ab" if done else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                tell(done / 2**20, None if expected is None else expected / 2**20)
    if expected is not None and done != expected:
        raise ConnectionError(f"{done} of {expected} bytes came")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamps(family: Family) -> tuple[tuple[str, int], ...]:
    """What changes when any of a family's weights do. MissingError if some are not there."""
    return tuple((str(path), path.stat().st_mtime_ns) for path in map(find, family.weights))


@dataclass
class Digests:
    """The sha256 of weights, each file read once as long as it stays what it is."""

    known: dict[tuple[str, int], str] = field(default_factory=dict)
    """By path and time of the last write."""

    def of(self, family: Family) -> dict[str, str]:
        """Of a family's weights, by name. MissingError if some are not there."""
        digests = {}
        for weights, stamp in zip(family.weights, stamps(family), strict=True):
            if stamp not in self.known:
                self.known[stamp] = sha256(Path(stamp[0]))
            digests[weights.name] = self.known[stamp]
        return digests


def read_weights(weights: Weights) -> Any:
    """What the file holds, a network usually. MissingError if it is not there, ConfigError if it is something else."""
    path = find(weights)
    if weights.read is None:
        return path
    try:
        return weights.read(path)
    except ConfigError as error:
        raise ConfigError(f"{printable(path)}: {error}") from error


def load(name: str) -> Any:
    """The network with these weights. MissingError if they are not there, ConfigError if they are something else."""
    return read_weights(weights_of(name))


def checksum_problem(weights: Weights, digest: str) -> str:
    """What speaks against a file being the published one, or an empty text."""
    path = find(weights)
    stated = weights.sha256 if path.name == weights.file else None
    if stated is None or digest.startswith(stated):
        return ""
    return f"{printable(path)}: has sha256 {digest[:16]}…, published is {_shown(stated)}: delete it and fetch it again"


def _shown(digest: str) -> str:
    return f"{digest[:16]}…"


def verify(name: str) -> str:
    """What is wrong with the weights, or an empty text. MissingError if they are not there."""
    weights = weights_of(name)
    if weights.sha256 and (problem := checksum_problem(weights, sha256(find(weights)))):
        return problem
    try:
        read_weights(weights)
    except ConfigError as error:
        return str(error)
    return ""


def convert(name: str, precision: Precision, checkpoint: Path | None = None, report: Report = silent) -> Path:
    """Make weights of those that they are made of, or of a `checkpoint` that lies elsewhere.

    MissingError if that is not there, ConfigError if it is something else, or if these are not made of any.
    """
    weights = weights_of(name)
    if weights.source is None or weights.convert is None:
        known = ", ".join(other.name for other in catalogue().values() if other.source)
        raise ConfigError(f"the weights {name!r} are used as they are published: choose from {known}")
    if checkpoint is not None and not checkpoint.is_file():
        raise MissingError(f"{printable(checkpoint)}: there is no such file")
    path = location(weights)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.convert(checkpoint or find(weights.source), path, precision, report)
    except OSError as error:
        target = printable(error.filename or path)
        raise ConfigError(f"{target}: cannot write: {error.strerror}: make room or set DAVEL_HOME") from error
    return path


def free_bytes(folder: Path) -> int:
    """What can still be written where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
