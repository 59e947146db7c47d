"""ONE-PEACE's features as a stream: frames and samples in, steps out.

Attention across time begins in the first layer, so windows that overlap share no work; those that are the same picture
throughout are computed once.

Shapes: K steps, H x W pixels, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel.compute.memory import available_bytes
from davel.core.errors import ConfigError, printable
from davel.features.family import STEPS_AT_ONCE, Rows
from davel.features.one_peace.audio import SAMPLE_RATE, OnePeaceAudio, prepare_audio
from davel.features.one_peace.encoder import Encoder
from davel.features.one_peace.protocol import SPEC
from davel.features.one_peace.storage import StoredEncoder
from davel.features.one_peace.video import PATCH, OnePeaceVideo, normalise, prepare_frame

E = TypeVar("E", bound=Encoder)
Frame = NDArray[np.uint8]

VISUAL, AUDIO = "one_peace_video_finetune", "one_peace_audio"
"""Names of the streams, as in the authors' files."""
SHARE = 0.9
"""Of free memory that is taken at most."""
CHUNK = 4
"""Windows that an accelerator's layer takes together."""


def open_encoder(
    path: Path,
    kind: type[E],
    precision: torch.dtype,
    device: torch.device,
    width: int,
    weights: str | None = None,
    rows: int = STEPS_AT_ONCE,
) -> E:
    """A converted encoder, ready to run: in memory if there is room for it, else read layer by layer each time.

    `weights` is the type that its matrices must be of. ConfigError if it is another, if features are not `width`
    channels wide, or if not even one layer has room; that is told before anything is read.
    """
    stored = StoredEncoder(path, kind)
    if stored.sizes.width != width:
        raise ConfigError(f"{printable(path)}: makes {stored.sizes.width} channels, expected {width}: convert it again")
    if weights not in (None, stored.weights):
        raise ConfigError(
            f"{printable(path)}: holds {stored.weights}, features of {weights} weights are asked for: convert it again "
            f"with --to {weights}, or use --option weights={stored.weights}"
        )
    with torch.device("meta"):
        working = kind(stored.sizes).working_bytes(rows, chunk(device) if kind is OnePeaceVideo else rows)
    return kind.from_file(stored, precision, device, streamed=not has_room(stored, working, device))


def has_room(stored: StoredEncoder, working: int, device: torch.device) -> bool:
    """Whether an encoder fits into memory as a whole. ConfigError if not even one layer does."""
    free = available_bytes(device)
    if free is None or stored.num_bytes + working <= SHARE * free:
        return True
    needed = 2 * stored.layer_bytes + working
    if needed > SHARE * free:
        raise ConfigError(
            f"{printable(stored.path)}: needs {needed / 1e9:.2f} GB of memory on {device} with one layer at a time, "
            f"{free / 1e9:.2f} GB are free: end other programs, or extract on another machine"
        )
    return False


def chunk(device: torch.device) -> int:
    """Windows that a layer takes together: a processor is no faster with several."""
    return 1 if device.type == "cpu" else CHUNK


def rows_at_once(device: torch.device) -> int:
    """Windows of pictures that are embedded together, each layer being read once: on a processor reading is nothing."""
    return 1 if device.type == "cpu" else STEPS_AT_ONCE


def require_cheap(encoder: OnePeaceVideo, asked: str, device: torch.device) -> None:
    """ConfigError where a processor would be busy for long and nobody asked for it."""
    if asked == "auto" and device.type == "cpu" and encoder.tflop > 1:
        raise ConfigError(
            f"features one-peace: {encoder.tflop:.1f} TFLOP a window of pictures, four windows a second: some 15 hours "
            "of a processor's core for a minute of video: give `--device cpu` if that is meant, or extract on a "
            "machine with a GPU"
        )


def embedded(encoder: Encoder, inputs: Tensor, at_once: int, name: str) -> NDArray[np.float32]:
    """(K, ...) -> (K, D). ConfigError if values went beyond what the precision holds."""
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        rows: NDArray[np.float32] = encoder(inputs.to(device), at_once=at_once).float().cpu().numpy()
    if not np.isfinite(rows).all():
        raise ConfigError(
            f"features one-peace: {name} has values beyond {encoder.precision}: use --precision bfloat16 or float32"
        )
    return rows


