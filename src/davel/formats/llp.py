"""LLP's dense labels (Tian et al., ECCV 2020, arXiv:2007.10558), and LFAV's: what is heard and what is seen, each in a
table of its own.

    filename<TAB>onset<TAB>offset<TAB>event_labels
    4YdbENYcIyE_23_33<TAB>0<TAB>4<TAB>Baby_cry_infant_cry

The name of a table says which it is (`AVVP_eval_audio.csv`, `AVVP_eval_visual.csv`). Where the other lies beside it,
both are read: a heard event is of the kind `both` while one of its class is seen, and what else is seen is `seen`.
`AVVP_val_pd.csv` and `AVVP_test_pd.csv` tell the subsets. A name that ends in the seconds of its clip tells how long it
is. Tables of classes without times (weak labels, DESED's too) are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from davel.core.events import Kind
from davel.formats.base import Collector, File, Reader, number

COLUMNS = ("filename", "onset", "offset", "event_labels")
WEAK = {"AVVP_val_pd.csv": "validation", "AVVP_test_pd.csv": "test"}
CLIP = re.compile(r"_(\d{1,6})_(\d{1,6})$")
"""Of a clip's name: where in its video it begins and ends, in seconds."""
OTHER = {"audio": "visual", "visual": "audio"}

Times = tuple[float, float]
Rows = list[tuple[str, dict[str, str]]]


def loads(file: File, found: Collector) -> None:
    if "onset" not in file.columns:
        raise ValueError("has classes of whole videos without times (weak labels), which are no events")
    tables = _tables(file)
    subsets = _subsets(file)
    heard, seen = (_times(tables.get(modality, [])) for modality in ("audio", "visual"))
    for modality, rows in tables.items():
        for where, row in rows:
            name, label = row["filename"], row["event_labels"]
            video = found.video(name, duration=_duration(name), subset=subsets.get(name))
            others = (seen if modality == "audio" else heard).get((name, label), [])
            for start, end, kind in _parts(modality, row, others):
                found.add(video, where, label=label, start=start, end=end, kind=kind)


def _parts(modality: str, row: dict[str, str], others: Sequence[Times]) -> Iterator[tuple[object, object, Kind]]:
    """What of a row is of which kind; while both are there the row of what is heard tells it.

    A row that is no event is handed on as it stands, for the one check of all formats.
    """
    times = _valid(row)
    if times is None:
        yield row["onset"], row["offset"], "heard" if modality == "audio" else "seen"
        return
    for start, end, is_both in _divided(*times, others):
        if modality == "audio":
            yield start, end, "both" if is_both else "heard"
        elif not is_both:
            yield start, end, "seen"


def _divided(start: float, end: float, others: Sequence[Times]) -> list[tuple[float, float, bool]]:
    """[start, end) in as few parts as possible, and whether each lies within some of the others."""
    cuts = sorted({start, end, *(t for other in others for t in other if start < t < end)})
    parts: list[tuple[float, float, bool]] = []
    for a, b in pairwise(cuts):
        is_within = any(s <= a and b <= e for s, e in others)
        if parts and parts[-1][2] == is_within:
            parts[-1] = (parts[-1][0], b, is_within)
        else:
            parts.append((a, b, is_within))
    return parts


def _tables(file: File) -> dict[str, Rows]:
    """The rows by modality, audio first, and where each stands. ValueError if the name tells no modality."""
    own = next((modality for modality in OTHER if modality in file.name.lower()), None)
    if own is None:
        raise ValueError("nothing says whether these are heard or seen: put audio or visual into the file's name")
    tables = {own: _rows(file)}
    swapped = re.sub(own, OTHER[own], file.name, flags=re.IGNORECASE)
    if (other := file.beside(swapped)) and set(COLUMNS) <= set(other.columns):
        tables[OTHER[own]] = [(f"{swapped} {where}", row) for where, row in _rows(other)]
    return {modality: tables[modality] for modality in OTHER if modality in tables}


def _rows(file: File) -> Rows:
    return list(file.rows("\t", *COLUMNS, quoted=False))


def _times(rows: Rows) -> dict[tuple[str, str], list[Times]]:
    """By video and label."""
    found: dict[tuple[str, str], list[Times]] = {}
    for _, row in rows:
        if times := _valid(row):
            found.setdefault((row["filename"], row["event_labels"]), []).append(times)
    return found


def _valid(row: dict[str, str]) -> Times | None:
    try:
        start, end = number(row["onset"], "onset"), number(row["offset"], "offset")
    except ValueError:
        return None
    return (start, end) if -math.inf < start < end < math.inf else None


def _duration(name: str) -> float | None:
    clip = CLIP.search(name)
    seconds = int(clip[2]) - int(clip[1]) if clip else 0
    return float(seconds) if seconds > 0 else None


def _subsets(file: File) -> dict[str, str]:
    """By video, where the lists of them are there."""
    subsets: dict[str, str] = {}
    for name, subset in WEAK.items():
        table = file.beside(name)
        if table is not None and "filename" in table.columns:
            subsets |= {row["filename"]: subset for _, row in table.rows("\t", "filename", quoted=False)}
    return subsets


READER = Reader(
    name="llp",
    about="LLP (AVVP): `AVVP_eval_audio.csv`, `AVVP_eval_visual.csv`; LFAV",
    loads=loads,
    recognise=lambda file: {"filename", "event_labels"} <= set(file.columns),
)
