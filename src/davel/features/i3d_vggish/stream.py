"""The published features as a stream: frames and samples in, steps out, nothing computed twice.

Every frame is resized and encoded once, every pair's flow is computed once, and a step needs the last 25 frames alone:
memory does not grow with the video. Steps overlap by two thirds; the published procedure does all of it for each.

Shapes: F frames, H x W pixels, K steps, N samples.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from davel.features import vggish
from davel.features.family import Rows
from davel.features.i3d import CROP, I3D, flow_input, rgb_input
from davel.features.i3d_vggish.protocol import SPEC
from davel.features.raft import RAFT, pad_to_scale
from davel.features.resize import resize, short_side_size
from davel.features.vggish import VGGish

Encoded = tuple[Tensor, Tensor, Tensor]
"""Of some frames: what I3D sees of them, their maps and their contexts."""

WINDOW, STRIDE = SPEC.window, SPEC.stride
EXAMPLE_HOP = round(SPEC.audio_stride_seconds * vggish.SAMPLE_RATE / vggish.HOP_SAMPLES)


@dataclass(frozen=True)
class Networks:
    """What the published features are made with."""

    rgb: nn.Module
    flow: nn.Module
    raft: RAFT
    vggish: nn.Module
    device: torch.device
    precision: torch.dtype

    @classmethod
    def of(
        cls, rgb: I3D, flow: I3D, raft: RAFT, sound: VGGish, device: torch.device, precision: torch.dtype
    ) -> Networks:
        """On the device, in the memory layout that suits them."""
        for network in (rgb, flow):
            network.fold().to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        sound.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(rgb, flow, raft.to(device), sound, device, precision)

    def running(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        reduced = self.precision is not torch.float32
        stack.enter_context(torch.autocast(self.device.type, self.precision, enabled=reduced))
        return stack

    @property
    def at_once(self) -> int:
        """Frames that are encoded together: a processor's cache holds one."""
        return 1 if self.device.type == "cpu" else 64

    @property
    def steps_at_once(self) -> int:
        return 1 if self.device.type == "cpu" else 8


