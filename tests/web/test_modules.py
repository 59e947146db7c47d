"""The page's modules that need no page, in Node: `tests/web/js`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from davel.web.app import STATIC

TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))
MODULES = {path.name: path.read_text(encoding="utf-8") for path in STATIC.glob("*.js")}
MOST_LINES = 220
"""What one person can hold in mind."""


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_a_module_does_as_it_says(path, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not here")
    shutil.copytree(STATIC, tmp_path / "static")
    (tmp_path / "js").mkdir()
    shutil.copy(path, tmp_path / "js")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        [node, "--test", f"js/{path.name}"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout


def test_a_module_is_short_and_imports_what_there_is():
    assert len(MODULES) > 15
    for name, text in MODULES.items():
        assert text.startswith("// "), name
        assert len(text.splitlines()) <= MOST_LINES, name
        for names, other in re.findall(r'^import \{ (.+?) \} from "\./(.+?)";$', text, re.MULTILINE):
            for imported in names.split(", "):
                exported = rf"^export (async )?(const|function|class) {re.escape(imported)}\W"
                assert re.search(exported, MODULES[other], re.MULTILINE), f"{name}: {imported}"
        for imported in re.findall(r'^import .* from "\./(.+?)";$', text, re.MULTILINE):
            assert imported in MODULES, name


def test_what_stands_once_stands_once():
    """How an element is found, and which states mean that something is on its way."""
    assert [name for name, text in MODULES.items() if "const $ =" in text] == ["dom.js"]
    assert [name for name, text in MODULES.items() if '["uploading", "queued", "running"]' in text] == ["watch.js"]
