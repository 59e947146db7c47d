"""Evaluation: what a model finds in annotated videos, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from davel.data.annotations import AnnotatedVideo
from davel.data.dataset import Dataset
from davel.detection import DecodeSettings, decode
from davel.events import EventList
from davel.metrics import THRESHOLDS, average_precision, decoys_reported
from davel.models import Network
from davel.windows import run_windows


def predict(
    model: Network,
    dataset: Dataset,
    settings: DecodeSettings | None = None,
    without: Literal["audio", "visual"] | None = None,
) -> dict[str, EventList]:
    """The events that `model` finds in each video, of any score; `without` zeroes the features of one modality."""
    found = {}
    for key, video in dataset.videos.items():
        visual, audio = map(torch.from_numpy, dataset.read(key))
        if without:
            (audio if without == "audio" else visual).zero_()
        outputs, mask = run_windows(model, visual, audio)
        found[key] = decode(outputs, mask, dataset.spec.timing, video.duration, settings, video.events.labels)[0]
    return found


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
