"""The published weights of the feature networks: where they are kept, where they come from, whether they are whole.

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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from davel.core.errors import ConfigError, DavelError, MissingError, printable
from davel.core.files import home

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One published file."""

    name: str
    file: str
    url: str
    megabytes: float
    """About; the publisher may state no exact size."""
    licence: str
    origin: str
    sha256_prefix: str | None = None
    """The first digits of the file's sha256, where the publisher states them (in the file's name)."""
    aliases: tuple[str, ...] = ()
    """Other names under which the same weights are published."""


_VIDEO_FEATURES = "https://github.com/v-iashin/video_features/raw/master/models/i3d/checkpoints"

WEIGHTS: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="i3d-rgb",
            file="i3d_rgb.pt",
            url=f"{_VIDEO_FEATURES}/i3d_rgb.pt",
            megabytes=51,
            licence="Apache-2.0",
            origin="DeepMind kinetics-i3d, ported by hassony2, kept by v-iashin/video_features",
        ),
        Weights(
            name="i3d-flow",
            file="i3d_flow.pt",
            url=f"{_VIDEO_FEATURES}/i3d_flow.pt",
            megabytes=51,
            licence="Apache-2.0",
            origin="DeepMind kinetics-i3d, ported by hassony2, kept by v-iashin/video_features",
        ),
        Weights(
            name="raft",
            file="raft_large_C_T_SKHT_V1-0b8c9e55.pth",
            url="https://download.pytorch.org/models/raft_large_C_T_SKHT_V1-0b8c9e55.pth",
            megabytes=21,
            licence="BSD-3-Clause",
            origin="princeton-vl/RAFT (raft-sintel.pth), as torchvision publishes it",
            sha256_prefix="0b8c9e55",
            aliases=("raft-sintel.pth",),
        ),
        Weights(
            name="vggish",
            file="vggish-10086976.pth",
            url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
            megabytes=289,
            licence="Apache-2.0",
            origin="Google AudioSet, ported by harritaylor/torchvggish",
            sha256_prefix="10086976",
        ),
    )
}


def is_offline() -> bool:
    """Whether the environment forbids downloads (DAVEL_OFFLINE=1)."""
    return os.environ.get("DAVEL_OFFLINE", "") not in ("", "0")


def weights_of(name: str) -> Weights:
    """ConfigError if there are none of that name."""
    if name not in WEIGHTS:
        raise ConfigError(f"no weights {printable(name)!r}: choose from {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def location(name: str) -> Path:
    """Where the weights are, or belong."""
    weights, folder = weights_of(name), home() / "weights"
    for file in (weights.file, *weights.aliases):
        if (folder / file).is_file():
            return folder / file
    return folder / weights.file


def find(name: str) -> Path:
    """Where the weights are. MissingError says what to download and where to put it."""
    path, weights = location(name), weights_of(name)
    if not path.is_file():
        raise MissingError(
            f"the weights {name!r} are not there: run `davel weights fetch {name}`, "
            f"or download {weights.url} and put it at {printable(path)}"
        )
    return path


def fetch(name: str, progress: Callable[[int, int | None], None] | None = None, offline: bool = False) -> Path:
    """Download weights unless they are there; what an interrupted download left is gone on with.

    `progress` is told the bytes that are there and those expected. MissingError if there is no way to get them,
    DavelError if what came is not what the publisher states.
    """
    path, weights = location(name), weights_of(name)
    if path.is_file():
        return path
    if offline or is_offline():
        raise MissingError(
            f"the weights {name!r} are not there, and downloads are forbidden: "
            f"download {weights.url} elsewhere and put it at {printable(path)}"
        )
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(weights.url, part, progress)
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
    if weights.sha256_prefix and not digest.startswith(weights.sha256_prefix):
        part.unlink()
        raise DavelError(
            f"{weights.url}: sent a file with sha256 {digest[:16]}…, expected {weights.sha256_prefix}…: "
            f"it is deleted; try again, or {_by_hand(path)}"
        )
    os.replace(part, path)
    return path


def _by_hand(path: Path) -> str:
    return f"download it by other means and put it at {printable(path)}"


def _download(url: str, part: Path, progress: Callable[[int, int | None], None] | None) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "davel"} | ({"Range": f"bytes={done}-"} if done else {})
    )
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left to send, or the file there is another one
            part.unlink()
            _download(url, part, progress)
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
                if progress:
                    progress(done, expected)
    if expected is not None and done != expected:
        raise ConnectionError(f"{done} of {expected} bytes came")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamps() -> tuple[tuple[str, int], ...]:
    """What changes when any of the weights do. MissingError if some are not there."""
    return tuple((str(path), path.stat().st_mtime_ns) for path in map(find, WEIGHTS))


def digests() -> dict[str, str]:
    """The sha256 of all weights, by name. MissingError if some are not there."""
    return dict(zip(WEIGHTS, _digests(stamps()), strict=True))


@lru_cache(maxsize=1)
def _digests(files: tuple[tuple[str, int], ...]) -> list[str]:
    return [sha256(Path(path)) for path, _ in files]


def load(name: str) -> Any:
    """The network with these weights. MissingError if they are not there, ConfigError if they are something else."""
    from davel.compute.checkpoint import read_checkpoint
    from davel.features import i3d, raft, vggish

    networks: dict[str, Any] = {"i3d-rgb": i3d.I3D, "i3d-flow": i3d.I3D, "raft": raft.RAFT, "vggish": vggish.VGGish}
    path = find(name)
    try:
        network = networks[name].from_published(read_checkpoint(path))
    except ConfigError as error:
        raise ConfigError(f"{printable(path)}: {error}") from error
    channels = {"i3d-rgb": 3, "i3d-flow": 2}.get(name)
    if channels and network.conv3d_1a_7x7.conv3d.in_channels != channels:
        raise ConfigError(f"{printable(path)}: these are the weights of I3D's other stream: exchange the two files")
    return network


def doubt(name: str, digest: str) -> str:
    """What speaks against the weights being the published ones, or an empty text."""
    path, weights = find(name), weights_of(name)
    stated = weights.sha256_prefix if path.name == weights.file else None
    if stated is None or digest.startswith(stated):
        return ""
    return f"{printable(path)}: has sha256 {digest[:16]}…, published is {stated}…: delete it and fetch it again"


def verify(name: str) -> str:
    """What is wrong with the weights, or an empty text. MissingError if they are not there."""
    if problem := doubt(name, sha256(find(name))):
        return problem
    try:
        load(name)
    except ConfigError as error:
        return str(error)
    return ""


def free_bytes(folder: Path) -> int:
    """What can still be written where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
