"""What the decoder of a pyramid says, and the candidates that are in it.

Shapes: B videos, T steps, C classes, l a level, Tl = T / 2^l, P points (the steps of all levels, finest first).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from davel.core.result import GATE
from davel.models.detector import Candidates, DetectorOutputs


@dataclass(frozen=True)
class Outputs(DetectorOutputs):
    """What is said at every step of every level; defined at real steps only.

    Step i of level l stands for the time of step i * 2^l of the input.
    """

    logits: list[Tensor]
    """Per level (B, Tl, C)."""
    offsets: list[Tensor]
    """Per level (B, Tl, C or 1, 2): distance to the event's start and end, in steps of the level."""
    gates: dict[str, list[Tensor]] = field()
    """`audio` and `visual`: per level (B, Tl), how much the gate computed from that modality opens the other one.
    Empty lists in a network without gates."""
    mask: Tensor | None = None
    """(B, T), the real steps of the input; None: not known, all of them."""

    def within(self, mask: Tensor) -> Self:
        return self if self.mask is not None else replace(self, mask=mask)

    def candidates(self) -> Candidates:
        """Every point, and for every class the segment that it proposes."""
        segments, scores = [], []
        for level, (logits, offsets) in enumerate(zip(self.logits, self.offsets, strict=True)):
            step = 2**level
            points = step * torch.arange(logits.shape[1], device=logits.device)[:, None]
            before, after = (offsets.float() * step).unbind(-1)  # (B, Tl, C)
            segments.append(torch.stack([points - before, points + after], dim=-1))
            score = torch.stack([video.float().sigmoid() for video in logits])  # no bit depends on the batch
            scores.append(score if self.mask is None else score.where(self.mask[:, ::step, None], 0))
        groups = tuple(level.shape[1] for level in self.logits)
        return Candidates(torch.cat(segments, dim=1), torch.cat(scores, dim=1), groups)

    def curves(self) -> dict[str, Tensor]:
        return {f"{GATE}{modality}": levels[0] for modality, levels in self.gates.items() if levels}
