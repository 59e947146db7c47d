"""The training objective: focal loss for the classes, distance-IoU loss for the boundaries.

Shapes: B videos, P points (the steps of all levels, finest first), C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.data.dataset import Truth
from davel.detection.targets import assign, points
from davel.models.network import Outputs


def focal_loss(logits: Tensor, positive: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Binary cross entropy weighed by how wrong the score is, elementwise (Lin et al., ICCV 2017, arXiv:1708.02002)."""
    target = positive.to(logits.dtype)
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


class Criterion(nn.Module):
    """Both losses, summed over a batch and divided by a running mean of the number of positive points."""

    num_positive: Tensor

    def __init__(self, initial_positive: float = 250.0, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("num_positive", torch.tensor(initial_positive))

    def forward(self, outputs: Outputs, mask: Tensor, truth: Truth) -> tuple[Tensor, dict[str, float]]:
        """Outputs for a mask (B, T) and the annotated events -> the loss and its named parts.

        In training each call first updates the running mean.
        """
        num_levels = len(outputs.logits)
        logits, offsets = torch.cat(outputs.logits, dim=1).float(), torch.cat(outputs.offsets, dim=1).float()
        real = torch.cat([mask[:, :: 2**level] for level in range(num_levels)], dim=1)  # (B, P)
        position, level = points(mask.shape[1], num_levels)
        targets = assign(position.to(mask.device), level.to(mask.device), truth, logits.shape[-1])
        positive = targets.classes & real[..., None]  # (B, P, C)

        if self.training:
            count = positive.any(-1).sum().clamp(min=1)
            self.num_positive.copy_(self.momentum * self.num_positive + (1 - self.momentum) * count)
        classification = focal_loss(logits[real], positive[real]).sum() / self.num_positive
        regression = distance_iou_loss(offsets[positive], targets.offsets[positive]).sum() / self.num_positive
        parts = {"classification": classification.item(), "regression": regression.item()}
        return classification + regression, parts
