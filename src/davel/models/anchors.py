"""Anchors on a canvas: a network refines segments of fixed places and lengths, and training matches them with events.

Shapes: B videos, n the steps of a video, T the positions of the canvas, P anchors, C classes, N events, G boxes on the
canvas. A box is (start, end) in positions of the canvas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from davel.models.blocks import interpolate
from davel.models.detector import Candidates, DetectorOutputs, Objective, Truth
from davel.models.sets import lengths_of

CODE = (10.0, 5.0)
"""What the centre and the logarithm of the length of an anchor's refinement are multiplied by."""
LONGEST = math.log(1000 / 16)
"""Of that logarithm: a refined anchor is at most so many times as long."""
MIN_PROBABILITY = 0.005
"""A class that is less probable is none."""
START_REACH = 1.5
"""Positions around a boundary that count as it."""
THRESHOLDS = (0.5, 0.5, 0.7)
"""Overlaps from which an anchor, a refined segment, and one whose boundaries were adjusted are right."""
MAP_WEIGHT = 0.2


@dataclass(frozen=True)
class Stitching:
    """Where the steps of a video lie on the canvas: once as they are, and, behind a gap, magnified to its end."""

    length: int
    """T"""
    gap: int
    """Empty positions between the two."""
    margin: float
    """Steps before the first and behind the last one that the magnified part shows, too."""
    magnified: bool = True
    """Whether there is a second part; else zeros follow the video."""

    def draw(self, video: Tensor, lengths: Tensor) -> Tensor:
        """Videos (B, most steps, D), zero behind their lengths (B,) -> (B, T, D)"""
        if not self.magnified:
            return F.pad(video, (0, 0, 0, self.length - video.shape[1]))
        n = lengths[:, None]
        position = torch.arange(self.length, device=video.device, dtype=torch.float32).expand(len(video), -1)
        at = position.where(position < n, self.to_steps(position, lengths)).clamp(min=0).minimum(n - 1)
        empty = (position >= n) & (position < n + self.gap)
        return interpolate(video, at).masked_fill(empty[..., None], 0)

    def to_steps(self, positions: Tensor, lengths: Tensor) -> Tensor:
        """Of the magnified part: (B, ...) -> steps of videos of these lengths (B,)"""
        n = _rows(lengths, positions)
        whole = self.length - n - self.gap
        return (positions - n - self.gap + 0.5) / whole * (n + 2 * self.margin) - self.margin

    def to_positions(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """The other way."""
        n = _rows(lengths, steps)
        whole = self.length - n - self.gap
        return (steps + self.margin) / (n + 2 * self.margin) * whole - 0.5 + n + self.gap

    def boxes(self, segments: Tensor, lengths: Tensor) -> Tensor:
        """Events in steps (B, N, 2) -> where they lie on the canvas, all of the first part first: (B, G, 2), G = 2 N or
        N"""
        within = self.clamped(segments, lengths)
        return torch.cat([within, self.to_positions(within, lengths)], dim=1) if self.magnified else within

    def segments(self, boxes: Tensor, lengths: Tensor) -> Tensor:
        """Boxes (B, P, 2) of either part -> segments in steps, within what is shown of the video."""
        if self.magnified:
            second = boxes[..., :1] >= _rows(lengths, boxes) + self.gap / 2
            boxes = self.to_steps(boxes, lengths).where(second, boxes)
        return self.clamped(boxes, lengths)

    def clamped(self, segments: Tensor, lengths: Tensor) -> Tensor:
        return segments.clamp(min=-self.margin).minimum(_rows(lengths, segments) + self.margin)


def _rows(lengths: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...)"""
    return lengths.view(-1, *[1] * (like.dim() - 1))


def anchors_of(length: int, num_levels: int, scales: tuple[float, ...]) -> Tensor:
    """The boxes of all levels, the finest first, position by position, scale by scale: (P, 2)

    Level j has a position every 4 * 2^j of the canvas; both ends count as part of a box.
    """
    levels = []
    for level in range(num_levels):
        step = 4 * 2**level
        centre = step / 2 + step * torch.arange(length // step)
        reach = (step * torch.tensor(scales) - 1) / 2
        levels.append(torch.stack([centre[:, None] - reach, centre[:, None] + reach], dim=-1).flatten(0, 1))
    return torch.cat(levels)


def refined(anchors: Tensor, deltas: Tensor) -> Tensor:
    """Anchors (P, 2) and how their centre and length differ (B, P, 2) -> boxes (B, P, 2)"""
    length = anchors[:, 1] - anchors[:, 0] + 1
    centre = (anchors[:, 0] + anchors[:, 1]) / 2 + deltas[..., 0] / CODE[0] * length
    length = length * (deltas[..., 1] / CODE[1]).clamp(max=LONGEST).exp()
    return torch.stack([centre - (length - 1) / 2, centre + (length - 1) / 2], dim=-1)


@dataclass(frozen=True)
class AnchorOutputs(DetectorOutputs):
    """What is said of every anchor, the finest level first, and of every position of the canvas."""

    logits: Tensor
    """(B, P, C + 1), the first of no class"""
    deltas: Tensor
    """(B, P, 2)"""
    segments: Tensor
    """(B, P, 2): the refined anchors"""
    adjusted: Tensor
    """(B, P, 2): the same after a look at both boundaries"""
    maps: dict[str, Tensor]
    """`action`, `start`, `end`: (B, T) in [0, 1]"""
    lengths: Tensor
    """(B,), the videos' steps"""
    canvas: Stitching

    def candidates(self) -> Candidates:
        """A class's score is its probability, times how likely an event begins and ends there."""
        adjusted = self.adjusted.float()
        probability = self.logits.float().softmax(-1)[..., 1:]
        boundary = self._looked_up("start", adjusted[..., 0]) * self._looked_up("end", adjusted[..., 1])
        scores = (probability * boundary[..., None]).where(probability > MIN_PROBABILITY, 0)
        return Candidates(self.canvas.segments(adjusted, self.lengths)[:, :, None], scores, (scores.shape[1],))

    def _looked_up(self, name: str, position: Tensor) -> Tensor:
        """A map's mean at the two cells around a position: (B, P) -> (B, P)"""
        cells = self.maps[name].float()
        at = position.nan_to_num().clamp(0, cells.shape[1] - 1)
        return (cells.gather(1, at.floor().long()) + cells.gather(1, at.ceil().long())) / 2


@dataclass(frozen=True)
class AnchorTargets:
    boxes: Tensor
    """(B, G, 2)"""
    labels: Tensor
    """(B, G), -1 where a video has fewer"""
    maps: dict[str, Tensor]
    """`action`, `start`, `end`: (B, T) bool"""

    @property
    def num_positive(self) -> Tensor:
        """Videos: the losses of a piece are means over it, and weigh as many videos as it has."""
        return self.labels.new_tensor(len(self.labels)).float()


class AnchorCriterion(Objective):
    """Anchors are matched with events thrice: as they are, refined, and with their boundaries adjusted.

    Losses are means over the videos that are judged together, as in the released training on several GPUs.
    """

    adds_up = False

    anchors: Tensor
    num_videos: Tensor

    def __init__(self, canvas: Stitching, anchors: Tensor) -> None:
        super().__init__()
        self.canvas = canvas
        self.register_buffer("anchors", anchors, persistent=False)
        self.register_buffer("num_videos", torch.ones(()))

    def targets(self, mask: Tensor, truth: Truth, num_classes: int) -> AnchorTargets:
        boxes = self.canvas.boxes(truth.segments.float(), lengths_of(mask))
        labels = truth.labels.repeat(1, boxes.shape[1] // max(truth.labels.shape[1], 1))
        labels = labels.where(boxes[..., 0] < boxes[..., 1], -1)  # what lies outside would overlap all anchors alike
        position = torch.arange(self.canvas.length, device=mask.device)
        there = (labels >= 0)[..., None]
        start, end = boxes.clamp(0, self.canvas.length - 1)[..., None].unbind(2)  # (B, G, 1) each
        maps = {
            "action": (boxes[..., :1] - 0.5 <= position) & (position <= boxes[..., 1:] + 0.5),
            "start": (position - start).abs() < START_REACH,
            "end": (position - end).abs() < START_REACH,
        }
        return AnchorTargets(boxes, labels, {name: (cells & there).any(1) for name, cells in maps.items()})

    def update(self, num_positive: Tensor) -> None:
        self.num_videos.copy_(num_positive)

    def forward(self, outputs: AnchorOutputs, mask: Tensor, targets: AnchorTargets) -> dict[str, Tensor]:
        share = len(mask) / self.num_videos
        segments, adjusted = outputs.segments.float(), outputs.adjusted.float()
        on_anchors, on_segments, on_adjusted = (
            match(boxes.detach(), targets, threshold)
            for boxes, threshold in zip((self.anchors.expand_as(segments), segments, segments), THRESHOLDS, strict=True)
        )
        losses = {
            "class": _class_loss(outputs.logits.float(), targets, on_segments),
            "regression": _box_loss(segments, targets, on_anchors),
            "adjustment": _box_loss(adjusted, targets, on_adjusted),
        }
        losses |= {
            name: MAP_WEIGHT * _map_loss(cells.float(), targets.maps[name]) for name, cells in outputs.maps.items()
        }
        return {name: share * loss for name, loss in losses.items()}


@torch.no_grad()
def match(boxes: Tensor, targets: AnchorTargets, threshold: float) -> Tensor:
    """The box of the truth that each of P boxes is given, or -1: (B, P, 2) -> (B, P)

    It is that of most overlap, the first of equals, if it reaches the threshold; and every event keeps those that
    overlap it most, whatever that is.
    """
    if not targets.labels.shape[1]:
        return targets.labels.new_full(boxes.shape[:2], -1)
    there = (targets.labels >= 0)[:, None]  # (B, 1, G)
    overlap = _overlap(boxes[:, :, None], targets.boxes[:, None]).where(there, -1)  # (B, P, G)
    most, event = overlap.max(2)
    kept = (most >= threshold) | ((overlap == overlap.amax(1, keepdim=True)) & there).any(2)
    return event.where(kept, -1)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """(..., 2) each -> (...); as released: a counts both of its ends, b does not."""
    inter = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    return inter / ((a[..., 1] - a[..., 0] + 1) + (b[..., 1] - b[..., 0]) - inter)


def _class_loss(logits: Tensor, targets: AnchorTargets, event: Tensor) -> Tensor:
    """Cross entropy, its mean over what is an event and its mean over what is none: (B, P, C + 1), (B, P)"""
    labels = F.pad(targets.labels, (0, 1), value=-1)  # the last is that of what is given no event
    given = labels.gather(1, event.where(event >= 0, labels.shape[1] - 1)) + 1  # 0: none
    loss = F.cross_entropy(logits.flatten(0, 1), given.flatten(), reduction="none")
    return _mean(loss[given.flatten() > 0]) + _mean(loss[given.flatten() == 0])


def _box_loss(boxes: Tensor, targets: AnchorTargets, event: Tensor) -> Tensor:
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019) with the given events, its mean: (B, P, 2), (B, P)"""
    video, row = torch.nonzero(event >= 0, as_tuple=True)
    a = boxes[video, row].sort(-1).values
    b = targets.boxes[video, event[video, row]]
    inter = (torch.minimum(a[:, 1], b[:, 1]) - torch.maximum(a[:, 0], b[:, 0])).clamp(min=0)
    union = (a[:, 1] - a[:, 0]) + (b[:, 1] - b[:, 0]) - inter + 1e-7
    hull = torch.maximum(a[:, 1], b[:, 1]) - torch.minimum(a[:, 0], b[:, 0]) + 1e-7
    return _mean(1 - (inter / union - (hull - union) / hull))


def _map_loss(cells: Tensor, target: Tensor) -> Tensor:
    """Cross entropy in which what is there weighs as much as what is not; 0 where all or nothing is: (B, T) each"""
    positive = target.sum()
    if not 0 < positive < target.numel():
        return cells.sum() * 0
    ratio = target.numel() / positive
    there = 0.5 * ratio * target * (cells + 1e-5).log()
    absent = 0.5 * ratio / (ratio - 1) * ~target * (1 - cells + 1e-5).log()
    return -(there + absent).mean()


def _mean(values: Tensor) -> Tensor:
    """0 of nothing."""
    return values.sum() / max(len(values), 1)
