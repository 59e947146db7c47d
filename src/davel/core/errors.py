"""What can go wrong, each with the exit code that the command line ends with.

A message is one line: it names the thing, says what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class DavelError(Exception):
    """Any failure that davel foresaw; its message is for the user."""

    exit_code = 1

    def __str__(self) -> str:
        """On one line, and harmless to a terminal, whatever names are in it."""
        return printable(super().__str__())


class MediaError(DavelError):
    """An input file that cannot be read as a whole."""

    exit_code = 3


class ConfigError(DavelError):
    """A configuration, annotation, checkpoint or feature file that does not fit."""

    exit_code = 4


class MissingError(DavelError):
    """Weights or an optional dependency that is not there."""

    exit_code = 5


def printable(name: object) -> str:
    """A path or name on one line: newlines, control characters and undecodable bytes are escaped."""
    text = str(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def refuse(source: object, problems: Sequence[object], hint: str = "") -> None:
    """ConfigError with the first five problems and their number, if there are any."""
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        listed = "; ".join(printable(problem) for problem in problems[:5])
        raise ConfigError(f"{printable(source)}: {listed}{more}{hint}")
