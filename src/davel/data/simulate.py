"""Simulated features: of real size, for real annotations, where the real ones cannot be had.

Shapes: T steps, D channels of a stream, N events, C classes.

Every class has a signature, a direction among the channels, in either modality; the classes of a group share half of
it, and the groups of the two modalities differ: what looks alike need not sound alike. An annotated event shows in
both modalities, with a strength of its own in each; a decoy shows in one. Each step sees what its window covers, as in
the real extraction, and the noise of overlapping windows is correlated.
"""

from __future__ import annotations

import json
import shutil
import zlib
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from davel.compute.pool import in_threads
from davel.core.annotations import Annotations
from davel.core.config import parse
from davel.core.errors import ConfigError, printable
from davel.core.events import EventList, Video
from davel.core.files import is_below, replacing
from davel.core.progress import Report, silent
from davel.data.unav100 import ANNOTATIONS, FEATURES
from davel.features.family import Family, family
from davel.features.spec import MODALITIES, FeatureSpec
from davel.formats import read_annotations, write_annotations

Array = NDArray[np.float32]
MARKER = "simulated.json"
"""Stands in a folder of simulated features and says how they are drawn."""
SCHEMA = "davel.simulated/1"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """How features are drawn; the same settings, video and annotations give the same features."""

    features: str = "i3d-vggish"
    """Which features to imitate in size and timing."""
    num_classes: int
    seed: int = 0
    lazy: bool = False
    """Drawn when read instead of stored in files."""
    strength: float = 8.0
    """The length of a class's signature where noise has a standard deviation of 1 in every channel."""
    variation: float = 0.4
    """Of an event's strength in each modality: the standard deviation of its logarithm."""
    neighbours: int = 4
    """Classes that share half of their signature."""
    decoys: float = 2.0
    """Things in a video, on average, that are only seen or only heard."""

    def __post_init__(self) -> None:
        if self.num_classes < 1 or self.neighbours < 1:
            raise ValueError("num_classes and neighbours must be at least 1")
        if self.strength < 0 or self.variation < 0 or self.decoys < 0:
            raise ValueError("strength, variation and decoys must not be negative")

    @classmethod
    def read(cls, folder: Path) -> Simulation:
        """From a folder's marker. ConfigError if it does not fit."""
        path = folder / MARKER
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{printable(path)}: cannot be read ({error}): simulate the features again") from error
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise ConfigError(f"{printable(path)}: expected schema {SCHEMA!r}: simulate the features again")
        return parse(cls, content, printable(path))

    def write(self, folder: Path) -> None:
        with replacing(folder / MARKER) as temporary:
            temporary.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n", encoding="utf-8")

    @cached_property
    def family(self) -> Family:
        return family(self.features)

    @property
    def origin(self) -> str:
        """What is said wherever a figure of such features is printed."""
        return f"simulated {self.features} features, seed {self.seed}"

    @cached_property
    def signatures(self) -> dict[str, Array]:
        """Per modality (C, D), each row of length 1."""
        result = {}
        for m, (modality, D) in enumerate(self.family.dims.items()):
            rng = np.random.default_rng([self.seed, m])
            group = rng.permutation(self.num_classes) // self.neighbours
            shared, own = _directions(rng, group.max() + 1, D), _directions(rng, self.num_classes, D)
            both = shared[group] + own
            result[modality] = both / np.linalg.norm(both, axis=1, keepdims=True)
        return result

    def draw(self, video: Video) -> tuple[Array, Array]:
        """A video's features: visual (T, Dv), audio (T, Da)"""
        rng = np.random.default_rng([self.seed, 2, zlib.crc32(video.id.encode())])
        spec = self.family.spec
        timing = spec.timing
        T = timing.num_steps(video.seconds)
        decoys = self._decoys(video, rng)
        result = []
        for m, modality in enumerate(MODALITIES):
            signatures = self.signatures[modality]
            x = _noise(rng, T, signatures.shape[1], max(timing.window // timing.stride, 1))
            x += rng.standard_normal(signatures.shape[1], dtype=np.float32)  # what the whole video looks or sounds like
            shown = [video.events, *([decoys[m]] if decoys[m] else [])]
            for events in shown:
                strength = self.strength * rng.lognormal(0, self.variation, len(events))
                seen = coverage(events.segments, T, spec) * strength  # (T, N)
                x += seen.astype(np.float32) @ signatures[events.label_ids]
            result.append(x)
        return result[0], result[1]

    def _decoys(self, video: Video, rng: np.random.Generator) -> tuple[EventList, EventList]:
        """What is only seen and what is only heard: the annotated decoys, or ones drawn for this video.

        None is of a class that has an event in the video: the two might meet and be an event.
        """
        if video.decoys:
            raise ConfigError(f"{video.id}: decoys are drawn here: leave those of the annotations out")
        free = np.setdiff1d(np.arange(self.num_classes), video.events.label_ids)
        N = int(rng.poisson(self.decoys)) if len(free) else 0
        labels = rng.choice(free, N) if N else np.zeros(0, np.int64)
        length = np.minimum(rng.lognormal(1.9, 1.0, N) + 0.5, 0.9 * video.seconds)
        start = rng.random(N) * (video.seconds - length)
        heard = (rng.random(self.num_classes) < 0.5)[labels]  # a class is either seen or heard here, never both
        both = EventList(np.stack([start, start + length], axis=1), np.ones(N), labels, video.events.labels)
        return both.select(~heard), both.select(heard)


def _directions(rng: np.random.Generator, n: int, D: int) -> Array:
    x = rng.standard_normal((n, D), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _noise(rng: np.random.Generator, T: int, D: int, overlap: int) -> Array:
    """White along the channels, of variance 1; steps that share a part of their window share a part of it: (T, D)"""
    parts = rng.standard_normal((T + overlap - 1, D), dtype=np.float32)
    x = parts[:T].copy()
    for k in range(1, overlap):
        x += parts[k : T + k]
    x /= np.float32(np.sqrt(overlap))
    return x


def coverage(segments: NDArray[np.float64], T: int, spec: FeatureSpec) -> NDArray[np.float64]:
    """The part of each step's window that each segment (N, 2), in seconds, covers: (T, N), in 0..1"""
    start = np.arange(T)[:, None] * spec.step_seconds
    length = spec.window / spec.fps
    overlap = np.minimum(segments[:, 1], start + length) - np.maximum(segments[:, 0], start)
    return np.asarray(overlap.clip(min=0) / length)


def draw_annotations(num_videos: int, num_classes: int, seed: int = 0) -> Annotations:
    """Annotations like UnAV-100's in duration, number and length of events, where no real ones are at hand.

    Of five videos, three are for training, one for validation, one for test.
    """
    rng = np.random.default_rng([seed, 3])
    labels = tuple(f"class {c:0{len(str(num_classes - 1))}d}" for c in range(num_classes))
    videos = {}
    for i in range(num_videos):
        duration = min(max(rng.normal(42, 12), 10.0), 60.0)
        N = 1 + int(rng.poisson(1.8))
        classes = rng.choice(num_classes, min(1 + int(rng.random() < 0.4), num_classes), replace=False)
        length = (rng.lognormal(1.9, 1.2, N) + 0.3).clip(max=duration)
        start = rng.random(N) * (duration - length)
        segments = np.stack([start, np.minimum(start + length, duration)], axis=1)
        subset = ("train", "train", "train", "validation", "test")[i % 5]
        events = EventList(segments, np.ones(N), rng.choice(classes, N), labels)
        key = f"sim{seed}-{i:05d}"
        videos[key] = Video(key, events, duration, subset=subset)
    return Annotations.of(labels, videos)


def simulation_of(folder: Path, kind: str | None = None) -> Simulation | None:
    """How the features in a folder are simulated, if they are. ConfigError if there is none, or it has another kind."""
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: there is no such folder")
    simulation = Simulation.read(folder) if (folder / MARKER).is_file() else None
    if simulation and kind not in (None, simulation.features):
        raise ConfigError(f"{printable(folder)}: holds simulated {simulation.features} features, not {kind}")
    return simulation


def bytes_of(annotations: Annotations, features: str) -> int:
    """How much room the simulated features of these videos take on disk."""
    made = family(features)
    steps = sum(made.spec.timing.num_steps(video.seconds) for video in annotations.videos.values())
    return steps * sum(made.dims.values()) * np.dtype(np.float32).itemsize


def simulate(
    output: Path,
    annotations: Annotations,
    *,
    features: str = "i3d-vggish",
    seed: int = 0,
    lazy: bool = False,
    workers: int = 2,
    report: Report = silent,
) -> Path:
    """Write a data set in UnAV-100's layout with features drawn for `annotations`: the folder `output`.

    ConfigError if there are features already, or no room for them, or an id that cannot be a file's name within.
    """
    if not lazy and (outside := next((key for key in annotations.videos if not is_below(key)), None)):
        raise ConfigError(f"{printable(outside)}: leads out of the folder of features: give the video another id")
    simulation = Simulation(features=features, num_classes=len(annotations.labels), seed=seed, lazy=lazy)
    folder = output / FEATURES
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{printable(folder)}: is not empty: choose another output, or delete it")
    needed, free = bytes_of(annotations, features), shutil.disk_usage(folder).free
    if not lazy and needed > free:
        raise ConfigError(
            f"{printable(folder)}: the features need {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB: "
            "draw them when they are read (lazy), or fewer videos"
        )
    (output / ANNOTATIONS).parent.mkdir(exist_ok=True)
    write_annotations(output / ANNOTATIONS, annotations)
    annotations = read_annotations(output / ANNOTATIONS)  # as they are stored: what lazy features are drawn for
    simulation.write(folder)  # first: what an interrupted run leaves is never taken for real features
    if not lazy:
        videos = annotations.videos.values()
        with closing(in_threads(lambda video: _write(simulation, folder, video), videos, workers)) as written:
            for done, answer in enumerate(written, 1):
                report("simulate", done, len(videos), answer.job.id)
    return output


def _write(simulation: Simulation, folder: Path, video: Video) -> None:
    made = simulation.family
    (folder / video.id).parent.mkdir(parents=True, exist_ok=True)
    for array, modality in zip(simulation.draw(video), MODALITIES, strict=True):
        streams = made.of(modality)
        ends = np.cumsum(list(streams.values()))
        for stream, part in zip(streams, np.split(array, ends[:-1], axis=1), strict=True):
            np.save(made.path(folder, video.id, stream), part)
