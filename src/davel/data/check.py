"""`davel data check`: what is wrong with a data set in UnAV-100's layout, all at once; and which grid its events need.

Shapes: N events, T steps, L levels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from davel.core.annotations import Problem
from davel.core.events import Video
from davel.data.inspection import TOLERATED, Reader
from davel.data.simulate import simulation_of
from davel.features.spec import FeatureSpec
from davel.formats import inspect_annotations
from davel.models.targets import REGRESSION_RANGES, Ranges, reached

MULTIPLE = 32
"""A model's length is a multiple of the steps that one step of its coarsest level spans."""


@dataclass(frozen=True)
class GridFit:
    """How the events lie on the grid of the features."""

    longest: int
    """Steps of the longest video."""
    length: int
    """The model length that holds the longest video."""
    length_for_most: int
    """The model length that holds 99 % of the videos."""
    unreached: int
    """Events that no point is positive for, with the released regression ranges."""
    ranges: Ranges
    """Regression ranges for these durations: doubling from level to level, the last closed one reaching over half of
    an event at the 95th percentile of the durations."""
    unreached_with_ranges: int
    """Events that no point is positive for, with these."""


@dataclass(frozen=True)
class Report:
    features: str
    origin: str | None
    """That the features are simulated, if they are."""
    subsets: dict[str, int]
    """Videos by subset."""
    events: int
    classes: int
    problems: tuple[Problem, ...]
    """What makes training refuse the data."""
    notes: tuple[str, ...]
    """What one should know, and nothing more."""
    grid: GridFit | None
    """None where no video can be used."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"problems": [problem._asdict() for problem in self.problems]}


def check(
    annotations: Path,
    folder: Path,
    kind: str,
    *,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read all of a data set: the annotations, and every value of every feature file (or draw them, where they are
    simulated lazily).

    ConfigError if the annotations are not a file of this schema, or the folder holds another kind of features.
    """
    annotated, problems = inspect_annotations(annotations)
    simulation = simulation_of(folder, kind)
    reader = Reader(folder, kind, simulation)
    cut: list[int] = []
    stray: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (video, found, lengths) in enumerate(pool.map(reader.inspect, annotated.videos.values()), 1):
            problems += found
            if not found:
                cut.append(max(lengths.values()) - min(lengths.values()))
                if _differs(min(lengths.values()), expected := reader.spec.timing.num_steps(video.seconds)):
                    stray.append(f"{video.id} ({min(lengths.values())} for {expected})")
            if progress:
                progress(done, len(annotated.videos))
    notes = _notes(annotated.videos, cut)
    if stray:
        notes.append(f"{len(stray)} videos have another length than their duration says: {_listed(stray)}")
    return Report(
        features=kind,
        origin=simulation.origin if simulation else None,
        subsets=dict(Counter(video.subset or "" for video in annotated.videos.values())),
        events=sum(len(video.events) for video in annotated.videos.values()),
        classes=len(annotated.labels),
        problems=tuple(problems),
        notes=tuple(notes),
        grid=fit_grid(annotated.videos, reader.spec) if annotated.videos else None,
    )


def _differs(steps: int, expected: int) -> bool:
    return abs(steps - expected) > max(TOLERATED, 0.1 * expected)


def _notes(videos: Mapping[str, Video], cut: Sequence[int]) -> list[str]:
    notes = []
    empty = [key for key, video in videos.items() if not len(video.events)]
    if empty:
        notes.append(f"{len(empty)} videos have no event: {_listed(empty)}")
    twice = [key for key, video in videos.items() if _repeats(video)]
    if twice:
        notes.append(f"{len(twice)} videos have an event that is listed twice: {_listed(twice)}")
    if any(cut):
        notes.append(
            f"{sum(map(bool, cut))} videos have streams that differ by up to {max(cut)} steps: cut to the shortest"
        )
    return notes


def _repeats(video: Video) -> bool:
    rows = np.column_stack([video.events.segments, video.events.label_ids])
    return len(np.unique(rows, axis=0)) < len(rows)


def _listed(items: Sequence[str], most: int = 3) -> str:
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def fit_grid(videos: Mapping[str, Video], spec: FeatureSpec) -> GridFit:
    """How the events lie on a feature's grid, and what model length and regression ranges they need."""
    steps = np.array([spec.timing.num_steps(video.seconds) for video in videos.values()])
    segments = spec.timing.steps(np.concatenate([video.events.segments for video in videos.values()]))  # (N, 2)
    owners = np.repeat(steps, [len(video.events) for video in videos.values()])  # (N,)
    ranges = suggest_ranges(segments[:, 1] - segments[:, 0])

    def unreached(ranges: Ranges) -> int:
        return int((~reached(torch.from_numpy(segments), torch.from_numpy(owners), ranges)).sum())

    return GridFit(
        longest=int(steps.max()),
        length=_holding(int(steps.max())),
        length_for_most=_holding(math.ceil(np.percentile(steps, 99))),
        unreached=unreached(REGRESSION_RANGES),
        ranges=ranges,
        unreached_with_ranges=unreached(ranges),
    )


def _holding(steps: int) -> int:
    return MULTIPLE * math.ceil(steps / MULTIPLE)


def suggest_ranges(durations: NDArray[np.float64], num_levels: int = len(REGRESSION_RANGES)) -> Ranges:
    """Regression ranges for events of these durations (N,), in steps; the released ones where there are none.

    Each level reaches twice as far as the one below, from a power of two of steps; the last is open. From its centre
    an event reaches over half of its duration: of the longest but 5 % that is where the last level takes over.
    """
    if not len(durations):
        return REGRESSION_RANGES
    half = float(np.percentile(durations, 95)) / 2
    first = 2.0 ** max(round(math.log2(half / 2 ** (num_levels - 2))), 0)
    ends = [first * 2**level for level in range(num_levels - 1)]
    return tuple(zip([0.0, *ends], [*ends, REGRESSION_RANGES[-1][1]], strict=True))
