"""`davel doctor`: what this installation has, and what it lacks."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util

from rich.table import Table

from davel.cli import console
from davel.core.errors import printable

EXTRAS = {
    "matplotlib": "plots", "fastapi": "web", "uvicorn": "web", "onnxruntime": "onnx", "onnxscript": "onnx",
    "tensorboard": "tensorboard", "ray": "ray",
}  # fmt: skip
LIBRARIES = ("torch", "numpy", "av", "soxr", "safetensors", "pydantic", "typer", "rich", "PyYAML")


def doctor() -> None:
    """Print versions, devices, the cache, weights and extras, and what to do about what is missing."""
    import torch
    from av import library_versions

    from davel import __version__
    from davel.core import files
    from davel.features import weights as pretrained
    from davel.models.saved import BUILTIN

    ffmpeg = ", ".join(f"{name} {'.'.join(map(str, v))}" for name, v in sorted(library_versions.items()))
    home = files.home()
    threads = f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    devices = [threads, *(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    missing = [name for name in pretrained.WEIGHTS if not pretrained.location(name).is_file()]
    absent = [(module, extra) for module, extra in EXTRAS.items() if not util.find_spec(module)]
    facts = [
        ("davel", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        ("libraries", ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)),
        ("FFmpeg", ffmpeg),
        ("devices", "; ".join(devices)),
        ("models", ", ".join(sorted(path.parent.name for path in BUILTIN.glob("*/model.json")))),
        ("home", f"{printable(home)}, {pretrained.free_bytes(home) / 1e9:.1f} GB free"),
        ("weights", ", ".join(name for name in pretrained.WEIGHTS if name not in missing) or "none"),
        ("extras", ", ".join(sorted(set(EXTRAS.values()) - {extra for _, extra in absent})) or "none"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in facts:
        table.add_row(*row)
    console.results().print(table, markup=False)
    advice = [f"missing: weights {name}: `davel weights fetch {name}`, for the published features" for name in missing]
    advice += [f"missing: {module}: pip install 'davel[{extra}]'" for module, extra in absent]
    if home.exists() and not os.access(home, os.W_OK):
        advice.append(f"{printable(home)}: cannot be written: set DAVEL_HOME to a folder that can")
    for line in advice:
        console.results().print(line, markup=False)
    if not advice:
        console.results().print("nothing is missing")
