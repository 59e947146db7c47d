"""How much memory is free where networks run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int | None:
    """What can still be taken on a device without pushing out others, or None if the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    known = [size for size in (_of_machine(), _of_group()) if size is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_group() -> int | None:
    """What a container's limit leaves; pages of files that it has read can be given up."""
    with suppress(OSError, ValueError, KeyError, IndexError):
        limit = int((GROUP / "memory.max").read_text())
        facts = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        return limit - int((GROUP / "memory.current").read_text()) + int(facts["inactive_file"])
    return None
