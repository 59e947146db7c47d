"""AVE-PM's tables, one for each subset: sample_id, onset, offset, label (NeurIPS 2025 submission, arXiv:2504.06884).

    sample_id,onset,offset,label
    10,0.42,10.0,31

Labels are numbers; `class_name_mapping.csv` beside the table (class_id, class_name) names them, and without it a class
is named by its number. The subset is the table's name. Clips were cut to ten seconds; one of a shorter recording is as
long as that, which no table tells.
"""

from __future__ import annotations

from davel.formats.base import Collector, File, Reader

COLUMNS = ("sample_id", "onset", "offset", "label")
NAMES = "class_name_mapping.csv"
SUBSETS = {"train": "train", "val": "validation", "test": "test"}
CLIP_SECONDS = 10.0


def loads(file: File, found: Collector) -> None:
    found.listed = _classes(file)
    subset = SUBSETS.get(file.stem.lower())
    for where, row in file.rows(",", *COLUMNS):
        video = found.video(row["sample_id"], duration=CLIP_SECONDS, subset=subset)
        number = row["label"]
        is_listed = bool(found.listed) and number.isdecimal()
        found.add(
            video, where, label=None if is_listed else number, label_id=int(number) if is_listed else None,
            start=row["onset"], end=row["offset"],
        )  # fmt: skip


def _classes(file: File) -> tuple[str, ...]:
    """The names of the classes by number, nothing where there is no such table. ValueError if a number is missing."""
    table = file.beside(NAMES)
    if table is None:
        return ()
    try:
        names = {row["class_id"]: row["class_name"] for _, row in table.rows(",", "class_id", "class_name")}
        return tuple(names[str(number)] for number in range(len(names)))
    except KeyError as error:
        raise ValueError(f"{NAMES}: there is no class {error.args[0]}: they are numbered from 0") from None
    except ValueError as error:
        raise ValueError(f"{NAMES}: {error}") from None


READER = Reader(
    name="ave-pm",
    about="AVE-PM: `train.csv`, `val.csv`, `test.csv`",
    loads=loads,
    recognise=lambda file: set(COLUMNS) <= set(file.heading(",")),
)
