"""From a media file to its features, in one pass."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from davel.compute.device import choose_device
from davel.core.errors import ConfigError, MediaError, printable
from davel.features import light
from davel.features import weights as pretrained
from davel.features.family import I3D_VGGISH_LAYOUT, LIGHT_LAYOUT, Layout
from davel.features.i3d_vggish import Networks, Rows, Sound, TwoStream
from davel.features.spec import FeatureSpec
from davel.media import Coverage, MediaInfo, Picture, open_media
from davel.media.recording import Live

T = TypeVar("T")
EXTRACTORS: dict[str, Layout] = {"light": LIGHT_LAYOUT, "i3d-vggish": I3D_VGGISH_LAYOUT}
"""What can be made of a file, and how it lies on disk."""
MAX_ASPECT = 8
"""The longer side of a picture over the shorter: flow compares every point with every other."""
PICTURES_AHEAD = 16
STEPS_AT_ONCE = 16
"""Every stream gives its steps when so many are complete, or before."""


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
    """The specification of an extractor without any options. ConfigError if there is no such extractor."""
    if name not in EXTRACTORS:
        raise ConfigError(f"unknown features {name!r}: choose from {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name].spec


class Stream(Protocol):
    """What makes steps of frames, or of samples."""

    def push(self, item: Any) -> Rows: ...

    def finish(self) -> Rows: ...


@dataclass(frozen=True)
class Settings:
    """How features are made: the protocol, and what does not change it."""

    spec: FeatureSpec
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Other than float32, features differ in their third digit."""
    compile: bool = False
    """With `torch.compile`; takes minutes at the start."""

    @classmethod
    def named(cls, name: str, **options: Any) -> Settings:
        """By an extractor's name, with options: of the protocol (`colours`, `resampler`, `flow_updates`), or ours.

        ConfigError if there is no such extractor, or it has no such option.
        """
        try:
            ours = {key: options.pop(key) for key in ("device", "precision", "compile") if key in options}
            return cls(replace(spec_of(name), **options), **ours)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"features {name!r}: {error}") from error

    @property
    def layout(self) -> Layout:
        spec_of(self.spec.name)
        return EXTRACTORS[self.spec.name]

    def __post_init__(self) -> None:
        known = replace(spec_of(self.spec.name), colours=self.spec.colours, resampler=self.spec.resampler)
        if known.flow_updates is not None:
            known = replace(known, flow_updates=self.spec.flow_updates or known.flow_updates)
        known.require(self.spec, "this davel", "what is asked for")


@dataclass(frozen=True)
class Extractor:
    """Makes features of files; costly to set up, so one process has one of a kind (`extractor`)."""

    settings: Settings
    networks: Networks | None = None

    @property
    def spec(self) -> FeatureSpec:
        return self.settings.spec

    @property
    def layout(self) -> Layout:
        return self.settings.layout

    def streams(self) -> tuple[Stream, Stream]:
        """Fresh ones for a file: of pictures, and of sound."""
        if self.networks is None:
            return _Light("light-visual", light.LightVisual()), _Light("light-audio", light.LightAudio())
        assert self.spec.flow_updates is not None
        return TwoStream(self.networks, self.spec.flow_updates), Sound(self.networks)


