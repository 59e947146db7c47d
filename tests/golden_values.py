"""Reference values in `tests/golden/`: outputs of the published implementations with weights made from their names."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from davel.detection import Truth

GOLDEN = Path(__file__).parent / "golden"


def fill(name: str, shape: list[int]) -> np.ndarray:
    """The values of a published parameter: random, drawn from its name, of the size that training would give it."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    is_norm = len(shape) == 1 or (len(shape) == 3 and shape[0] == shape[2] == 1 and not name.endswith("conv.weight"))
    last_of_segment = re.search(r"segment_embed\.\d+\.layers\.2\.", name)
    match name.rsplit(".", 1)[-1]:
        case _ if name.endswith(("sampling_offsets.bias", "query_embed.weight", "level_embed")):
            return noise
        case "bias" if re.search(r"class_embed\.\d+\.", name):
            return -3 + 0.5 * noise
        case "bias" if last_of_segment:
            return -0.4 + 0.4 * noise
        case "num_batches_tracked":
            return np.zeros(shape, np.float32)
        case "running_var":
            return 1 + 0.1 * np.abs(noise)
        case "bias" if name.endswith("cls_head.conv.bias"):
            return -3 + 0.5 * noise
        case "bias" | "in_proj_bias" | "running_mean":
            return 0.1 * noise
        case "logit_scale":  # UniAV's temperature
            return 2.5 + 0.1 * noise
        case "scale":
            return 0.5 + 0.1 * noise
        case _ if is_norm:
            return 1 + 0.1 * noise
    gain = np.float32(1.4 if len(shape) > 3 else 1)
    if last_of_segment or name.endswith("sampling_offsets.weight"):
        gain = np.float32(0.07)
    return gain * noise / np.sqrt(np.prod(shape[1:]), dtype=np.float32)


@cache
def published_state(name: str) -> dict[str, Tensor]:
    """A released checkpoint of the golden case `name`, e.g. `ccnet_small`."""
    shapes = json.loads((GOLDEN / f"{name}.keys.json").read_text())
    return {key: torch.from_numpy(np.asarray(fill(key, shape))) for key, shape in shapes.items()}


@dataclass(frozen=True)
class Case:
    """Inputs and reference outputs of a golden case."""

    meta: dict[str, Any]
    expected: dict[str, np.ndarray]
    visual: list[Tensor]
    audio: list[Tensor]
    events: list[tuple[np.ndarray, np.ndarray]]
    """Per video: segments (N, 2) in seconds, labels (N,)."""

    @property
    def timing(self) -> tuple[float, int, int]:
        return self.meta["fps"], self.meta["feat_stride"], self.meta["feat_num_frames"]

    @property
    def durations(self) -> list[float]:
        fps, stride, window = self.timing
        return [(length * stride + window) / fps for length in self.meta["lengths"]]

    def batch(self, T: int | None = None, padding: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """All videos at T steps (by default the model's), with `padding` behind the shorter ones."""
        T, lengths = T or self.meta["T"], self.meta["lengths"]
        mask = torch.arange(T) < torch.tensor(lengths)[:, None]
        tensors = []
        for videos in (self.visual, self.audio):
            x = torch.full((len(lengths), T, videos[0].shape[1]), padding)
            for row, video in zip(x, videos, strict=True):
                row[: len(video)] = video
            tensors.append(x)
        return tensors[0], tensors[1], mask

    def truth(self) -> Truth:
        fps, stride, window = self.timing
        segments = torch.tensor(np.stack([s for s, _ in self.events]))
        labels = torch.tensor(np.stack([c for _, c in self.events]))
        return Truth((segments * fps - window / 2) / stride, labels)


@cache
def load_case(name: str, repeat_first: bool = False) -> Case:
    """`repeat_first`: every video has a last event besides, the first one's segment with the class after its."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        expected = dict(stored)
    meta = json.loads(str(expected.pop("meta")))
    rng = np.random.default_rng(meta["seed"])
    visual, audio, events = [], [], []
    for length in meta["lengths"]:
        visual.append(torch.from_numpy(rng.standard_normal((length, meta["input_dim_visual"]), dtype=np.float32)))
        audio.append(torch.from_numpy(rng.standard_normal((length, meta["input_dim_audio"]), dtype=np.float32)))
        duration = (length * meta["feat_stride"] + meta["feat_num_frames"]) / meta["fps"]
        start = rng.random(4) * duration * 0.8
        end = np.minimum(start + 0.5 + rng.random(4) ** 2 * duration, duration)
        labels = rng.integers(0, meta["num_classes"], 4)
        if repeat_first:
            start, end = np.append(start, start[0]), np.append(end, end[0])
            labels = np.append(labels, (labels[0] + 1) % meta["num_classes"])
        events.append((np.stack([start, end], 1).astype(np.float32), labels))
    return Case(meta, expected, visual, audio, events)
