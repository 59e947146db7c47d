"""The published features as they were published: each window from its frames, each pair from its pictures.

Every window recomputes its pairs, every pair encodes both its pictures, every update brings the flow to full size,
networks see one window at a time. Modules are davel's, so that both have the same weights; what they do is plain.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davel.features import i3d, raft, vggish


class PlainPool(nn.Module):
    def __init__(self, pool: i3d.MaxPool) -> None:
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, i3d.same_padding(self.kernel, self.stride))
        return F.max_pool3d(padded, self.kernel, self.stride, ceil_mode=True)


class PlainUnit(nn.Module):
    """Pads by itself, as the published one does."""

    def __init__(self, unit: i3d.Unit) -> None:
        super().__init__()
        self.padding = i3d.same_padding(unit.conv3d.kernel_size, unit.conv3d.stride)
        self.conv3d, self.batch3d = unit.conv3d, unit.batch3d
        self.conv3d.padding = (0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.batch3d(self.conv3d(F.pad(x, self.padding))))


def plain_i3d(network: i3d.I3D) -> i3d.I3D:
    """A network as it was published, padded and pooled by PyTorch's own functions."""
    copy = deepcopy(network)
    for name, module in list(copy.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, i3d.MaxPool):
            setattr(copy.get_submodule(parent), child, PlainPool(module))
        elif isinstance(module, i3d.Unit):
            setattr(copy.get_submodule(parent), child, PlainUnit(module))
    return copy


def plain_flow(network: raft.RAFT, frames: Tensor, updates: int) -> Tensor:
    """Frames of a window (25, 3, H, W), padded -> the flow of its pairs (24, 2, H, W), all pairs at once"""
    first, second = frames[:-1], frames[1:]
    maps = network.encode(torch.cat([first, second]))
    a, b = maps.chunk(2)
    correlation = raft.Correlation.of(a, b)
    h, x = network.context(first).split([raft.HIDDEN_DIM, raft.CONTEXT_DIM], dim=1)
    h, x = h.tanh(), x.relu()
    start = torch.stack(torch.meshgrid(*(torch.arange(n, device=a.device) for n in a.shape[:1:-1]), indexing="xy"))
    start = start.float().expand(len(a), 2, *a.shape[2:])
    position, flow = start, start
    block = network.update_block
    for _ in range(updates):
        motion = block.encoder(position - start, correlation.at(position))
        h = plain_gru(block.gru, h, torch.cat([x, motion], dim=1))
        position = position + block.flow_head(h)
        flow = raft.upsample(position - start, 0.25 * block.mask(h))
    return flow


def plain_gru(gru: raft.SeparableGru, h: Tensor, x: Tensor) -> Tensor:
    for number in (1, 2):
        z, r, q = (gru.get_submodule(f"conv{gate}{number}") for gate in "zrq")
        both = torch.cat([h, x], dim=1)
        update, reset = z(both).sigmoid(), r(both).sigmoid()
        h = (1 - update) * h + update * q(torch.cat([reset * h, x], dim=1)).tanh()
    return h


def plain_vggish(network: vggish.VGGish, waveform: np.ndarray) -> Tensor:
    """Sound (N,) at 16 kHz -> features (A, 128), each from its own 0.975 s"""
    reach = (vggish.EXAMPLE_SPECTRA - 1) * vggish.HOP_SAMPLES + vggish.WINDOW_SAMPLES
    rows = []
    for first in range(0, len(waveform) - reach + 1, 5120):
        spectra = vggish.log_mel(waveform[first : first + reach])
        rows.append(network(torch.from_numpy(spectra[None, None]).float()))
    return torch.cat(rows)
