"""`davel data check`: what is wrong with a data set in UnAV-100's layout, all at once; and which grid its events need.

Shapes: N events, T steps, L levels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from davel.compute.pool import in_threads
from davel.core import progress
from davel.core.annotations import Problem
from davel.core.errors import ConfigError, printable
from davel.core.events import Video
from davel.core.files import is_below
from davel.data.simulate import Simulation, simulation_of
from davel.data.unav100 import find_kind
from davel.features.family import Family, family
from davel.features.spec import FeatureSpec
from davel.features.store import BrokenFeatures, FeatureStore
from davel.formats import inspect_annotations
from davel.models import NetworkConfig, parse_network
from davel.models.targets import REGRESSION_RANGES, Ranges, reached

TOLERATED = 3
"""Steps by which the streams of a video may differ; what is too long is cut off."""
CAUSES = {
    1 / 3: "a hop of 0.96 s instead of 0.32 s gives a third",
    1 / 2: "half of the frame rate, or twice the stride, gives half",
    2: "twice the frame rate, or half of the stride, gives twice",
    3: "a stride that is three times too small gives three times as many",
}


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


@dataclass(frozen=True)
class Contents:
    """What a folder of features holds of some videos."""

    family: Family
    spec: FeatureSpec
    keys: dict[str, str]
    """In the folder's store, of videos whose features are described."""
    problems: list[Problem]


def contents(store: FeatureStore, ids: Iterable[str], kind: str | None = None) -> Contents:
    """Features that davel extracted, of any family, or published ones; `kind` names the family where files do not tell.

    ConfigError if they are of several origins or protocols, which no model should learn from together.
    """
    problems: list[Problem] = []
    keys: dict[str, str] = {}
    specs: dict[str, FeatureSpec] = {}
    found = store.find(ids)
    for video, described in found.items():
        if not is_below(video):
            problems.append(Problem(video, "missing", "no file can have such a name"))
        elif len(described) > 1:
            problems.append(Problem(video, "missing", "more than one file"))
        elif described:
            try:
                specs[described[0]] = store.spec(described[0])
                keys[video] = described[0]
            except ConfigError as error:
                problems.append(Problem(video, "unreadable", str(error)))
    if not keys:
        made = family(kind or find_kind(store.folder))
        return Contents(made, made.spec, keys, problems)
    first, spec = next(iter(specs.items()))
    made = family(spec.name)
    for key, other in specs.items():
        if other is not spec:
            spec.require(other, printable(first), printable(key))
    if kind not in (None, spec.name):
        raise ConfigError(f"{printable(store.folder)}: holds {spec.name} features, not {kind}")
    for video in found.keys() - keys.keys():
        if store.has_published(video, made):
            raise ConfigError(
                f"{printable(store.folder)}: the features of {printable(first)} were made by `davel extract`, those of "
                f"{printable(video)} were not: keep features of one origin together"
            )
    return Contents(made, spec, keys, problems)


