"""Annotations in UnAV-100's schema: what happens in each video, when, and which subset it belongs to.

    {"version": "...", "database": {ID: {"duration": 47.68, "subset": "train",
        "annotations": [{"segment": [13.01, 15.78], "label": "skateboarding", "label_id": 36}, ...]}}}

`labels` beside `database` may list all classes by id, where not all of them happen. A video may also list `decoys`,
things seen but silent or heard but hidden, in the same form with a `kind`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from davel.core.errors import ConfigError, printable, refuse
from davel.core.events import Event, EventList
from davel.core.files import read_json, replacing


class Problem(NamedTuple):
    """What is wrong with a data set."""

    id: str
    """Of the video; empty if it is no single one."""
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.id}: {self.text}" if self.id else self.text


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
    annotations, problems = inspect_annotations(path)
    refuse(path, problems)
    return annotations


def inspect_annotations(path: Path) -> tuple[Annotations, list[Problem]]:
    """What of a file can be used, and all that is wrong with the rest. ConfigError if it is no such file."""
    content = read_json(path, "annotations")
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ConfigError(f'{printable(path)}: expected {{"database": {{ID: ...}}}}, as in UnAV-100')
    database = content["database"]
    problems: list[Problem] = []
    labels = _labels(database, content.get("labels"), problems)
    videos = {key: _video(key, entry, labels, problems) for key, entry in database.items()}
    return Annotations(labels, {key: video for key, video in videos.items() if video is not None}), problems


def _labels(database: Mapping[str, Any], listed: object, problems: list[Problem]) -> tuple[str, ...]:
    """The class names by label_id: as listed, or from the events where they have ids, or in alphabetical order."""
    before = len(problems)

    def complain(key: str, text: str) -> None:
        problems.append(Problem(key, "annotation", text))

    ids: dict[str, int | None] = {}
    if isinstance(listed, list):
        ids.update((str(label), i) for i, label in enumerate(listed))
    for key, entry in database.items():
        for item in (*_items(entry, "annotations"), *_items(entry, "decoys")):
            label, label_id = item.get("label"), item.get("label_id")
            if not isinstance(label, str) or not label:
                complain(key, "an event without a label")
            elif ids.setdefault(label, label_id) != label_id:
                complain(key, f"label {label!r} has label_id {label_id}, elsewhere {ids[label]}")
    if any(label_id is None for label_id in ids.values()):
        return tuple(sorted(ids))
    names: dict[int, str] = {}
    for label, label_id in ids.items():
        if not isinstance(label_id, int) or label_id < 0:
            complain("", f"label {label!r}: label_id must be a number from 0, got {label_id!r}")
        elif label_id in names:
            complain("", f"label_id {label_id} is both {names[label_id]!r} and {label!r}")
        else:
            names[label_id] = label
    missing = sorted(set(range(len(names))) - set(names))
    if len(problems) == before and missing:
        complain("", f"label_id {missing[0]} is not used: list all classes in order, as `labels` beside `database`")
    return tuple(names[i] for i in sorted(names))


def _items(entry: Any, key: str) -> list[Mapping[str, Any]]:
    items = entry.get(key) if isinstance(entry, Mapping) else None
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _video(key: str, entry: Any, labels: tuple[str, ...], problems: list[Problem]) -> AnnotatedVideo | None:
    duration = entry.get("duration") if isinstance(entry, Mapping) else None
    if not isinstance(duration, int | float) or not 0 < duration < math.inf:
        problems.append(Problem(key, "annotation", f"needs a duration in seconds, got {duration!r}"))
        return None
    parts = {}
    for part in ("annotations", "decoys"):
        events = []
        for item in _items(entry, part):
            try:
                start, end = map(float, item["segment"])
                events.append(Event(item["label"], start, min(end, duration)))
            except (KeyError, TypeError, ValueError) as error:
                text = f"bad segment {item.get('segment')!r} of {item.get('label')!r}: {error}"
                problems.append(Problem(key, "annotation", text))
        parts[part] = EventList.of([e for e in events if e.label in labels], labels)
    return AnnotatedVideo(key, float(duration), str(entry.get("subset", "")), parts["annotations"], parts["decoys"])
