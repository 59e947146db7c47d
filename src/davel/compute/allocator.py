"""Memory for tensors on the CPU: freed blocks are kept for the next tensor.

The C library gives large blocks back to the system as soon as they are freed, and the system hands them out again page
by page, zeroed: at the sizes of a full network that takes longer than the arithmetic.

It is for a process of its own: `davel` on the command line calls this, `davel.load` in somebody's program does not.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Make this process reuse what it frees; whether the C library can be told so (glibc can)."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wishes = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}
    return all(mallopt(option, value) == 1 for option, value in wishes.items())
