"""Features without pretrained weights: what colours there are and move, and what the sound's spectrum does.

They keep the steps of the published protocol: 24 frames every 8 at 25 fps, 0.96 s of sound every 0.32 s. A step is made
of three slots of 0.32 s, so nothing is computed twice and a boundary inside a step can be told.

Shapes: F frames, N samples, S slots, K visual and M audio steps, P pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.features.family import STEPS_AT_ONCE, Family, Frames, Precision, Rows, Stream
from davel.features.spec import FeatureSpec

Floats = NDArray[np.floating]

FPS = 25
SLOT_FRAMES = 8
SLOTS_PER_STEP = 3
FRAME_SIZE = (48, 64)
"""Height and width that frames are shrunk to."""
NUM_HUES, NUM_VALUES = 24, 2
NUM_ANGLES = 8
GRID = (3, 4)

SAMPLE_RATE = 16000
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
"""25 ms of sound every 10 ms, as VGGish takes it."""
SLOT_SPECTRA = 32
SUB_SLOT_SPECTRA = 8
NUM_MELS = 32
LOUDEST = 16.0
"""Samples of a damaged file with floating-point sound may be anything; beyond this they are cut."""
MEL_RANGE_HZ = (60.0, 7500.0)

VISUAL_SLOT_DIM = 2 * NUM_HUES * NUM_VALUES + 2 * SLOT_FRAMES + 2 * NUM_ANGLES + GRID[0] * GRID[1] + 2
AUDIO_SLOT_DIM = (SLOT_SPECTRA // SUB_SLOT_SPECTRA + 1) * NUM_MELS

SPEC = FeatureSpec(
    name="light",
    version=1,
    fps=float(FPS),
    window=SLOT_FRAMES * SLOTS_PER_STEP,
    stride=SLOT_FRAMES,
    sample_rate=SAMPLE_RATE,
    audio_window_seconds=0.96,
    audio_stride_seconds=0.32,
    visual_dim=SLOTS_PER_STEP * VISUAL_SLOT_DIM,
    audio_dim=SLOTS_PER_STEP * AUDIO_SLOT_DIM,
)


def _steps(slots: list[Floats], dim: int) -> Floats:
    """Slots (S, dim) -> steps (S - 2, 3 * dim): each three slots in a row."""
    S = len(slots)
    if S < SLOTS_PER_STEP:
        return np.zeros((0, SLOTS_PER_STEP * dim), np.float32)
    table = np.stack(slots)
    return np.concatenate([table[i : S - SLOTS_PER_STEP + 1 + i] for i in range(SLOTS_PER_STEP)], axis=1)


class Slots:
    """Descriptions of slots in a row, from which steps are taken."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._slots: list[Floats] = []

    def __len__(self) -> int:
        return len(self._slots)

    def take(self) -> Floats:
        """The steps that are complete and were not taken yet: (K, 3 * dim)"""
        steps = _steps(self._slots, self.dim)
        self._slots = self._slots[-SLOTS_PER_STEP + 1 :] if len(steps) else self._slots
        return steps


class LightVisual(Slots):
    """Frames in, one after the other; steps out. Memory: one slot of frames, and the slots that were not taken."""

    def __init__(self) -> None:
        super().__init__(VISUAL_SLOT_DIM)
        self._frames: list[NDArray[np.uint8]] = []

    def push(self, rgb: NDArray[np.uint8]) -> None:
        """The next frame, (*FRAME_SIZE, 3)."""
        self._frames.append(rgb)
        if len(self._frames) == SLOT_FRAMES + 1:  # a slot's last motion is that towards the next slot's first frame
            self._slots.append(describe_frames(np.stack(self._frames)))
            del self._frames[:SLOT_FRAMES]


def describe_frames(frames: NDArray[np.uint8]) -> Floats:
    """A slot's frames and the one that follows, (9, H, W, 3) -> (VISUAL_SLOT_DIM,), each value around 0..2"""
    rgb = frames.astype(np.float32) / 255
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)  # (9, H, W)
    change = np.diff(luma, axis=0)  # (8, H, W)
    motion = _largest(np.abs(np.diff(rgb, axis=0)))
    motion = (motion - 0.04).clip(min=0)  # what is below is the camera's noise
    rgb, luma = rgb[:-1], luma[:-1]

    top = _largest(rgb)
    chroma = top + _largest(-rgb)
    colours = _colour_bins(rgb, top, chroma)
    vivid = (chroma - 0.2).clip(min=0)
    present = _histogram(colours, vivid)  # what colours there are
    moving = _histogram(colours, np.minimum(motion, 0.5) * (chroma + 0.05))  # and which of them move

    dy, dx = (np.asarray(np.gradient(luma, axis=axis)) for axis in (1, 2))
    steepness = np.hypot(dx, dy)
    edges = _angles(dy, dx, steepness * motion)  # which way the moving edges face
    # Brightness moves against its gradient: the direction of what moves, as far as one edge tells.
    flow = _angles(-dy * np.sign(change), -dx * np.sign(change), np.abs(change) * (steepness > 0.03))

    h, w = motion.shape[1] // GRID[0], motion.shape[2] // GRID[1]
    where = motion.mean(0)[: GRID[0] * h, : GRID[1] * w].reshape(GRID[0], h, GRID[1], w).mean((1, 3)).ravel()
    return np.concatenate(
        [
            18 * np.sqrt(present),
            30 * np.sqrt(moving),
            10 * np.sqrt(motion.mean((1, 2))),
            10 * np.sqrt(vivid.mean((1, 2))),
            60 * np.sqrt(edges),
            30 * np.sqrt(flow),
            10 * np.sqrt(where),
            [2 * luma.mean() - 1, 4 * luma.std() - 1],
        ]
    ).astype(np.float32)


