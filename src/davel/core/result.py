"""What was found in one file, and what one needs to know to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.core.events import EventList, Video
from davel.core.facts import Coverage, MediaInfo, without_suffix
from davel.core.timeline import Curve, Timing

GATE = "gate from "
"""What the names of a network's gates begin with; the modality that they are computed from follows."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The events of one file, and what one needs to know to trust them."""

    info: MediaInfo
    events: EventList
    """Best first, in seconds on the media clock."""
    duration: float
    """Seconds, of the longer track."""
    coverage: Coverage
    """What was really decoded."""
    span: tuple[float, float]
    """Seconds in which events were looked for: what was asked for, where both tracks are."""
    timing: Timing
    """Of the model's steps."""
    curves: Mapping[str, Curve]
    """What the model says of every step, by name: `gate from audio` is how much the sound opens the pictures."""
    features: Mapping[str, Any]
    """The specification of the features that were read, as plain values."""
    model: str
    weights_sha256: str
    settings: Mapping[str, Any]
    video_id: str | None = None
    """The video's name among others that were localized with it; None where its file's own is enough."""

    @property
    def id(self) -> str:
        """The video's name: by default its file's without ending."""
        return without_suffix(self.info.path.name) if self.video_id is None else self.video_id

    @property
    def video(self) -> Video:
        """The video with its events, best first."""
        return Video(self.id, self.events, self.duration, str(self.info.path), scored_by=self.model)

    @property
    def gates(self) -> dict[str, NDArray[np.floating]]:
        """By modality, (T,): how much it opens the other one; empty for a model without gates."""
        return {name.removeprefix(GATE): curve.values for name, curve in self.curves.items() if name.startswith(GATE)}

    @property
    def times(self) -> NDArray[np.float64]:
        """The centres of the curves' steps, in seconds: (T,)"""
        return next(iter(self.curves.values()), Curve(self.timing, np.zeros(0))).times

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON format."""
        info = asdict(self.info) | {"path": str(self.info.path), "duration_seconds": round(self.duration, 6)}
        steps = {
            "step_seconds": self.timing.step_seconds,
            "first_seconds": round(float(self.timing.seconds(np.zeros(1))[0]), 6),
        }
        others = {name: _rounded(curve.values) for name, curve in self.curves.items() if not name.startswith(GATE)}
        return {
            "media": info,
            "coverage": {"start": self.span[0], "end": self.span[1]} | asdict(self.coverage),
            "model": {"name": self.model, "weights_sha256": self.weights_sha256, "features": dict(self.features)},
            "settings": dict(self.settings),
            "labels": list(self.events.labels),
            "events": [
                {
                    "id": number,
                    "label": event.label,
                    "label_id": int(label_id),
                    "start": round(event.start, 4),
                    "end": round(event.end, 4),
                    "score": round(event.score, 6),
                }
                for number, (event, label_id) in enumerate(zip(self.events, self.events.label_ids, strict=True))
            ],
            "gates": steps | {modality: _rounded(values) for modality, values in self.gates.items()},
            **({"curves": steps | others} if others else {}),
        }


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [round(float(x), 4) for x in values]
