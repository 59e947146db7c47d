"""Annotated videos in a folder, as a dataset of features that are extracted once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from davel.data.annotations import AnnotatedVideo
from davel.data.dataset import Dataset
from davel.errors import ConfigError, printable
from davel.features import store
from davel.features.extract import spec_of


def open_dataset(
    videos: Mapping[str, AnnotatedVideo],
    folder: Path,
    cache: Path,
    extractor: str = "light",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The given videos, whose files are named by their ids. ConfigError lists those that are missing or unreadable."""
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: is no folder: name the folder of the videos")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            by_stem.setdefault(path.stem, []).append(path)
    problems = [f"{key}: no such file" for key in videos if key not in by_stem]
    problems += [f"{key}: more than one file" for key in videos if len(by_stem.get(key, ())) > 1]
    files = {key: by_stem[key][0] for key in videos if key in by_stem}
    extracted = store.extract_many(list(files.values()), cache, extractor, workers, progress)
    problems = list(extracted.failures.values()) + problems
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ConfigError(f"{printable(folder)}: {'; '.join(problems[:5])}{more}")
    spec = spec_of(extractor)
    paths = {key: extracted.paths[path] for key, path in files.items()}

    def read(key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = store.load(paths[key], spec)
        return features.visual, features.audio

    return Dataset(videos, read, spec)
