"""What the server refuses, each with the status of its answer; a message is one line for whoever asked."""

from __future__ import annotations

import errno
import sqlite3

from davel.core.errors import DavelError

DISK_FULL = "the server's disk is full: delete some videos"


class Refusal(DavelError):
    """A request that the server does not carry out."""

    status = 400


class NotFound(Refusal):
    """There is no such job, file or result."""

    status = 404


class TooSlow(Refusal):
    """An upload from which nothing comes any more."""

    status = 408


class Conflict(Refusal):
    """What is asked does not fit the state that something is in, or somebody else was faster."""

    status = 409


class TooLarge(Refusal):
    """More bytes than are taken."""

    status = 413


class Invalid(Refusal):
    """A request that says what cannot be."""

    status = 422


class Full(Refusal):
    """There are as many uploads as are kept."""

    status = 429


class NoSpace(Refusal):
    """The disk is full."""

    status = 507


def answer_to(error: Exception) -> tuple[int, str]:
    """The status and the one line that tell of an error, foreseen or not."""
    match error:
        case Refusal():
            return error.status, str(error)
        case DavelError():
            return 500, str(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return NoSpace.status, DISK_FULL
        case OSError():
            return 500, f"the server cannot read or write its files: {error.strerror or type(error).__name__}"
        case sqlite3.Error() if "full" in str(error):
            return NoSpace.status, DISK_FULL
        case sqlite3.Error() if "locked" in str(error) or "busy" in str(error):
            return 503, "another program holds the server's database: try again"
        case sqlite3.Error():
            return 500, f"the server's database does not answer: {error}"
    return 500, f"the server failed ({type(error).__name__}): its log says where"
