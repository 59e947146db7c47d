"""Annotated videos, or their features, in a folder, as a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.compute.pool import in_threads
from davel.core.annotations import Annotations, Problem
from davel.core.errors import ConfigError, MediaError, printable, refuse
from davel.core.events import Video
from davel.core.files import is_below
from davel.core.progress import Report, silent
from davel.data.check import Contents, Reader, contents
from davel.data.dataset import Dataset
from davel.data.simulate import simulation_of
from davel.data.unav100 import ANNOTATIONS, FEATURES
from davel.features.batch import Job, extract_files
from davel.features.family import names
from davel.features.reading import Settings
from davel.features.store import FeatureStore, cache_key
from davel.formats import read_annotations
from davel.media import probe

DAVEL = "davel"
"""The kind of what davel extracted, in configurations from before it was found out by itself."""


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
    kind: str | None = None
    """Their family, where the folder does not tell; `davel` says the same as nothing."""
    embeddings: Path | None = None
    """A file of embeddings of the classes' names, as `davel features embed` writes it, for a model that reads what its
    classes are; by default those that are shipped, of UnAV-100 and DESED."""
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
        if self.features is None and self.kind not in (None, DAVEL):
            raise ValueError("`kind` is for `features`: leave it out")
        for name in (self.extractor, self.kind):
            if name not in (None, DAVEL, *names()):
                raise ValueError(f"unknown features {name!r}: choose from {', '.join(names())}")
        if any(n is not None and n < 1 for n in (self.classes, self.limit)) or self.workers < 1:
            raise ValueError("classes, limit and workers must be at least 1")

    @classmethod
    def unav100(cls, folder: Path, kind: str | None = None, **more: Any) -> DataConfig:
        """A data set in UnAV-100's layout; the family of its features is found where it is not given."""
        simulation_of(folder / FEATURES, kind)
        return cls(annotations=folder / ANNOTATIONS, features=folder / FEATURES, kind=kind, **more)

    def annotated(self) -> Annotations:
        """The annotations, as far as they are asked for."""
        annotations = read_annotations(self.annotations, durations=self.videos is None)
        if self.videos is not None:
            annotations = _with_durations(annotations, self.videos, self.annotations)
        return annotations.limited(self.classes, self.limit)

    def open(self, videos: Mapping[str, Video], report: Report = silent) -> Dataset:
        """The features of annotated videos; those that are not there yet are extracted."""
        if self.features is not None:
            kind = None if self.kind == DAVEL else self.kind
            return open_features(
                videos, self.features, self.annotations, kind, skip_broken=self.skip_broken, workers=self.workers
            )
        assert self.videos is not None
        cache = self.cache or self.videos.parent / "features"
        return open_videos(
            videos, self.videos, cache, self.extractor, self.workers, report, skip_broken=self.skip_broken
        )


def open_videos(
    videos: Mapping[str, Video],
    folder: Path,
    cache: Path,
    extractor: str = "light",
    workers: int | None = None,
    report: Report = silent,
    *,
    skip_broken: bool = False,
) -> Dataset:
    """The given videos, whose files are named by their ids; their features are extracted once and kept in `cache`.

    ConfigError lists those that are missing or unreadable, unless they are to be skipped.
    """
    files, missing = _find(videos, folder)
    problems: list[Problem] = []
    settings, store = Settings.named(extractor), FeatureStore(cache)
    jobs = {key: Job(path, cache, cache_key(path, extractor), settings) for key, path in files.items()}
    ids = {job.key: key for key, job in jobs.items()}
    workers = min(workers or os.cpu_count() or 1, max(len(jobs), 1)) if settings.family.parallel else 0
    with closing(extract_files(list(jobs.values()), workers=workers, report=report)) as outcomes:
        for outcome in outcomes:
            if outcome.status == "failed":
                problems.append(Problem(ids[outcome.job.key], "unreadable", outcome.error))
    problems += missing
    usable = _usable(videos, folder, problems, skip_broken)
    keys = {key: jobs[key].key for key in usable}
    return _dataset(usable, store, Contents(settings.family, settings.spec, keys, problems))


def open_features(
    videos: Mapping[str, Video],
    folder: Path,
    annotations: Path,
    kind: str | None = None,
    *,
    skip_broken: bool = False,
    workers: int = 4,
) -> Dataset:
    """The given videos' features: those that davel extracted, of any family, published ones, or simulated ones.

    `annotations` are what simulated features are drawn for. ConfigError if the folder holds another kind, or if files
    are missing or broken, as far as their headers tell, and are not to be skipped.
    """
    store, simulation = FeatureStore(folder), simulation_of(folder, kind)
    if simulation and simulation.lazy:
        drawn = read_annotations(annotations).videos
        usable = _usable(videos, folder, [], skip_broken)
        return Dataset(usable, lambda key: simulation.draw(drawn[key]), simulation.family.spec, simulation.origin)
    drawn_as = simulation.family if simulation else None
    held = Contents(drawn_as, drawn_as.spec, {}, []) if drawn_as else contents(store, videos, kind)
    known = {problem.id for problem in held.problems}
    reader = Reader(store, held.family, whole=False, keys=held.keys)
    for answer in in_threads(reader.inspect, (video for video in videos.values() if video.id not in known), workers):
        held.problems.extend(answer.value[1])
    usable = _usable(
        videos, folder, held.problems, skip_broken, hint=": see `davel data check`, or set data.skip_broken"
    )
    return _dataset(usable, store, held, simulation.origin if simulation else None)


def _with_durations(annotations: Annotations, folder: Path, source: Path) -> Annotations:
    """The annotations with the durations of files, where they give none: not all formats do. ConfigError lists the
    files that are missing or unreadable."""
    unknown = {key: video for key, video in annotations.videos.items() if video.duration is None}
    if not unknown:
        return annotations
    files, problems = _find(unknown, folder)
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


def _find(videos: Mapping[str, Video], folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """The file of each video by id, and what is wrong with the others. An id may begin with folders below this one."""
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: there is no such folder")
    found: dict[str, list[Path]] = {}
    for part in sorted({key.rpartition("/")[0] for key in videos if is_below(key)}):
        if not (folder / part).is_dir():
            continue
        for path in sorted((folder / part).iterdir()):
            if not path.name.startswith("."):
                found.setdefault(f"{part}/{path.stem}" if part else path.stem, []).append(path)
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


def _dataset(videos: Mapping[str, Video], store: FeatureStore, held: Contents, origin: str | None = None) -> Dataset:
    def read(key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return store.arrays(held.keys.get(key, key), held.family)

    return Dataset(videos, read, held.spec, origin, _ids(held.problems))
