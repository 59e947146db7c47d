"""Annotations in UnAV-100's schema: what happens in each video, when, and which subset it belongs to.

    {"version": "...", "database": {ID: {"duration": 47.68, "subset": "train",
        "annotations": [{"segment": [13.01, 15.78], "label": "skateboarding", "label_id": 36}, ...]}}}

`labels` beside `database` may list all classes by id, where not all of them happen. A video may also list `decoys`,
things seen but silent or heard but hidden, in the same form with a `kind`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from davel.errors import ConfigError, printable
from davel.events import Event, EventList
from davel.files import replacing


@dataclass(frozen=True)
class AnnotatedVideo:
    id: str
    duration: float
    """Seconds."""
    subset: str
    events: EventList
    decoys: EventList


@dataclass(frozen=True)
class Annotations:
    labels: tuple[str, ...]
    """The classes, by label_id."""
    videos: dict[str, AnnotatedVideo]
    """By id, in the file's order."""

    def subset(self, name: str) -> dict[str, AnnotatedVideo]:
        """The videos of a subset; ConfigError if there are none."""
        chosen = {key: video for key, video in self.videos.items() if video.subset == name}
        if not chosen:
            known = sorted({video.subset for video in self.videos.values()})
            raise ConfigError(f"no videos in the subset {name!r}: the annotations have {', '.join(known) or 'none'}")
        return chosen

    def limited(self, num_classes: int | None = None, num_videos: int | None = None) -> Annotations:
        """Only the classes with most events, and the first `num_videos` for training that have some of them, with a
        third as many of every other subset.

        Events of other classes go, and so do all videos without one that is left, if classes are left out.
        """
        labels, videos = self.labels, dict(self.videos)
        if num_classes is not None and num_classes < len(labels):
            counts = sum(np.bincount(v.events.label_ids, minlength=len(labels)) for v in videos.values())
            kept = np.sort(np.argsort(-np.asarray(counts), kind="stable")[:num_classes])
            labels = tuple(labels[c] for c in kept)
            videos = {key: _relabelled(video, labels) for key, video in videos.items()}
            videos = {key: video for key, video in videos.items() if len(video.events)}
        if num_videos is not None:
            by_subset: dict[str, list[str]] = {}
            for key, video in videos.items():
                by_subset.setdefault(video.subset, []).append(key)
            most = {subset: num_videos if subset == "train" else -(-num_videos // 3) for subset in by_subset}
            chosen = {key for subset, keys in by_subset.items() for key in keys[: most[subset]]}
            videos = {key: video for key, video in videos.items() if key in chosen}
        return Annotations(labels, videos)


def _relabelled(video: AnnotatedVideo, labels: tuple[str, ...]) -> AnnotatedVideo:
    """The video with only the events of the given classes, numbered anew."""

    def relabel(events: EventList) -> EventList:
        return EventList.of([e for e in events if e.label in labels], labels)

    return replace(video, events=relabel(video.events), decoys=relabel(video.decoys))


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write a file that `read_annotations` reads."""

    def plain(events: EventList) -> list[dict[str, Any]]:
        return [
            {"segment": [round(e.start, 6), round(e.end, 6)], "label": e.label, "label_id": int(c)}
            for e, c in zip(events, events.label_ids, strict=True)
        ]

    database = {}
    for key, video in annotations.videos.items():
        entry = {"duration": video.duration, "subset": video.subset, "annotations": plain(video.events)}
        database[key] = entry | ({"decoys": plain(video.decoys)} if video.decoys else {})
    content = {"version": "davel", "labels": annotations.labels, "database": database}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_annotations(path: Path) -> Annotations:
    """Annotations from a file. ConfigError lists what is wrong with it, by video."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot read the annotations: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{printable(path)}: not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ConfigError(f'{printable(path)}: expected {{"database": {{ID: ...}}}}, as in UnAV-100')
    database = content["database"]
    problems: list[str] = []
    labels = _labels(database, content.get("labels"), problems)
    videos = {key: _video(key, entry, labels, problems) for key, entry in database.items()} if labels else {}
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ConfigError(f"{printable(path)}: {'; '.join(problems[:5])}{more}")
    return Annotations(labels, {key: video for key, video in videos.items() if video is not None})


def _labels(database: Mapping[str, Any], listed: object, problems: list[str]) -> tuple[str, ...]:
    """The class names by label_id: as listed, or from the events where they have ids, or in alphabetical order."""
    ids: dict[str, int | None] = {}
    if isinstance(listed, list):
        ids.update((str(label), i) for i, label in enumerate(listed))
    for key, entry in database.items():
        for item in (*_items(entry, "annotations"), *_items(entry, "decoys")):
            label, label_id = item.get("label"), item.get("label_id")
            if not isinstance(label, str) or not label:
                problems.append(f"{key}: an event without a label")
            elif ids.setdefault(label, label_id) != label_id:
                problems.append(f"{key}: label {label!r} has label_id {label_id}, elsewhere {ids[label]}")
    if any(label_id is None for label_id in ids.values()):
        return tuple(sorted(ids))
    names: dict[int, str] = {}
    for label, label_id in ids.items():
        if not isinstance(label_id, int) or label_id < 0:
            problems.append(f"label {label!r}: label_id must be a number from 0, got {label_id!r}")
        elif label_id in names:
            problems.append(f"label_id {label_id} is both {names[label_id]!r} and {label!r}")
        else:
            names[label_id] = label
    missing = sorted(set(range(len(names))) - set(names))
    if not problems and missing:
        problems.append(f"label_id {missing[0]} is not used: list all classes in order, as `labels` beside `database`")
    return tuple(names.get(i, "") for i in range(len(names)))


def _items(entry: Any, key: str) -> list[Mapping[str, Any]]:
    items = entry.get(key) if isinstance(entry, Mapping) else None
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _video(key: str, entry: Any, labels: tuple[str, ...], problems: list[str]) -> AnnotatedVideo | None:
    duration = entry.get("duration") if isinstance(entry, Mapping) else None
    if not isinstance(duration, int | float) or not duration > 0:
        problems.append(f"{key}: needs a duration in seconds, got {duration!r}")
        return None
    parts = {}
    for part in ("annotations", "decoys"):
        events = []
        for item in _items(entry, part):
            try:
                start, end = map(float, item["segment"])
                events.append(Event(item["label"], start, min(end, duration)))
            except (KeyError, TypeError, ValueError) as error:
                problems.append(f"{key}: bad segment {item.get('segment')!r} of {item.get('label')!r}: {error}")
        parts[part] = EventList.of([e for e in events if e.label in labels], labels)
    return AnnotatedVideo(key, float(duration), str(entry.get("subset", "")), parts["annotations"], parts["decoys"])
