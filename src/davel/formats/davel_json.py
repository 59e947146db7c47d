"""davel's own format, `davel.events/1`: one video, and of a localizer's result all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from davel.core.events import Video
from davel.core.result import Result
from davel.formats.base import Collector, File, Format, id_of, items, mapping, one, plain

SCHEMA = "davel.events/1"


def dump_result(result: Result) -> str:
    """The events with everything needed to know where they come from, best first."""
    content = result.to_dict()
    path = str(content["media"]["path"])
    return json.dumps({"schema": SCHEMA, **content, "media": content["media"] | _id(result.id, path)}, indent=1) + "\n"


def dumps(videos: Sequence[Video]) -> str:
    """As far as it is known of events that come from elsewhere."""
    video = one(videos, "json")
    path = video.media or video.id
    media = {"path": path, "duration_seconds": video.duration} | _id(video.id, path)
    events = [
        {"id": n, "label": event.label, "label_id": int(c)} | plain(event)
        for n, (event, c) in enumerate(zip(video.events, video.events.label_ids, strict=True))
    ]
    content = {"schema": SCHEMA, "media": media, "labels": list(video.events.labels), "events": events}
    return json.dumps(content, indent=1) + "\n"


def _id(video: str, path: str) -> dict[str, Any]:
    """A video's id, where its file's name does not tell it."""
    return {} if id_of(path) == video else {"id": video}


def loads(file: File, found: Collector) -> None:
    content = mapping(file.json, "the file")
    if content.get("schema") != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA!r}, got {content.get('schema')!r}")
    media = mapping(content.get("media"), "media")
    path, own = media.get("path"), media.get("id")
    name = {"id": own} if isinstance(own, str) else {}
    model = content.get("model")
    video = found.video(
        **name,
        media=str(path) if path else None,
        duration=media.get("duration_seconds"),
        scored_by=str(model["name"]) if isinstance(model, dict) and "name" in model else None,
    )
    labels = content.get("labels")
    found.listed = tuple(map(str, labels)) if isinstance(labels, list) else ()
    for n, event in enumerate(items(content.get("events"), "events")):
        found.add_object(video, f"event {n}", event)


FORMAT = Format(
    name="json",
    suffix="json",
    about="davel's own (`davel.events/1`); from `localize` also gates, coverage and model",
    dumps=dumps,
    loads=loads,
    recognise=lambda file: file.has_key("schema"),
    holds=frozenset({"scores", "durations", "kinds"}),
    unit=0,
)
