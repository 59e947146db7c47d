"""A network with a maximum length on videos of any length: overlapping windows, each event from where it is seen best.

A window begins at every step of the coarsest level, so that the points of all levels coincide, and what a point
proposes counts in the window in whose middle the proposed event lies, wherever in the video that is. Memory does not
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
from davel.core.timeline import Timing
from davel.detection import DecodeSettings
from davel.detection.decode import WindowDecoder
from davel.models.pyramid import Outputs, Runs


@dataclass(frozen=True)
class View:
    """A window's outputs, and the stretch of the video that lies in its middle; the stretches cover the video."""

    outputs: Outputs
    """Of a batch of one."""
    start: int
    """The step with which the window begins, a multiple of the coarsest level's step."""
    middle: tuple[int, int]
    """The steps of the stretch: of the first window from 0, of the last to T."""
    is_last: bool

    def gate(self, modality: str) -> NDArray[np.float32] | None:
        """At the steps of the stretch, on the finest level; None if the network has no gates."""
        levels = self.outputs.gates[modality]
        first, end = (step - self.start for step in self.middle)
        return levels[0][0, first:end].float().cpu().numpy() if levels else None


class Windows:
    """Steps in, views out, one after the other."""

    def __init__(self, model: Runs) -> None:
        self.model = model
        self.length: int = model.config.max_length
        self.unit = model.config.unit
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
        return math.ceil((self.length + self.unit) / 2)

    def push(self, visual: Tensor, audio: Tensor) -> Iterator[View]:
        """The next steps, (n, Dv) and (n, Da)"""
        self.visual = visual if self.visual is None else torch.cat([self.visual, visual])
        self.audio = audio if self.audio is None else torch.cat([self.audio, audio])
        self.T += len(visual)
        while self.T > self.start + self.length:  # the next window sees what lies beyond; they meet in their middle
            yield self._view(self.start + math.ceil((self.unit + self.length) / 2))
            self.visual, self.audio = self.visual[self.unit :], self.audio[self.unit :]
            self.start += self.unit

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


def views(model: Runs, steps: Iterable[tuple[Tensor, Tensor]]) -> Iterator[View]:
    """Those of a video whose steps come in pieces of both modalities, (n, Dv) and (n, Da)"""
    windows = Windows(model)
    for visual, audio in steps:
        yield from windows.push(visual, audio)
    yield from windows.finish()


@dataclass(frozen=True)
class Found:
    """What a network finds in a video, or in a stretch of it."""

    events: EventList
    """Best first."""
    gates: dict[str, NDArray[np.float32]]
    """`audio` and `visual`: (T,) at the finest level; empty in a network without gates."""


def _decoder(
    model: Runs, timing: Timing, labels: Sequence[str], settings: DecodeSettings | None = None
) -> WindowDecoder:
    return WindowDecoder(timing, labels, model.config.max_length, model.config.unit, settings)


def latency(model: Runs, timing: Timing) -> float:
    """The seconds at most from the end of an event to the step with which it is certain."""
    steps = Windows(model).latency + _decoder(model, timing, ()).latency
    return (steps * timing.stride + timing.window / 2) / timing.fps


def stretches(
    model: Runs,
    steps: Iterable[tuple[Tensor, Tensor]],
    timing: Timing,
    labels: Sequence[str],
    settings: DecodeSettings | None = None,
) -> Iterator[Found]:
    """What is found in a video of any length, as soon as it is certain: no later step changes it.

    Gates come stretch by stretch, the events of a stretch a while later; they may reach beyond the video's end.
    """
    decoder = _decoder(model, timing, labels, settings)
    for view in views(model, steps):
        events = decoder.push(view.outputs, view.start, view.middle, view.is_last)
        gates = {modality: view.gate(modality) for modality in view.outputs.gates}
        yield Found(events, {modality: gate for modality, gate in gates.items() if gate is not None})


def find_events(
    model: Runs,
    steps: Iterable[tuple[Tensor, Tensor]],
    timing: Timing,
    labels: Sequence[str],
    settings: DecodeSettings | None = None,
) -> Found:
    """All of it together."""
    parts = list(stretches(model, steps, timing, labels, settings))
    events = EventList.join([part.events for part in parts], labels)
    gates = {m: np.concatenate([part.gates[m] for part in parts]) for m in (parts[0].gates if parts else ())}
    return Found(events.select(np.argsort(-events.scores, kind="stable")), gates)
