"""The server's database: brought up to date, or refused."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from golden_values import GOLDEN

from davel.core.errors import ConfigError
from davel.core.events import Event
from davel.web.corrections import Corrections
from davel.web.database import MIGRATIONS, Database
from davel.web.jobs import Jobs

OLD = GOLDEN / "jobs-0.1.sqlite"
"""Written by the code of commit 7318208."""
CLIP, SAME_NAME, IN_FOLDER, BAD, RAN, WAITS = (f"{n:032x}" for n in range(1, 7))


@pytest.fixture
def database(tmp_path):
    shutil.copy(OLD, tmp_path / "jobs.sqlite")
    database = Database(tmp_path / "jobs.sqlite")
    yield database
    database.close()


def test_a_database_of_davel_0_1_loses_nothing(database, tmp_path):
    before = sqlite3.connect(OLD)
    columns = "id, name, source, media, size, state, created, finished, seconds, duration, error, attempts"
    jobs = f"SELECT {columns} FROM jobs ORDER BY id"
    copies = "SELECT * FROM copies ORDER BY id"
    for statement in (jobs, copies):
        rows = before.execute(statement).fetchall()
        assert rows
        assert [tuple(row) for row in database.run(statement)] == rows
    before.close()
    corrections = Corrections(database, tmp_path / "events.csv")
    found = {job.id: corrections.of(job.content) for job in Jobs(database).all()}
    assert {key for key, kept in found.items() if kept} == {CLIP, SAME_NAME}
    assert found[CLIP].revision == 2
    assert found[CLIP].events == [
        Event("bell", 1.0, 2.5), Event("bark, loud", 3.0, 4.25, 0.75), Event("rain", 1.0001, 1.0004),
    ]  # fmt: skip
    assert (found[SAME_NAME].revision, found[SAME_NAME].events) == (1, [])
    assert [Jobs(database).get(key).revision for key in (CLIP, SAME_NAME, IN_FOLDER)] == [2, 1, 0]


def test_its_jobs_go_on(database):
    jobs = Jobs(database)
    assert jobs.after_a_restart() == []
    assert [jobs.claim().id, jobs.claim().id, jobs.claim()] == [RAN, WAITS, None]


def test_its_table_is_written_as_it_is_read(database, tmp_path):
    corrections = Corrections(database, tmp_path / "events.csv")
    assert corrections.render() == (
        "file,start,end,label,id\n"
        f"clip.mp4,1.000,1.001,rain,job:{CLIP}\n"
        f"clip.mp4,1.000,2.500,bell,job:{CLIP}\n"
        f'clip.mp4,3.000,4.250,"bark, loud",job:{CLIP}\n'
        f"clip.mp4,,,,job:{SAME_NAME}\n"
    )


def test_a_database_is_opened_again_as_it_is(database, tmp_path):
    again = Database(tmp_path / "jobs.sqlite")
    assert again.run("PRAGMA user_version")[0][0] == len(MIGRATIONS)
    assert len(Jobs(again).all()) == 6
    again.close()


def test_what_a_newer_davel_wrote_is_refused(database, tmp_path):
    database.run(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(
        ConfigError, match=r"jobs\.sqlite: was written by a newer davel .*upgrade davel, or give another"
    ):
        Database(tmp_path / "jobs.sqlite")
    assert len(Jobs(database).all()) == 6


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "jobs.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(ConfigError, match=r"jobs\.sqlite: cannot be used as the server's database: .*not a database"):
        Database(tmp_path / "jobs.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="folder: cannot be opened"):
        Database(tmp_path / "folder")


def test_a_migration_that_breaks_off_leaves_the_old_database(tmp_path, monkeypatch):
    shutil.copy(OLD, tmp_path / "jobs.sqlite")
    broken = (*MIGRATIONS[:1], (*MIGRATIONS[1], "SELECT * FROM nothing"))
    with monkeypatch.context() as patch:
        patch.setattr("davel.web.database.MIGRATIONS", broken)
        with pytest.raises(ConfigError, match="nothing"):
            Database(tmp_path / "jobs.sqlite")
    database = Database(tmp_path / "jobs.sqlite")
    assert len(Jobs(database).all()) == 6
    database.close()


def test_all_statements_are_kept_or_none(tmp_path):
    database = Database(tmp_path / "jobs.sqlite")

    def break_off() -> None:
        with database.transaction():
            database.remember("one", "1")
            with database.transaction():
                database.remember("two", "2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert (database.note("one"), database.note("two")) == (None, None)
    with database.transaction():
        database.remember("one", "1")
    assert database.note("one") == "1"
    database.close()
