"""Configuration: frozen dataclasses filled from YAML, where every mistake names its file, line and key.

A key that nothing reads is refused, and so is a value of the wrong type; `1e-4` is a number.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from davel.core.errors import ConfigError

T = TypeVar("T")
Lines = dict[tuple[Any, ...], int]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: `1e-4` is one, as in JSON."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """A mapping, and the line that each of its keys (as a path of keys) stands on."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot read the configuration: {reason}") from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: Lines = {}
        if node is not None:
            _walk(node, (), lines, path)
        values = loader.construct_document(node) if node is not None else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}{where}: not YAML: {problem}") from error
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got {type(values).__name__}")
    return values, lines


def _walk(node: yaml.Node, at: tuple[Any, ...], lines: Lines, path: Path) -> None:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, key.value)
            if here in lines:
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
            _walk(value, here, lines, path)
            lines[here] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*at, i), lines, path)


def put(values: dict[str, Any], change: str) -> None:
    """Set one value, named by its path of keys: `recipe.epochs=5`."""
    key, given, text = change.partition("=")
    *outer, last = key.split(".")
    if not given or not all([*outer, last]):
        raise ConfigError(f"{change!r}: expected KEY=VALUE, as recipe.epochs=5")
    for name in outer:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{change!r}: {name} is a single value, it has no {last}")
    try:
        values[last] = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{change!r}: the value is not YAML") from error


def parse(
    cls: type[T], values: Mapping[str, Any], source: str, lines: Lines | None = None, within: tuple[str, ...] = ()
) -> T:
    """A dataclass (and those within it) from plain values; `source` says where they are from.

    `within` is the path of keys to a part of a file that is parsed by itself.
    """
    problems = list(_unknown(cls, values, source, lines or {}, within))
    try:
        made: T = TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        problems += [_explain(e, source, lines or {}, within) for e in error.errors()]
    if problems:
        raise ConfigError("; ".join(problems))
    return made


def _unknown(cls: type, values: Mapping[str, Any], source: str, lines: Lines, at: tuple[str, ...]) -> Iterator[str]:
    """A line for each key that neither the dataclass nor those that its fields are made of have."""
    hints = _hints(cls)
    for key, value in values.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), list(hints), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            path = ".".join(map(str, (*at, key)))
            yield f"{place(source, lines, (*at, key))}: {path}: unknown key; allowed are {', '.join(hints)}{hint}"
        elif isinstance(value, Mapping):
            kind = hints[key]
            for part in (kind, *getattr(kind, "__args__", ())):
                if is_dataclass(part) and isinstance(part, type):
                    yield from _unknown(part, value, source, lines, (*at, key))


def _hints(cls: type) -> dict[str, Any]:
    from typing import get_type_hints

    return get_type_hints(cls)


def place(source: str, lines: Lines, at: tuple[Any, ...]) -> str:
    """`file:line` of a path of keys, or of the innermost part of it that the file has."""
    line = next((lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines), None)
    return f"{source}:{line}" if line else source


def _explain(error: Any, source: str, lines: Lines, within: tuple[str, ...]) -> str:
    at = tuple(error["loc"])
    where = place(source, lines, within + at)
    key = ".".join(map(str, within + at))
    if error["type"] in ("missing", "missing_argument"):
        return f"{where}: {key}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    got = "" if isinstance(error["input"], dict) or not at else f", got {error['input']!r}"
    return f"{where}: {key + ': ' if key else ''}{message}{got}"
