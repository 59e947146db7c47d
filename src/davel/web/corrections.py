"""What people say that videos hold: kept once, in the database, by the content of the video.

The table `events.csv` is written from it after every change, for `davel data init` and for people; it is never read
again. What somebody else has written into it is set aside, not lost.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from davel.core.errors import printable
from davel.core.events import Event
from davel.core.files import replacing
from davel.web.database import Database
from davel.web.errors import Conflict
from davel.web.jobs import Job

COLUMNS = ("file", "start", "end", "label", "id")
"""`id` tells two videos of one name apart: the first digits of the file's sha256."""
ID_DIGITS = 16
LEAST_SECONDS = 0.001
"""The table counts milliseconds: an event takes one at least."""
ADOPTED = "table:"
"""Begins the identity of what stood in a table whose videos nobody knows; the name follows."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Correction:
    """All events of a video, as a person wants them."""

    revision: int
    """How often they were saved."""
    events: list[Event]


def in_milliseconds(event: Event) -> Event:
    """As the table can hold it: on whole milliseconds, and no shorter than one."""
    start = round(event.start, 3)
    return Event(event.label, start, max(round(event.end, 3), round(start + LEAST_SECONDS, 3)), event.score)


class Corrections:
    """Those of all videos."""

    def __init__(self, database: Database, table: Path) -> None:
        self.database, self.table = database, table
        self._writing = threading.Lock()
        self._adopt()

    def of(self, content: str) -> Correction | None:
        """Those of one video; None if nobody has corrected it."""
        rows = self.database.run("SELECT revision, events FROM corrections WHERE content = ?", content)
        if not rows:
            return None
        return Correction(rows[0]["revision"], [Event(**event) for event in json.loads(rows[0]["events"])])

    def put(self, job: Job, events: Sequence[Event], revision: int) -> Correction:
        """Keep these as all events of a job's video. Conflict if `revision` is not the one that is kept."""
        events = [in_milliseconds(event) for event in events]
        with self.database.transaction():
            kept = self.of(job.content)
            if revision != (kept.revision if kept else 0):
                raise Conflict(f"{job.name}: was saved by somebody else in the meantime")
            self.database.run("DELETE FROM corrections WHERE content = ?", f"{ADOPTED}{job.name}")
            self.database.run("DELETE FROM corrections WHERE content = ?", f"{ADOPTED}{Path(job.name).stem}")
            self._keep(job.content, job.name, revision + 1, events)
        self.write()
        return Correction(revision + 1, events)

    def _keep(self, content: str, name: str, revision: int, events: Sequence[Event]) -> None:
        self.database.run(
            "INSERT OR REPLACE INTO corrections (content, name, revision, saved, events) VALUES (?, ?, ?, ?, ?)",
            *(content, name, revision, time.time(), json.dumps([asdict(event) for event in events])),
        )

    def render(self) -> str | None:
        """The table of all of them, as `davel data init` reads it; None if nothing was ever saved."""
        videos = self.database.run("SELECT content, name, events FROM corrections ORDER BY name, saved, content")
        if not videos:
            return None
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for content, name, given in videos:
            events = [in_milliseconds(Event(**event)) for event in json.loads(given)]
            for event in sorted(events, key=lambda e: (e.start, e.end)):
                table.writerow([name, f"{event.start:.3f}", f"{event.end:.3f}", event.label, _id(content)])
            if not events:
                table.writerow([name, "", "", "", _id(content)])
        return text.getvalue()

    def write(self) -> None:
        """Have the table on the disk say what the database says. What hinders that is logged, and hinders no more."""
        with self._writing:
            try:
                text = (self.render() or "").encode("utf-8", "surrogateescape")
                self._set_aside(text)
                with replacing(self.table) as temporary:
                    temporary.write_bytes(text)
                self.database.remember("table", sha256(text).hexdigest())
            except Exception as error:  # noqa: BLE001  # what people saved is in the database already
                log.warning(f"{printable(self.table)}: not written: {error}")

    def _set_aside(self, text: bytes) -> None:
        """Another name for the table, if something else has written it."""
        if not self.table.exists():
            return
        found = self.table.read_bytes()
        if sha256(found).hexdigest() == self.database.note("table") or found == text:
            return
        numbered = (self.table.with_name(f"{self.table.stem}.edited-{n}{self.table.suffix}") for n in range(1, 10**6))
        free = next(path for path in numbered if not path.exists())
        self.table.rename(free)
        log.warning(f"{printable(self.table)}: was edited by something else: that is kept as {free.name}")

    def _adopt(self) -> None:
        """Take in, once, what davel 0.1 kept in the table alone: the events of videos that were deleted since.

        Lines that are no events stay behind: the table is set aside as it is before it is written for the first time.
        """
        with self.database.transaction():
            if self.database.note("adopted") is not None:
                return
            known = {row["name"] for row in self.database.run("SELECT name FROM corrections")}
            for name, events in _old_table(self.table).items():
                if name not in known:
                    self._keep(f"{ADOPTED}{name}", name, 1, events)
            self.database.remember("adopted", "yes")


def _id(content: str) -> str:
    """Of a video, as people see it."""
    return "" if content.startswith(ADOPTED) else content if content.startswith("job:") else content[:ID_DIGITS]


def _old_table(path: Path) -> dict[str, list[Event]]:
    """The events by file of a table of davel 0.1, as far as it can be read."""
    found: dict[str, list[Event]] = {}
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, csv.Error):
        return found
    for row in rows:
        name, label, *times = (str(row.get(column) or "").strip() for column in ("file", "label", "start", "end"))
        if not name or Path(name).name != name:
            continue
        if not any((label, *times)):
            found.setdefault(name, [])  # a line with a file alone: a video without events
        elif label:
            with contextlib.suppress(ValueError):
                event = Event(label, float(times[0]), float(times[1]))
                if math.isfinite(event.end):
                    found.setdefault(name, []).append(event)
    return found
