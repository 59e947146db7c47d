"""What a network takes: parameters, floating-point operations, and seconds for a video of 40 seconds."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from davel.data.dataset import Dataset
from davel.detection import decode
from davel.models import Network

VIDEO_SECONDS = 40.0
"""The length of most of UnAV-100's videos."""
REPEATS = 5


@dataclass(frozen=True)
class Cost:
    parameters: int
    flop: int
    """Floating-point operations for a video, a multiplication and an addition as two; those of products of matrices and
    of convolutions, as PyTorch counts them: what is computed element by element is left out."""
    seconds: float
    """For a video, from features to events, on the device that was used; the best of some runs."""
    device: str

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def cells(self) -> list[str]:
        """As they are printed: millions of parameters, GFLOP, seconds."""
        return [f"{self.parameters / 1e6:.2f}", f"{self.flop / 1e9:.2f}", f"{self.seconds:.3f}"]


def cost_of(model: Network, dataset: Dataset) -> Cost:
    """What `model` takes for a video of 40 seconds, or of as many as it takes at once: of the dataset's video that is
    nearest to that, cut, or begun again at its end."""
    device, timing = model.device, dataset.spec.timing
    key = min(dataset.videos, key=lambda key: abs(dataset.videos[key].seconds - VIDEO_SECONDS))
    labels, sample = dataset.videos[key].events.labels, dataset.sample(key)
    T = int((VIDEO_SECONDS * timing.fps - timing.window) // timing.stride) + 1
    T = min(max(T, 1), model.config.max_length)
    at = np.arange(T) % len(sample.visual)
    visual, audio = (torch.from_numpy(x[at])[None].to(device) for x in (sample.visual, sample.audio))
    mask = torch.ones(1, T, dtype=torch.bool, device=device)
    counter = FlopCounterMode(display=False)
    best = float("inf")
    with torch.inference_mode():
        with counter:
            model(visual, audio, mask)
        for _ in range(REPEATS):
            began = time.perf_counter()
            decode(model(visual, audio, mask), mask, timing, [VIDEO_SECONDS], model.detection, labels)
            best = min(best, time.perf_counter() - began)  # decoding ends on the CPU: nothing is left to wait for
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, int(counter.get_total_flops()), best, str(device))
