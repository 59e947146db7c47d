"""Names that moved: for one release, each gives the new one and says so."""

import warnings
from typing import Any

from davel import formats
from davel.core import annotations as records
from davel.core.events import NO_EVENTS, EventList, Video


def _annotated_video(id: str, duration: float, subset: str, events: EventList, decoys: EventList = NO_EVENTS) -> Video:
    return Video(id, events, duration, subset=subset, decoys=decoys)


MOVED: dict[str, tuple[str, Any]] = {
    "AnnotatedVideo": ("davel.core.events.Video", _annotated_video),
    "Annotations": ("davel.core.annotations.Annotations", records.Annotations.of),
    "Problem": ("davel.core.annotations.Problem", records.Problem),
    "inspect_annotations": ("davel.formats.inspect_annotations", formats.inspect_annotations),
    "read_annotations": ("davel.formats.read_annotations", formats.read_annotations),
    "write_annotations": ("davel.formats.write_annotations", formats.write_annotations),
}


def __getattr__(name: str) -> Any:
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new, value = MOVED[name]
    warnings.warn(f"{__name__}.{name} is {new} now", DeprecationWarning, stacklevel=2)
    return value
