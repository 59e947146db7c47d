"""Options as values: a frozen dataclass per command, whose fields' docstrings are its help and its documentation."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from davel.core.errors import ConfigError


class OptionError(ConfigError):
    """Options that do not go together, or a value that an option does not take."""

    exit_code = 2

    def __init__(self, options: str | tuple[str, ...], reason: str) -> None:
        self.options = (options,) if isinstance(options, str) else options
        self.reason = reason
        super().__init__(f"{' and '.join(self.options)}: {reason}")


@dataclass(frozen=True)
class Flag:
    """How an option looks on the command line, where its name and type do not say."""

    names: tuple[str, ...] = ()
    """As `-o`, `--output` (default: made of the field's name)."""
    metavar: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    variable: str | None = None
    """Of the environment, that stands for the option where it is not given."""
    text: Callable[[str], Any] | None = None
    """Makes the value of what is typed. ValueError says what was expected."""
    shown: str | None = None
    """The default as it is typed."""


def option(default: Any = MISSING, *names: str, **look: Any) -> Any:
    """A field that is an option: its default (without one it must be given), its names, and what else `Flag` has."""
    return field(default=default, metadata={"flag": Flag(names, **look)})


def flags(field: Field[Any]) -> tuple[str, ...]:
    """The names of an option on the command line, the one to be told first."""
    given = field.metadata.get("flag", Flag()).names
    return given or (f"--{field.name.replace('_', '-')}",)


def changed(options: Any, unchanged: Any) -> Iterator[tuple[Field[Any], Any]]:
    """The options that are not what they are elsewhere, with their values; those of parts, too."""
    for each in fields(options):
        value, other = getattr(options, each.name), getattr(unchanged, each.name)
        if is_dataclass(value):
            yield from changed(value, other)
        elif value != other:
            yield each, value


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, on one line; none where the source is not at hand."""
    try:
        source = Path(getattr(sys.modules[cls.__module__], "__file__", "")).read_text(encoding="utf-8")
    except OSError:
        return {}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    docs = {}
    for node, following in pairwise(classes[-1].body if classes else ()):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(following, ast.Expr):
            text = following.value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                docs[node.target.id] = " ".join(text.value.split())
    return docs