class Pictures:
    """Frames in, one after the other; the steps of the video encoder out. Memory: the frames of the next windows."""

    def __init__(self, encoder: OnePeaceVideo) -> None:
        self.encoder = encoder
        self.device = next(encoder.parameters()).device
        self.at_once = rows_at_once(self.device)
        self.waiting: list[Frame] = []
        self.last: tuple[Frame, Frame] | None = None
        """The last frame as it came, and as it was prepared."""
        self.done: tuple[list[Frame], NDArray[np.float32]] | None = None
        """The last window, and its row (1, D)."""

    def push(self, rgb: Frame) -> Rows:
        """The next frame, (H, W, 3), of any size; an object that was the last frame too is the same picture."""
        if self.last is None or self.last[0] is not rgb:
            self.last = rgb, prepare_frame(rgb, PATCH * self.encoder.sizes.grid)
        self.waiting.append(self.last[1])
        if len(self.waiting) == SPEC.window + SPEC.stride * (self.at_once - 1):
            yield from self._embed()

    def finish(self) -> Rows:
        """The last steps; frames that complete none are left out."""
        yield from self._embed()

    def _embed(self) -> Rows:
        K = (len(self.waiting) - SPEC.window) // SPEC.stride + 1
        windows = [self.waiting[k * SPEC.stride :][: SPEC.window] for k in range(K)]
        if not windows:
            return
        new: list[list[Frame]] = [self.done[0]] if self.done else []
        numbers = []
        for window in windows:
            number = next((n for n, other in enumerate(new) if _is_same(window, other)), len(new))
            if number == len(new):
                new.append(window)
            numbers.append(number)
        rows = [self.done[1]] if self.done else []
        if fresh := new[len(rows) :]:
            frames = normalise(torch.from_numpy(np.stack([np.stack(window) for window in fresh])))  # (K, F, H, W, 3)
            rows.append(embedded(self.encoder, frames.permute(0, 4, 1, 2, 3), chunk(self.device), VISUAL))
        table = np.concatenate(rows)[numbers]
        self.waiting = self.waiting[K * SPEC.stride :]
        self.done = windows[-1], table[-1:]
        yield VISUAL, table


def _is_same(window: list[Frame], other: list[Frame]) -> bool:
    return all(a is b for a, b in zip(window, other, strict=True))


class Sound:
    """Samples in, in pieces of any size; the steps of the audio encoder out, each normalised over its own second."""

    WINDOW = round(SPEC.audio_window_seconds * SAMPLE_RATE)
    STRIDE = round(SPEC.audio_stride_seconds * SAMPLE_RATE)

    def __init__(self, encoder: OnePeaceAudio) -> None:
        self.encoder = encoder
        self.samples = np.zeros(0, np.float32)

    def push(self, samples: NDArray[np.floating]) -> Rows:
        """The next samples at 16 kHz; beyond -1..1 they are cut, as in files of whole numbers."""
        clipped = np.nan_to_num(samples, posinf=1, neginf=-1).clip(-1, 1).astype(np.float32)
        self.samples = np.concatenate([self.samples, clipped])
        while len(self.samples) >= self.WINDOW + self.STRIDE * (STEPS_AT_ONCE - 1):
            yield from self._embed(STEPS_AT_ONCE)

    def finish(self) -> Rows:
        """The last steps; samples that complete none are left out."""
        yield from self._embed((len(self.samples) - self.WINDOW) // self.STRIDE + 1)

    def _embed(self, K: int) -> Rows:
        if K < 1:
            return
        windows = [prepare_audio(self.samples[k * self.STRIDE :][: self.WINDOW]) for k in range(K)]
        self.samples = self.samples[K * self.STRIDE :]
        yield AUDIO, embedded(self.encoder, torch.from_numpy(np.stack(windows)), K, AUDIO)


@dataclass(frozen=True)
class OnePeaceMaker:
    """Fresh streams for every file, over the same encoders."""

    video: OnePeaceVideo
    sound: OnePeaceAudio

    def visual(self) -> Pictures:
        return Pictures(self.video)

    def audio(self) -> Sound:
        return Sound(self.sound)