def _largest(rgb: Floats) -> Floats:
    """The largest of three channels, (..., 3) -> (...); much faster than `max` over so short an axis."""
    return np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])


def _colour_bins(rgb: Floats, top: Floats, chroma: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Of each pixel its bin of hue and value, and how far it lies towards the next hue's bin."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(chroma, 1e-6)
    sector = np.where(
        top == red, (green - blue) / safe, np.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    position = sector * np.float32(NUM_HUES / 6) % NUM_HUES
    hue = position.astype(np.intp) % NUM_HUES
    bright = (top > 0.6).astype(np.intp)
    return bright * NUM_HUES + hue, position - np.floor(position)


def _histogram(colours: tuple[NDArray[np.intp], Floats], weight: Floats) -> Floats:
    """Weight by colour, shared between neighbouring hues, per pixel: (NUM_VALUES * NUM_HUES,)"""
    index, part = (x.ravel() for x in colours)
    flat = weight.ravel()
    following = index - index % NUM_HUES + (index + 1) % NUM_HUES
    size = NUM_VALUES * NUM_HUES
    total = np.bincount(index, flat * (1 - part), size) + np.bincount(following, flat * part, size)
    return (total / flat.size).astype(np.float32)


def _angles(y: Floats, x: Floats, weight: Floats) -> Floats:
    """Weight by direction, per pixel: (NUM_ANGLES,)"""
    index = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * NUM_ANGLES).astype(np.intp) % NUM_ANGLES
    return (np.bincount(index.ravel(), weight.ravel(), NUM_ANGLES) / weight.size).astype(np.float32)


class LightAudio(Slots):
    """Samples in, in pieces of any size; steps out. Memory: a slot of samples, and the slots that were not taken.

    A step needs all of its 96 spectra, 0.975 s of sound.
    """

    def __init__(self) -> None:
        super().__init__(AUDIO_SLOT_DIM)
        self._samples = np.zeros(0, np.float32)

    def push(self, samples: Floats) -> None:
        """The next samples at 16 kHz, in -1..1."""
        samples = np.nan_to_num(samples, posinf=LOUDEST, neginf=-LOUDEST).clip(-LOUDEST, LOUDEST)
        self._samples = np.concatenate([self._samples, samples])
        slot = SLOT_SPECTRA * HOP_SAMPLES
        count = (len(self._samples) - (WINDOW_SAMPLES - HOP_SAMPLES)) // slot
        if count > 0:
            spectra = log_mel(self._samples[: count * slot + WINDOW_SAMPLES - HOP_SAMPLES])
            self._slots.extend(describe_sound(part) for part in spectra.reshape(count, SLOT_SPECTRA, NUM_MELS))
            self._samples = self._samples[count * slot :]


def log_mel(samples: Floats) -> Floats:
    """(N,) -> (spectra, NUM_MELS), the logarithm of each band's magnitude, scaled to around -1..2"""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES]
    magnitude = np.abs(np.fft.rfft(windows * _HANN, FFT_SAMPLES)).astype(np.float32)
    return (np.log(magnitude @ _MELS + np.float32(0.01)) + 1) / 2


def describe_sound(spectra: Floats) -> Floats:
    """A slot's log-mel spectra (32, NUM_MELS) -> (AUDIO_SLOT_DIM,): the means of every 80 ms, and each band's spread"""
    parts = spectra.reshape(-1, SUB_SLOT_SPECTRA, NUM_MELS).mean(1)
    return np.concatenate([parts.ravel(), 2 * spectra.std(0)]).astype(np.float32)


def _mel_matrix() -> Floats:
    """Triangles on HTK's mel scale: (FFT bins, NUM_MELS)"""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127 * np.log1p(hertz / 700))

    low, high = (float(mel(np.array(hertz))) for hertz in MEL_RANGE_HZ)
    edges = np.linspace(low, high, NUM_MELS + 2)
    bins = mel(np.linspace(0, SAMPLE_RATE / 2, FFT_SAMPLES // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: Floats = np.minimum(rising, falling).clip(min=0).astype(np.float32)
    return triangles


_MELS = _mel_matrix()
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)).astype(np.float32)


class Collected:
    """Hands on many steps at a time: each alone costs more than it is."""

    def __init__(self, name: str, slots: LightVisual | LightAudio) -> None:
        self.name, self.slots = name, slots

    def push(self, item: Any) -> Rows:
        self.slots.push(item)
        if len(self.slots) > STEPS_AT_ONCE:
            yield from self.finish()

    def finish(self) -> Rows:
        yield self.name, self.slots.take().astype(np.float32, copy=False)


class LightMaker:
    def visual(self) -> Collected:
        return Collected("light-visual", LightVisual())

    def audio(self) -> Collected:
        return Collected("light-audio", LightAudio())


def open_light(options: object, device: str, precision: Precision, compile: bool) -> LightMaker:
    """No networks, so that device and precision change nothing."""
    return LightMaker()


FAMILY = Family(
    spec=SPEC,
    streams={"light-visual": Stream("visual", SPEC.visual_dim), "light-audio": Stream("audio", SPEC.audio_dim)},
    frames=Frames(size=FRAME_SIZE, lookahead=1),
    parallel=True,
    open=open_light,
)
