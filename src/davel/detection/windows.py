"""A network with a maximum length on videos of any length: overlapping windows, each event from where it is seen best.

A window begins every `hop` steps (in a pyramid, at every step of the coarsest level, so that the points of all levels
coincide), and a candidate counts in the window in whose middle it lies, wherever in the video that is. Memory does not
grow with the video: one window of steps is kept, and what comes at a time.

Shapes: T steps of the whole video, C classes, n steps that come at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel.core.events import EventList
from davel.core.lazy import attributes
from davel.core.timeline import Curve, Timing
from davel.detection import DecodeSettings
from davel.detection.decode import WindowDecoder
from davel.models.detector import Detector, DetectorOutputs

__getattr__ = attributes(__name__, moved={"Found": "davel.detection.windows:Detections"})


@dataclass(frozen=True)
class View:
    """A window's outputs, and the stretch of the video that lies in its middle; the stretches cover the video."""

    outputs: DetectorOutputs
    """Of a batch of one."""
    start: int
    """The step with which the window begins, a multiple of the network's hop."""
    middle: tuple[int, int]
    """The steps of the stretch: of the first window from 0, of the last to T."""
    is_last: bool

    def curves(self) -> dict[str, NDArray[np.float32]]:
        """What the network says at every step of the stretch, by name."""
        first, end = (step - self.start for step in self.middle)
        return {name: curve[0, first:end].float().cpu().numpy() for name, curve in self.outputs.curves().items()}


class Windows:
    """Steps in, views out, one after the other."""

    def __init__(self, model: Detector) -> None:
        self.model = model
        self.length: int = model.config.max_length
        self.hop = model.config.hop
        self.visual: Tensor | None = None
        self.audio: Tensor | None = None
        self.T = 0
        """The steps that have come."""
        self.start = 0
        """Of the next window, and the first step that is kept."""
        self.seam = 0
        """Where the last stretch ended."""

    @property
    def latency(self) -> int:
        """The steps at most from the end of what was viewed to the last that have come, once a window is full."""
        return math.ceil((self.length + self.hop) / 2)

    def push(self, visual: Tensor, audio: Tensor) -> Iterator[View]:
        """The next steps, (n, Dv) and (n, Da)"""
        self.visual = visual if self.visual is None else torch.cat([self.visual, visual])
        self.audio = audio if self.audio is None else torch.cat([self.audio, audio])
        self.T += len(visual)
        while self.T > self.start + self.length:  # the next window sees what lies beyond; they meet in their middle
            yield self._view(self.start + math.ceil((self.hop + self.length) / 2))
            self.visual, self.audio = self.visual[self.hop :], self.audio[self.hop :]
            self.start += self.hop

    def finish(self) -> Iterator[View]:
        """The last window reaches the end of the video, and the last stretch, too."""
        if self.T > 0:
            yield self._view(self.T, is_last=True)

    @torch.inference_mode()
    def _view(self, seam: int, is_last: bool = False) -> View:
        assert self.visual is not None
        assert self.audio is not None
        v, a = (x[None, : self.length].to(self.model.device) for x in (self.visual, self.audio))
        outputs = self.model(v, a, torch.ones(v.shape[:2], dtype=torch.bool, device=v.device))
        view = View(outputs, self.start, (self.seam, seam), is_last)
        self.seam = seam
        return view


def views(model: Detector, steps: Iterable[tuple[Tensor, Tensor]]) -> Iterator[View]:
    """Those of a video whose steps come in pieces of both modalities, (n, Dv) and (n, Da)"""
    windows = Windows(model)
    for visual, audio in steps:
        yield from windows.push(visual, audio)
    yield from windows.finish()


@dataclass(frozen=True)
class Detections:
    """What a network finds in a video, or in a stretch of it."""

    events: EventList
    """Best first."""
    curves: dict[str, Curve]
    """What it says of every step, by name, e.g. `gate from audio`."""


def _decoder(
    model: Detector, timing: Timing, labels: Sequence[str], settings: DecodeSettings | None = None
) -> WindowDecoder:
    return WindowDecoder(timing, labels, model.config.max_length, model.config.hop, settings or model.detection)


def latency(model: Detector, timing: Timing) -> float:
    """The seconds at most from the end of an event to the step with which it is certain."""
    steps = Windows(model).latency + _decoder(model, timing, ()).latency
    return (steps * timing.stride + timing.window / 2) / timing.fps


def stretches(
    model: Detector,
    steps: Iterable[tuple[Tensor, Tensor]],
    timing: Timing,
    labels: Sequence[str],
    settings: DecodeSettings | None = None,
) -> Iterator[Detections]:
    """What is found in a video of any length, as soon as it is certain: no later step changes it.

    Curves come stretch by stretch, the events of a stretch a while later; they may reach beyond the video's end.
    `settings` are by default the network's own.
    """
    decoder = _decoder(model, timing, labels, settings)
    for view in views(model, steps):
        events = decoder.push(view.outputs, view.start, view.middle, view.is_last)
        own = timing._replace(start=timing.start + view.middle[0] * timing.step_seconds)
        yield Detections(events, {name: Curve(own, values) for name, values in view.curves().items()})


def find_events(
    model: Detector,
    steps: Iterable[tuple[Tensor, Tensor]],
    timing: Timing,
    labels: Sequence[str],
    settings: DecodeSettings | None = None,
) -> Detections:
    """All of it together."""
    parts = list(stretches(model, steps, timing, labels, settings))
    events = EventList.join([part.events for part in parts], labels)
    names = parts[0].curves if parts else ()
    curves = {name: Curve(timing, np.concatenate([part.curves[name].values for part in parts])) for name in names}
    return Detections(events.select(np.argsort(-events.scores, kind="stable")), curves)
