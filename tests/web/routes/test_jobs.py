"""The API of jobs, asked in this process."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgi import SECONDS

from davel.web.routes import jobs
from davel.web.uploads import Upload


def uploads(server) -> list[str]:
    return sorted(path.name for path in (server.data / "uploads").iterdir())


def test_a_video_goes_in_and_is_worked_on(server, clip):
    job = server.upload(clip, "a clip.mp4")
    assert (job["name"], job["size"], job["source"], job["state"]) == ("a clip.mp4", len(clip), "upload", "queued")
    assert (job["expires"], job["error"], job["duration"], job["revision"]) == (None, None, None, 0)
    assert server.finish() == job["id"]
    done = server.job(job["id"])
    assert (done["state"], done["seconds"], done["duration"]) == ("done", SECONDS, SECONDS)
    assert done["expires"] == pytest.approx(time.time() + 7 * 86400, abs=600)
    assert server.json("GET", "/api/jobs") == [done]


def test_a_job_that_waits_is_cancelled(server, clip):
    path = f"/api/jobs/{server.upload(clip, 'x.mp4')['id']}"
    assert server.json("POST", f"{path}/cancel")["state"] == "cancelled"
    assert server.finish() is None
    assert server.json("POST", f"{path}/cancel", expect=409)["detail"] == "x.mp4: is cancelled already"


def test_what_has_failed_says_so_and_is_deleted(server, clip):
    path = f"/api/jobs/{server.upload(clip, 'bad.mp4')['id']}"
    server.finish(error="bad.mp4: not a media file")
    assert server.json("GET", path)["error"] == "bad.mp4: not a media file"
    assert server.json("GET", f"{path}/events", expect=409)["detail"] == "bad.mp4: is failed, not done"
    assert server.ask("DELETE", path)[0] == 204
    assert uploads(server) == []
    assert server.json("GET", path, expect=404)["detail"] == "there is no such job; it may have expired"


def test_a_client_names_no_path(server, clip, folder, done):
    job = server.upload(clip, "../../../../tmp/x/../evil\\..\\name.mp4")
    assert job["name"] == "name.mp4"
    assert sorted(p.name for p in (server.data / "uploads").iterdir()) == sorted({done["id"], job["id"]})
    server.ask("DELETE", f"/api/jobs/{job['id']}")
    secret = (folder / "secret.mp4").read_bytes()
    for path in (
        "/../secret.mp4",
        "/..%2fsecret.mp4",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/static/../../app.py",
        "/../app.py",
        "/..%5capp.py",
        "/api/jobs/..%2f..%2f..%2fsecret.mp4/media",
        "/api/jobs/../jobs.sqlite/media",
        "/api/jobs/%00/media",
        f"/api/jobs/{done['id']}%2f..%2f{done['id']}/media",
    ):
        status, _, content = server.ask("GET", path)
        assert status in (400, 404, 405), path
        assert secret not in content
        assert b"root:" not in content
        assert b"app_of" not in content
    for name in ("..%2Fsecret.mp4", "secret.mp4", "clip%200.mkv"):
        assert server.ask("POST", f"/api/folder/{name}")[0] in (404, 405)


def test_empty_uploads_are_refused(server):
    assert server.json("POST", "/api/jobs?name=x.mp4", b"", expect=422)["detail"] == "x.mp4: is empty"


def test_only_so_many_uploads_are_kept(server, clip):
    kept = []
    while len([j for j in server.json("GET", "/api/jobs") if j["source"] == "upload"]) < 8:
        kept.append(server.upload(clip, "x.mp4")["id"])
    status, _, body = server.ask("POST", "/api/jobs?name=x.mp4", clip)
    assert status == 429
    assert b"8 uploads already" in body
    for key in kept:
        assert server.ask("DELETE", f"/api/jobs/{key}")[0] == 204


def test_an_upload_beyond_the_limit_is_refused_whether_it_says_so_or_not(server):
    path = "/api/jobs?name=x.mp4"
    for body in (b"\0" * 1_000_001, iter([b"\0" * 300_000] * 5)):
        status, _, content = server.ask("POST", path, body)
        assert (status, b"x.mp4: is larger than 0.001 GB" in content) == (413, True)
    assert server.json("GET", "/api/jobs") == []
    assert uploads(server) == []


@pytest.mark.parametrize("body", [[b"half", None], [None]])
def test_an_upload_that_breaks_off_leaves_nothing(server, body):
    assert server.json("POST", "/api/jobs?name=x.mp4", iter(body), expect=400)["detail"] == "x.mp4: broke off"
    assert server.json("POST", "/api/jobs?name=x.mp4", iter([b"half"]), content_length="5000", expect=400)
    assert server.json("GET", "/api/jobs") == []
    assert uploads(server) == []


def test_an_upload_from_which_nothing_comes_is_dropped(server, monkeypatch):
    monkeypatch.setattr(jobs, "CHUNK_SECONDS", 0.01)
    monkeypatch.setattr("starlette.requests.Request.stream", lambda request: silence())
    assert server.json("POST", "/api/jobs?name=x.mp4", b"x", expect=408)["detail"] == "x.mp4: nothing came for 0.01 s"
    assert uploads(server) == []


async def silence():
    await asyncio.sleep(600)
    yield b""


def test_a_length_that_is_no_number_is_refused(server):
    answer = server.json("POST", "/api/jobs?name=x.mp4", b"x", content_length="-1", expect=422)
    assert answer["detail"] == "x.mp4: content-length must be a number of bytes"


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_full_disk_is_told_and_leaves_nothing(server, clip, monkeypatch, step):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Upload, step, full)
    answer = server.json("POST", "/api/jobs?name=x.mp4", clip, expect=507)
    assert answer["detail"] == "the server's disk is full: delete some videos"
    assert server.json("GET", "/api/jobs") == []
    assert uploads(server) == []
