"""Stand-ins for the published networks: as many channels, a millionth of the work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.features import i3d_vggish
from davel.features.i3d_vggish.stream import Networks


class SmallI3D(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(channels)
        self.weight = nn.Parameter(torch.randn(channels * 24 * 4, 1024, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool3d(x, (24, 2, 2)).flatten(1) @ self.weight


class SmallRaft(nn.Module):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = self.cnet = self.update_block = nn.Identity()
        self.encoded = self.pairs = 0

    def encode(self, frames: Tensor) -> Tensor:
        self.encoded += len(frames)
        return F.avg_pool2d(frames / 16, 8)

    def context(self, frames: Tensor) -> Tensor:
        return F.avg_pool2d(frames / 32, 8)

    def flow(self, first: Tensor, second: Tensor, context: Tensor, updates: int) -> Tensor:
        self.pairs += len(first)
        return F.interpolate((second - first + 0.1 * context)[:, :2], scale_factor=8.0)


class SmallVGGish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(96, 128, generator=torch.Generator().manual_seed(3)))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0].mean(2) @ self.weight).relu()


def small_networks() -> Networks:
    parts = (SmallI3D(3), SmallI3D(2), SmallRaft(), SmallVGGish())
    return Networks(*parts, torch.device("cpu"), torch.float32)


def published(monkeypatch: pytest.MonkeyPatch, home: Path) -> Networks:
    """The published features, by networks that are no work; files of the names of their weights lie in `home`."""
    made, family = small_networks(), i3d_vggish.FAMILY
    monkeypatch.setenv("DAVEL_HOME", str(home))
    (home / "weights").mkdir(parents=True)
    for weights in family.weights:
        (home / "weights" / weights.file).write_text(weights.name)
    unstated = tuple(replace(weights, sha256=None) for weights in family.weights)
    monkeypatch.setattr(i3d_vggish, "FAMILY", replace(family, weights=unstated))
    monkeypatch.setattr(i3d_vggish, "networks", lambda *_: made)
    return made
