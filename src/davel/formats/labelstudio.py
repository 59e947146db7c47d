"""Label Studio's tasks: written as predictions, read as people's annotations where there are some.

For a labelling setup with an `Audio` named `audio` and `Labels` named `label`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from davel.core.events import Video
from davel.formats.base import Collector, File, Format, items, mapping, name_of


def dumps(videos: Sequence[Video]) -> str:
    tasks = []
    for video in videos:
        regions = [
            {
                "id": f"{video.id}-{n}",
                "type": "labels",
                "from_name": "label",
                "to_name": "audio",
                "score": e.score,
                **({"original_length": video.duration} if video.duration is not None else {}),
                "value": {"start": e.start, "end": e.end, "channel": 0, "labels": [e.label]},
            }
            for n, e in enumerate(video.events)
        ]
        media = name_of(video)
        prediction = {"model_version": "davel", "result": regions}
        tasks.append({"data": {"audio": media, "video": media}, "predictions": [prediction]})
    return json.dumps(tasks, indent=1) + "\n"


def loads(file: File, found: Collector) -> None:
    for n, task in enumerate(items(file.json, "tasks")):
        where = f"task {n}"
        try:
            data = mapping(mapping(task, where).get("data"), f"{where}: data")
            media = data.get("video") or data.get("audio") or next(iter(data.values()), None)
            video = found.video(media=str(media) if media else None)
            answers = items(task.get("annotations") or task.get("predictions") or [], where)
            regions = [r for answer in answers[-1:] for r in items(mapping(answer, where).get("result"), where)]
        except ValueError as error:
            found.problem(str(error))
            continue
        for m, region in enumerate(regions):
            try:
                _region(found, video, str(media), f"{where}: region {m}", region)
            except ValueError as error:
                found.problem(str(error), video)


def _region(found: Collector, video: tuple[str, str], media: str, where: str, region: object) -> None:
    region = mapping(region, where)
    value = mapping(region.get("value"), f"{where}: value")
    if region.get("type") != "labels" or "start" not in value:
        return  # a choice or a text about the whole task
    found.video(media=media or None, duration=region.get("original_length"))
    for label in items(value.get("labels"), f"{where}: labels"):
        found.add(video, where, label=label, start=value["start"], end=value.get("end"), score=region.get("score"))


def _is_list(file: File) -> bool:
    try:
        return file.ending == "json" and isinstance(file.json, list)
    except ValueError:
        return False


FORMAT = Format(
    name="labelstudio",
    suffix="labelstudio.json",
    about="Label Studio: tasks with predictions; people's answers are read back",
    dumps=dumps,
    loads=loads,
    recognise=_is_list,
    holds=frozenset({"scores", "many"}),
    unit=0,
)
