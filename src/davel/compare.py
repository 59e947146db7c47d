"""Models side by side on single videos, as in the paper's Figure 4."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from davel.data.dataset import Dataset
from davel.errors import ConfigError, printable
from davel.localize import Localizer
from davel.plot import Compared
from davel.windows import find_events


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
        events = seen.events.clipped(0, video.duration)
        found[name] = events.above(localizer.info.threshold if threshold is None else threshold)
        for modality, gate in seen.gates.items():
            times = dataset.spec.timing.seconds(np.arange(len(gate), dtype=np.float64))
            gates[f"{name}: from {modality}"] = times, gate
    return Compared(key, video.duration, video.events, found, gates, dataset.origin)
