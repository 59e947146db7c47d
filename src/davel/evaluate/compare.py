"""Models side by side on single videos, as in the paper's Figure 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from davel.core.errors import ConfigError, printable
from davel.core.events import EventList
from davel.core.timeline import Curve
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
    curves: Mapping[str, Curve]
    """What the models say of every step, by model and name."""
    origin: str | None = None


def compare_models(
    models: Mapping[str, Localizer], dataset: Dataset, key: str, threshold: float | None = None
) -> Compared:
    """What each model finds in a video with a score of at least `threshold` (default: the model's own), and their
    curves. ConfigError if there is no such video, or a model reads other features."""
    if key not in dataset.videos:
        raise ConfigError(f"{printable(key)}: is not among the {len(dataset)} annotated videos")
    video = dataset.videos[key]
    visual, audio = map(torch.from_numpy, dataset.read(key))
    found: dict[str, EventList] = {}
    curves: dict[str, Curve] = {}
    for name, localizer in models.items():
        localizer.info.features.require(dataset.spec, name, "the data")
        seen = find_events(localizer.model, [(visual, audio)], dataset.spec.timing, localizer.info.labels)
        events = seen.events.clipped(0, video.seconds)
        found[name] = events.above(localizer.info.threshold if threshold is None else threshold)
        curves |= {f"{name}: {what}": curve for what, curve in seen.curves.items()}
    return Compared(key, video.seconds, video.events, found, curves, dataset.origin)
