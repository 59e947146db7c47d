from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings
from media_files import grey, make_media, record
from tiny import tiny_model

import davel
from davel import cli

torch.set_num_threads(1)  # tests run side by side, one per core

# No deadlines and no check of speed: a test says whether the code is right, not whether the machine is busy.
for lane, examples in {"fast": 15, "ci": 100, "nightly": 1000}.items():
    settings.register_profile(
        lane,
        max_examples=examples,
        deadline=None,
        derandomize=lane != "nightly",
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `davel ...` in an empty folder; the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["davel", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Shared:
    """`shared(name, make)`: the file or folder that `make(path)` writes, once for all workers of a run.

    It is nobody's own: copy it before changing it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        path, unfinished = folder / name, folder / "unfinished" / name
        with FileLock(folder / f"{name}.lock"):
            if not path.exists():
                unfinished.parent.mkdir(exist_ok=True)
                make(unfinished)
                unfinished.rename(path)
        return path

    return once


@pytest.fixture(scope="session")
def tiny(shared) -> Path:
    """The folder of a model of fresh weights: `tiny.INFO`."""
    return shared("tiny", tiny_model)


@pytest.fixture(scope="session")
def tiny_localizer(tiny) -> davel.Localizer:
    return davel.load(tiny, device="cpu")


@pytest.fixture(scope="session")
def short_clip(shared) -> Path:
    """Five seconds of pictures and sound."""
    return shared("clip.mp4", lambda path: make_media(path, seconds=5))


@pytest.fixture(scope="session")
def long_clip(shared) -> Path:
    """400 seconds of pictures and sound: some time of work."""
    return shared("long.mp4", lambda path: make_media(path, seconds=400, picture=lambda t: grey(90)))


@pytest.fixture(scope="session")
def recording(shared) -> Path:
    """50 seconds of MPEG-TS."""
    return shared("camera.ts", record)
