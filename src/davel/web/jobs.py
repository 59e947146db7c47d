"""What the server was asked to do, and what came of it; in SQLite, so that a restart loses nothing."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from typing import Literal

from davel.web.database import Database
from davel.web.errors import Full, NotFound

Kind = Literal["events", "copy"]
"""What is made of a video: its events, or a copy that browsers can play."""
State = Literal["uploading", "queued", "running", "done", "failed", "cancelled"]
MAX_ATTEMPTS = 3
"""How often a job is begun that ends with the server."""

TABLES: dict[Kind, str] = {"events": "jobs", "copy": "copies"}
"""Where it stands how far each is; a copy has its job's id."""


@dataclass(frozen=True)
class Job:
    """One video's way through the server."""

    id: str
    name: str
    """The video's name as people know it; never a path."""
    source: Literal["upload", "folder"]
    media: str
    """The file's name in its folder: a random one for an upload."""
    content: str
    """The file's sha256, which is the video's identity; `job:ID` until it is known."""
    size: int
    """Bytes."""
    state: State
    created: float
    """Seconds since 1970."""
    finished: float | None
    seconds: float
    """Of the video that are done."""
    duration: float | None
    """Seconds of the video, as it declares."""
    error: str | None
    attempts: int
    revision: int
    """How often the events of its video were corrected."""


COLUMNS = ", ".join(f"jobs.{name}" for name in Job.__dataclass_fields__ if name != "revision")
SELECT = (
    f"SELECT {COLUMNS}, coalesce(corrections.revision, 0) AS revision "
    "FROM jobs LEFT JOIN corrections ON corrections.content = jobs.content"
)


@dataclass(frozen=True)
class Copy:
    """How far a copy is that browsers can play."""

    state: Literal["queued", "running", "done", "failed"]
    seconds: float
    """Of the video that are done."""
    duration: float | None
    error: str | None


class Jobs:
    """All of them; used from many threads."""

    def __init__(self, database: Database) -> None:
        self.database, self._run = database, database.run
        self.changed = threading.Condition(database.lock)
        """Told when there is something new to do."""

    def add(
        self, name: str, source: Literal["upload", "folder"], media: str, size: int, state: State, most: int
    ) -> Job:
        """A new one. Full if there are `most` uploads."""
        key = secrets.token_hex(16)
        with self.database.transaction():
            if source == "upload" and self._run("SELECT count(*) FROM jobs WHERE source = 'upload'")[0][0] >= most:
                raise Full(f"there are {most} uploads already, the most that are kept: delete one")
            self._run(
                "INSERT INTO jobs (id, name, source, media, content, size, state, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *(key, name, source, media or key, f"job:{key}", size, state, time.time()),
            )
            self.changed.notify_all()
        return self.get(key)

    def get(self, key: str) -> Job:
        """NotFound if there is none."""
        rows = self._run(f"{SELECT} WHERE jobs.id = ?", key)
        if not rows:
            raise NotFound("there is no such job; it may have expired")
        return Job(**rows[0])

    def __contains__(self, key: str) -> bool:
        return bool(self._run("SELECT 1 FROM jobs WHERE id = ?", key))

    def all(self) -> list[Job]:
        """Newest first."""
        return [Job(**row) for row in self._run(f"{SELECT} ORDER BY created DESC, id")]

    def queue(self, key: str, size: int, content: str) -> None:
        """An upload is whole, of so many bytes and this sha256."""
        with self.database.transaction():
            self._run(
                "UPDATE jobs SET state = 'queued', size = ?, content = ? WHERE id = ? AND state = 'uploading'",
                *(size, content, key),
            )
            self.changed.notify_all()

    def identify(self, key: str, content: str) -> None:
        """A file's sha256 is known now; what was corrected of its job becomes the video's.

        Where the video has corrections of another job already, both are kept: this job stays by itself.
        """
        with self.database.transaction():
            known = self._run("SELECT content FROM corrections WHERE content IN (?, ?)", f"job:{key}", content)
            if len(known) < 2:
                self._run("UPDATE jobs SET content = ? WHERE id = ?", content, key)
                self._run("UPDATE corrections SET content = ? WHERE content = ?", content, f"job:{key}")

    def claim(self, kind: Kind = "events") -> Job | None:
        """The job whose events, or whose copy, have waited longest and now run; None if none waits."""
        table = TABLES[kind]
        with self.database.transaction():
            rows = self._run(f"SELECT id FROM {table} WHERE state = 'queued' ORDER BY created LIMIT 1")
            if not rows:
                return None
            key = rows[0]["id"]
            self._run(
                f"UPDATE {table} SET state = 'running', attempts = attempts + 1, seconds = 0, error = NULL "
                "WHERE id = ?",
                key,
            )
            return self.get(key)

    def runs(self, kind: Kind, key: str) -> bool:
        """Whether it is still wanted."""
        return bool(self._run(f"SELECT 1 FROM {TABLES[kind]} WHERE id = ? AND state = 'running'", key))

    def progress(self, kind: Kind, key: str, seconds: float, duration: float | None) -> None:
        self._run(f"UPDATE {TABLES[kind]} SET seconds = ?, duration = ? WHERE id = ?", seconds, duration, key)

    def end(self, kind: Kind, key: str, error: str | None = None) -> bool:
        """What runs is done, or has failed; False if it was not wanted any more."""
        with self.database.transaction():
            wanted = self.runs(kind, key)
            if wanted:
                self._run(
                    f"UPDATE {TABLES[kind]} SET state = ?, error = ?, finished = ? WHERE id = ?",
                    *("failed" if error else "done", error, time.time(), key),
                )
        return wanted

    def cancel(self, key: str) -> None:
        """What waits or runs is over."""
        self._run(
            "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state IN ('queued', 'running')",
            *(time.time(), key),
        )

    def delete(self, key: str) -> None:
        with self.database.transaction():
            self.drop_copy(key)
            self._run("DELETE FROM jobs WHERE id = ?", key)

    def copy(self, key: str) -> Copy | None:
        """None if nobody has asked for one."""
        rows = self._run("SELECT state, seconds, duration, error FROM copies WHERE id = ?", key)
        return Copy(**rows[0]) if rows else None

    def ask_copy(self, key: str) -> Copy:
        """One that waits, unless there is one that has not failed. NotFound if there is no such job."""
        with self.database.transaction():
            duration = self.get(key).duration
            self._run("DELETE FROM copies WHERE id = ? AND state = 'failed'", key)
            self._run(
                "INSERT OR IGNORE INTO copies (id, state, created, duration) VALUES (?, 'queued', ?, ?)",
                *(key, time.time(), duration),
            )
            self.changed.notify_all()
            copy = self.copy(key)
        assert copy is not None
        return copy

    def drop_copy(self, key: str) -> None:
        self._run("DELETE FROM copies WHERE id = ?", key)

    def after_a_restart(self) -> list[str]:
        """What ran waits again, unless it was begun too often; the ids of uploads that broke off, which are dropped."""
        with self.database.transaction():
            error = f"the server stopped {MAX_ATTEMPTS} times while this ran: delete it, or try it on another machine"
            for table in TABLES.values():
                self._run(
                    f"UPDATE {table} SET state = 'failed', error = ?, finished = ? "
                    "WHERE state = 'running' AND attempts >= ?",
                    *(error, time.time(), MAX_ATTEMPTS),
                )
                self._run(f"UPDATE {table} SET state = 'queued' WHERE state = 'running'")
            broken = [row["id"] for row in self._run("SELECT id FROM jobs WHERE state = 'uploading'")]
            self._run("DELETE FROM jobs WHERE state = 'uploading'")
        return broken
