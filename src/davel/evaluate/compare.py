"""Models side by side on single videos, as in the paper's Figure 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from davel.core.errors import ConfigError, printable
from davel.core.events import EventList
from davel.data.dataset import Dataset
from davel.detection.windows import find_events
from davel.localize import Localizer


@dataclass(frozen=True)
class Compared:
    """A video with what several models find in it."""

    id: str
    duration: float
    """Seconds."""
    truth: EventList
    found: Mapping[str, EventList]
    """By model, as far as it is to be shown."""
    gates: Mapping[str, tuple[NDArray[np.float64], NDArray[np.floating]]]
    """By what is said of them: the times and values of `audio` and `visual` gates, (T,) each."""
    origin: str | None = None


def compare_models(
    models: Mapping[str, Localizer], dataset: Dataset, key: str, threshold: float | None = None
) -> Compared:
    """What each model finds in a video with a score of at least `threshold` (default: the model's own), and the gates
    of those that have some. ConfigError if there is no such video, or a model reads other features."""
    if key not in dataset.videos:
        raise ConfigError(f"{printable(key)}: is not among the {len(dataset)} annotated videos")
    video = dataset.videos[key]
    visual, audio = map(torch.from_numpy, dataset.read(key))
    found, gates = {}, {}
    for name, localizer in models.items():
        localizer.info.features.require(dataset.spec, name, "the data")
        seen = find_events(localizer.model, [(visual, audio)], dataset.spec.timing, localizer.info.labels)
        events = seen.events.clipped(0, video.seconds)
        found[name] = events.above(localizer.info.threshold if threshold is None else threshold)
        for modality, gate in seen.gates.items():
            times = dataset.spec.timing.seconds(np.arange(len(gate), dtype=np.float64))
            gates[f"{name}: from {modality}"] = times, gate
    return Compared(key, video.seconds, video.events, found, gates, dataset.origin)
