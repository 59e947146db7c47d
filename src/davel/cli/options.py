"""From a dataclass of options to a command's options, its help and its mistakes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

import typer

from davel.core.errors import printable
from davel.core.options import Flag, OptionError, field_docs, flags


def with_options(cls: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose parameter `options` is such a dataclass: each of its fields is an option of the command.

    A field that is such a dataclass itself stands for its fields. What an option does not take, and an OptionError of
    the command, is a mistake in usage.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.name != "options"]
        hints = {name: kind for name, kind in get_type_hints(function).items() if name not in ("options", "return")}
        parameters, names = [], dict[str, str]()
        for field, kind, default in _flat(cls):
            hints[field.name] = kind
            names[field.name] = default.param_decls[0]
            parameters.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default))

        def command(**given: Any) -> None:
            try:
                options = _make(cls, given)
                function(**{p.name: given[p.name] for p in own}, options=options)
            except OptionError as error:
                hint = " and ".join(names.get(option, option) for option in error.options)
                raise typer.BadParameter(printable(error.reason), param_hint=hint) from error

        keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__module__ = function.__module__
        command.__annotations__ = hints | {"return": None}
        command.__signature__ = inspect.Signature(keyword_only + parameters)  # type: ignore[attr-defined]
        command.__davel_options__ = cls  # type: ignore[attr-defined]
        return command

    return decorate


def _flat(cls: type) -> Iterator[tuple[Field[Any], Any, Any]]:
    """The fields that are options, with the type that is read and what typer is told of it."""
    docs, hints = field_docs(cls), get_type_hints(cls)
    for field in fields(cls):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _flat(kind)
            continue
        flag = field.metadata.get("flag", Flag())
        default = field.default if flag.shown is None else flag.shown
        needed = field.default is MISSING and field.default_factory is MISSING
        shown = typer.Option(
            ... if needed else default,
            *flags(field),
            help=docs.get(field.name),
            metavar=flag.metavar,
            min=flag.minimum,
            max=flag.maximum,
            envvar=flag.variable,
        )
        if flag.text:
            kind = str if field.default is not None else str | None
        yield field, kind, shown


def _make(cls: type, given: dict[str, Any]) -> Any:
    hints, values = get_type_hints(cls), dict[str, Any]()
    for field in fields(cls):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            values[field.name] = _make(kind, given)
            continue
        value, flag = given[field.name], field.metadata.get("flag", Flag())
        if flag.text and value is not None:
            try:
                value = flag.text(value)
            except ValueError as error:
                raise OptionError(field.name, str(error)) from error
        values[field.name] = value
    return cls(**values)
