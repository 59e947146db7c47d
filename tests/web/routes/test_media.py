"""The API of what is seen and heard of a job, asked in this process."""

from __future__ import annotations

import pytest
from asgi import LOUD, SECONDS


def test_a_range_of_the_video_is_served(server, done, clip):
    status, headers, content = server.ask("GET", f"/api/jobs/{done['id']}/media", Range="bytes=10-19")
    assert (status, content) == (206, clip[10:20])
    assert headers["content-type"] == "video/mp4"
    assert headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize(("name", "kind"), [("x.webm", "video/webm"), ("x.AVI", "video/x-msvideo"), ("x", "video/mp4")])
def test_the_kind_of_a_video_is_told_by_its_name(server, clip, name, kind):
    assert server.ask("GET", f"/api/jobs/{server.done(clip, name)['id']}/media")[1]["content-type"] == kind


def test_a_video_that_is_gone_is_told(server, done):
    (server.data / "uploads" / done["id"]).unlink()
    for method, path in (("GET", "media"), ("POST", "copy")):
        answer = server.json(method, f"/api/jobs/{done['id']}/{path}", expect=404)
        assert answer["detail"] == "a clip.mp4: is not there any more"


def test_the_peaks_of_the_sound_are_served(server, done):
    bins = server.json("GET", f"/api/jobs/{done['id']}/peaks?start=1&end=11&bins=100")
    assert bins == [[-LOUD, LOUD]] * 40 + [[0, 0]] * 60


def test_a_video_without_sound_has_no_peaks(server, done):
    (server.data / "results" / done["id"] / "peaks.bin").write_bytes(b"")
    assert server.json("GET", f"/api/jobs/{done['id']}/peaks?start=0&end=5&bins=2") == [[0, 0]] * 2


def test_there_is_a_copy_only_of_what_is_done(server, clip):
    for method, path in (("GET", "copy"), ("POST", "copy"), ("DELETE", "copy"), ("GET", "copy/media")):
        assert server.json(method, f"/api/jobs/none/{path}", expect=404)["detail"].startswith("there is no such job")
    key = server.upload(clip, "bad.avi")["id"]
    server.finish(error="bad.avi: no video")
    assert server.json("POST", f"/api/jobs/{key}/copy", expect=409)["detail"] == "bad.avi: is failed, not done"
    assert server.json("GET", f"/api/jobs/{key}/copy") is None


def test_a_copy_is_asked_for_watched_and_deleted(server, done):
    path, jobs = f"/api/jobs/{done['id']}/copy", server.server.jobs
    assert server.json("GET", path) is None
    assert server.json("GET", f"{path}/media", expect=404)["detail"] == "a clip.mp4: has no copy"
    waits = {"state": "queued", "seconds": 0.0, "duration": SECONDS, "error": None}
    assert server.json("POST", path, expect=201) == waits
    assert server.json("POST", path, expect=201) == waits
    jobs.claim("copy")
    server.server.runner.copy(done["id"]).write_bytes(b"a copy of it")
    jobs.end("copy", done["id"])
    status, headers, part = server.ask("GET", f"{path}/media", Range="bytes=2-5")
    assert (status, part, headers["content-type"]) == (206, b"copy", "video/mp4")
    assert headers["content-security-policy"] == "sandbox"
    assert server.ask("DELETE", path)[0] == 204
    assert server.json("GET", path) is None
    assert server.ask("GET", f"{path}/media")[0] == 404
