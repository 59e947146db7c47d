"""What a network finds in the videos of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from davel.core.errors import ConfigError
from davel.core.events import EventList
from davel.core.progress import Report, silent
from davel.data.dataset import Dataset, Sample, collate
from davel.detection import DecodeSettings, decode
from davel.detection.windows import find_events
from davel.models import Network
from davel.models.detector import DetectorOutputs
from davel.models.pyramid import ClassDependencies


def predict(
    model: Network,
    dataset: Dataset,
    settings: DecodeSettings | None = None,
    without: Literal["audio", "visual"] | None = None,
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    batch_size: int | None = None,
    report: Report = silent,
) -> dict[str, EventList]:
    """The events that `model` finds in each video, of any score; `without` zeroes the features of one modality.

    `batch_size` videos of about one length are taken together (default: 32 on an accelerator, 1 on the CPU), which does
    not change what is found.
    """
    device = model.device
    batch_size = batch_size or (1 if device.type == "cpu" else 32)
    found: dict[str, EventList] = {}
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for samples in _batches(dataset, batch_size, model.config.max_length):
            if without:
                samples = [replace(s, **{without: np.zeros_like(getattr(s, without))}) for s in samples]
            if len(samples[0].visual) > model.config.max_length:
                visual, audio = torch.from_numpy(samples[0].visual), torch.from_numpy(samples[0].audio)
                video = dataset.videos[samples[0].id]
                seen = find_events(model, [(visual, audio)], dataset.spec.timing, video.events.labels, settings)
                found[video.id] = seen.events.clipped(0, video.seconds)
            else:
                batch = collate(samples).to(device)
                with torch.inference_mode():
                    outputs = model(batch.visual, batch.audio, batch.mask)
                found |= _decode(outputs, batch.mask, samples, dataset, settings or model.detection)
            report("predict", len(found), len(dataset))
    return {key: found[key] for key in dataset.videos}


def predict_published(
    model: Network,
    dataset: Dataset,
    settings: DecodeSettings | None = None,
    batch_size: int = 16,
    report: Report = silent,
) -> dict[str, EventList]:
    """The events as the released code finds them: in file order, `batch_size` videos at a time at the model's whole
    length, where the dependencies along time take the mask of a wrong video of the batch.

    The published figures were made so. ConfigError if the model has no such dependencies, or a video is too long.
    """
    if not any(isinstance(module, ClassDependencies) for module in model.modules()):
        raise ConfigError("this model has no dependencies along time: published batching does nothing to it")
    device, length = model.device, model.config.max_length
    keys = list(dataset.videos)
    found: dict[str, EventList] = {}
    for first in range(0, len(keys), batch_size):
        samples = [dataset.sample(key) for key in keys[first : first + batch_size]]
        if too_long := [s.id for s in samples if len(s.visual) > length]:
            raise ConfigError(f"{too_long[0]}: is longer than the model's {length} steps: leave it out")
        batch = collate(samples, length).to(device)
        with torch.inference_mode():
            outputs = model(batch.visual, batch.audio, batch.mask, published_masks=True)
        found |= _decode(outputs, batch.mask, samples, dataset, settings or model.detection)
        report("predict", len(found), len(dataset))
    return found


def _decode(
    outputs: DetectorOutputs, mask: Tensor, samples: Sequence[Sample], dataset: Dataset, settings: DecodeSettings
) -> dict[str, EventList]:
    videos = [dataset.videos[s.id] for s in samples]
    durations = [video.seconds for video in videos]
    events = decode(outputs, mask, dataset.spec.timing, durations, settings, videos[0].events.labels)
    return dict(zip((s.id for s in samples), events, strict=True))


def _batches(dataset: Dataset, size: int, max_length: int) -> Iterator[list[Sample]]:
    """The videos, those of about one length together; one that is longer than the model is alone."""
    by_duration = sorted(dataset.videos, key=lambda key: dataset.videos[key].seconds)
    waiting: list[Sample] = []
    for key in by_duration if size > 1 else dataset.videos:
        sample = dataset.sample(key)
        if len(sample.visual) > max_length:
            yield [sample]
            continue
        waiting.append(sample)
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
