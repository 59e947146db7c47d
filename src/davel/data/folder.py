"""Annotated videos, or their features, in a folder, as a dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from davel.data.annotations import AnnotatedVideo, Annotations, read_annotations
from davel.data.dataset import Dataset
from davel.data.simulate import MARKER, Simulation
from davel.data.unav100 import ANNOTATIONS, FEATURES, LAYOUTS, Kind, find_kind, join, load_stream
from davel.errors import ConfigError, printable
from davel.features import store
from davel.features.extract import spec_of
from davel.features.spec import FeatureSpec

SUFFIX = ".safetensors"
KEPT = re.compile(r"(-[0-9a-f]{12}\.\w+)?\.safetensors$")
"""What davel adds to a video's name."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    annotations: Path
    """A file in UnAV-100's schema."""
    videos: Path | None = None
    """The folder of the videos, whose names without ending are the annotations' ids."""
    extractor: str = "light"
    """The features that are made of the videos."""
    cache: Path | None = None
    """Where these are kept; by default `features` beside the videos' folder."""
    features: Path | None = None
    """Instead of videos, a folder of features that were extracted before."""
    kind: Literal["davel", "i3d-vggish", "one-peace"] = "davel"
    """How these are stored: in davel's files, or as UnAV-100's `.npy`."""
    skip_broken: bool = False
    """Leave out videos whose features are missing or broken, instead of refusing to train."""
    train: str = "train"
    """The subset to train on."""
    validation: str = "validation"
    """The subset whose average mAP chooses the epoch."""
    test: str = "test"
    """The subset that nothing is chosen on."""
    classes: int | None = None
    """Only so many classes, those with most events."""
    limit: int | None = None
    """Only so many videos for training, and a third as many of the other subsets."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that extract features, or threads that read them."""

    def __post_init__(self) -> None:
        if (self.videos is None) == (self.features is None):
            raise ValueError("name either `videos` or `features`")
        if self.features is not None and self.cache is not None:
            raise ValueError("`cache` is for features that are made of `videos`: leave it out")
        if self.features is None and self.kind != "davel":
            raise ValueError("`kind` is for `features`: leave it out")
        if any(n is not None and n < 1 for n in (self.classes, self.limit)) or self.workers < 1:
            raise ValueError("classes, limit and workers must be at least 1")

    @classmethod
    def unav100(cls, folder: Path, kind: Kind | None = None, **more: Any) -> DataConfig:
        """A data set in UnAV-100's layout; the kind of its features is found where it is not given."""
        features = folder / FEATURES
        if kind is None:
            simulated = (features / MARKER).is_file()
            kind = Simulation.read(features).features if simulated else find_kind(features)
        return cls(annotations=folder / ANNOTATIONS, features=features, kind=kind, **more)

    def annotated(self) -> Annotations:
        """The annotations, as far as they are asked for."""
        return read_annotations(self.annotations).limited(self.classes, self.limit)

    def open(self, videos: Mapping[str, AnnotatedVideo], progress: Callable[[int, int], None] | None) -> Dataset:
        """The features of annotated videos; those that are not there yet are extracted."""
        if self.features is not None and self.kind != "davel":
            return open_unav100(videos, self.features, self.kind, self.annotations)
        if self.features is not None:
            return open_features(videos, self.features)
        assert self.videos is not None
        cache = self.cache or self.videos.parent / "features"
        return open_videos(videos, self.videos, cache, self.extractor, self.workers, progress)


def open_videos(
    videos: Mapping[str, AnnotatedVideo],
    folder: Path,
    cache: Path,
    extractor: str = "light",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The given videos, whose files are named by their ids; their features are extracted once and kept in `cache`.

    ConfigError lists those that are missing or unreadable.
    """
    files, problems = _find(videos, folder, lambda path: path.stem)
    extracted = store.extract_many(list(files.values()), cache, extractor, workers, progress)
    _complain(folder, list(extracted.failures.values()) + problems)
    return _dataset(videos, {key: extracted.paths[path] for key, path in files.items()}, spec_of(extractor))


def open_features(videos: Mapping[str, AnnotatedVideo], folder: Path) -> Dataset:
    """The given videos' features, extracted before: `ID.safetensors`, or as davel names the ones that it keeps.

    ConfigError lists those that are missing; all must be of one protocol.
    """
    files, problems = _find(videos, folder, lambda path: KEPT.sub("", path.name) if path.suffix == SUFFIX else "")
    _complain(folder, problems)
    return _dataset(videos, files, store.load(next(iter(files.values()))).spec)


def open_unav100(videos: Mapping[str, AnnotatedVideo], folder: Path, kind: Kind, annotations: Path) -> Dataset:
    """The given videos' features in UnAV-100's files, or simulated ones.

    `annotations` are what simulated features are drawn for. ConfigError if the folder holds another kind.
    """
    layout = LAYOUTS[kind]
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: there is no such folder")
    simulation = Simulation.read(folder) if (folder / MARKER).is_file() else None
    if simulation and simulation.features != kind:
        raise ConfigError(f"{printable(folder)}: holds simulated {simulation.features} features, not {kind}")
    drawn = read_annotations(annotations).videos if simulation and simulation.lazy else None

    def read(key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if simulation and drawn:
            return simulation.draw(drawn[key])
        return join({stream: load_stream(folder, layout, key, stream) for stream in layout.streams}, layout)

    return Dataset(videos, read, layout.spec, origin=simulation.origin if simulation else None)


def _find(
    videos: Mapping[str, AnnotatedVideo], folder: Path, key_of: Callable[[Path], str]
) -> tuple[dict[str, Path], list[str]]:
    """The file of each video by id, and what is wrong with the others."""
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: there is no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            found.setdefault(key_of(path), []).append(path)
    problems = [f"{key}: no such file" for key in videos if key not in found]
    problems += [f"{key}: more than one file" for key in videos if len(found.get(key, ())) > 1]
    return {key: found[key][0] for key in videos if key in found}, problems


def _complain(folder: Path, problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ConfigError(f"{printable(folder)}: {'; '.join(problems[:5])}{more}")


def _dataset(videos: Mapping[str, AnnotatedVideo], paths: Mapping[str, Path], spec: FeatureSpec) -> Dataset:
    def read(key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = store.load(paths[key], spec)
        return features.visual, features.audio

    return Dataset(videos, read, spec)
