"""Set prediction: a network says a fixed number of segments at once, and training gives every event to one of them.

Shapes: B videos, L the steps of a video, T those of the canvas that it is laid on, D channels, Q queries, K decoder
layers, C classes, N events. A segment is (centre, width) in units of the canvas, which is [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from davel.models.blocks import interpolate
from davel.models.detector import Candidates, DetectorOutputs, Objective, Truth
from davel.models.losses import focal_loss


def edges(segments: Tensor) -> Tensor:
    """(..., 2): centre and width -> start and end"""
    centre, width = segments.unbind(-1)
    return torch.stack([centre - width / 2, centre + width / 2], dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Of segments (centre, width), (..., 2) each -> (...)"""
    (start_a, end_a), (start_b, end_b) = edges(a).unbind(-1), edges(b).unbind(-1)
    overlap = (torch.minimum(end_a, end_b) - torch.maximum(start_a, start_b)).clamp(min=0)
    union = (end_a - start_a) + (end_b - start_b) - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)


@dataclass(frozen=True)
class Canvas:
    """The T steps that the network sees, whatever the L steps of a video."""

    length: int
    """T"""
    margin: float | None
    """Steps before the first and behind the last step of a video, which is stretched to the whole canvas; None: it
    stands at the canvas' beginning as it is, and nothing follows."""

    def draw(self, video: Tensor, lengths: Tensor) -> Tensor:
        """Videos (B, most steps, D), zero behind their lengths (B,) -> (B, T, D)"""
        if self.margin is None:
            return F.pad(video, (0, 0, 0, self.length - video.shape[1]))
        centres = (torch.arange(self.length, device=video.device) + 0.5) / self.length
        at = self.to_steps(centres.expand(len(video), -1), lengths)
        return interpolate(video, at.clamp(min=0).minimum(lengths[:, None] - 1))

    def to_steps(self, units: Tensor, lengths: Tensor) -> Tensor:
        """(B, ...) on the canvas -> the same in steps of videos of these lengths (B,)"""
        if self.margin is None:
            return units * self.length - 0.5
        return units * (self._rows(lengths, units) + 2 * self.margin) - self.margin

    def to_units(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """(B, ...) in steps -> on the canvas, within [0, 1]"""
        if self.margin is None:
            return ((steps + 0.5) / self.length).clamp(0, 1)
        return ((steps + self.margin) / (self._rows(lengths, steps) + 2 * self.margin)).clamp(0, 1)

    @staticmethod
    def _rows(lengths: Tensor, like: Tensor) -> Tensor:
        """(B,) -> (B, 1, ...)"""
        return lengths.view(-1, *[1] * (like.dim() - 1))


def lengths_of(mask: Tensor) -> Tensor:
    """The steps of each video, at least one: (B, T) -> (B,). ValueError if real steps follow padding."""
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("a mask has real steps behind padding: move a video's steps to the front")
    return mask.sum(1).clamp(min=1)


@dataclass(frozen=True)
class SetOutputs(DetectorOutputs):
    """What all layers of the decoder say, the last one last."""

    logits: Tensor
    """(K, B, Q, C)"""
    segments: Tensor
    """(K, B, Q, 2): centre and width on the canvas"""
    actionness: Tensor
    """(B, Q) in [0, 1]: how much of a query's last segment is an event"""
    lengths: Tensor
    """(B,), the videos' steps"""
    canvas: Canvas

    def candidates(self) -> Candidates:
        """Every query of the last layer, with one segment for all classes."""
        segments = self.canvas.to_steps(edges(self.segments[-1].float()), self.lengths)
        scores = self.logits[-1].float().sigmoid() * self.actionness.float()[..., None]
        return Candidates(segments[:, :, None], scores, (scores.shape[1],))


@dataclass(frozen=True)
class SetTargets:
    segments: Tensor
    """(B, N, 2): centre and width on the canvas"""
    labels: Tensor
    """(B, N), -1 where a video has fewer events"""

    @property
    def num_positive(self) -> Tensor:
        """(2,): events, and videos"""
        return torch.stack([(self.labels >= 0).sum(), self.labels.new_tensor(len(self.labels))]).float()


class SetCriterion(Objective):
    """Every layer's queries are matched with the events anew, at the least cost; the others should say no class.

    The losses are means over the events of the batch, that of the actionness over its videos and queries.
    """

    totals: Tensor

    def __init__(self, canvas: Canvas) -> None:
        super().__init__()
        self.canvas = canvas
        self.register_buffer("totals", torch.ones(2))

    def targets(self, mask: Tensor, truth: Truth, num_classes: int) -> SetTargets:
        start, end = self.canvas.to_units(truth.segments.float(), lengths_of(mask)).unbind(-1)
        return SetTargets(torch.stack([(start + end) / 2, end - start], dim=-1), truth.labels)

    def update(self, num_positive: Tensor) -> None:
        """The events and videos of this batch are what its losses are divided by."""
        self.totals.copy_(num_positive.clamp(min=1))

    def forward(self, outputs: SetOutputs, mask: Tensor, targets: SetTargets) -> dict[str, Tensor]:
        num_events, num_videos = self.totals
        logits, segments = outputs.logits.float(), outputs.segments.float()
        layer, video, query, event = match(logits, segments, targets)  # (matches,) each
        present = torch.zeros_like(logits, dtype=torch.bool)
        present[layer, video, query, targets.labels[video, event]] = True
        found, true = segments[layer, video, query], targets.segments[video, event]
        overlap = best_overlap(segments[-1].detach(), targets)
        return {
            "class": 2 * focal_loss(logits, present).sum() / num_events,
            "segment": 5 * (found - true).abs().sum() / num_events,
            "iou": 2 * (1 - iou(found, true)).sum() / num_events,
            "actionness": 4 * (outputs.actionness.float() - overlap).abs().mean(1).sum() / num_videos,
        }


def best_overlap(segments: Tensor, targets: SetTargets) -> Tensor:
    """The highest IoU with an event of the same video, 0 if there is none: (B, Q, 2) -> (B, Q)

    The released code takes the highest with any event of the batch.
    """
    overlap = iou(segments[:, :, None], targets.segments[:, None])  # (B, Q, N)
    overlap = overlap.where((targets.labels >= 0)[:, None], 0)
    return F.pad(overlap, (0, 1)).amax(-1)


@torch.no_grad()
def match(logits: Tensor, segments: Tensor, targets: SetTargets) -> tuple[Tensor, ...]:
    """(K, B, Q, C), (K, B, Q, 2) -> layer, video, query and event of every match."""
    costs = matching_cost(logits, segments, targets).cpu().numpy()  # (K, B, Q, N)
    labels = targets.labels.cpu().numpy()
    found = [np.zeros((4, 0), np.int64)]
    for layer, videos in enumerate(costs):
        for video, cost in enumerate(videos):
            events = np.flatnonzero(labels[video] >= 0)
            query, event = assign(cost[:, events])
            found.append(np.stack([np.full_like(query, layer), np.full_like(query, video), query, events[event]]))
    return torch.from_numpy(np.concatenate(found, axis=1)).to(logits.device).unbind(0)


def matching_cost(logits: Tensor, segments: Tensor, targets: SetTargets) -> Tensor:
    """What it costs to give an event to a query: (K, B, Q, C), (K, B, Q, 2) -> (K, B, Q, N)"""
    score = logits.sigmoid()
    present = -0.25 * (1 - score) ** 2 * (score + 1e-8).log()
    absent = -0.75 * score**2 * (1 - score + 1e-8).log()
    label = targets.labels.clamp(min=0)[:, None].expand(*logits.shape[:3], -1)
    found, true = segments[..., None, :], targets.segments[:, None]  # (K, B, Q, 1, 2), (B, 1, N, 2)
    return 6 * (present - absent).gather(-1, label) + 5 * (found - true).abs().sum(-1) - 2 * iou(found, true)


def assign(cost: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of a row and a column with the least total cost, each in one pair at most, as many as there can be:
    (M, N) -> rows and columns, both (min(M, N),).

    The Hungarian method with potentials: one shortest augmenting path for each of the fewer.
    """
    if cost.shape[0] > cost.shape[1]:
        columns, rows = assign(cost.T)
        return rows, columns
    num_rows, num_columns = cost.shape
    cost = np.nan_to_num(cost.astype(np.float64), nan=1e9, posinf=1e9, neginf=-1e9)  # the loss tells what they are
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    owner = np.full(num_columns, -1)
    for new in range(num_rows):
        distance, before = np.full(num_columns, np.inf), np.full(num_columns, -1)
        visited = np.zeros(num_columns, bool)
        row, column, reached = new, -1, 0.0
        while row >= 0:  # until a column without owner is the nearest
            through = reached + cost[row] - row_price[row] - column_price
            nearer = ~visited & (through < distance)
            distance[nearer], before[nearer] = through[nearer], column
            column = int(np.where(visited, np.inf, distance).argmin())
            reached, row = float(distance[column]), int(owner[column])
            visited[column] = True
        gain = reached - distance[visited]
        owned = owner[visited]
        row_price[owned[owned >= 0]] += gain[owned >= 0]
        row_price[new] += reached
        column_price[visited] -= gain
        while column >= 0:  # along the path, every column goes to the owner of the one before
            owner[column] = owner[before[column]] if before[column] >= 0 else new
            column = int(before[column])
    columns = np.flatnonzero(owner >= 0)
    return owner[columns], columns
