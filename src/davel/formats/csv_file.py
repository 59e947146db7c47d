"""CSV: one line per event, times in seconds."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from davel.localize import Result

COLUMNS = ("file", "label", "start", "end", "score")


def dumps(result: Result) -> str:
    """The events, best first, under a line of column names."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(COLUMNS)
    for e in result.events:
        rows.writerow([result.info.path, e.label, f"{e.start:.3f}", f"{e.end:.3f}", f"{e.score:.4f}"])
    return stream.getvalue()
