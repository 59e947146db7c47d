"""Predictions and truth from files of any format, with the quirks that the published program lets pass.

Other readers refuse an event that ends where it begins. To that program it is an event: a true one that nothing finds,
and a prediction that is wrong. Here it stays as the shortest segment that there is, and is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from davel import formats
from davel.core.annotations import Annotations
from davel.core.errors import ConfigError, printable, refuse
from davel.core.events import EventList, Video
from davel.evaluate.metrics import EMPTY
from davel.formats import Collector, activitynet
from davel.formats.base import number


@dataclass(frozen=True)
class Predictions:
    """What is said of the videos of a subset."""

    name: str
    """Of the model or the file."""
    events: Mapping[str, EventList]
    """Of these videos, and of others that are not annotated at all."""
    videos: Mapping[str, Video]
    """Those of the subset, with their true events."""
    notes: tuple[str, ...] = ()
    """What must be said wherever their figures are printed."""
    told: tuple[str, ...] = ()
    """What must be said of the files they were read from."""
    thresholds: tuple[float, ...] | float | None = None


def read_predictions(source: Path, annotations: Path, subset: str) -> Predictions:
    """What a file says of the videos of a subset. Both files may be in any format, and durations are not needed.

    ConfigError if the predictions have classes that the annotations do not know, or none of the videos.
    """
    annotated, told = _read_truth(annotations)
    chosen = annotated.subset(subset, or_all=True)
    _, collected = formats.collect(source, vocabulary=annotated.vocabulary)
    empty = _keep_empty(collected, outside=True)
    contents = collected.contents(clip=True)
    refuse(source, [problem for problem in contents.problems if problem.kind not in formats.TOLD])
    found = {video.id: video.events for video in contents.videos}
    names = activitynet.renamed(found, annotated.videos)
    if not any(names[key] in chosen for key in found):
        known, given = (", ".join(map(repr, list(keys)[:2])) for keys in (chosen, found))
        raise ConfigError(
            f"{printable(source)}: has none of the {len(chosen)} videos of the subset {subset!r}, such as "
            f"{printable(known)}: it has {printable(given) or 'no videos'}"
        )
    others = [key for key in found if names[key] not in chosen]
    unknown = [key for key in others if names[key] not in annotated.videos]
    counted = {names[key]: events for key, events in found.items() if names[key] in chosen or key in set(unknown)}
    told += formats.told(contents.problems)
    if empty:
        told.append(f"{empty} predictions are empty or lie outside of their video: they count as false positives")
    if unknown:
        wrong = sum(len(found[key]) for key in unknown)
        told.append(
            f"{len(unknown)} predicted videos are not annotated: {', '.join(unknown[:3])}: their {wrong} predictions "
            "count as false positives"
        )
    if len(others) > len(unknown):
        told.append(f"{len(others) - len(unknown)} predicted videos are of other subsets and were left out")
    scores = np.concatenate([np.zeros(0), *(events.scores for events in counted.values())])
    if len(scores) > 1 and (scores == scores[0]).all():
        told.append(f"all predictions have the score {scores[0]:g}: average precision takes them by their videos' ids")
    notes = (contents.origin,) if contents.origin else ()
    return Predictions(source.stem, counted, chosen, notes, tuple(told))


def _read_truth(path: Path) -> tuple[Annotations, list[str]]:
    """True events, and what must be said of them. ConfigError lists what is wrong with them."""
    _, collected = formats.collect(path)
    empty = _keep_empty(collected)
    annotated, problems = formats.annotations_of(path, collected.contents(clip=True, truth=True))
    refuse(path, problems)
    told = formats.told(annotated.told)
    if empty:
        told.append(f"{empty} annotated events are empty: they count as events that are missed")
    return annotated, told


def _keep_empty(collected: Collector, *, outside: bool = False) -> int:
    """Let events pass that end where they begin, and such as lie `outside` of their video; how many there were."""
    count = 0
    for entry in collected.entries.values():
        duration = math.inf if (seconds := _finite(entry.duration)) is None else seconds
        for row in entry.rows:
            start, end = _finite(row.start), _finite(row.end)
            if start is None or end is None or start > end:
                continue  # no event: told by whoever checks the rest
            if start == end and 0 <= start <= duration:
                row.start, row.end = _at(start, duration, 0)
            elif outside and (end <= 0 or start >= duration):
                row.start, row.end = _at(start, duration, 2 * EMPTY)
            else:
                continue
            count += 1
    return count


def _at(start: float, duration: float, length: float) -> tuple[float, float]:
    """A segment of a video from about `start` on, of this length, or the shortest that there is."""
    if start >= duration:
        return min(duration - length, math.nextafter(duration, 0)), duration
    return max(start, 0.0), max(max(start, 0.0) + length, math.nextafter(max(start, 0.0), math.inf))


def _finite(value: object) -> float | None:
    try:
        found = number(value, "time")
    except ValueError:
        return None
    return found if math.isfinite(found) else None
