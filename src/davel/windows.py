"""A network with a maximum length on videos of any length: overlapping windows, joined at their outputs.

Shapes: T steps of the whole video, Tl = ceil(T / 2^l), C classes. Windows start at multiples of the coarsest level's
step, so that the points of all levels coincide; each point is taken from the window in which it lies farthest from an
end that is not the video's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from davel.models.network import MODALITIES, Network, Outputs


def window_starts(T: int, length: int, unit: int) -> list[int]:
    """First steps of windows of `length` that overlap by half and cover T steps; each is a multiple of `unit`."""
    if T <= length:
        return [0]
    hop = max(length // 2 // unit, 1) * unit
    last = math.ceil((T - length) / unit) * unit
    return [*range(0, last, hop), last]


@torch.inference_mode()
def run_windows(model: Network, visual: Tensor, audio: Tensor) -> tuple[Outputs, Tensor]:
    """(T, Dv), (T, Da) -> the outputs of the whole video as a batch of one, and their mask (1, T)"""
    T = len(visual)
    config = model.config
    device = next(model.parameters()).device
    unit = 2 ** (config.num_levels - 1)
    starts = window_starts(T, config.max_length, unit)
    results = []
    for start in starts:
        part = slice(start, start + config.max_length)
        v, a = visual[None, part].to(device), audio[None, part].to(device)
        results.append(model(v, a, torch.ones(v.shape[:2], dtype=torch.bool, device=device)))
    mask = torch.ones(1, T, dtype=torch.bool, device=device)
    if len(starts) == 1:
        return results[0], mask

    # The window of a point: the seam between two windows is in the middle of their overlap.
    ends = [min(start + config.max_length, T) for start in starts]
    seams = [(start + end) / 2 for start, end in zip(starts[1:], ends, strict=False)]

    def join(parts: list[Tensor], level: int) -> Tensor:
        step = 2**level
        cuts = [0, *(math.ceil(seam / step) for seam in seams), math.ceil(T / step)]
        pieces = [
            part[:, cut - start // step : following - start // step]
            for part, start, cut, following in zip(parts, starts, cuts, cuts[1:], strict=False)
        ]
        return torch.cat(pieces, dim=1)

    levels = range(config.num_levels)
    return (
        Outputs(
            logits=[join([r.logits[level] for r in results], level) for level in levels],
            offsets=[join([r.offsets[level] for r in results], level) for level in levels],
            gates={
                m: [join([r.gates[m][level] for r in results], level) for level in range(len(results[0].gates[m]))]
                for m in MODALITIES
            },
        ),
        mask,
    )
