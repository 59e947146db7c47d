"""From a media file to its features, in one pass."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, MediaError, printable
from davel.core.lazy import attributes
from davel.core.returning import consume, through
from davel.features.family import Family, Maker, Precision, RowMaker, Rows, family
from davel.features.spec import MODALITIES, FeatureSpec
from davel.features.weights import Digests, stamps
from davel.media import Coverage, MediaInfo, Picture, Sound, open_media
from davel.media.recording import Live

__getattr__ = attributes(__name__, moved={"extractor": "davel.features.reading:PROCESS.get"})

T = TypeVar("T")
R = TypeVar("R")
PICTURES_AHEAD = 16


@dataclass(frozen=True, kw_only=True)
class Features:
    """Both feature sequences of a file, step by step in time with each other."""

    visual: NDArray[np.float32]
    """(T, visual_dim)"""
    audio: NDArray[np.float32]
    """(T, audio_dim)"""
    spec: FeatureSpec
    info: MediaInfo
    coverage: Coverage
    lengths: dict[str, int] = field(default_factory=dict)
    """The steps of each stream before they were cut to the shortest."""

    def __post_init__(self) -> None:
        T = len(self.visual)
        expected = ((T, self.spec.visual_dim), (T, self.spec.audio_dim))
        if (self.visual.shape, self.audio.shape) != expected:
            raise ValueError(f"expected {expected} for {self.spec.name}, got {self.visual.shape}, {self.audio.shape}")

    def __len__(self) -> int:
        return len(self.visual)


def spec_of(name: str) -> FeatureSpec:
    """The specification of a family without any options. ConfigError if there is no such family."""
    return family(name).spec


@dataclass(frozen=True)
class Settings:
    """How features are made: the protocol, and what does not change it."""

    spec: FeatureSpec
    """Options that it lacks get their defaults. ConfigError unless the family, as it is installed, makes just this."""
    device: str = "auto"
    precision: Precision = "float32"
    """Other than float32, features differ in their third digit."""
    compile: bool = False
    """With `torch.compile`; takes minutes at the start."""
    family: Family = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ConfigError(f"features {self.spec.name!r}: precision is {self.precision!r}: choose from {known}")
        made = family(self.spec.name)
        spec = made.completed(self.spec)
        made.require(spec)
        object.__setattr__(self, "family", made)
        object.__setattr__(self, "spec", spec)

    def __reduce__(self) -> tuple[type[Settings], tuple[Any, ...]]:
        """Another process has the family of its own installation."""
        return Settings, (self.spec, self.device, self.precision, self.compile)

    @classmethod
    def named(
        cls, name: str, *, device: str = "auto", precision: Precision = "float32", compile: bool = False, **options: Any
    ) -> Settings:
        """By a family's name, with options of the protocol: `colours`, `resampler`, and the family's own.

        ConfigError if there is no such family, or it has no such option.
        """
        return cls(family(name).specified(options), device, precision, compile)


@dataclass(frozen=True)
class Extractor:
    """Makes features of files; costly to set up, so one is kept (`Extractors`)."""

    settings: Settings
    maker: Maker

    @property
    def spec(self) -> FeatureSpec:
        return self.settings.spec

    @property
    def family(self) -> Family:
        return self.settings.family


class Extractors:
    """What makes features, opened once: the one that was used last stays, as long as its weights are what they were."""

    def __init__(self) -> None:
        self.digests = Digests()
        """Of weights."""
        self._last: tuple[Settings, tuple[tuple[str, int], ...], Extractor] | None = None
        self._lock = threading.Lock()

    def get(self, settings: Settings) -> Extractor:
        """One that is ready to run.

        MissingError if its weights are not there, ConfigError if the device is not, or if davel only reads such
        features.
        """
        made = settings.family
        if made.open is None:
            raise ConfigError(f"features {made.name!r} are read from published files, davel does not make them")
        with self._lock:
            now = stamps(made)
            if self._last is None or self._last[:2] != (settings, now):
                self._last = None  # two sets of networks may be more than there is room for
                options = made.Options(**settings.spec.options)
                maker = made.open(options, settings.device, settings.precision, settings.compile)
                self._last = (settings, now, Extractor(settings, maker))
            return self._last[2]

    def close(self) -> None:
        """Let go of networks."""
        with self._lock:
            self._last = None


PROCESS = Extractors()
"""What is used where none is given: one per process, as a worker has no other way to keep networks between files."""


Facts = tuple[MediaInfo, Coverage]
"""What a file is, and what of it was decoded."""


class Reading:
    """A file as its features are made, in one pass. Memory: what one track is ahead of the other."""

    def __init__(
        self,
        extractor: Extractor,
        path: Path,
        start: float = 0.0,
        end: float | None = None,
        idle_seconds: float | None = None,
        tracks: Collection[str] = MODALITIES,
    ) -> None:
        """`start` should be a multiple of a step's length: the steps are those of the whole file from there on.

        `tracks`: what the file must have. Where it has no other, the features of that one are zeros.
        """
        self.extractor, self.path, self.start, self.end, self.idle_seconds = extractor, path, start, end, idle_seconds
        self.tracks = tracks
        self.begin = 0.0
        """Seconds from which there are pictures and sound, as far as they have been read."""
        self.seconds = 0.0
        """Of media that have been read."""
        self.lengths = dict.fromkeys(extractor.family.streams, 0)
        """The steps so far of each stream that the file has."""

    def rows(self) -> Generator[tuple[str, NDArray[np.float32]], None, Facts]:
        """A stream's name and its next steps (n, D); returns what the file is, and what of it was decoded.

        MediaError if the file cannot be read as a whole.
        """
        spec, frames = self.extractor.spec, self.extractor.family.frames
        fps, per_step, wanted = spec.picture_grid()
        with open_media(self.path) if self.idle_seconds is None else Live(self.path, self.idle_seconds) as source:
            video, most = source.info.video, frames.largest_aspect
            if most and video and max(video.width, video.height) > most * min(video.width, video.height):
                raise MediaError(
                    f"{printable(self.path)}: its pictures of {video.width}x{video.height} pixels are too long and "
                    f"narrow: cut them to {most:g}:1"
                )
            modalities = self._modalities(source.info)
            items = source.read(
                fps=fps if "visual" in modalities else None,
                sample_rate=spec.sample_rate if "audio" in modalities else None,
                size=frames.size,
                colours=spec.colours,
                resampler=spec.resampler,
                start=self.start,
                end=self.end,
            )
            makers = {modality: getattr(self.extractor.maker, modality)() for modality in sorted(modalities)}
            if "audio" in makers and spec.audio_per_step > 1:
                makers["audio"] = Reduced(makers["audio"], spec)
            first = round(self.start * fps)

            def made_of(item: Picture | Sound) -> Rows:
                self.begin = source.begin
                if not isinstance(item, Picture):
                    if "visual" not in makers:
                        self.seconds = (item.first + len(item.samples)) / spec.sample_rate
                    yield from self._counted(makers["audio"].push(item.samples))
                    return
                self.seconds = item.index / fps
                if is_wanted(item.index - first, per_step, wanted):
                    yield from self._counted(makers["visual"].push(item.rgb))

            with closing(ahead(items, PICTURES_AHEAD, source.stop) if frames.ahead else items) as items:
                coverage = yield from through(items, made_of)
            for modality in sorted(makers, reverse=True):
                yield from self._counted(makers[modality].finish())
            return source.info, coverage

    def _modalities(self, info: MediaInfo) -> set[str]:
        """Those of the family that the file has, or should have."""
        there = {"visual": info.video is not None, "audio": info.audio is not None}
        streams = self.extractor.family.streams
        used: set[str] = {
            stream.modality for stream in streams.values() if there[stream.modality] or stream.modality in self.tracks
        }
        self.lengths = {name: 0 for name, stream in streams.items() if stream.modality in used}
        return used

    def num_steps(self, coverage: Coverage) -> int:
        """The steps that all streams have, when all were made. MediaError if there is none."""
        T, spec = min(self.lengths.values()), self.extractor.spec
        if T == 0:
            least = (spec.window + self.extractor.family.frames.lookahead) / spec.fps
            tracks = ", ".join(
                f"{name} ends at {span[1]:.2f} s"
                for name, span in (("video", coverage.video), ("audio", coverage.audio))
                if span
            )
            name = printable(self.path)
            raise MediaError(f"{name}: is shorter than one step of {least:.2f} s ({tracks}): give a longer file")
        return T

    def _counted(self, rows: Rows) -> Rows:
        for name, steps in rows:
            self.lengths[name] += len(steps)
            yield name, steps

    def steps(self) -> Generator[tuple[NDArray[np.float32], NDArray[np.float32]], None, Facts]:
        """The next steps of both modalities, (n, visual_dim) and (n, audio_dim); what only the longer track has is left
        out. Returns what `rows` does. MediaError if there is not even one step."""
        made = self.extractor.family
        waiting = {name: np.zeros((0, stream.channels), np.float32) for name, stream in made.streams.items()}

        def joined(
            row: tuple[str, NDArray[np.float32]],
        ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
            nonlocal waiting
            name, steps = row
            waiting[name] = np.concatenate([waiting[name], steps])
            n = min(len(waiting[name]) for name in self.lengths)
            if n:
                missing = {
                    name: np.zeros((n, stream.channels), np.float32)
                    for name, stream in made.streams.items()
                    if name not in self.lengths
                }
                yield made.join(waiting | missing)
                waiting = {stream: rest[n:] for stream, rest in waiting.items()}

        info, coverage = yield from through(self.rows(), joined)
        self.num_steps(coverage)
        return info, coverage


def is_wanted(index: int, per_step: int, wanted: tuple[int, ...]) -> bool:
    """Whether some step sees the picture `index` of the grid: step i those at i * per_step + each of `wanted`."""
    return any(index >= offset and (index - offset) % per_step == 0 for offset in wanted)


class Reduced:
    """Rows of finer steps in, one row for all that begin within a step out; what is not complete is left out."""

    def __init__(self, maker: RowMaker, spec: FeatureSpec) -> None:
        self.maker, self.count = maker, spec.audio_per_step
        self.reduction = spec.audio_reduction
        self.waiting: dict[str, NDArray[np.float32]] = {}

    def push(self, item: Any) -> Rows:
        yield from self._whole(self.maker.push(item))

    def finish(self) -> Rows:
        yield from self._whole(self.maker.finish())

    def _whole(self, rows: Rows) -> Rows:
        for name, finer in rows:
            waiting = np.concatenate([self.waiting[name], finer]) if name in self.waiting else finer
            K = len(waiting) // self.count
            self.waiting[name] = waiting[K * self.count :]
            if K:
                steps = waiting[: K * self.count].reshape(K, self.count, -1)
                yield name, steps.max(1) if self.reduction == "max" else steps.mean(1)


def extract(path: Path, settings: Settings | str = "light", *, extractors: Extractors | None = None) -> Features:
    """The features of a media file, by their name or as told; what only the longer track has is left out.

    MediaError if the file cannot be read as a whole, lacks a track, or is shorter than one step.
    """
    reading = read(path, settings, extractors=extractors)
    spec = reading.extractor.spec
    parts = [(np.zeros((0, spec.visual_dim), np.float32), np.zeros((0, spec.audio_dim), np.float32))]
    info, coverage = consume(reading.steps(), parts.append)
    visual, audio = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Features(visual=visual, audio=audio, spec=spec, info=info, coverage=coverage, lengths=reading.lengths)


def read(
    path: Path,
    settings: Settings | str = "light",
    start: float = 0.0,
    end: float | None = None,
    *,
    idle_seconds: float | None = None,
    extractors: Extractors | None = None,
    tracks: Collection[str] = MODALITIES,
) -> Reading:
    """A file, or what of it lies from `start` to `end` seconds; features are made as one iterates over its steps.

    With `idle_seconds` it is a recording that goes on (`davel.media.recording`), until nothing has come for so long.
    `tracks` are those that it must have; the features of another are zeros where it has none.
    """
    made = Settings.named(settings) if isinstance(settings, str) else settings
    return Reading((extractors or PROCESS).get(made), path, start, end, idle_seconds, tracks)


def ahead(items: Generator[T, None, R], depth: int, stop: Callable[[], None] = lambda: None) -> Generator[T, None, R]:
    """The same items, and what they return, made in a thread of their own, up to so many before they are asked for.

    `stop` is called where no more are wanted, and ends what the thread may wait for.
    """
    box: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                box.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            while True:
                try:
                    item = next(items)
                except StopIteration as end:
                    put((None, end))
                    return
                if not put((item, None)):
                    return
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            put((None, error))

    thread = threading.Thread(target=work, name="davel-decoder", daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if isinstance(error, StopIteration):
                returned: R = error.value
                return returned
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        stop()
        thread.join()
