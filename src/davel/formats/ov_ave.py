"""OV-AVEBench's annotations (Zhou et al., CVPR 2025, arXiv:2411.11278): of every second of a clip, whether its class
happens.

    {"EpxQKLhAP0s": {"category": "people burping", "label": "[0, 1, 1, 1, 0, 0, 0, 0, 0, 0]"}, ...}

Seconds in a row are one event, seen and heard. `ovave_dataset_meta.csv` beside it (split, cls_name, cls_type, vid_name)
tells the subsets; read alone it has classes without times, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from davel.formats.base import Collector, File, Reader, mapping

SPLITS = "ovave_dataset_meta.csv"
COLUMNS = ("split", "cls_name", "vid_name")
SUBSETS = {"val": "validation"}


def loads(file: File, found: Collector) -> None:
    if _is_table(file):
        raise ValueError("has classes without times, which are no events: give the JSON file of annotations beside it")
    splits = _splits(file)
    for key, clip in mapping(file.json, "the file").items():
        video = found.video(key, subset=splits.get(key))
        if not isinstance(clip, dict):
            found.problem(f"expected an object, got {type(clip).__name__}", video)
            continue
        steps = _steps(clip.get("label"))
        if steps is None:
            found.problem(f"label: expected a list of 0 and 1, got {str(clip.get('label'))[:60]}", video)
            continue
        found.video(key, duration=len(steps))
        for start, end in _runs(steps):
            found.add(video, f"label, second {start}", label=clip.get("category"), start=start, end=end)


def _steps(label: object) -> list[int] | None:
    """Whether the class happens in each second; the released file has the list as a text."""
    try:
        steps = json.loads(label) if isinstance(label, str) else label
    except (ValueError, RecursionError):
        return None
    if not isinstance(steps, list) or not steps or not all(type(step) is int and step in (0, 1) for step in steps):
        return None
    return steps


def _runs(steps: list[int]) -> Iterator[tuple[int, int]]:
    """Where ones in a row begin and end."""
    start = 0
    for happens, group in groupby(steps):
        length = len(list(group))
        if happens:
            yield start, start + length
        start += length


def _splits(file: File) -> dict[str, str]:
    """The subset of each video, where the table of them is there. ValueError if it is of another kind."""
    table = file.beside(SPLITS)
    if table is None:
        return {}
    try:
        return {row["vid_name"]: SUBSETS.get(row["split"], row["split"]) for _, row in table.rows(",", *COLUMNS)}
    except ValueError as error:
        raise ValueError(f"{SPLITS}: {error}") from None


def _is_table(file: File) -> bool:
    return set(COLUMNS) <= set(file.heading(","))


def _recognise(file: File) -> bool:
    if file.ending != "json":
        return _is_table(file)
    try:
        first = next(iter(file.json.values()), None) if isinstance(file.json, dict) else None
    except ValueError:
        return False
    return isinstance(first, dict) and {"category", "label"} <= first.keys()


READER = Reader(
    name="ov-ave",
    about="OV-AVEBench: `released_ovavel_dataset_anno.json`",
    loads=loads,
    recognise=_recognise,
)
