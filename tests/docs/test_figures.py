"""The figures of the documentation are what their script draws, and can be read without seeing them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.models.targets import REGRESSION_RANGES

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def script():
    spec = importlib.util.spec_from_file_location("docs_figures", DOCS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures = script()


@pytest.fixture(params=figures.FIGURES)
def name(request):
    return request.param


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_figure_is_what_its_script_draws(name):
    assert (DOCS / name).read_text(encoding="utf-8") == figures.FIGURES[name](), "run python docs/figures.py"


def test_the_script_writes_the_figures_beside_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr(figures, "__file__", str(tmp_path / "figures.py"))
    figures.main()
    assert (tmp_path / name).read_bytes() == (DOCS / name).read_bytes()


def test_a_figure_has_a_title_and_a_description(name):
    root = ElementTree.fromstring(figures.FIGURES[name]())
    named = {element.get("id"): element.text for element in (root.find(f"{SVG}title"), root.find(f"{SVG}desc"))}
    assert root.get("role") == "img"
    assert set(root.get("aria-labelledby").split()) == set(named)
    assert all(named.values())


def test_a_figure_has_a_light_background_of_its_own(name):
    root = ElementTree.fromstring(figures.FIGURES[name]())
    first = next(element for element in root if element.tag == f"{SVG}rect")
    assert (first.get("width"), first.get("height")) == tuple(root.get("viewBox").split()[2:])
    assert min(bytes.fromhex(first.get("fill")[1:])) > 240


def test_the_classes_that_the_figure_names_are_davels():
    from davel import detection
    from davel.models import ccnet
    from davel.models import pyramid as network

    told = re.findall(r'class="code"[^>]*>([^<]+)<', figures.ccnet())
    assert len(told) >= 7
    for names in told:
        for one in names.split(", "):
            first, *rest = one.split(".")
            found = next(getattr(module, first) for module in (ccnet, network, detection) if hasattr(module, first))
            assert all(hasattr(found, part) for part in rest), one


def test_the_figures_steps_and_reaches_are_those_of_the_code():
    step = I3D_VGGISH.step_seconds
    told = texts(figures.ccnet())
    for level, (low, high) in enumerate(REGRESSION_RANGES):
        assert f"{step * 2**level:.2f} s" in told
        reach = f"{low * step:.1f} to {high * step:.1f} s"
        if level == 0:
            reach = f"up to {high * step:.1f} s"
        elif level == len(REGRESSION_RANGES) - 1:
            reach = f"from {low * step:.1f} s"
        assert reach in told