def check(
    annotations: Path,
    folder: Path,
    kind: str | None = None,
    *,
    workers: int = 4,
    report: progress.Report = progress.silent,
) -> Report:
    """Read all of a data set: the annotations, and every value of every feature file (or draw them, where they are
    simulated lazily).

    ConfigError if the annotations are not a file of this schema, or the folder holds another kind of features.
    """
    annotated, problems = inspect_annotations(annotations)
    simulation, store = simulation_of(folder, kind), FeatureStore(folder)
    if simulation:
        held = Contents(simulation.family, simulation.family.spec, {}, [])
    else:
        held = contents(store, annotated.videos, kind)
        problems += held.problems
    reader = Reader(store, held.family, simulation, keys=held.keys)
    known = {problem.id for problem in held.problems}
    looked_at = [video for video in annotated.videos.values() if video.id not in known]
    cut: list[int] = []
    stray: list[str] = []
    with closing(in_threads(reader.inspect, looked_at, workers)) as inspected:
        for done, answer in enumerate(inspected, 1):
            video, found, lengths = answer.value
            problems += found
            if not found:
                cut.append(max(lengths.values()) - min(lengths.values()))
                if _differs(min(lengths.values()), expected := held.spec.timing.num_steps(video.seconds)):
                    stray.append(f"{video.id} ({min(lengths.values())} for {expected})")
            report("check", done, len(looked_at), video.id)
    notes = _notes(annotated.videos, cut)
    if stray:
        notes.append(f"{len(stray)} videos have another length than their duration says: {_listed(stray)}")
    return Report(
        features=held.family.name,
        origin=simulation.origin if simulation else None,
        subsets=dict(Counter(video.subset or "" for video in annotated.videos.values())),
        events=sum(len(video.events) for video in annotated.videos.values()),
        classes=len(annotated.labels),
        problems=tuple(problems),
        notes=tuple(notes),
        grid=fit_grid(annotated.videos, held.spec) if annotated.videos else None,
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


def fit_grid(videos: Mapping[str, Video], spec: FeatureSpec, network: NetworkConfig | None = None) -> GridFit:
    """How the events lie on a feature's grid, and what model length and regression ranges they need.

    Lengths are multiples of the `hop` of `network`, by default of the model that a configuration without a name is of.
    """
    hop = (network or parse_network({}, "model")).hop
    steps = np.array([spec.timing.num_steps(video.seconds) for video in videos.values()])
    segments = spec.timing.steps(np.concatenate([video.events.segments for video in videos.values()]))  # (N, 2)
    owners = np.repeat(steps, [len(video.events) for video in videos.values()])  # (N,)
    ranges = suggest_ranges(segments[:, 1] - segments[:, 0])

    def unreached(ranges: Ranges) -> int:
        return int((~reached(torch.from_numpy(segments), torch.from_numpy(owners), ranges)).sum())

    return GridFit(
        longest=int(steps.max()),
        length=_holding(int(steps.max()), hop),
        length_for_most=_holding(math.ceil(np.percentile(steps, 99)), hop),
        unreached=unreached(REGRESSION_RANGES),
        ranges=ranges,
        unreached_with_ranges=unreached(ranges),
    )


def _holding(steps: int, hop: int) -> int:
    return hop * math.ceil(steps / hop)


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


@dataclass(frozen=True)
class Reader:
    """Looks at the features of one video after the other."""

    store: FeatureStore
    family: Family
    simulation: Simulation | None = None
    whole: bool = True
    """Every value, not only the headers of the files."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """In the store, of videos that have another there than their id."""

    def inspect(self, video: Video) -> tuple[Video, list[Problem], dict[str, int]]:
        """The video, what is wrong with its features, and the steps of each stream that can be read."""
        lengths: dict[str, int] = {}
        problems = []
        if self.simulation and self.simulation.lazy:
            visual, audio = self.simulation.draw(video)
            if not (np.isfinite(visual).all() and np.isfinite(audio).all()):
                problems.append(Problem(video.id, "nan", "is drawn with values that are not finite"))
            return video, problems, {"visual": len(visual), "audio": len(audio)}
        for stream, found in self.store.lengths(self.keys.get(video.id, video.id), self.family, self.whole):
            if isinstance(found, BrokenFeatures):
                problems.append(Problem(video.id, found.kind, str(found)))
            else:
                lengths[stream] = found
        if not problems and video.id not in self.keys:  # what was extracted is as long as its file
            problems = length_problems(video, lengths, self.family.spec)
        return video, problems, lengths


def length_problems(video: Video, lengths: Mapping[str, int], spec: FeatureSpec) -> list[Problem]:
    """Streams that differ in length, or that cannot be of this video: half as long again as its duration says."""
    shortest, longest = min(lengths.values()), max(lengths.values())
    told = ", ".join(f"{stream} {T}" for stream, T in lengths.items())
    if longest - shortest > TOLERATED:
        return [Problem(video.id, "unequal", f"streams of unequal length: {told}{_cause(shortest / longest)}")]
    expected = spec.timing.num_steps(video.seconds)
    ratio = shortest / expected
    if abs(shortest - expected) > TOLERATED and not 2 / 3 < ratio < 3 / 2:
        text = f"{shortest} steps where {video.seconds:g} s give {expected}{_cause(ratio)}"
        return [Problem(video.id, "length", text)]
    return []


def _cause(ratio: float) -> str:
    """What may have gone wrong, in words."""
    near = min(CAUSES, key=lambda r: abs(math.log(ratio / r)))
    return f" ({CAUSES[near]})" if abs(math.log(ratio / near)) < math.log(1.15) else ""
