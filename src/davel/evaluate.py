"""Evaluation: what a model finds in annotated videos, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from davel.data.annotations import AnnotatedVideo
from davel.data.dataset import Dataset, Sample, collate
from davel.detection import DecodeSettings, decode
from davel.errors import ConfigError
from davel.events import EventList
from davel.metrics import THRESHOLDS, average_precision, decoys_reported
from davel.models import Network, Outputs
from davel.models.network import ClassDependencies
from davel.windows import run_windows


def predict(
    model: Network,
    dataset: Dataset,
    settings: DecodeSettings | None = None,
    without: Literal["audio", "visual"] | None = None,
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, EventList]:
    """The events that `model` finds in each video, of any score; `without` zeroes the features of one modality.

    `batch_size` videos of about one length are taken together (default: 32 on an accelerator, 1 on the CPU), which does
    not change what is found.
    """
    device = next(model.parameters()).device
    batch_size = batch_size or (1 if device.type == "cpu" else 32)
    found: dict[str, EventList] = {}
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for samples in _batches(dataset, batch_size, model.config.max_length):
            if without:
                samples = [replace(s, **{without: np.zeros_like(getattr(s, without))}) for s in samples]
            if len(samples) == 1:
                visual, audio = torch.from_numpy(samples[0].visual), torch.from_numpy(samples[0].audio)
                outputs, mask = run_windows(model, visual, audio)
            else:
                batch = collate(samples).to(device)
                mask = batch.mask
                with torch.inference_mode():
                    outputs = model(batch.visual, batch.audio, mask)
            found |= _decode(outputs, mask, samples, dataset, settings)
            if progress:
                progress(len(found), len(dataset))
    return {key: found[key] for key in dataset.videos}


def predict_published(
    model: Network,
    dataset: Dataset,
    settings: DecodeSettings | None = None,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, EventList]:
    """The events as the released code finds them: in file order, `batch_size` videos at a time at the model's whole
    length, where the dependencies along time take the mask of a wrong video of the batch.

    The published figures were made so. ConfigError if the model has no such dependencies, or a video is too long.
    """
    dependencies = getattr(model, "dependencies", None)
    if not isinstance(dependencies, ClassDependencies):
        raise ConfigError("this model has no dependencies along time: published batching does nothing to it")
    device, length = next(model.parameters()).device, model.config.max_length
    keys = list(dataset.videos)
    found: dict[str, EventList] = {}
    dependencies.published_masks = True
    try:
        for first in range(0, len(keys), batch_size):
            samples = [dataset.sample(key) for key in keys[first : first + batch_size]]
            if too_long := [s.id for s in samples if len(s.visual) > length]:
                raise ConfigError(f"{too_long[0]}: is longer than the model's {length} steps: leave it out")
            batch = collate(samples, length).to(device)
            with torch.inference_mode():
                outputs = model(batch.visual, batch.audio, batch.mask)
            found |= _decode(outputs, batch.mask, samples, dataset, settings)
            if progress:
                progress(len(found), len(dataset))
    finally:
        dependencies.published_masks = False
    return found


def _decode(
    outputs: Outputs, mask: Tensor, samples: Sequence[Sample], dataset: Dataset, settings: DecodeSettings | None
) -> dict[str, EventList]:
    videos = [dataset.videos[s.id] for s in samples]
    durations = [video.duration for video in videos]
    events = decode(outputs, mask, dataset.spec.timing, durations, settings, videos[0].events.labels)
    return dict(zip((s.id for s in samples), events, strict=True))


def _batches(dataset: Dataset, size: int, max_length: int) -> Iterator[list[Sample]]:
    """The videos, those of about one length together; one that is longer than the model is alone."""
    by_duration = sorted(dataset.videos, key=lambda key: dataset.videos[key].duration)
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


def score(predicted: Mapping[str, EventList], videos: Mapping[str, AnnotatedVideo], num_classes: int) -> dict[str, Any]:
    """The field's figures, all in 0..1: `average_mAP` over tIoU 0.1 to 0.9, `mAP` at each, and, where the annotations
    have decoys, the part of them that is reported with a score of at least 0.5."""
    ap = average_precision(predicted, {key: video.events for key, video in videos.items()}, num_classes)
    figures: dict[str, Any] = {
        "average_mAP": round(float(np.nanmean(ap)), 6),
        "mAP": {str(t): round(float(np.nanmean(row)), 6) for t, row in zip(THRESHOLDS, ap, strict=True)},
        "videos": len(videos),
        "events": sum(len(video.events) for video in videos.values()),
    }
    hit, total = decoys_reported(predicted, {key: video.decoys for key, video in videos.items()})
    if total:
        figures["decoys"] = total
        figures["decoys_reported"] = round(hit / total, 6)
    return figures
