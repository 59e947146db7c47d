"""From a network's outputs to events in seconds.

Shapes: B videos, T steps, C classes, l a level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel.core.events import EventList
from davel.core.timeline import Timing
from davel.detection.nms import Floats, NmsSettings, nms
from davel.models.pyramid import Outputs


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    min_score: float = 0.001
    """Candidates must score more than this."""
    max_candidates: int = 2000
    """Best candidates of each level that go into the suppression."""
    min_length: float = 0.05
    """Candidates must be longer than this, in steps of the finest level."""
    nms: NmsSettings = field(default_factory=NmsSettings)


def decode(
    outputs: Outputs,
    mask: Tensor,
    timing: Timing | tuple[float, int, int],
    duration: float | Sequence[float],
    settings: DecodeSettings | None = None,
    labels: Sequence[str] | None = None,
) -> list[EventList]:
    """The events of each video of a batch, best first.

    `mask` (B, T) is the one that the network was given; `timing` is (fps, stride, window) in frames; `duration` is
    each video's in seconds (or one for all): events end there. `labels` names the classes, by default their numbers.
    """
    settings = settings or DecodeSettings()
    timing = Timing(*timing)
    B = mask.shape[0]
    durations = np.broadcast_to(np.asarray(duration, dtype=np.float64), (B,))
    names = tuple(labels) if labels is not None else tuple(map(str, range(outputs.logits[0].shape[-1])))
    return [_decode_video(outputs, mask, b, timing, float(durations[b]), settings, names) for b in range(B)]


def _decode_video(
    outputs: Outputs,
    mask: Tensor,
    b: int,
    timing: Timing,
    duration: float,
    settings: DecodeSettings,
    labels: tuple[str, ...],
) -> EventList:
    levels = [
        _candidates(logits[b], offsets[b], mask[b, :: 2**level], level, settings)
        for level, (logits, offsets) in enumerate(zip(outputs.logits, outputs.offsets, strict=True))
    ]
    segments, scores, classes = (torch.cat(part).cpu().numpy() for part in zip(*levels, strict=True))
    return _events(timing, labels, *nms(segments.astype(np.float64), scores, classes, settings.nms)).clipped(
        0, duration
    )


def _events(
    timing: Timing, labels: tuple[str, ...], segments: Floats, scores: Floats, classes: NDArray[np.integer]
) -> EventList:
    """Segments in steps (N, 2) as events; one that lies before the video is none."""
    seconds = timing.seconds(np.asarray(segments, np.float64)).clip(min=timing.start)
    real = seconds[:, 0] < seconds[:, 1]
    return EventList(segments=seconds[real], scores=scores[real], label_ids=classes[real], labels=labels)


class WindowDecoder:
    """The same for a long video that is seen in overlapping windows, one after the other.

    What a point proposes counts in the window in whose middle the proposed event lies, and a little beyond that, so
    that none falls between two windows: all of a long event's points are then heard where it is seen whole.

    A block of time is settled at a time: its candidates compete with those of half a length before and after, and those
    events are kept whose middle lies in it, so that each comes once. A video of at most one length has the events that
    `decode` gives. Memory: the candidates of two lengths.
    """

    def __init__(
        self, timing: Timing, labels: Sequence[str], length: int, block: int, settings: DecodeSettings | None = None
    ) -> None:
        """`length` is that of a window in steps; each `block` of steps may have `max_events` of its own."""
        self.timing, self.labels, self.length, self.block = Timing(*timing), tuple(labels), length, block
        self.settings = settings or DecodeSettings()
        self.context = length // 2
        """The steps before and after a block, whose candidates compete with its own."""
        self.num_levels = 0
        self.open: list[Candidates] = []
        """Of each window that is still looked at."""
        self.known = 0
        """The steps whose candidates have come."""
        self.settled = 0
        """The steps whose events are certain."""

    @property
    def latency(self) -> int:
        """The steps at most from the end of what is certain to the end of what has come."""
        return self.block + self.context

    def push(self, outputs: Outputs, start: int, middle: tuple[int, int], is_last: bool) -> EventList:
        """The outputs of the next window, its first step, and the steps in its middle, which follow on the last ones:
        the events that are certain now and were not before; after the last window, all that are left."""
        self.num_levels = len(outputs.logits)
        margin = 2**self.num_levels / 8  # a quarter of the coarsest level's step
        first, last = (step - start for step in middle)
        between = (first - margin if middle[0] else -math.inf, math.inf if is_last else last + margin)
        levels = [
            _candidates(logits[0], offsets[0], torch.ones_like(logits[0, :, 0]), level, self.settings, between)
            for level, (logits, offsets) in enumerate(zip(outputs.logits, outputs.offsets, strict=True))
        ]
        segments, scores, classes = (torch.cat(part).cpu().numpy() for part in zip(*levels, strict=True))
        self.known = middle[1]
        segments = start + segments.astype(np.float64)  # after days, single precision would be steps apart
        self.open.append(Candidates(*middle, segments, scores, classes))
        found = []
        if is_last and len(self.open) == 1 and self.settled == 0:  # one window: all at once
            found.append(self._settle(math.inf))
        while self.known - self.settled >= self.latency:
            found.append(self._settle(self.settled + self.block))
        while is_last and self.settled < self.known:
            following = self.settled + self.block
            found.append(self._settle(following if following < self.known else math.inf))
        self.open = [c for c in self.open if c.end > self.settled - self.context]
        return EventList.join(found, self.labels)

    def _settle(self, end: float) -> EventList:
        """The events from where the last ones ended to step `end`."""
        start = self.settled or -math.inf
        around = [c for c in self.open if c.end > self.settled - self.context and c.start < end + self.context]
        segments = np.concatenate([c.segments for c in around])
        scores = np.concatenate([c.scores for c in around])
        classes = np.concatenate([c.classes for c in around])
        lengths = math.ceil((around[-1].end - around[0].start) / self.length)
        best = np.argsort(-scores, kind="stable")[: self.num_levels * self.settings.max_candidates * lengths]
        nms_settings = replace(self.settings.nms, max_events=self.settings.nms.max_events * lengths)
        segments, scores, classes = nms(segments[best], scores[best], classes[best], nms_settings)
        middle = segments.mean(1)
        own = np.flatnonzero((start <= middle) & (middle < end))[: self.settings.nms.max_events]
        self.settled = self.known if end == math.inf else int(end)
        return _events(self.timing, self.labels, segments[own], scores[own], classes[own])


@dataclass(frozen=True)
class Candidates:
    """With their middle from about step `start` to `end`: segments in steps (N, 2), scores and classes (N,)"""

    start: int
    end: int
    segments: Floats
    scores: Floats
    classes: NDArray[np.integer]


def _candidates(
    logits: Tensor,
    offsets: Tensor,
    mask: Tensor,
    level: int,
    settings: DecodeSettings,
    between: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[Tensor, Tensor, Tensor]:
    """(T, C), (T, C, 2), (T,) -> the level's best segments (N, 2) in grid units, scores (N,), classes (N,)

    The segments' middles lie `between` two steps.
    """
    T, C = logits.shape
    step = 2**level
    points = step * torch.arange(T, device=logits.device)[:, None]
    before, after = (offsets.float() * step).unbind(-1)  # (T, C)
    segments = torch.stack([points - before, points + after], dim=-1).flatten(0, 1)
    middle = segments.mean(-1)
    scores = (logits.float().sigmoid() * mask[:, None]).flatten()
    scores = scores.where((between[0] <= middle) & (middle < between[1]), 0)
    num = min(settings.max_candidates, int((scores > settings.min_score).sum()))
    scores, index = scores.topk(num)
    segments = segments[index]
    kept = segments[:, 1] - segments[:, 0] > settings.min_length
    return segments[kept], scores[kept], index[kept] % C
