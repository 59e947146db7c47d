"""A set of queries that each look at a whole video: no pyramid, and no suppression of what overlaps."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.models import Candidates, Network, NetworkConfig
from davel.models.detector import DecodeSettings, DetectorOutputs, NmsSettings, Objective, TrainingRecipe, Truth


@dataclass(frozen=True, kw_only=True)
class Config(NetworkConfig):
    name: Literal["toy"] = "toy"
    width: int = 8
    """Channels inside."""
    queries: int = 8
    """Most events of a window (P)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.queries < 1:
            raise ValueError(f"width and queries must be at least 1, got {self.width} and {self.queries}")


@dataclass(frozen=True)
class Found(DetectorOutputs):
    """What each query says of a video, and what is said of its steps."""

    logits: Tensor
    """(B, P, C)"""
    segments: Tensor
    """(B, P, 2), in steps"""
    action: Tensor
    """(B, T): logits of whether something happens"""

    def candidates(self) -> Candidates:
        return Candidates(self.segments.float()[:, :, None], self.logits.float().sigmoid(), (self.logits.shape[1],))

    def curves(self) -> dict[str, Tensor]:
        return {"actionness": self.action.float().sigmoid()}


@dataclass(frozen=True)
class Wanted:
    truth: Truth
    action: Tensor
    """(B, T) bool: an event is there"""
    num_positive: Tensor
    """(2,): events, and steps"""


class Matching(Objective):
    """Each event in turn takes the query that is nearest to it and still free; the other queries should be silent."""

    totals: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("totals", torch.ones(2))

    def targets(self, mask: Tensor, truth: Truth, num_classes: int) -> Wanted:
        steps = torch.arange(mask.shape[1], device=mask.device)
        start, end = truth.segments[..., None].unbind(2)  # (B, N, 1)
        inside = (start <= steps) & (steps <= end) & (truth.labels >= 0)[..., None]
        return Wanted(truth, inside.any(1) & mask, torch.stack([(truth.labels >= 0).sum(), mask.sum()]).float())

    def update(self, num_positive: Tensor) -> None:
        self.totals.copy_(num_positive.clamp(min=1))

    def forward(self, outputs: Found, mask: Tensor, targets: Wanted) -> dict[str, Tensor]:
        num_events, num_steps = self.totals
        logits, segments, truth = outputs.logits.float(), outputs.segments.float(), targets.truth
        length = mask.sum(1).clamp(min=1)[:, None, None]
        distance = (segments[:, :, None] - truth.segments[:, None]).abs().sum(-1) / length  # (B, P, N)
        wanted = torch.zeros_like(logits)
        matched = [distance.sum() * 0]  # a batch without events has a gradient, too
        for b in range(len(logits)):
            free = torch.zeros(logits.shape[1], device=logits.device)
            for n in (truth.labels[b] >= 0).nonzero()[:, 0].tolist()[: logits.shape[1]]:
                p = int((distance[b, :, n].detach() + free).argmin())
                free[p] = math.inf
                wanted[b, p, truth.labels[b, n]] = 1
                matched.append(distance[b, p, n])
        action = F.binary_cross_entropy_with_logits(
            outputs.action.float()[mask], targets.action[mask].float(), reduction="sum"
        )
        return {
            "classes": F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / num_events,
            "boundaries": torch.stack(matched).sum() / num_events,
            "actionness": action / num_steps,
        }


class Model(Network):
    config: Config
    detection = DecodeSettings(nms=NmsSettings(method="none"))

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        D = config.width
        self.embed = nn.Linear(config.visual_dim + config.audio_dim, D)
        self.norm = nn.LayerNorm(D)
        self.place = nn.Linear(4, D)
        self.queries = nn.Parameter(torch.randn(config.queries, D))
        self.keys, self.values = nn.Linear(D, D), nn.Linear(D, D)
        self.action = nn.Linear(D, 1)
        self.classify, self.reach = nn.Linear(D, config.num_classes), nn.Linear(D, 2)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Found:
        self.check_shapes(visual, audio, mask)
        num_steps = mask.sum(1).clamp(min=1)[:, None]  # (B, 1)
        position = torch.arange(mask.shape[1], device=mask.device).float().expand(mask.shape)  # (B, T)
        angle = math.pi * position / num_steps
        place = torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], dim=-1)
        x = self.norm(self.embed(torch.cat([visual, audio], dim=-1))).relu()  # (B, T, D)
        action = self.action(x)[..., 0]
        scores = self.queries @ (self.keys(x) + self.place(place)).mT / math.sqrt(self.config.width)  # (B, P, T)
        weights = scores.masked_fill(~mask[:, None], -math.inf).softmax(-1)
        seen = self.queries + weights @ (self.values(x) * action.sigmoid()[..., None])  # (B, P, D)
        centre = (weights * position[:, None]).sum(-1)  # (B, P)
        before, after = (self.reach(seen).sigmoid() * num_steps[..., None] / 2).unbind(-1)
        return Found(self.classify(seen), torch.stack([centre - before, centre + after], dim=-1), action)

    def criterion(self, recipe: TrainingRecipe) -> Matching:
        return Matching()