class Reading:
    """A file as its features are made, in one pass. Memory: what one track is ahead of the other."""

    def __init__(
        self,
        extractor: Extractor,
        path: Path,
        start: float = 0.0,
        end: float | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        """`start` should be a multiple of a step's length: the steps are those of the whole file from there on."""
        self.extractor, self.path, self.start, self.end, self.idle_seconds = extractor, path, start, end, idle_seconds
        self.begin = 0.0
        """Seconds from which there are pictures and sound, as far as they have been read."""
        self.seconds = 0.0
        """Of media that have been read."""
        self._facts: tuple[MediaInfo, Coverage] | None = None
        self.lengths = dict.fromkeys(extractor.layout.streams, 0)
        """The steps of each stream so far."""

    @property
    def facts(self) -> tuple[MediaInfo, Coverage]:
        """What the file is, and what of it was decoded; known when all steps were made."""
        if self._facts is None:
            raise RuntimeError("what was decoded is known once all steps were made")
        return self._facts

    def rows(self) -> Generator[tuple[str, NDArray[np.float32]]]:
        """A stream's name and its next steps (n, D). MediaError if the file cannot be read as a whole."""
        make, spec = self.extractor, self.extractor.spec
        with open_media(self.path) if self.idle_seconds is None else Live(self.path, self.idle_seconds) as source:
            video = source.info.video
            if make.networks and video and max(video.width, video.height) > MAX_ASPECT * min(video.width, video.height):
                raise MediaError(
                    f"{printable(self.path)}: its pictures of {video.width}x{video.height} pixels are too long and "
                    f"narrow: cut them to {MAX_ASPECT}:1"
                )
            items = source.read(
                fps=spec.fps,
                sample_rate=spec.sample_rate,
                size=None if make.networks else light.FRAME_SIZE,
                colours=spec.colours,
                resampler=spec.resampler,
                start=self.start,
                end=self.end,
            )
            visual, audio = make.streams()
            with closing(ahead(items, PICTURES_AHEAD, source.stop) if make.networks else items) as items:
                for item in items:
                    self.begin = source.begin
                    if isinstance(item, Picture):
                        self.seconds = item.index / spec.fps
                        yield from self._counted(visual.push(item.rgb))
                    else:
                        yield from self._counted(audio.push(item.samples))
            for stream in (visual, audio):
                yield from self._counted(stream.finish())
            self._facts = source.info, source.coverage

    def num_steps(self) -> int:
        """The steps that all streams have, when all were made. MediaError if there is none."""
        T, spec, (_, coverage) = min(self.lengths.values()), self.extractor.spec, self.facts
        if T == 0:
            least = (spec.window + 1) / spec.fps
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

    def steps(self) -> Generator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The next steps of both modalities, (n, visual_dim) and (n, audio_dim); what only the longer track has is left
        out. MediaError if there is not even one step."""
        layout = self.extractor.layout
        waiting = {name: np.zeros((0, dim), np.float32) for name, dim in layout.streams.items()}
        for name, steps in self.rows():
            waiting[name] = np.concatenate([waiting[name], steps])
            n = min(map(len, waiting.values()))
            if n:
                visual, audio = (
                    np.concatenate([waiting[stream][:n] for stream in streams], axis=1)
                    for streams in (layout.visual, layout.audio)
                )
                waiting = {stream: rest[n:] for stream, rest in waiting.items()}
                yield visual, audio
        self.num_steps()


class _Light:
    """The light features come many steps at a time."""

    def __init__(self, name: str, stream: light.LightVisual | light.LightAudio) -> None:
        self.name, self.stream = name, stream

    def push(self, item: Any) -> Rows:
        self.stream.push(item)
        if len(self.stream) > STEPS_AT_ONCE:
            yield from self.finish()

    def finish(self) -> Rows:
        yield self.name, self.stream.take().astype(np.float32, copy=False)


def extractor(settings: Settings) -> Extractor:
    """One that is ready to run. MissingError if its weights are not there, ConfigError if the device is not."""
    if settings.spec.name == "light":
        return Extractor(settings)
    return _with_networks(settings, pretrained.stamps())


@lru_cache(maxsize=1)
def _with_networks(settings: Settings, stamps: tuple[tuple[str, int], ...]) -> Extractor:
    """Made once in a process, as long as the weights stay what they are (`stamps`)."""
    rgb, flow, raft, sound = (pretrained.load(name) for name in ("i3d-rgb", "i3d-flow", "raft", "vggish"))
    networks = Networks.of(rgb, flow, raft, sound, choose_device(settings.device), getattr(torch, settings.precision))
    if settings.compile:
        for network in (rgb, flow, sound, raft.fnet, raft.cnet, raft.update_block):
            network.compile()
    return Extractor(settings, networks)


def extract(path: Path, settings: Settings | str = "light") -> Features:
    """The features of a media file, by their name or as told; what only the longer track has is left out.

    MediaError if the file cannot be read as a whole, lacks a track, or is shorter than one step.
    """
    reading = read(path, settings)
    spec = reading.extractor.spec
    parts = [(np.zeros((0, spec.visual_dim), np.float32), np.zeros((0, spec.audio_dim), np.float32)), *reading.steps()]
    visual, audio = (np.concatenate(part) for part in zip(*parts, strict=True))
    info, coverage = reading.facts
    return Features(visual=visual, audio=audio, spec=spec, info=info, coverage=coverage, lengths=reading.lengths)


def read(
    path: Path,
    settings: Settings | str = "light",
    start: float = 0.0,
    end: float | None = None,
    *,
    idle_seconds: float | None = None,
) -> Reading:
    """A file, or what of it lies from `start` to `end` seconds; features are made as one iterates over its steps.

    With `idle_seconds` it is a recording that goes on (`davel.media.recording`), until nothing has come for so long.
    """
    made = extractor(Settings.named(settings) if isinstance(settings, str) else settings)
    return Reading(made, path, start, end, idle_seconds)


def ahead(items: Iterable[T], depth: int, stop: Callable[[], None] = lambda: None) -> Generator[T]:
    """The same items, made in a thread of their own, up to so many before they are asked for.

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
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:
            put((None, error))
        else:
            put((None, StopIteration()))

    thread = threading.Thread(target=work, name="davel-decoder", daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        stop()
        thread.join()
