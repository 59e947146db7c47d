"""From a network's outputs to events in seconds.

Shapes: B videos, T steps, C classes, l a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from davel.detection.nms import NmsSettings, nms
from davel.events import EventList
from davel.features.spec import Timing
from davel.models.network import Outputs


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
    segments, scores, classes = nms(segments, scores, classes, settings.nms)
    seconds = timing.seconds(segments.astype(np.float64)).clip(0, duration)
    real = seconds[:, 0] < seconds[:, 1]  # one that lies beyond the video's ends is none
    return EventList(segments=seconds[real], scores=scores[real], label_ids=classes[real], labels=labels)


def _candidates(
    logits: Tensor, offsets: Tensor, mask: Tensor, level: int, settings: DecodeSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """(T, C), (T, C, 2), (T,) -> the level's best segments (N, 2) in grid units, scores (N,), classes (N,)"""
    C = logits.shape[1]
    scores = (logits.float().sigmoid() * mask[:, None]).flatten()
    num = min(settings.max_candidates, int((scores > settings.min_score).sum()))
    scores, index = scores.topk(num)
    step = 2**level
    position = (index // C) * step
    start, end = (offsets.float().flatten(0, 1)[index] * step).unbind(-1)
    segments = torch.stack([position - start, position + end], dim=-1)
    kept = segments[:, 1] - segments[:, 0] > settings.min_length
    return segments[kept], scores[kept], index[kept] % C
