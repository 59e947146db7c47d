"""The house: which room may import which, what stays free of torch, and what is private."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import davel
from davel._moved import MOVED
from davel.models import MODELS

SOURCE = Path(davel.__file__).parent
FLOORS = (
    {"core"},
    {"compute", "media", "formats"},
    {"features"},
    {"models"},
    {"data"},
    {"detection"},
    {"localize"},
    {"evaluate"},
    {"train"},
    {"plot", "web"},
    {"cli"},
)
"""From the ground up: a room imports from floors below its own only."""
FLOOR = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
OUTSIDE = {"__init__", "__main__", "_moved"}
"""The front door, which may open onto every room."""
WITHOUT_TORCH = ("core", "formats", "media")
PAPERS = tuple(MODELS)
"""Model files: each is its paper."""

MODULES = {
    ".".join(("davel", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every module that a file imports, wherever in it, and the name that it takes of it (or an empty one)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield (submodule, "") if submodule in MODULES else (str(node.module), alias.name)


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} <= FLOOR.keys() | OUTSIDE


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) not in OUTSIDE])
def test_a_room_imports_from_below(module):
    room = room_of(module)
    for imported, name in imports(MODULES[module]):
        other = room_of(imported) if imported.startswith("davel.") else None
        if other in (None, room) or imported == "davel":
            continue
        assert FLOOR[other] < FLOOR[room], f"{module} imports {imported} {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in WITHOUT_TORCH])
def test_the_ground_floors_are_free_of_torch(module):
    assert not [name for name, _ in imports(MODULES[module]) if name.partition(".")[0] == "torch"]


@pytest.mark.parametrize("module", MODULES)
def test_private_names_stay_in_their_module(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    aliases = set()
    for imported, name in imports(MODULES[module]):
        if imported.startswith("davel"):
            assert not name.startswith("_") or name == "__version__", f"{module} takes {name} of {imported}"
            aliases.add(name or imported.rpartition(".")[2])
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            assert not node.attr.startswith("_") or node.attr.startswith("__"), f"{module}: {node.value.id}.{node.attr}"


def test_no_circle_of_imports():
    """Between modules, function-level imports included."""
    graph = {
        module: {name for name, _ in imports(path) if name in MODULES and name != module}
        for module, path in MODULES.items()
        if room_of(module) not in OUTSIDE
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("paper", PAPERS)
def test_a_model_file_knows_nothing_but_networks(paper):
    shared = ("anchors", "blocks", "detector", "outputs", "published", "pyramid", "sets")
    allowed = {f"davel.models.{name}" for name in shared}
    ours = {name for name, _ in imports(MODULES[f"davel.models.{paper}"]) if name.startswith("davel")}
    assert ours - {"davel.core.errors"} <= allowed


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_is_the_new_module_and_says_so(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
        module = import_module(old)
    assert module is import_module(new)
    assert module.__spec__ is not None
    assert module.__spec__.name == new


def test_davel_itself_uses_no_old_name():
    used = {name for path in MODULES.values() for name, _ in imports(path)}
    assert not used & MOVED.keys()
