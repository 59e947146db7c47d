"""What every command holds, whoever added it: help, exit codes, one line for each mistake, nothing half written."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from davel import cli
from davel.core.errors import ConfigError, DavelError, MediaError, MissingError
from davel.core.options import OptionError, field_docs

APP = typer.main.get_command(cli.app)
NOWHERE = "no-such-folder/no-such-file"


def leaves(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if subcommands := getattr(command, "commands", None):
        for name, sub in subcommands.items():
            yield from leaves(sub, *names, name)
    else:
        yield names, command


COMMANDS = dict(leaves(APP))
every_command = pytest.mark.parametrize("names", COMMANDS, ids=" ".join)


def arguments(names: tuple[str, ...]) -> list[str]:
    """A call whose required inputs are named, and not there."""
    given: list[str] = []
    for parameter in COMMANDS[names].params:
        if not parameter.required:
            continue
        value = NOWHERE if parameter.min is None else "1"
        given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return given


def words(text: str) -> str:
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@every_command
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_shown_and_mentions_every_option(names, flag):
    shown = CliRunner().invoke(cli.app, [*names, flag], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    for parameter in COMMANDS[names].params:
        if parameter.param_type_name == "option":
            assert any(name in shown.output for name in parameter.opts), parameter.opts
            assert parameter.help or parameter.name == "help", f"{parameter.opts} says nothing"
    assert COMMANDS[names].help


@every_command
def test_an_unknown_option_is_a_mistake_in_usage(run, names, tmp_path):
    code, out, err = run(*names, "--no-such-option")
    assert code == 2
    assert out == ""
    assert "No such option" in words(err)
    assert list(tmp_path.iterdir()) == []


@every_command
def test_what_is_missing_is_a_mistake_in_usage(run, names):
    if not arguments(names):
        pytest.skip("nothing is required")
    code, _, err = run(*names)
    assert code == 2
    assert "Missing" in words(err) or "Usage" in words(err)


INPUTS_THAT_ARE_NOT_THERE = [
    names for names in COMMANDS if arguments(names) and names not in {("scenes",), ("data", "simulate")}
]
"""Of those left out, what is required is a folder to write to."""


@pytest.mark.parametrize("names", INPUTS_THAT_ARE_NOT_THERE, ids=" ".join)
def test_an_input_that_is_not_there_is_told_in_a_line_and_nothing_is_left(run, names, tmp_path, monkeypatch):
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "home"))
    code, out, err = run(*names, *arguments(names))
    assert code in (2, 3, 4, 5), err
    assert "Traceback" not in err
    assert out == ""
    if code != 2:
        assert err.startswith("davel: ")
        assert err.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "manifest" not in path.name]


@every_command
@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ZeroDivisionError("oh\nno"), 1),
        (DavelError("oh\x1b[31mno"), 1),
        (OptionError("model", "oh\nno"), 2),
        (MediaError("oh\nno"), 3),
        (ConfigError("oh\nno"), 4),
        (MissingError("oh\nno"), 5),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_failure_has_its_exit_code_and_one_line(run, monkeypatch, names, raised, code):
    def fail(**given):
        raise raised

    monkeypatch.setattr(COMMANDS[names], "callback", fail)
    monkeypatch.setattr(cli, "app", APP)
    got, out, err = run(*names, *arguments(names))
    assert got == code
    assert out == ""
    assert "\x1b[31m" not in err
    assert "Traceback" not in err
    if code != 130:
        assert err.startswith("davel: ")
        assert err.count("\n") == 1


def test_no_command_needs_torch_for_its_help():
    code = f"""
import sys, davel.cli as cli, typer
from typer.testing import CliRunner
for arguments in {[(), *COMMANDS]!r}:
    assert CliRunner().invoke(cli.app, [*arguments, "--help"]).exit_code == 0
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_module_of_a_command_is_used():
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")} - {"__init__", "console", "options"}
    used = {command.callback.__module__.rpartition(".")[2] for command in COMMANDS.values()}
    assert modules - {"cluster"} == used


@every_command
def test_the_options_are_a_frozen_dataclass_whose_docstrings_are_the_help(names):
    given = {p.name: p for p in COMMANDS[names].params if p.param_type_name == "option" and p.name != "help"}
    if not given:
        pytest.skip("no options")
    kind = inspect.unwrap(COMMANDS[names].callback).__davel_options__
    docs = dict(every_doc(kind))
    assert kind.__dataclass_params__.frozen
    assert set(given) - {"output"} <= docs.keys()  # where a command writes may be an argument that must be given
    for name, parameter in given.items():
        assert parameter.help == docs.get(name, parameter.help)


def every_doc(kind: type) -> Iterator[tuple[str, str]]:
    """The fields' docstrings, those of parts among them."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            yield from every_doc(hints[each.name])
        else:
            yield each.name, field_docs(kind)[each.name]
