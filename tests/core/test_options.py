"""Options as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from davel.core.errors import ConfigError
from davel.core.options import OptionError, changed, field_docs, flags, option


@dataclass(frozen=True, kw_only=True)
class Part:
    deep: int = 1
    """How deep
    it goes."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Not of a field."""

    name: str = option("a", "-n", "--name")
    """What it is called."""
    silent_one: int = 3
    last: bool = False
    """The last."""
    part: Part = field(default_factory=Part)

    def method(self) -> None:
        """Not of a field either."""


def test_the_docstring_under_a_field_is_its_documentation():
    assert field_docs(Options) == {"name": "What it is called.", "last": "The last."}
    assert field_docs(Part) == {"deep": "How deep it goes."}


def test_a_class_without_source_has_no_documentation():
    assert field_docs(type("Made", (), {"__module__": "builtins"})) == {}


def test_what_is_changed_is_told_by_its_flag():
    options = Options(name="b", part=Part(deep=2))
    assert [(flags(f)[0], value) for f, value in changed(options, Options())] == [("-n", "b"), ("--deep", 2)]
    assert list(changed(Options(), Options())) == []


def test_an_option_error_names_the_options_and_is_a_mistake_in_usage():
    error = OptionError(("start", "end"), "are for whole files")
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert str(error) == "start and end: are for whole files"
