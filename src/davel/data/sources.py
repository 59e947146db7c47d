"""Annotated videos, or their features, in a folder, as a dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.core.annotations import Annotations, Problem
from davel.core.errors import ConfigError, MediaError, printable, refuse
from davel.core.events import Video
from davel.core.files import is_below
from davel.data.dataset import Dataset
from davel.data.inspection import Reader
from davel.data.simulate import MARKER, Simulation, simulation_of
from davel.data.unav100 import ANNOTATIONS, FEATURES, find_kind, load_stream
from davel.features import store
from davel.features.family import family, names
from davel.features.folder import spec_of_all
from davel.features.reading import spec_of
from davel.features.spec import FeatureSpec
from davel.formats import read_annotations
from davel.media import probe

SUFFIX = ".safetensors"
KEPT = re.compile(r"(-[0-9a-f]{12}\.\w+)?\.safetensors$")
"""What davel adds to a video's name."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    annotations: Path
    """A file of events, in UnAV-100's schema or any other format that says which subset a video belongs to."""
    videos: Path | None = None
    """The folder of the videos, whose names without ending are the annotations' ids."""
    extractor: str = "light"
    """The features that are made of the videos."""
    cache: Path | None = None
    """Where these are kept; by default `features` beside the videos' folder."""
    features: Path | None = None
    """Instead of videos, a folder of features that were extracted before."""
    kind: str = "davel"
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
        if self.kind != "davel" and self.kind not in names():
            raise ValueError(f"no features {self.kind!r}: choose from {', '.join(names())}")
        if any(n is not None and n < 1 for n in (self.classes, self.limit)) or self.workers < 1:
            raise ValueError("classes, limit and workers must be at least 1")

    @classmethod
    def unav100(cls, folder: Path, kind: str | None = None, **more: Any) -> DataConfig:
        """A data set in UnAV-100's layout; the kind of its features is found where it is not given."""
        features = folder / FEATURES
        if kind is None:
            simulated = (features / MARKER).is_file()
            kind = Simulation.read(features).features if simulated else find_kind(features)
        return cls(annotations=folder / ANNOTATIONS, features=features, kind=kind, **more)

    def annotated(self) -> Annotations:
        """The annotations, as far as they are asked for."""
        annotations = read_annotations(self.annotations, durations=self.videos is None)
        if self.videos is not None:
            annotations = _with_durations(annotations, self.videos, self.annotations)
        return annotations.limited(self.classes, self.limit)

    def open(self, videos: Mapping[str, Video], progress: Callable[[int, int], None] | None) -> Dataset:
        """The features of annotated videos; those that are not there yet are extracted."""
        if self.features is not None and self.kind != "davel":
            return open_unav100(
                videos, self.features, self.kind, self.annotations, skip_broken=self.skip_broken, workers=self.workers
            )
        if self.features is not None:
            return open_features(videos, self.features, skip_broken=self.skip_broken)
        assert self.videos is not None
        cache = self.cache or self.videos.parent / "features"
        return open_videos(
            videos, self.videos, cache, self.extractor, self.workers, progress, skip_broken=self.skip_broken
        )


def open_videos(
    videos: Mapping[str, Video],
    folder: Path,
    cache: Path,
    extractor: str = "light",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    skip_broken: bool = False,
) -> Dataset:
    """The given videos, whose files are named by their ids; their features are extracted once and kept in `cache`.

    ConfigError lists those that are missing or unreadable, unless they are to be skipped.
    """
    files, missing = _find(videos, folder, lambda path: path.stem)
    extracted = store.extract_many(list(files.values()), cache, extractor, workers, progress)
    problems = [
        Problem(key, "unreadable", extracted.failures[p]) for key, p in files.items() if p in extracted.failures
    ]
    problems += missing
    usable = _usable(videos, folder, problems, skip_broken)
    return _dataset(usable, {key: extracted.paths[files[key]] for key in usable}, spec_of(extractor), problems)


def open_features(videos: Mapping[str, Video], folder: Path, *, skip_broken: bool = False) -> Dataset:
    """The given videos' features, extracted before: `ID.safetensors`, or as davel names the ones that it keeps.

    ConfigError lists those that are missing, unless they are to be skipped; all must be of one protocol.
    """
    files, problems = _find(videos, folder, lambda path: KEPT.sub("", path.name) if path.suffix == SUFFIX else "")
    usable = _usable(videos, folder, problems, skip_broken)
    return _dataset(usable, files, store.load(files[next(iter(usable))]).spec, problems)


