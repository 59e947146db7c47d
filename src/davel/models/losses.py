"""The training objective: focal loss for the classes, distance-IoU loss for the boundaries.

Shapes: B videos, P points (the steps of all levels, finest first), C classes.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from davel.models.detector import Objective, Truth
from davel.models.outputs import Outputs
from davel.models.targets import CENTRE_RADIUS, REGRESSION_RANGES, Ranges, Targets, assign, assign_shortest, points


def focal_loss(logits: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Binary cross entropy weighed by how wrong the score is, elementwise (Lin et al., ICCV 2017, arXiv:1708.02002).

    What is wanted is a class or not, or something between.
    """
    target = wanted.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    score = logits.sigmoid()
    error = score * (1 - target) + (1 - score) * target
    weight = alpha * target + (1 - alpha) * (1 - target)
    return weight * error**gamma * cross_entropy


def distance_iou_loss(predicted: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """1 - IoU + (distance of the centres / length that encloses both)^2, of segments around one point.

    Both (..., 2), distances to start and end >= 0 -> (...). The DIoU of Zheng et al. (AAAI 2020, arXiv:1911.08287) in
    one dimension.
    """
    overlap = torch.minimum(predicted, target).sum(-1)
    union = predicted.sum(-1) + target.sum(-1) - overlap
    enclosing = torch.maximum(predicted, target).sum(-1)
    centre_distance = ((predicted[..., 1] - predicted[..., 0]) - (target[..., 1] - target[..., 0])) / 2
    return 1 - overlap / union.clamp(min=eps) + (centre_distance / enclosing.clamp(min=eps)) ** 2


def iou_loss(predicted: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """1 - IoU of segments around one point, (..., 2) each -> (...).

    Also the generalised IoU loss that CCNet's paper names: segments that share a point have no gap between them.
    """
    overlap = torch.minimum(predicted, target).sum(-1)
    union = predicted.sum(-1) + target.sum(-1) - overlap
    return 1 - overlap / union.clamp(min=eps)


BOUNDARY_LOSSES = {"diou": distance_iou_loss, "giou": iou_loss}


class Criterion(Objective):
    """Both losses, summed over a batch and divided by a running mean of the number of positive points."""

    num_positive: Tensor

    def __init__(
        self,
        initial_positive: float = 250.0,
        momentum: float = 0.9,
        ranges: Ranges = REGRESSION_RANGES,
        boundaries: Literal["diou", "giou"] = "diou",
        class_aware: bool = True,
        central: bool = True,
        smoothing: float = 0.0,
    ) -> None:
        """`class_aware`: whether a point has a segment for every class (`assign`), or one for all of them
        (`assign_shortest`; `central`: only of events whose middle is near). `smoothing`: what of every target is shared
        by all classes and one more that is none (Szegedy et al., CVPR 2016, arXiv:1512.00567)."""
        super().__init__()
        shortest = partial(assign_shortest, radius=CENTRE_RADIUS if central else None)
        self.assign = assign if class_aware else shortest
        self.smoothing = smoothing
        self.momentum, self.ranges = momentum, ranges
        self.boundary_loss = BOUNDARY_LOSSES[boundaries]
        self.register_buffer("num_positive", torch.tensor(float(initial_positive)))

    def targets(self, mask: Tensor, truth: Truth, num_classes: int) -> Targets:
        """What every real step of a mask (B, T) should say; nothing is positive at padding."""
        position, level = points(mask.shape[1], len(self.ranges))
        return self.assign(position, level, truth, num_classes, self.ranges).within(self._real(mask))

    def update(self, num_positive: Tensor) -> None:
        """Take the positive points of a batch into the running mean."""
        self.num_positive.copy_(self.momentum * self.num_positive + (1 - self.momentum) * num_positive.clamp(min=1))

    def forward(self, outputs: Outputs, mask: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Outputs for a mask (B, T) and the targets -> the losses by name; their sum is to be made small."""
        logits, offsets = torch.cat(outputs.logits, dim=1).float(), torch.cat(outputs.offsets, dim=1).float()
        real, bounded = self._real(mask), targets.bounded
        wanted = targets.classes[real].float()
        wanted = (1 - self.smoothing) * wanted + self.smoothing / (wanted.shape[1] + 1)
        classification = focal_loss(logits[real], wanted).sum()
        regression = self.boundary_loss(offsets[bounded], targets.offsets[bounded]).sum()
        return {
            "classification": classification / self.num_positive,
            "regression": regression / self.num_positive,
        }

    def _real(self, mask: Tensor) -> Tensor:
        """(B, T) -> (B, P)"""
        return torch.cat([mask[:, :: 2**level] for level in range(len(self.ranges))], dim=1)
