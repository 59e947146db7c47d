"""VGGish: sound as 128 channels a second (Hershey et al., ICASSP 2017, arXiv:1609.09430), as UnAV-100 used it.

The front end makes log-mel examples of 0.96 s; the network is a small VGG. No principal components are taken, nothing
is quantised. Modules carry the names of the published checkpoint (`vggish-10086976.pth`), which loads as it is.

Shapes: N samples, A examples, n spectra.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from davel.core.errors import ConfigError

FEATURE_DIM = 128
SAMPLE_RATE = 16000
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
"""A spectrum sees 25 ms, every 10 ms."""
NUM_MELS = 64
MEL_RANGE_HZ = (125.0, 7500.0)
EXAMPLE_SPECTRA = 96
"""0.96 s"""
LOG_OFFSET = 0.01
CHANNELS = ((1, 64), (64, 128), (128, 256, 256), (256, 512, 512))
"""Of the convolutions of each stage, which ends in a pool."""

Floats = NDArray[np.float64]


def log_mel(waveform: NDArray[np.floating]) -> Floats:
    """Mono sound (N,) at 16 kHz, in -1..1 -> log-mel spectra (n, 64)"""
    if waveform.ndim != 1:
        raise ValueError(f"expected mono samples (N,), got {waveform.shape}")
    n = max(1 + (len(waveform) - WINDOW_SAMPLES) // HOP_SAMPLES, 0)
    if n == 0:
        return np.zeros((0, NUM_MELS))
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.abs(np.fft.rfft(frames * hann(), FFT_SAMPLES))  # (n, 257), of magnitudes, not of powers
    return np.asarray(np.log(spectrum @ mel_weights() + LOG_OFFSET))


def hann() -> Floats:
    """The periodic window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi / WINDOW_SAMPLES * np.arange(WINDOW_SAMPLES)))


def mel_weights() -> Floats:
    """From the bins of a spectrum to bands that are triangles on the mel scale: (257, 64)"""

    def mel(hertz: Floats) -> Floats:
        return np.asarray(1127.0 * np.log1p(hertz / 700.0))

    bins = mel(np.linspace(0, SAMPLE_RATE / 2, FFT_SAMPLES // 2 + 1))[:, None]
    first, last = mel(np.array(MEL_RANGE_HZ))
    edges = np.linspace(first, last, NUM_MELS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(min=0)
    weights[0] = 0  # a constant is no sound
    return np.asarray(weights)


def examples(spectra: Floats, hop_seconds: float = 0.32) -> NDArray[np.float32]:
    """Log-mel spectra (n, 64) -> examples (A, 1, 96, 64), one every `hop_seconds`; a part of one at the end is left"""
    hop = round(hop_seconds * SAMPLE_RATE / HOP_SAMPLES)
    A = max((len(spectra) - EXAMPLE_SPECTRA) // hop + 1, 0)
    if A == 0:
        return np.zeros((0, 1, EXAMPLE_SPECTRA, NUM_MELS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(spectra, EXAMPLE_SPECTRA, axis=0)[::hop]  # (A, 64, 96)
    return windows.transpose(0, 2, 1)[:, None].astype(np.float32)


class VGGish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in CHANNELS:
            for channels in pairwise(stage):
                layers += [nn.Conv2d(*channels, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        flat = CHANNELS[-1][-1] * (EXAMPLE_SPECTRA // 16) * (NUM_MELS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, FEATURE_DIM), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Examples (A, 1, 96, 64) -> (A, 128), none of them negative"""
        maps = self.features(x)  # (A, 512, 6, 4)
        y: Tensor = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # time, mel, channel
        return y

    @classmethod
    def from_published(cls, checkpoint: Mapping[str, Tensor]) -> VGGish:
        """With the weights of `vggish-10086976.pth`. ConfigError if they are not of such a file."""
        model = cls()
        try:
            model.load_state_dict(checkpoint)
        except RuntimeError as error:
            raise ConfigError(f"not a VGGish checkpoint: {str(error).splitlines()[-1].strip()}") from error
        return model.eval()


def embed(model: VGGish, waveform: NDArray[np.floating], hop_seconds: float = 0.32, batch_size: int = 32) -> Tensor:
    """Mono sound (N,) at 16 kHz -> features (A, 128) on the CPU"""
    device = next(model.parameters()).device
    inputs = torch.from_numpy(examples(log_mel(waveform), hop_seconds))
    with torch.inference_mode():
        parts = [model(part.to(device)).cpu() for part in torch.split(inputs, batch_size)] if len(inputs) else []
    return torch.cat([torch.zeros(0, FEATURE_DIM), *parts])
