"""The seam between a network and everything else: what goes in, what comes out, and what training compares it with.

Shapes: B videos, T steps, N events.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """The annotated events of a batch."""

    segments: Tensor
    """(B, N, 2), in steps."""
    labels: Tensor
    """(B, N), the class; -1 where a video has fewer events."""

    def to(self, device: torch.device) -> Truth:
        return Truth(self.segments.to(device), self.labels.to(device))
