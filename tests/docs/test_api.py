"""Every name that docs/api.md documents is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def documented(page: str) -> list[str]:
    """The dotted names of `::: name` and of the members that its options list."""
    names: list[str] = []
    for top, members in re.findall(r"^::: (\S+)\n(?:    options:\n      members: \[([^\]]*)\])?", page, re.MULTILINE):
        names += [f"{top}.{member.strip()}" for member in members.split(",") if member] or [top]
    return names


def resolve(name: str) -> Any:
    """What a dotted name stands for. AttributeError or ImportError if it is nothing."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = vars(found)[part] if part in getattr(found, "__dataclass_fields__", {}) else getattr(found, part)
        return found
    raise ImportError(name)


NAMES = documented(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_name_is_there(name):
    assert resolve(name) is not None


def test_all_of_the_page_is_read():
    text = PAGE.read_text(encoding="utf-8")
    assert len(NAMES) >= text.count("::: ") > 10
    assert text.count("members:") == sum(f"members: [{m}]" in text for m in re.findall(r"members: \[([^\]]*)\]", text))


def test_a_name_that_is_not_there_is_found():
    page = "::: davel.evaluate.metrics\n    options:\n      members: [pair, detection_map]\n"
    assert documented(page) == ["davel.evaluate.metrics.pair", "davel.evaluate.metrics.detection_map"]
    with pytest.raises(AttributeError, match="detection_map"):
        resolve("davel.evaluate.metrics.detection_map")
