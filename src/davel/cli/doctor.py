"""`davel doctor`: what this installation has, and what it lacks."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata

from rich.table import Table

from davel.cli import console
from davel.core.errors import printable

FOR_DEVELOPERS = ("docs", "browser", "readers", "dev")
"""Extras that nobody needs to use davel."""


def _requirements() -> tuple[list[str], dict[str, str]]:
    """The packages that davel needs, and those of its extras with the extra's name, as its metadata state them."""
    needed, optional = [], {}
    for text in metadata.requires("davel") or ():
        name = re.split(r"[^\w.-]", text, maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", text)
        if extra is None:
            needed.append(name)
        elif extra[1] not in FOR_DEVELOPERS:
            optional[name] = extra[1]
    return needed, optional


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def doctor() -> None:
    """Print versions, devices, the cache, weights and extras, and what to do about what is missing."""
    import torch
    from av import library_versions

    from davel import __version__, models
    from davel.core import files
    from davel.features.family import broken, families
    from davel.features.weights import catalogue, free_bytes, location
    from davel.models.saved import BUILTIN

    ffmpeg = ", ".join(f"{name} {'.'.join(map(str, v))}" for name, v in sorted(library_versions.items()))
    home = files.home()
    threads = f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    devices = [threads, *(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    known, weights = families(), catalogue()
    missing = [name for name, published in weights.items() if not location(published).is_file()]
    needed, optional = _requirements()
    absent = {name: extra for name, extra in optional.items() if _version(name) is None}
    facts = [
        ("davel", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        ("libraries", ", ".join(f"{name} {_version(name) or 'is missing'}" for name in needed)),
        ("FFmpeg", ffmpeg),
        ("devices", "; ".join(devices)),
        ("models", ", ".join(sorted(path.parent.name for path in BUILTIN.glob("*/model.json")))),
        ("networks", ", ".join(map(printable, models.model_names()))),
        ("home", f"{printable(home)}, {free_bytes(home) / 1e9:.1f} GB free"),
        ("features", ", ".join(map(printable, known))),
        ("weights", ", ".join(printable(name) for name in weights if name not in missing) or "none"),
        ("extras", ", ".join(sorted(set(optional.values()) - set(absent.values()))) or "none"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in facts:
        table.add_row(*row)
    console.results().print(table, markup=False)
    advice = [
        f"missing: weights {weights.name}: `davel weights {'convert' if weights.source else 'fetch'} {weights.name}`, "
        f"for {made.name} features"
        for made in known.values()
        for weights in made.weights
        if weights.name in missing
    ]
    advice += [f"missing: {name}: pip install 'davel[{extra}]'" for name, extra in absent.items()]
    advice += broken() + models.broken()
    if home.exists() and not os.access(home, os.W_OK):
        advice.append(f"{printable(home)}: cannot be written: set DAVEL_HOME to a folder that can")
    for line in advice:
        console.results().print(printable(line), markup=False)
    if not advice:
        console.results().print("nothing is missing")
