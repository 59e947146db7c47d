"""A network with a maximum length on videos of any length: overlapping windows, each point from where it is seen best.

A window begins at every step of the coarsest level, so that the points of all levels coincide, and each point is taken
from the window in which it lies nearest to the middle, wherever in the video that is. Memory does not grow with the
video: one window of steps is kept, and what comes at a time.

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

from davel.detection import DecodeSettings
from davel.detection.decode import StretchDecoder
from davel.events import EventList
from davel.features.spec import Timing
from davel.models.network import Network, Outputs


@dataclass(frozen=True)
class Stretch:
    """A network's outputs between two seams."""

    outputs: Outputs
    """Of a batch of one."""
    firsts: tuple[int, ...]
    """The number of the first point of each level; point i of level l is at step i * 2^l."""


class Windows:
    """Steps in, stretches out, one after the other."""

    def __init__(self, model: Network) -> None:
        self.model = model
        self.length = model.config.max_length
        self.num_levels = model.config.num_levels
        self.unit = 2 ** (self.num_levels - 1)
        self.visual: Tensor | None = None
        self.audio: Tensor | None = None
        self.T = 0
        """The steps that have come."""
        self.start = 0
        """Of the next window, and the first step that is kept."""
        self.last: tuple[int, int, Outputs] | None = None
        """Start and end of the window before, and its outputs."""
        self.seam = 0.0
        """Where the last stretch ended."""

    def push(self, visual: Tensor, audio: Tensor) -> Iterator[Stretch]:
        """The next steps, (n, Dv) and (n, Da)"""
        self.visual = visual if self.visual is None else torch.cat([self.visual, visual])
        self.audio = audio if self.audio is None else torch.cat([self.audio, audio])
        self.T += len(visual)
        while self.T > self.start + self.length:  # what lies beyond it will be seen by another window
            yield from self._run(self.start)
            self.visual, self.audio = self.visual[self.unit :], self.audio[self.unit :]
            self.start += self.unit

    def finish(self) -> Iterator[Stretch]:
        """The last window reaches the end of the video, and the last stretch, too."""
        if self.T == 0:
            return
        yield from self._run(max(math.ceil((self.T - self.length) / self.unit), 0) * self.unit)
        yield self._stretch(float(self.T))

    @torch.inference_mode()
    def _run(self, start: int) -> Iterator[Stretch]:
        assert self.visual is not None
        assert self.audio is not None
        if self.last is not None:
            yield self._stretch((start + self.last[1]) / 2)  # the middle of the overlap
        device = next(self.model.parameters()).device
        part = slice(start - self.start, start - self.start + self.length)
        v, a = self.visual[None, part].to(device), self.audio[None, part].to(device)
        outputs = self.model(v, a, torch.ones(v.shape[:2], dtype=torch.bool, device=device))
        self.last = (start, start + v.shape[1], outputs)

    def _stretch(self, seam: float) -> Stretch:
        assert self.last is not None
        start, _, outputs = self.last
        firsts = tuple(math.ceil(self.seam / 2**level) for level in range(self.num_levels))
        ends = [math.ceil(seam / 2**level) for level in range(self.num_levels)]

        def cut(levels: Sequence[Tensor]) -> list[Tensor]:
            return [
                x[:, first - start // 2**level : end - start // 2**level]
                for level, (x, first, end) in enumerate(zip(levels, firsts, ends, strict=False))
            ]

        self.seam = seam
        gates = {modality: cut(levels) for modality, levels in outputs.gates.items()}
        return Stretch(Outputs(cut(outputs.logits), cut(outputs.offsets), gates), firsts)


def stretches(model: Network, steps: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Stretch]:
    """Those of a video whose steps come in pieces of both modalities, (n, Dv) and (n, Da)"""
    windows = Windows(model)
    for visual, audio in steps:
        yield from windows.push(visual, audio)
    yield from windows.finish()


@dataclass(frozen=True)
class Found:
    """What a network finds in a video."""

    events: EventList
    """Best first."""
    gates: dict[str, NDArray[np.float32]]
    """`audio` and `visual`: (T,) at the finest level; empty in a network without gates."""


def find_events(
    model: Network,
    steps: Iterable[tuple[Tensor, Tensor]],
    timing: Timing,
    labels: Sequence[str],
    settings: DecodeSettings | None = None,
) -> Found:
    """The events of a video of any length; they may reach beyond its end."""
    decoder = StretchDecoder(timing, labels, model.config.max_length, settings)
    gates: dict[str, list[NDArray[np.float32]]] = {}
    for stretch in stretches(model, steps):
        decoder.push(stretch.outputs, stretch.firsts)
        for modality, levels in stretch.outputs.gates.items():
            if levels:
                gates.setdefault(modality, []).append(levels[0][0].float().cpu().numpy())
    return Found(decoder.finish(), {modality: np.concatenate(parts) for modality, parts in gates.items()})
