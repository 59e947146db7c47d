"""From a network's candidates to events in seconds.

Shapes: B videos, T steps, P candidates of a video, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel.core.events import EventList
from davel.core.timeline import Timing
from davel.detection.nms import Floats, nms
from davel.models.detector import Candidates, DecodeSettings, DetectorOutputs, NmsSettings

__all__ = ["DecodeSettings", "WindowDecoder", "decode"]

ONE_RUN_ONLY = NmsSettings(method="hard", iou_threshold=0.4)
"""How candidates that do not repeat each other within one run of a network are treated where several runs overlap."""


def decode(
    outputs: DetectorOutputs,
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
    candidates = outputs.within(mask).candidates()
    B, _, C = candidates.scores.shape
    durations = np.broadcast_to(np.asarray(duration, dtype=np.float64), (B,))
    names = tuple(labels) if labels is not None else tuple(map(str, range(C)))
    found = []
    for b in range(B):
        segments, scores, classes = _best(candidates, b, settings)
        kept = nms(segments.astype(np.float64), scores, classes, settings.nms)
        found.append(_events(timing, names, *kept).clipped(timing.start, timing.start + float(durations[b])))
    return found


def _events(
    timing: Timing, labels: tuple[str, ...], segments: Floats, scores: Floats, classes: NDArray[np.integer]
) -> EventList:
    """Segments in steps (N, 2) as events; one that lies before the video is none."""
    seconds = timing.seconds(np.asarray(segments, np.float64)).clip(min=timing.start)
    real = seconds[:, 0] < seconds[:, 1]
    return EventList(segments=seconds[real], scores=scores[real], label_ids=classes[real], labels=labels)


class WindowDecoder:
    """The same for a long video that is seen in overlapping windows, one after the other.

    A candidate counts in the window in whose middle it lies, and a little beyond that, so that none falls between two
    windows: all that is proposed for a long event is then heard where it is seen whole.

    A block of time is settled at a time: its candidates compete with those of half a length before and after, and those
    events are kept whose middle lies in it, so that each comes once. A video of at most one length has the events that
    `decode` gives. Memory: the candidates of two lengths.
    """

    def __init__(
        self, timing: Timing, labels: Sequence[str], length: int, hop: int, settings: DecodeSettings | None = None
    ) -> None:
        """`length` is that of a window in steps, which begin every `hop` steps; each `hop` of steps may have
        `max_events` of its own."""
        self.timing, self.labels, self.length, self.hop = Timing(*timing), tuple(labels), length, hop
        self.settings = settings or DecodeSettings()
        self.margin = hop / 4
        """The steps beyond a window's middle from which it is still heard."""
        self.context = length // 2
        """The steps before and after a block, whose candidates compete with its own."""
        self.open: list[WindowCandidates] = []
        """Of each window that is still looked at."""
        self.known = 0
        """The steps whose candidates have come."""
        self.settled = 0
        """The steps whose events are certain."""

    @property
    def latency(self) -> int:
        """The steps at most from the end of what is certain to the end of what has come."""
        return self.hop + self.context

    def push(self, outputs: DetectorOutputs, start: int, middle: tuple[int, int], is_last: bool) -> EventList:
        """The outputs of the next window, its first step, and the steps in its middle, which follow on the last ones:
        the events that are certain now and were not before; after the last window, all that are left."""
        first, last = (step - start for step in middle)
        between = (
            first - self.margin if middle[0] else -math.inf,
            math.inf if is_last else last + self.margin,
        )
        candidates = outputs.candidates()
        segments, scores, classes = _best(candidates, 0, self.settings, between)
        self.known = middle[1]
        segments = start + segments.astype(np.float64)  # after days, single precision would be steps apart
        self.open.append(WindowCandidates(*middle, len(candidates.groups), segments, scores, classes))
        found = []
        if is_last and len(self.open) == 1 and self.settled == 0:  # one window: all at once
            found.append(self._settle(math.inf, self.settings.nms))
        repeated = self.settings.nms
        if repeated.method == "none":  # what one run does not repeat, another may
            repeated = replace(ONE_RUN_ONLY, max_events=repeated.max_events, min_score=0.0)
        while self.known - self.settled >= self.latency:
            found.append(self._settle(self.settled + self.hop, repeated))
        while is_last and self.settled < self.known:
            following = self.settled + self.hop
            found.append(self._settle(following if following < self.known else math.inf, repeated))
        self.open = [c for c in self.open if c.end > self.settled - self.context]
        return EventList.join(found, self.labels)

    def _settle(self, end: float, settings: NmsSettings) -> EventList:
        """The events from where the last ones ended to step `end`."""
        start = self.settled or -math.inf
        around = [c for c in self.open if c.end > self.settled - self.context and c.start < end + self.context]
        segments = np.concatenate([c.segments for c in around])
        scores = np.concatenate([c.scores for c in around])
        classes = np.concatenate([c.classes for c in around])
        lengths = math.ceil((around[-1].end - around[0].start) / self.length)
        most = around[0].num_groups * self.settings.max_candidates * lengths
        best = np.argsort(-scores, kind="stable")[:most]
        settings = replace(settings, max_events=settings.max_events * lengths)
        segments, scores, classes = nms(segments[best], scores[best], classes[best], settings)
        middle = segments.mean(1)
        own = np.flatnonzero((start <= middle) & (middle < end))[: self.settings.nms.max_events]
        self.settled = self.known if end == math.inf else int(end)
        return _events(self.timing, self.labels, segments[own], scores[own], classes[own])


@dataclass(frozen=True)
class WindowCandidates:
    """With their middle from about step `start` to `end`: segments in steps (N, 2), scores and classes (N,)"""

    start: int
    end: int
    num_groups: int
    segments: Floats
    scores: Floats
    classes: NDArray[np.integer]


def _best(
    candidates: Candidates,
    b: int,
    settings: DecodeSettings,
    between: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[Floats, Floats, NDArray[np.integer]]:
    """The best of each group of a video's candidates: segments (N, 2) in steps, scores (N,), classes (N,)

    The segments' middles lie `between` two steps.
    """
    C = candidates.scores.shape[2]
    tensors = candidates.segments[b].expand(-1, C, 2), candidates.scores[b]
    groups = zip(*(tensor.split_with_sizes(candidates.groups) for tensor in tensors), strict=True)
    found = [_best_of_group(segments, scores, settings, between) for segments, scores in groups]
    segments, scores, classes = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
    return segments, scores, classes


def _best_of_group(
    segments: Tensor, scores: Tensor, settings: DecodeSettings, between: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """(P, C, 2), (P, C) -> segments (N, 2), scores (N,), classes (N,)"""
    C = scores.shape[1]
    segments, scores = segments.flatten(0, 1), scores.flatten()
    middle = segments.mean(-1)
    scores = scores.where((between[0] <= middle) & (middle < between[1]), 0)
    num = min(settings.max_candidates, int((scores > settings.min_score).sum()))
    scores, index = scores.topk(num)
    segments = segments[index]
    kept = segments[:, 1] - segments[:, 0] > settings.min_length
    return segments[kept], scores[kept], index[kept] % C
