"""What the decoder should say: the class and the boundaries of the annotated events at every step of the pyramid.

Shapes: B videos, P points (the steps of all levels, finest first), N events, C classes, L levels. Grid units are
steps of the finest level: step i of level l is the point i * 2^l.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from davel.models.detector import Truth

Ranges = tuple[tuple[float, float], ...]
REGRESSION_RANGES: Ranges = ((0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000))
"""For each level, the reach in grid units (both ends included) of the events that it is responsible for."""


@dataclass(frozen=True)
class Targets:
    classes: Tensor
    """(B, P, C) bool: the event classes that a point is responsible for."""
    offsets: Tensor
    """(B, P, C or 1, 2): distance to start and end, in steps of the point's level; zero where no event is. 1: of one
    event for all classes."""
    bounded: Tensor
    """(B, P, C or 1) bool: where offsets are asked for."""

    @property
    def num_positive(self) -> Tensor:
        """Points that are responsible for something."""
        return self.classes.any(-1).sum()

    def within(self, real: Tensor) -> Targets:
        """The same with nothing positive but at the given points (B, P)."""
        return Targets(self.classes & real[..., None], self.offsets, self.bounded & real[..., None])


def points(num_steps: int, num_levels: int) -> tuple[Tensor, Tensor]:
    """The positions (P,) in grid units of all steps of a pyramid, and the levels (P,) that they are on."""
    steps = [math.ceil(num_steps / 2**level) for level in range(num_levels)]
    position = torch.cat([torch.arange(n) * 2**level for level, n in enumerate(steps)])
    return position.float(), torch.repeat_interleave(torch.arange(num_levels), torch.tensor(steps))


def _responsible(position: Tensor, level: Tensor, segments: Tensor, regression_ranges: Ranges) -> tuple[Tensor, Tensor]:
    """Points (P,), segments (..., N, 2) in steps -> whether a point is positive for an event (..., P, N), and its
    distances to start and end (..., P, N, 2).

    It is if it lies strictly inside and the farther boundary is within its level's range, both ends included.
    """
    if int(level.max()) >= len(regression_ranges):
        raise ValueError(f"regression ranges are known for {len(regression_ranges)} levels, got {int(level.max()) + 1}")
    ranges = torch.tensor(regression_ranges, dtype=torch.float32, device=segments.device)
    low, high = ranges[level].unbind(-1)
    start, end = segments[..., None, :, :].unbind(-1)  # (..., 1, N)
    t = position[:, None]
    distances = torch.stack([t - start, end - t], dim=-1)  # (..., P, N, 2)
    reach = distances.amax(-1)
    inside = distances.amin(-1) > 0
    return inside & (reach >= low[:, None]) & (reach <= high[:, None]), distances


def reached(segments: Tensor, num_steps: Tensor, regression_ranges: Ranges = REGRESSION_RANGES) -> Tensor:
    """Whether some point is positive for each event: segments (N, 2) in steps, their videos' steps (N,) -> (N,) bool

    An event that no point is positive for teaches the network nothing.
    """
    found = torch.zeros(len(segments), dtype=torch.bool)
    for first in range(0, len(segments), 4096):
        part = slice(first, first + 4096)
        position, level = points(int(num_steps[part].max()), len(regression_ranges))
        positive, _ = _responsible(position, level, segments[part].float(), regression_ranges)
        found[part] = (positive & (position[:, None] < num_steps[part])).any(0)
    return found


def assign(
    position: Tensor, level: Tensor, truth: Truth, num_classes: int, regression_ranges: Ranges = REGRESSION_RANGES
) -> Targets:
    """Points (P,) with their levels (P,), and the events -> what each point should say.

    A point is positive for an event that it lies strictly inside of, if the farther boundary is within the level's
    range. Of two such events of one class, the later in the annotation's order counts.
    """
    device = truth.segments.device
    position, level = position.to(device), level.to(device)
    positive, distances = _responsible(position, level, truth.segments, regression_ranges)
    positive &= (truth.labels >= 0)[:, None]

    B, P, N = positive.shape
    # several events of one class: (B, N, N), whether the second one comes later
    later = (truth.labels[:, :, None] == truth.labels[:, None]) & torch.ones(N, N, device=device).triu(1).bool()
    beaten = positive.float() @ later.float().mT > 0  # (B, P, N)
    b, p, n = (positive & ~beaten).nonzero(as_tuple=True)
    c = truth.labels[b, n]
    classes = torch.zeros(B, P, num_classes, dtype=torch.bool, device=device)
    offsets = torch.zeros(B, P, num_classes, 2, device=device)
    classes[b, p, c] = True
    offsets[b, p, c] = distances[b, p, n] / 2 ** level[p, None].to(distances.dtype)
    return Targets(classes, offsets, classes)


CENTRE_RADIUS = 1.5
"""Steps of a point's level that it may be away from an event's centre."""
SAME_LENGTH = 1e-3
"""Grid units by which a point's events may be longer than the shortest and still count."""


def assign_shortest(
    position: Tensor,
    level: Tensor,
    truth: Truth,
    num_classes: int,
    regression_ranges: Ranges = REGRESSION_RANGES,
    radius: float | None = CENTRE_RADIUS,
) -> Targets:
    """The same where a point has one pair of offsets for all classes (ActionFormer, arXiv:2202.07925).

    A point is a candidate for an event that it lies inside of, whose middle is within `radius` steps of its level
    (None: however far), and whose farther boundary is within the level's range. Of several such events the shortest
    counts (of equals the first), and all classes of those that are as long.
    """
    device = truth.segments.device
    position, level = position.to(device), level.to(device)
    nothing = Truth(F.pad(truth.segments, (0, 0, 0, 1)), F.pad(truth.labels, (0, 1), value=-1))  # N is 1 at least
    candidate, distances = _responsible(position, level, nothing.segments, regression_ranges)
    candidate &= (nothing.labels >= 0)[:, None]
    if radius is not None:
        candidate &= _central(position, level, nothing.segments, radius)

    lengths = (nothing.segments[..., 1] - nothing.segments[..., 0])[:, None].expand(candidate.shape)
    lengths = lengths.masked_fill(~candidate, math.inf)  # (B, P, N)
    chosen = lengths.argmin(-1, keepdim=True)  # (B, P, 1), the first of equals
    equal = candidate & (lengths <= lengths.gather(-1, chosen) + SAME_LENGTH)
    b, p, n = equal.nonzero(as_tuple=True)
    classes = torch.zeros(*candidate.shape[:2], num_classes, dtype=torch.bool, device=device)
    classes[b, p, nothing.labels[b, n]] = True
    bounded = classes.any(-1, keepdim=True)  # (B, P, 1)
    offsets = distances.gather(2, chosen[..., None].expand(-1, -1, -1, 2))  # (B, P, 1, 2)
    scale = 2 ** level[:, None, None].to(offsets.dtype)
    return Targets(classes, (offsets / scale).where(bounded[..., None], 0), bounded)


def _central(position: Tensor, level: Tensor, segments: Tensor, radius: float) -> Tensor:
    """Points (P,), segments (B, N, 2) -> whether a point lies strictly inside that part of an event that is near its
    centre, (B, P, N)"""
    start, end = segments[:, None].unbind(-1)  # (B, 1, N)
    centre, reach = (start + end) / 2, radius * 2 ** level[:, None].to(segments.dtype)
    t = position[:, None]
    return (t > torch.maximum(start, centre - reach)) & (t < torch.minimum(end, centre + reach))
