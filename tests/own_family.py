"""The family of docs/own-features.md, as an installed package would have it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "own-features.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def install(monkeypatch: pytest.MonkeyPatch, site: Path, home: Path) -> None:
    """Put the package into `site`, which this process and those that it starts import from; its weights into `home`."""
    (module,), (points,) = blocks("python"), blocks("toml")
    put(site, "grid_tone", module, points.partition("\n")[2].replace('"', ""))
    (home / "weights").mkdir(parents=True, exist_ok=True)
    np.save(home / "weights" / "grid_tone.npy", np.random.default_rng(0).standard_normal((48, 16)))
    monkeypatch.setenv("DAVEL_HOME", str(home))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(sys.modules, "grid_tone", raising=False)


def put(site: Path, name: str, module: str, points: str, group: str = "davel.features") -> None:
    """A distribution of one module."""
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / f"{name}.py").write_text(module)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{group}]\n{points}")
