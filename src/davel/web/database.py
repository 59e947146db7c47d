"""The server's SQLite file: opened, brought up to date, and used from many threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from davel.core.errors import ConfigError, printable

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # davel 0.1, which did not number what it wrote
        """
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
        )
        """,
        """
        CREATE TABLE IF NOT EXISTS copies (
            id TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            created REAL NOT NULL,
            finished REAL,
            seconds REAL NOT NULL DEFAULT 0,
            duration REAL,
            error TEXT,
            attempts INTEGER NOT NULL DEFAULT 0
        )
        """,
    ),
    (  # corrections belong to a video's content, and outlive its jobs
        """
        CREATE TABLE corrections (
            content TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            revision INTEGER NOT NULL,
            saved REAL NOT NULL,
            events TEXT NOT NULL
        )
        """,
        """
        INSERT INTO corrections
        SELECT 'job:' || id, name, revision, coalesce(finished, created), corrected FROM jobs
        WHERE corrected IS NOT NULL
        """,
        """
        CREATE TABLE jobs_2 (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            source TEXT NOT NULL,
            media TEXT NOT NULL,
            content TEXT NOT NULL,
            size INTEGER NOT NULL,
            state TEXT NOT NULL,
            created REAL NOT NULL,
            finished REAL,
            seconds REAL NOT NULL DEFAULT 0,
            duration REAL,
            error TEXT,
            attempts INTEGER NOT NULL DEFAULT 0
        )
        """,
        """
        INSERT INTO jobs_2
        SELECT id, name, source, media, 'job:' || id, size, state, created, finished, seconds, duration, error, attempts
        FROM jobs
        """,
        "DROP TABLE jobs",
        "ALTER TABLE jobs_2 RENAME TO jobs",
        "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ),
)
"""What brings a file from each version to the next; `PRAGMA user_version` is the number of those that it has seen."""


class Database:
    """One connection for all threads; ConfigError if the file is none of this davel's."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except sqlite3.Error as error:
            raise ConfigError(f"{printable(path)}: cannot be opened: {error}") from error
        self._connection.row_factory = sqlite3.Row
        try:
            self.run("PRAGMA journal_mode=WAL")
            self._migrate(path)
        except sqlite3.Error as error:
            self.close()
            raise ConfigError(
                f"{printable(path)}: cannot be used as the server's database: {error}: give another --data"
            ) from error
        except ConfigError:
            self.close()
            raise

    def _migrate(self, path: Path) -> None:
        with self.transaction():
            version = self.run("PRAGMA user_version")[0][0]
            if version > len(MIGRATIONS):
                raise ConfigError(
                    f"{printable(path)}: was written by a newer davel (version {version} of the database, this one "
                    f"knows {len(MIGRATIONS)}): upgrade davel, or give another --data"
                )
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    self.run(statement)
            self.run(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def close(self) -> None:
        with self.lock:
            self._connection.close()

    def run(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self.lock:
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside are kept, or none; one inside another belongs to that."""
        with self.lock:
            if self._connection.in_transaction:
                yield
                return
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self.run("ROLLBACK")
                raise

    def note(self, name: str) -> str | None:
        """What was remembered under a name."""
        rows = self.run("SELECT value FROM notes WHERE name = ?", name)
        return str(rows[0]["value"]) if rows else None

    def remember(self, name: str, value: str) -> None:
        self.run("INSERT OR REPLACE INTO notes (name, value) VALUES (?, ?)", name, value)
