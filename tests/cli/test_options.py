"""From a dataclass to a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
import typer
from typer.testing import CliRunner

from davel.cli.options import with_options
from davel.core.options import OptionError, option


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = option(1, minimum=0)
    """How deep."""


def even(text: str) -> int:
    if int(text) % 2:
        raise ValueError(f"expected an even number, got {text}")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Options:
    name: str = option("x", "-n", "--name")
    """What it is called."""
    loud: bool = False
    """Say it aloud."""
    kind: Literal["a", "b"] | None = None
    """Which."""
    even: int = option(4, text=even, shown="4")
    """A number."""
    inner: Inner = field(default_factory=Inner)


@with_options(Options)
def command(what: str, *, options: Options) -> None:
    """Do it."""
    if options.name == "bad":
        raise OptionError(("name", "depth"), "do not go together")
    print(what, options)


@pytest.fixture
def call():
    app = typer.Typer()
    app.command()(command)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, arguments)


def test_defaults_are_those_of_the_dataclass(call):
    assert call("it").output.strip() == f"it {Options()}"


def test_what_is_typed_is_in_the_value(call):
    done = call("it", "-n", "y", "--loud", "--kind", "b", "--even", "6", "--depth", "0")
    assert done.output.strip() == f"it {Options(name='y', loud=True, kind='b', even=6, inner=Inner(depth=0))}"


def test_help_is_made_of_docstrings(call):
    text = " ".join(call("--help").output.replace("│", " ").split())
    for part in ("Do it.", "-n", "--name", "What it is called.", "Say it aloud.", "A number.", "How deep.", "--depth"):
        assert part in text
    assert "--no-loud" not in text
    assert "--inner" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--even", "3"), "Invalid value for --even: expected an even number, got 3"),
        (("--depth", "-1"), "should be greater than or equal to 0"),
        (("--kind", "c"), "'c' is not one of"),
        (("-n", "bad"), "Invalid value for -n and --depth: do not go together"),
    ],
)
def test_mistakes_are_of_usage(call, arguments, message):
    done = call("it", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())
