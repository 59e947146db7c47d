"""Names that moved: for one release, each gives the new one and says so."""

from typing import Any

from davel.core.events import NO_EVENTS, EventList, Video
from davel.core.lazy import attributes


def _annotated_video(id: str, duration: float, subset: str, events: EventList, decoys: EventList = NO_EVENTS) -> Video:
    return Video(id, events, duration, subset=subset, decoys=decoys)


_moved = attributes(
    __name__,
    moved={
        "AnnotatedVideo": "davel.core.events:Video",
        "Annotations": "davel.core.annotations:Annotations.of",
        "Problem": "davel.core.annotations:Problem",
        "inspect_annotations": "davel.formats:inspect_annotations",
        "read_annotations": "davel.formats:read_annotations",
        "write_annotations": "davel.formats:write_annotations",
    },
)


def __getattr__(name: str) -> Any:
    value = _moved(name)
    return _annotated_video if name == "AnnotatedVideo" else value
