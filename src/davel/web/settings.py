"""What a server is, and what strangers may ask of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from davel.core.events import Event

LEAST_SCORE = 0.05
"""What scores less is not kept for the page."""
SPARE_BYTES = 2**30
"""Of the disk, that uploads and copies must leave."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What strangers may ask of this machine."""

    max_upload_bytes: int = 4_000_000_000
    max_uploads: int = 100
    keep_days: float = 7.0
    """After so many days an upload is deleted, with what was found in it; corrections stay."""
    memory_bytes: int = 4_000_000_000
    """Of one job's process."""
    stall_seconds: float = 120.0
    """A job that shows no progress for so long is ended."""
    job_hours: float = 24.0
    """A job that takes longer is ended."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server is."""

    data: Path
    """Its folder: the database of jobs and corrections, uploads, results, and the table of corrections."""
    model: str = "scenes"
    device: str = "auto"
    videos: Path | None = None
    """A folder of which videos may be chosen."""
    truth: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    """True events by video, to be shown under those that were found."""
    token: str | None = None
    workers: int = 1
    limits: Limits = field(default_factory=Limits)

    @property
    def table(self) -> Path:
        """Where the corrections also stand, for people and `davel data init`."""
        return self.data / "events.csv"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, as nobody else can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
