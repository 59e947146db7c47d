"""ActivityNet's JSON, as UnAV-100 has it: annotations, and predictions ("results").

    {"version": "...", "database": {ID: {"duration": 47.68, "subset": "train",
        "annotations": [{"segment": [13.01, 15.78], "label": "skateboarding", "label_id": 36}, ...]}}}
    {"version": "...", "results": {ID: [{"label": "skateboarding", "score": 0.9, "segment": [12.9, 15.5]}, ...]},
        "external_data": {...}}

`labels` beside `database` may list all classes by id, where not all of them happen. A video may also list `decoys`,
things seen but silent or heard but hidden, in the same form with a `kind`. Predictions may give a `label_id` in place
of a label.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from davel.core.events import Event, EventList, Video
from davel.formats.base import Collector, File, Format, mapping

VERSION = "davel.results/1"


def dump_truth(videos: Sequence[Video], labels: Sequence[str] | None = None) -> str:
    """Annotations, with all classes listed; what has no subset is for training."""
    if labels is None:
        labels = list(dict.fromkeys(label for v in videos for label in (*v.events.labels, *v.decoys.labels)))
    ids = {label: i for i, label in enumerate(labels)}

    def values(events: EventList) -> list[dict[str, Any]]:
        return [
            {"segment": _segment(e), "label": e.label, "label_id": ids[e.label]}
            | ({} if e.kind == "both" else {"kind": e.kind})
            for e in events
        ]

    database = {}
    for video in videos:
        entry: dict[str, Any] = {} if video.duration is None else {"duration": video.duration}
        entry |= {"subset": "train" if video.subset is None else video.subset, "annotations": values(video.events)}
        database[video.id] = entry | ({"decoys": values(video.decoys)} if video.decoys else {})
    return _text({"version": "davel", "labels": list(labels)}, "database", database)


def dump_results(videos: Sequence[Video], origin: str | None = None, **external: Any) -> str:
    """Predictions as ActivityNet's evaluation, and UnAV-100's, read them; `external` is kept as external data.

    `origin` is by default what the videos say of it.
    """
    origin = origin or "; ".join(dict.fromkeys(video.origin for video in videos if video.origin))
    results = {
        video.id: [{"label": e.label, "score": round(e.score, 6), "segment": _segment(e)} for e in video.events]
        for video in videos
    }
    more = external | ({"data": origin} if origin else {})
    return _text({"version": VERSION, "external_data": more}, "results", results)


def _segment(event: Event) -> list[float]:
    start, end = round(event.start, 6), round(event.end, 6)
    return [start, end] if start < end else [event.start, event.end]


def _text(head: Mapping[str, Any], name: str, videos: Mapping[str, Any]) -> str:
    """JSON with a line per video."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(video)}" for key, video in videos.items())
    return f"{json.dumps(head)[:-1]}, {json.dumps(name)}: {{\n{lines}\n}}}}\n"


def load_truth(file: File, found: Collector) -> None:
    content = mapping(file.json, "the file")
    labels = content.get("labels")
    found.listed = tuple(map(str, labels)) if isinstance(labels, list) else ()
    for key, entry in mapping(content.get("database"), "database").items():
        video = found.video(key)
        if not isinstance(entry, dict):
            found.problem(f"expected an object, got {type(entry).__name__}", video)
            continue
        subset = entry.get("subset")
        found.video(key, duration=entry.get("duration"), subset=None if subset is None else str(subset))
        for part, what in (("annotations", "annotation"), ("decoys", "decoy")):
            _add_all(found, video, entry.get(part, []), part, what, is_decoy=part == "decoys", with_ids=True)


def load_results(file: File, found: Collector) -> None:
    content = mapping(file.json, "the file")
    labels, external = content.get("labels"), content.get("external_data")
    found.listed = tuple(map(str, labels)) if isinstance(labels, list) else ()
    origin = external.get("data") if isinstance(external, dict) else None
    found.origin = origin if isinstance(origin, str) else None
    for key, events in mapping(content.get("results"), "results").items():
        _add_all(found, found.video(key), events, "predictions", "prediction")


def _add_all(found: Collector, video: tuple[str, str], events: object, part: str, what: str, **more: bool) -> None:
    if not isinstance(events, list):
        found.problem(f"{part}: expected a list, got {type(events).__name__}", video)
        return
    for n, event in enumerate(events):
        found.add_object(video, f"{what} {n}", event, times="segment", **more)


def renamed(found: Collection[str], videos: Collection[str]) -> dict[str, str]:
    """Under which of the videos' ids the events of each other id belong: its own, or, where none is among the videos,
    that with or without ActivityNet's `v_`, or the one that it names without folders.
    """
    if not any(key in videos for key in found):
        for change in (lambda key: f"v_{key}", lambda key: key.removeprefix("v_"), lambda key: key.rpartition("/")[2]):
            names = {key: change(key) for key in found}
            if any(name in videos for name in names.values()) and len(set(names.values())) == len(names):
                return names
    return {key: key for key in found}


TRUTH = Format(
    name="activitynet",
    suffix="activitynet.json",
    about="annotations for training, as UnAV-100's",
    dumps=dump_truth,
    loads=load_truth,
    recognise=lambda file: file.has_key("database") and not file.has_key("schema"),
    holds=frozenset({"durations", "many", "kinds"}),
)
RESULTS = Format(
    name="results",
    suffix="results.json",
    about="predictions for `davel evaluate` and others' evaluation",
    dumps=dump_results,
    loads=load_results,
    recognise=lambda file: file.has_key("results") and not (file.has_key("database") or file.has_key("schema")),
    holds=frozenset({"scores", "many"}),
)
