"""The model of docs/own-model.md, as an installed package would have it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from own_family import put

PAGE = Path(__file__).parents[1] / "docs" / "own-model.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def install(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    """Put the package into `site`, which this process and those that it starts import from."""
    put(site, "toy_model", block("python"), block("toml").partition("\n")[2].replace('"', ""), "davel.models")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(sys.modules, "toy_model", raising=False)
