from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from davel.core.config import parse, read_yaml
from davel.core.errors import ConfigError


def load(cls, path):
    """What a file of one dataclass holds."""
    values, lines = read_yaml(path)
    return parse(cls, values, str(path), lines)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    size: int = 2


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, int] = (1, 2)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return path


def test_values_fill_the_dataclasses(tmp_path):
    config = load(Outer, written(tmp_path, "name: x\ninner: {rate: 1e-4}\nsizes: [3, 4]\n"))
    assert config == Outer(name="x", inner=Inner(rate=0.0001), sizes=(3, 4))


@pytest.mark.parametrize("text", ["1e-4", "1E5", "-1e+3", "1.5e3", ".5", "0.1", "7.", "1_0"])
def test_a_number_in_scientific_notation_is_a_number(tmp_path, text):
    value = read_yaml(written(tmp_path, f"a: {text}\n"))[0]["a"]
    assert value == float(text)
    assert isinstance(value, float | int)


@pytest.mark.parametrize("text", ["e5", "1e", "a1e4", "1.2.3", "2026-11-23x"])
def test_other_words_stay_words(tmp_path, text):
    assert read_yaml(written(tmp_path, f"a: {text}\n"))[0]["a"] == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nnmae: y\n",
            r"a.yaml:2: nmae: unknown key; allowed are name, inner, sizes \(did you mean 'name'\?\)",
        ),
        ("name: x\ninner:\n  raet: 3\n", r"a.yaml:3: inner.raet: unknown key; allowed are rate, size .*'rate'"),
        ("name: x\ninner:\n  size: big\n", r"a.yaml:3: inner.size: input should be a valid integer.*got 'big'"),
        ("name: x\nsizes: [1, b]\n", r"a.yaml:2: sizes.1: .*got 'b'"),
        ("inner: {}\n", r"a.yaml:1: name: is missing"),
        ("name: x\nname: y\n", r"a.yaml:2: name: given twice"),
        ("name: [\n", r"a.yaml:\d: not YAML"),
        ("- 1\n", r"a.yaml: expected `key: value` lines, got list"),
        ("name: !!python/object/apply:os.system [ls]\n", r"not YAML: could not determine a constructor"),
    ],
)
def test_a_mistake_names_its_line_its_key_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(Outer, written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"b.yaml: cannot read the configuration: No such file"):
        load(Outer, tmp_path / "b.yaml")
