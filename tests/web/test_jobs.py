"""The table of jobs."""

from __future__ import annotations

import pytest

from davel.web.database import Database
from davel.web.errors import Full, NotFound
from davel.web.jobs import MAX_ATTEMPTS, Jobs


@pytest.fixture
def jobs(tmp_path):
    database = Database(tmp_path / "jobs.sqlite")
    yield Jobs(database)
    database.close()


def test_a_copy_is_begun_again_but_not_for_ever(jobs):
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    assert jobs.ask_copy(key) == jobs.ask_copy(key)
    for _ in range(MAX_ATTEMPTS):
        assert jobs.claim("copy").id == key
        assert jobs.claim("copy") is None
        jobs.after_a_restart()
    assert jobs.copy(key).state == "failed"
    assert "the server stopped 3 times" in jobs.copy(key).error
    assert jobs.get(key).state == "queued"
    assert jobs.ask_copy(key).state == "queued"
    assert jobs.claim("copy").id == key
    with pytest.raises(NotFound):
        jobs.ask_copy("none")
    jobs.delete(key)
    assert jobs.copy(key) is None
    assert not jobs.end("copy", key)


def test_what_ran_when_the_server_stopped_is_begun_again_but_not_for_ever(jobs):
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    broken = jobs.add("y.mp4", "upload", "", 1, "uploading", 9).id
    assert jobs.claim().state == "running"
    assert jobs.after_a_restart() == [broken]
    for _ in range(MAX_ATTEMPTS - 1):
        assert jobs.get(key).state == "queued"
        jobs.claim()
        jobs.after_a_restart()
    assert jobs.get(key).state == "failed"
    assert jobs.claim() is None


def test_a_job_is_claimed_once_and_oldest_first(jobs):
    keys = [jobs.add(f"{n}.mp4", "upload", "", 1, "queued", 9).id for n in range(3)]
    assert [jobs.claim().id for _ in range(3)] == keys
    assert jobs.claim() is None
    with pytest.raises(Full):
        jobs.add("x", "upload", "", 1, "queued", 3)


def test_a_files_identity_is_noted_and_its_correction_goes_with_it(jobs):
    one, other = (jobs.add("x.mp4", "folder", "x.mp4", 1, "queued", 9) for _ in range(2))
    assert one.content == f"job:{one.id}"
    for job in (one, other):
        jobs.database.run("INSERT INTO corrections VALUES (?, 'x.mp4', 3, 0, '[]')", job.content)
    jobs.identify(one.id, "abc")
    assert (jobs.get(one.id).content, jobs.get(one.id).revision) == ("abc", 3)
    jobs.identify(other.id, "abc")  # both are kept
    assert (jobs.get(other.id).content, jobs.get(other.id).revision) == (f"job:{other.id}", 3)
    third = jobs.add("y.mp4", "folder", "y.mp4", 1, "queued", 9)
    jobs.identify(third.id, "abc")
    assert jobs.get(third.id).revision == 3
