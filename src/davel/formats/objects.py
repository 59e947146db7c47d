"""Formats that are JSON objects: davel's own, ActivityNet's truth and results, Label Studio's tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from davel.core.result import Result
from davel.formats import activitynet
from davel.formats.base import Collector, Video, id_of, number, one

SCHEMA = "davel.events/1"


def _plain(video: Video) -> list[dict[str, Any]]:
    return [
        {"label": e.label, "label_id": int(c), "start": e.start, "end": e.end, "score": e.score}
        for e, c in zip(video.events, video.events.label_ids, strict=True)
    ]


def dump_result(result: Result) -> str:
    """davel's own: the events with everything needed to know where they come from, best first."""
    return json.dumps({"schema": SCHEMA, **result.to_dict()}, indent=1) + "\n"


def dump_events(videos: Sequence[Video]) -> str:
    """davel's own, as far as it is known of events that come from elsewhere."""
    video = one(videos, "json")
    media = {"path": video.media or video.id, "duration_seconds": video.duration}
    events = [{"id": n, **event} for n, event in enumerate(_plain(video))]
    content = {"schema": SCHEMA, "media": media, "labels": list(video.events.labels), "events": events}
    return json.dumps(content, indent=1) + "\n"


def load_events(text: str, key: str) -> list[Video]:
    content = _object(text)
    if content.get("schema") != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA!r}, got {content.get('schema')!r}")
    media = _dict(content.get("media"), "media")
    path, duration = str(media.get("path") or key), media.get("duration_seconds")
    found = Collector()
    found.video(id_of(path), None if duration is None else number(duration, "duration_seconds"), path)
    for n, event in enumerate(_list(content.get("events"), "events")):
        _add(found, id_of(path), event, f"event {n}", ("start", "end"))
    return found.videos()


def dump_truth(videos: Sequence[Video]) -> str:
    """Annotations in the schema of ActivityNet and UnAV-100; all are of the subset `train`."""
    database = {
        video.id: ({"duration": video.duration} if video.duration is not None else {})
        | {
            "subset": "train",
            "annotations": [
                {"segment": [e["start"], e["end"]], "label": e["label"], "label_id": e["label_id"]}
                for e in _plain(video)
            ],
        }
        for video in videos
    }
    return json.dumps({"version": "davel", "database": database}, indent=1) + "\n"


def load_truth(text: str, key: str) -> list[Video]:
    found = Collector()
    for name, entry in _dict(_object(text).get("database"), "database").items():
        entry = _dict(entry, name)
        duration = entry.get("duration")
        found.video(name, None if duration is None else number(duration, f"{name}: duration"))
        for n, event in enumerate(_list(entry.get("annotations", []), f"{name}: annotations")):
            _add(found, name, event, f"{name}: annotation {n}", "segment")
    return found.videos()


def dump_results(videos: Sequence[Video]) -> str:
    """Predictions as ActivityNet's evaluation, and UnAV-100's, read them."""
    results = {
        video.id: [{"label": e["label"], "score": e["score"], "segment": [e["start"], e["end"]]} for e in _plain(video)]
        for video in videos
    }
    return json.dumps({"version": activitynet.VERSION, "results": results, "external_data": {}}, indent=1) + "\n"


def load_results(text: str, key: str) -> list[Video]:
    found = Collector()
    for name, events in _dict(_object(text).get("results"), "results").items():
        found.video(name)
        for n, event in enumerate(_list(events, name)):
            _add(found, name, event, f"{name}: prediction {n}", "segment")
    return found.videos()


def dump_labelstudio(videos: Sequence[Video]) -> str:
    """Tasks with predictions, for a labelling setup with an `Audio` named `audio` and `Labels` named `label`."""
    tasks = []
    for video in videos:
        regions = [
            {
                "id": f"{video.id}-{n}",
                "type": "labels",
                "from_name": "label",
                "to_name": "audio",
                "score": e["score"],
                **({"original_length": video.duration} if video.duration is not None else {}),
                "value": {"start": e["start"], "end": e["end"], "channel": 0, "labels": [e["label"]]},
            }
            for n, e in enumerate(_plain(video))
        ]
        media = video.media or video.id
        prediction = {"model_version": "davel", "result": regions}
        tasks.append({"data": {"audio": media, "video": media}, "predictions": [prediction]})
    return json.dumps(tasks, indent=1) + "\n"


def load_labelstudio(text: str, key: str) -> list[Video]:
    """What people annotated, where they did; else what was predicted."""
    found = Collector()
    content = json.loads(text)
    for n, task in enumerate(_list(content, "tasks")):
        task = _dict(task, f"task {n}")
        data = _dict(task.get("data"), f"task {n}: data")
        media = str(data.get("video") or data.get("audio") or next(iter(data.values()), key))
        found.video(id_of(media), media=media)
        answers = task.get("annotations") or task.get("predictions") or []
        for answer in _list(answers, f"task {n}")[-1:]:
            for m, region in enumerate(_list(_dict(answer, f"task {n}").get("result"), f"task {n}: result")):
                where = f"task {n}: region {m}"
                region = _dict(region, where)
                value = _dict(region.get("value"), f"{where}: value")
                if region.get("type") != "labels" or "start" not in value:
                    continue  # a choice or a text about the whole task
                if "original_length" in region:
                    found.video(id_of(media), number(region["original_length"], f"{where}: original_length"))
                score = 1 if region.get("score") is None else region["score"]
                for label in _list(value.get("labels"), f"{where}: labels"):
                    event = {"label": label, "start": value["start"], "end": value.get("end")}
                    _add(found, id_of(media), event | {"score": score}, where, ("start", "end"))
    return found.videos()


def _add(found: Collector, key: str, event: Any, where: str, times: str | tuple[str, str]) -> None:
    event = _dict(event, where)
    if isinstance(times, str):
        segment = _list(event.get(times), f"{where}: {times}")
        if len(segment) != 2:
            raise ValueError(f"{where}: {times} needs two times, got {len(segment)}")
    else:
        segment = [event.get(name) for name in times]
    try:
        start, end = (number(time, "a time") for time in segment)
        found.add(key, str(event.get("label") or ""), start, end, number(event.get("score", 1), "score"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _object(text: str) -> dict[str, Any]:
    return _dict(json.loads(text), "the file")


def _dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected an object, got {type(value).__name__}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what}: expected a list, got {type(value).__name__}")
    return value
