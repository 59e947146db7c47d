"""The events of a recording while it is made."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel.core.events import Event, EventList
from davel.core.returning import through
from davel.detection import DecodeSettings
from davel.detection.windows import latency, stretches
from davel.features.family import STEPS_AT_ONCE
from davel.features.reading import Extractors, Settings, read
from davel.media import Coverage
from davel.models.detector import Detector
from davel.models.saved import ModelInfo

CODERS_SECONDS = 2.0
"""What decoders and resamplers keep for themselves, unless pictures come less often than some every second."""


class Following:
    """Iterate over it once: each event comes as soon as nothing that is yet to come can change it.

    The events are those that `Localizer.localize` finds in the whole recording. MediaError if it cannot be read on.
    """

    def __init__(
        self,
        model: Detector,
        info: ModelInfo,
        path: Path,
        least: float | Sequence[float],
        settings: DecodeSettings,
        idle_seconds: float,
        extractors: Extractors | None = None,
    ) -> None:
        self._model, self._labels, self._timing = model, info.labels, info.features.timing
        self._least, self._settings = least, settings
        making = Settings(info.features, str(model.device))
        self._reading = read(path, making, idle_seconds=idle_seconds, extractors=extractors, tracks=info.tracks)
        self.coverage: Coverage | None = None
        """What was decoded; None before the last event."""

    @property
    def latency_seconds(self) -> float:
        """How long after its end, on the media clock, an event is told at the latest; computing comes on top."""
        waiting = STEPS_AT_ONCE * self._timing.stride / self._timing.fps
        return latency(self._model, self._timing) + waiting + CODERS_SECONDS

    @property
    def seconds(self) -> float:
        """Of the recording that have been read."""
        return self._reading.seconds

    def __iter__(self) -> Iterator[Event]:
        covered = 0.0

        T, span = 0, (0.0, 0.0)

        def tensors(arrays: Sequence[NDArray[np.float32]]) -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal covered, T
            T += len(arrays[0])
            covered = ((T - 1) * self._timing.stride + self._timing.window) / self._timing.fps
            yield torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])

        def steps() -> Generator[tuple[Tensor, Tensor]]:
            nonlocal span
            _, self.coverage = yield from through(self._reading.steps(), tensors)
            span = self.coverage.both

        waiting = EventList.of([], self._labels)
        for found in stretches(self._model, steps(), self._timing, self._labels, self._settings):
            new = found.events.clipped(self._reading.begin, math.inf).above(self._least)
            waiting = EventList.join([waiting, new], self._labels)
            seen = waiting.segments[:, 1] <= covered  # one that reaches beyond may be cut by the recording's end
            yield from _in_order(waiting.select(seen))
            waiting = waiting.select(~seen)
        yield from _in_order(waiting.clipped(*span))


def _in_order(events: EventList) -> EventList:
    """By their start."""
    return events.select(np.argsort(events.segments[:, 0], kind="stable"))