class TwoStream:
    """Frames in, one after the other; the steps of `rgb` and `flow` out."""

    def __init__(self, networks: Networks, updates: int) -> None:
        self.networks, self.updates = networks, updates
        self.waiting: list[NDArray[np.uint8]] = []
        self.num_frames = 0
        """Those that are no longer waiting."""
        self.num_steps = 0
        self.size: tuple[int, int] | None = None
        """Of all frames, (height, width), as the first one gives it."""
        self.last: tuple[NDArray[np.uint8], Encoded] | None = None
        """The last frame that is no longer waiting."""
        self.crops = torch.zeros(0, 3, CROP, CROP, device=networks.device)
        self.flows = torch.zeros(0, 2, CROP, CROP, device=networks.device)
        """Of the frames, and of the pairs that they begin, which the next step sees."""

    def push(self, rgb: NDArray[np.uint8]) -> Rows:
        """The next frame, (H, W, 3), of any size; an object that was the last frame too is the same picture."""
        self.waiting.append(rgb)
        first = self.num_frames == 0  # a step is complete with the frame after it
        if len(self.waiting) == STRIDE * self.networks.steps_at_once + first:
            yield from self._embed()

    def finish(self) -> Rows:
        """The last steps; frames that complete none are left out."""
        K = num_steps(self.num_frames + len(self.waiting))
        needed = WINDOW + 1 + STRIDE * (K - 1) if K > self.num_steps else self.num_frames
        del self.waiting[needed - self.num_frames :]
        if self.waiting:
            yield from self._embed()

    def _embed(self) -> Rows:
        with self.networks.running():
            self._take()
            K = num_steps(self.num_frames) - self.num_steps
            if K == 0:
                return
            rows = []
            for network, x in ((self.networks.rgb, self.crops), (self.networks.flow, self.flows)):
                windows = torch.stack([x[k * STRIDE : k * STRIDE + WINDOW] for k in range(K)]).transpose(1, 2)
                features = network(windows.contiguous(memory_format=torch.channels_last_3d))
                rows.append(features.float().cpu().numpy())
            self.num_steps += K
            self.crops, self.flows = self.crops[K * STRIDE :].clone(), self.flows[K * STRIDE :].clone()
        yield from zip(("rgb", "flow"), rows, strict=True)

    def _take(self) -> None:
        """Encode the waiting frames, and find the flow towards each from the one before."""
        raft, at_once = self.networks.raft, self.networks.at_once
        new, number = _distinct(self.waiting, self.last[0] if self.last else None)
        parts = [self.last[1]] if self.last else []
        if new:
            parts.append(self._encode(new))
        crops, maps, contexts = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        self.crops = torch.cat([self.crops, crops[number]])

        order = [0, *number] if self.last else number
        pairs = list(pairwise(order))
        distinct = list(dict.fromkeys(pairs))  # a picture that stands still is compared with itself once
        flows = []
        for first in range(0, len(distinct), at_once):
            a, b = (list(side) for side in zip(*distinct[first : first + at_once], strict=True))
            flows.append(flow_input(raft.flow(maps[a], maps[b], contexts[a], self.updates)))
        if pairs:
            self.flows = torch.cat([self.flows, torch.cat(flows)[[distinct.index(pair) for pair in pairs]]])

        final = order[-1:]
        self.last = (self.waiting[-1], (crops[final], maps[final], contexts[final]))
        self.num_frames += len(self.waiting)
        self.waiting = []

    def _encode(self, frames: list[NDArray[np.uint8]]) -> Encoded:
        raft, at_once = self.networks.raft, self.networks.at_once
        x = torch.cat([self._resized(frame) for frame in frames])  # (F, 3, h, w)
        padded = pad_to_scale(x.float())
        maps, contexts = (
            torch.cat([encode(part) for part in torch.split(padded, at_once)]) for encode in (raft.encode, raft.context)
        )
        return rgb_input(x), maps, contexts

    def _resized(self, frame: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) -> (1, 3, h, w), bytes; where the size changes midway, as large as the first."""
        self.size = self.size or short_side_size(*frame.shape[:2])
        x = torch.from_numpy(frame).to(self.networks.device)
        return resize(x, self.size).permute(2, 0, 1)[None]


def num_steps(num_frames: int) -> int:
    """The steps of so many frames: the flow of a step needs one more than the step has."""
    return max((num_frames - WINDOW - 1) // STRIDE + 1, 0)


def _distinct(frames: list[Any], last: Any) -> tuple[list[Any], list[int]]:
    """Frames that are not the same object as the one before, and for each frame its number in `last` and these."""
    distinct: list[Any] = []
    number: list[int] = []
    before, count = last, 0 if last is not None else -1
    for frame in frames:
        if frame is not before:
            distinct.append(frame)
            count += 1
        number.append(count)
        before = frame
    return distinct, number


class Sound:
    """Samples in, in pieces of any size; the steps of `vggish` out."""

    EXAMPLES_AT_ONCE = 16

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.samples = np.zeros(0, np.float32)
        self.spectra = np.zeros((0, vggish.NUM_MELS))

    def push(self, samples: NDArray[np.floating]) -> Rows:
        """The next samples at 16 kHz; beyond -1..1 they are cut, as in files of whole numbers."""
        clipped = np.nan_to_num(samples, posinf=1, neginf=-1).clip(-1, 1).astype(np.float32)
        self.samples = np.concatenate([self.samples, clipped])
        if len(self.samples) >= self.EXAMPLES_AT_ONCE * EXAMPLE_HOP * vggish.HOP_SAMPLES + vggish.WINDOW_SAMPLES:
            yield from self._embed()

    def finish(self) -> Rows:
        yield from self._embed()

    def _embed(self) -> Rows:
        new = vggish.log_mel(self.samples)
        self.samples = self.samples[len(new) * vggish.HOP_SAMPLES :]
        self.spectra = np.concatenate([self.spectra, new])
        examples = vggish.examples(self.spectra)
        self.spectra = self.spectra[len(examples) * EXAMPLE_HOP :]
        for part in torch.split(torch.from_numpy(examples), self.EXAMPLES_AT_ONCE) if len(examples) else ():
            with self.networks.running():
                yield "vggish", self.networks.vggish(part.to(self.networks.device)).float().cpu().numpy()


@dataclass(frozen=True)
class TwoStreamMaker:
    """Fresh streams for every file, over the same networks."""

    networks: Networks
    updates: int

    def visual(self) -> TwoStream:
        return TwoStream(self.networks, self.updates)

    def audio(self) -> Sound:
        return Sound(self.networks)
