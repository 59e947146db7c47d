"""What the server was asked to do, and what came of it; in SQLite, so that a restart loses nothing."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from davel.core.events import Event
from davel.web.child import Kind

State = Literal["uploading", "queued", "running", "done", "failed", "cancelled"]
ACTIVE: tuple[State, ...] = ("uploading", "queued", "running")
MAX_ATTEMPTS = 3
"""How often a job is begun that ends with the server."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    media TEXT NOT NULL,
    size INTEGER NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    finished REAL,
    seconds REAL NOT NULL DEFAULT 0,
    duration REAL,
    error TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    corrected TEXT
);
CREATE TABLE IF NOT EXISTS copies (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    finished REAL,
    seconds REAL NOT NULL DEFAULT 0,
    duration REAL,
    error TEXT,
    attempts INTEGER NOT NULL DEFAULT 0
);
"""
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
    """How often its events were corrected."""


COLUMNS = ", ".join(Job.__dataclass_fields__)


@dataclass(frozen=True)
class Copy:
    """How far a copy is that browsers can play."""

    state: Literal["queued", "running", "done", "failed"]
    seconds: float
    """Of the video that are done."""
    duration: float | None
    error: str | None


class Full(Exception):
    """There are as many uploads as are kept."""


class Conflict(Exception):
    """Somebody else has saved in the meantime."""


class Jobs:
    """All of them, in one file; used from many threads."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        """Told when there is something new to do."""
        with self._lock:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _run(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def add(
        self, name: str, source: Literal["upload", "folder"], media: str, size: int, state: State, most: int
    ) -> Job:
        """A new one. Full if there are `most` uploads."""
        key = secrets.token_hex(16)
        with self._lock:
            if source == "upload" and self._run("SELECT COUNT(*) FROM jobs WHERE source = 'upload'")[0][0] >= most:
                raise Full
            self._run(
                "INSERT INTO jobs (id, name, source, media, size, state, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(key, name, source, media or key, size, state, time.time()),
            )
            self.changed.notify_all()
        return self.get(key)

    def get(self, key: str) -> Job:
        """KeyError if there is none."""
        rows = self._run(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", key)
        if not rows:
            raise KeyError(key)
        return Job(**rows[0])

    def __contains__(self, key: str) -> bool:
        return bool(self._run("SELECT 1 FROM jobs WHERE id = ?", key))

    def all(self) -> list[Job]:
        """Newest first."""
        return [Job(**row) for row in self._run(f"SELECT {COLUMNS} FROM jobs ORDER BY created DESC, id")]

    def queue(self, key: str, size: int) -> None:
        """An upload is whole."""
        with self._lock:
            self._run("UPDATE jobs SET state = 'queued', size = ? WHERE id = ? AND state = 'uploading'", size, key)
            self.changed.notify_all()

    def claim(self, kind: Kind = "events") -> Job | None:
        """The job whose events, or whose copy, have waited longest and now run; None if none waits."""
        table = TABLES[kind]
        with self._lock:
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
        with self._lock:
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
        with self._lock:
            self.drop_copy(key)
            self._run("DELETE FROM jobs WHERE id = ?", key)

    def copy(self, key: str) -> Copy | None:
        """None if nobody has asked for one."""
        rows = self._run("SELECT state, seconds, duration, error FROM copies WHERE id = ?", key)
        return Copy(**rows[0]) if rows else None

    def ask_copy(self, key: str) -> Copy:
        """One that waits, unless there is one that has not failed. KeyError if there is no such job."""
        with self._lock:
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
        with self._lock:
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

    def corrected(self, key: str) -> list[Event] | None:
        """The events as people have saved them; None if nobody has."""
        rows = self._run("SELECT corrected FROM jobs WHERE id = ?", key)
        if not rows or rows[0]["corrected"] is None:
            return None
        return [Event(**event) for event in json.loads(rows[0]["corrected"])]

    def correct(self, key: str, events: Sequence[Event], revision: int) -> int:
        """Keep these events: the new revision. Conflict if `revision` is not the one that is kept."""
        content = json.dumps([asdict(event) for event in events])
        with self._lock:
            if self.get(key).revision != revision:
                raise Conflict
            self._run("UPDATE jobs SET corrected = ?, revision = revision + 1 WHERE id = ?", content, key)
            return revision + 1
