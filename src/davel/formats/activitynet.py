"""ActivityNet's results, which UnAV-100's evaluation reads as well.

{"version": "...", "results": {ID: [{"label": "dog barking", "score": 0.9, "segment": [1.2, 3.4]}, ...]},
 "external_data": {...}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from davel.core.errors import ConfigError, printable, refuse
from davel.core.events import EventList
from davel.core.files import read_json

VERSION = "davel.results/1"


@dataclass(frozen=True)
class Predictions:
    events: dict[str, EventList]
    """By video."""
    clipped: int
    """Segments that began before 0, and now begin there."""
    origin: str | None
    """What must be said wherever a figure on them is printed, if the file says so: that features are simulated."""


def dumps(events: Mapping[str, EventList], origin: str | None = None, **external: Any) -> str:
    """Predictions as a JSON object; times in seconds. `external` is kept as external data."""
    results = {
        key: [
            {"label": found.labels[c], "score": round(float(p), 6), "segment": [round(float(x), 4) for x in segment]}
            for c, p, segment in zip(found.label_ids, found.scores, found.segments, strict=True)
        ]
        for key, found in events.items()
    }
    more = external | ({"data": origin} if origin else {})
    return json.dumps({"version": VERSION, "results": results, "external_data": more}) + "\n"


def read(path: Path, labels: Sequence[str]) -> Predictions:
    """Predictions of events of the given classes, by label or label_id. ConfigError lists what is wrong, by video."""
    content = read_json(path, "predictions")
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise ConfigError(
            f'{printable(path)}: expected {{"results": {{ID: [{{"label", "score", "segment"}}, ...]}}}}, as ActivityNet'
        )
    ids = {label: i for i, label in enumerate(labels)}
    problems: list[str] = []
    events: dict[str, EventList] = {}
    clipped = 0
    for key, items in results.items():
        rows = []
        for item in items if isinstance(items, list) else [None]:
            try:
                rows.append(_row(item, ids))
            except (KeyError, TypeError, ValueError) as error:
                problems.append(f"{key}: {error.args[0] if isinstance(error, ValueError) else f'{item!r}'[:80]}")
        table = np.array(rows, np.float64).reshape(-1, 4)
        clipped += int((table[:, 0] < 0).sum())
        segments = np.maximum(table[:, :2], 0)
        kept = segments[:, 0] < segments[:, 1]  # one that ends before 0 is nowhere
        events[key] = EventList(segments[kept], table[kept, 2], table[kept, 3].astype(np.int64), tuple(labels))
    refuse(path, problems)
    external = content.get("external_data")
    origin = external.get("data") if isinstance(external, dict) else None
    return Predictions(events, clipped, origin if isinstance(origin, str) else None)


def renamed(events: Mapping[str, EventList], videos: Collection[str]) -> dict[str, EventList]:
    """The predictions under the videos' ids: with or without ActivityNet's `v_`, where they match no other way."""
    if any(key in videos for key in events):
        return dict(events)
    for change in (lambda key: f"v_{key}", lambda key: key.removeprefix("v_")):
        if any(change(key) in videos for key in events):
            return {change(key): found for key, found in events.items()}
    return dict(events)


def _row(item: Any, ids: Mapping[str, int]) -> tuple[float, float, float, int]:
    """Start, end, score and class. ValueError says what is wrong; other errors that it is no prediction at all."""
    start, end = map(float, item["segment"])
    score = float(item["score"])
    if not (math.isfinite(start) and math.isfinite(end) and start < end):
        raise ValueError(f"a segment needs start < end, got {item['segment']}")
    if not math.isfinite(score):
        raise ValueError(f"a score must be a number, got {item['score']}")
    if "label" in item:
        if item["label"] not in ids:
            raise ValueError(f"the annotations have no class {item['label']!r}")
        return start, end, score, ids[item["label"]]
    label_id = int(item["label_id"])
    if not 0 <= label_id < len(ids):
        raise ValueError(f"the annotations have no label_id {label_id}")
    return start, end, score, label_id