def open_unav100(
    videos: Mapping[str, Video],
    folder: Path,
    kind: str,
    annotations: Path,
    *,
    skip_broken: bool = False,
    workers: int = 4,
) -> Dataset:
    """The given videos' features in UnAV-100's files, or simulated ones.

    `annotations` are what simulated features are drawn for. ConfigError if the folder holds another kind, or if files
    are missing or broken, as far as their headers tell, and are not to be skipped.
    """
    made = family(kind)
    simulation = simulation_of(folder, kind)
    drawn = read_annotations(annotations).videos if simulation and simulation.lazy else None
    problems: list[Problem] = []
    if drawn is None:
        with ThreadPoolExecutor(workers) as pool:
            inspected = pool.map(Reader(folder, kind, whole=False).inspect, videos.values())
            problems = [problem for _, found, _ in inspected for problem in found]
    usable = _usable(videos, folder, problems, skip_broken, hint=": see `davel data check`, or set data.skip_broken")

    def read(key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if simulation and drawn:
            return simulation.draw(drawn[key])
        return made.join({stream: load_stream(folder, made, key, stream) for stream in made.streams})

    spec = made.spec if simulation else spec_of_all(folder, usable, made.spec)
    return Dataset(usable, read, spec, simulation.origin if simulation else None, _ids(problems))


def _with_durations(annotations: Annotations, folder: Path, source: Path) -> Annotations:
    """The annotations with the durations of files, where they give none: not all formats do. ConfigError lists the
    files that are missing or unreadable."""
    unknown = {key: video for key, video in annotations.videos.items() if video.duration is None}
    if not unknown:
        return annotations
    files, problems = _find(unknown, folder, lambda path: path.stem)
    videos = dict(annotations.videos)
    for key, path in files.items():
        try:
            seconds = probe(path).duration_seconds
        except MediaError as error:
            problems.append(Problem(key, "unreadable", str(error)))
            continue
        if seconds is None:
            problems.append(Problem(key, "unreadable", "does not say how long it is: convert it to mp4 or mkv"))
        else:
            videos[key] = replace(videos[key], duration=seconds, events=videos[key].events.clipped(0, seconds))
    refuse(source, problems)
    return replace(annotations, videos=videos)


def _find(
    videos: Mapping[str, Video], folder: Path, key_of: Callable[[Path], str]
) -> tuple[dict[str, Path], list[Problem]]:
    """The file of each video by id, and what is wrong with the others. An id may begin with folders below this one."""
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: there is no such folder")
    found: dict[str, list[Path]] = {}
    for part in sorted({key.rpartition("/")[0] for key in videos if is_below(key)}):
        if not (folder / part).is_dir():
            continue
        for path in sorted((folder / part).iterdir()):
            if not path.name.startswith("."):
                found.setdefault(f"{part}/{key_of(path)}" if part else key_of(path), []).append(path)
    problems = [Problem(key, "missing", "no such file") for key in videos if key not in found]
    problems += [Problem(key, "missing", "more than one file") for key in videos if len(found.get(key, ())) > 1]
    return {key: found[key][0] for key in videos if len(found.get(key, ())) == 1}, problems


def _usable(
    videos: Mapping[str, Video], folder: Path, problems: list[Problem], skip_broken: bool, hint: str = ""
) -> dict[str, Video]:
    """The videos without a problem. ConfigError if there are others and they are not to be skipped, or if none is."""
    if not skip_broken:
        refuse(folder, problems, hint)
    broken = set(_ids(problems))
    usable = {key: video for key, video in videos.items() if key not in broken}
    if not usable:
        refuse(folder, problems, ": no video is left")
    return usable


def _ids(problems: list[Problem]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(problem.id for problem in problems))


def _dataset(
    videos: Mapping[str, Video], paths: Mapping[str, Path], spec: FeatureSpec, problems: list[Problem]
) -> Dataset:
    def read(key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = store.load(paths[key], spec)
        return features.visual, features.audio

    return Dataset(videos, read, spec, skipped=_ids(problems))
