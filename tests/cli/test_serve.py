"""`davel serve` as users have it: a process of its own, and one more for each video."""

from __future__ import annotations

import json
import signal
import socket
import time
import zipfile
from pathlib import Path

import pytest
from media_files import grey, make_media
from tiny import LABELS
from web_server import Server, assert_alike, eventually, start

from davel.media import probe
from davel.web.settings import LEAST_SCORE

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    running = start(tmp_path_factory.mktemp("data"), "-m", tiny, "--max-upload-gb", 0.001, "--max-uploads", 8)
    yield running
    assert running.stop() in (0, -signal.SIGINT, 130)


@pytest.fixture(scope="module")
def done(server, short_clip) -> dict:
    return server.done(short_clip)


def test_a_video_goes_in_and_its_events_come_out(server, done, short_clip):
    assert (done["name"], done["size"], done["source"]) == ("clip.mp4", short_clip.stat().st_size, "upload")
    assert done["expires"] == pytest.approx(time.time() + 7 * 86400, abs=600)
    kept = server.json("GET", f"/api/jobs/{done['id']}/events")
    assert kept["events"]
    assert (kept["revision"], kept["corrected"]) == (0, False)
    assert {e["label"] for e in kept["events"]} <= set(LABELS)


def test_the_result_is_the_same_as_on_the_command_line(server, done, short_clip, run, tiny):
    assert run("localize", short_clip, "-m", tiny, "--threshold", LEAST_SCORE, "--device", "cpu")[0] == 0
    expected = json.loads(Path("clip.json").read_text())
    got = server.json("GET", f"/api/jobs/{done['id']}/result")
    assert got["media"].pop("path") == "clip.mp4"
    expected["media"].pop("path")
    assert_alike(got.pop("events"), expected.pop("events"))
    for name, values in expected.pop("gates").items():
        assert got["gates"][name] == pytest.approx(values, abs=1e-4)
    assert {name: got[name] for name in expected} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [b"no video at all", b"\x00" * 1000, "zip bomb", "cut off", b"ffconcat version 1.0\nfile 'events.csv'\n"],
    ids=["text", "zeros", "zip bomb", "cut off", "playlist"],
)
def test_what_is_no_video_fails_and_says_so(server, short_clip, tmp_path, content):
    if content == "zip bomb":
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("bomb", b"\0" * 300_000_000)
        content = (tmp_path / "bomb.zip").read_bytes()
    if content == "cut off":
        content = short_clip.read_bytes()[: short_clip.stat().st_size // 2]
    (tmp_path / "bad.mp4").write_bytes(content)
    job = server.wait(server.upload(tmp_path / "bad.mp4")["id"])
    assert job["state"] == "failed"
    assert job["error"].startswith("bad.mp4: ")
    assert str(server.data) not in job["error"]
    assert server.json("GET", f"/api/jobs/{job['id']}/events", expect=409)["detail"] == "bad.mp4: is failed, not done"
    assert server.ask("DELETE", f"/api/jobs/{job['id']}")[0] == 204
    assert not (server.data / "uploads" / job["id"]).exists()
    assert not (server.data / "results" / job["id"]).exists()


def raw(server: Server, request: str) -> tuple[int, bytes, bytes]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(request.encode())
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def test_an_announced_upload_beyond_the_limit_is_refused_before_it_comes(server):
    head = "POST /api/jobs?name=x.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
    status, _, body = raw(server, head + "Content-Length: 1000001\r\nConnection: close\r\n\r\n")
    assert (status, b"x.mp4: is larger than 0.001 GB" in body) == (413, True)


def test_an_upload_that_breaks_off_leaves_nothing(server):
    before = sorted((server.data / "uploads").iterdir())
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(
            b"POST /api/jobs?name=x.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 5000\r\n\r\n" + b"\0" * 100
        )
        eventually(lambda: len(list((server.data / "uploads").iterdir())) > len(before))
        [job] = [j for j in server.json("GET", "/api/jobs") if j["state"] == "uploading"]
    eventually(lambda: sorted((server.data / "uploads").iterdir()) == before)
    assert server.ask("GET", f"/api/jobs/{job['id']}")[0] == 404


def test_other_machines_need_a_token(run, tiny, tmp_path):
    code, _, err = run("serve", "--host", "0.0.0.0", "-m", tiny, "--data", tmp_path / "data")
    assert code == 2
    assert "--token" in err
    code, _, err = run("serve", "--token", "short", "-m", tiny, "--data", tmp_path / "data")
    assert code == 2
    assert "16" in err


@pytest.mark.slow
def test_a_restart_in_the_middle_loses_nothing(long_clip, tiny, short_clip, tmp_path):
    first = start(tmp_path / "data", "-m", tiny)
    done = first.done(short_clip)
    first.json("PUT", f"/api/jobs/{done['id']}/events", {"revision": 0, "events": []})
    running = first.upload(long_clip)["id"]
    waiting = first.upload(short_clip)["id"]
    first.wait(running, "running")
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    (tmp_path / "data" / "uploads" / "half").write_bytes(b"x")
    second = start(tmp_path / "data", "-m", tiny)
    try:
        assert second.json("GET", f"/api/jobs/{done['id']}/events")["corrected"]
        assert second.wait(running)["state"] == "done"
        assert second.wait(waiting)["state"] == "done"
    finally:
        second.stop()


def test_a_second_server_keeps_off(server, run, tiny):
    code, _, err = run("serve", "-m", tiny, "--data", server.data, "--port", 0)
    assert code == 4
    assert "another davel serve uses it" in err


def test_a_port_that_is_taken_is_named(server, run, tiny, tmp_path):
    code, _, err = run("serve", "-m", tiny, "--data", tmp_path / "d", "--port", server.port)
    assert code == 4
    assert f"127.0.0.1:{server.port}: cannot listen there" in err


@pytest.mark.slow
def test_a_running_job_is_cancelled(long_clip, tiny, tmp_path):
    running = start(tmp_path / "data", "-m", tiny)
    try:
        key = running.upload(long_clip)["id"]
        running.wait(key, "running")
        assert running.json("POST", f"/api/jobs/{key}/cancel")["state"] == "cancelled"
        eventually(lambda: not (tmp_path / "data" / "results" / key).exists())
        assert running.json("GET", f"/api/jobs/{key}")["state"] == "cancelled"
    finally:
        running.stop()


@pytest.fixture(scope="module")
def copier(tiny, tmp_path_factory):
    """A server with a video that browsers do not play, found and done."""
    top = tmp_path_factory.mktemp("copier")
    (top / "videos").mkdir()
    make_media(
        top / "videos" / "old.avi", seconds=4, picture=lambda t: grey(int(40 + 20 * t), (144, 176)),
        video_codec="mpeg4", audio_codec="mp2", sample_rate=32000,
    )  # fmt: skip
    running = start(top / "data", top / "videos", "-m", tiny)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def old(copier) -> str:
    [file] = copier.json("GET", "/api/folder")
    job = copier.wait(copier.json("POST", f"/api/folder/{file['id']}", expect=201)["id"])
    assert job["state"] == "done", job
    return job["id"]


def copied(server: Server, key: str) -> dict:
    """The copy's state, once it is over."""
    path = f"/api/jobs/{key}/copy"
    eventually(lambda: server.json("GET", path)["state"] in ("done", "failed"))
    return server.json("GET", path)


@pytest.mark.slow
def test_a_copy_that_browsers_can_play_is_made_kept_and_deleted(copier, old):
    path = f"/api/jobs/{old}/copy"
    assert copier.json("GET", path) is None
    assert copier.json("GET", f"{path}/media", expect=404)["detail"] == "old.avi: has no copy"
    assert copier.json("POST", path, expect=201)["state"] in ("queued", "running")
    duration = copier.json("GET", f"/api/jobs/{old}")["duration"]
    assert copied(copier, old) == {"state": "done", "seconds": duration, "duration": duration, "error": None}
    file = copier.data / "results" / old / "copy.mp4"
    content = file.read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")
    status, headers, part = copier.ask("GET", f"{path}/media", Range="bytes=10-19")
    assert (status, part) == (206, content[10:20])
    assert headers["content-type"] == "video/mp4"
    assert headers["content-security-policy"] == "sandbox"
    info = probe(file)
    assert (info.video.codec, info.video.height, info.video.width) == ("h264", 144, 176)
    assert (info.audio.codec, info.audio.channels) == ("aac", 1)
    assert info.duration_seconds == pytest.approx(duration, abs=0.05)
    assert copier.json("POST", path, expect=201)["state"] == "done"
    assert file.read_bytes() == content
    assert copier.ask("DELETE", path)[0] == 204
    assert copier.json("GET", path) is None
    assert not file.exists()


@pytest.mark.slow
def test_a_copy_that_fails_says_why_and_can_be_asked_for_again(copier, old):
    path, video = f"/api/jobs/{old}/copy", copier.data.parent / "videos" / "old.avi"
    content = video.read_bytes()
    try:
        video.write_bytes(b"no video any more")
        assert copier.json("POST", path, expect=201)["error"] is None
        copy = copied(copier, old)
        assert copy["state"] == "failed"
        assert copy["error"].startswith("old.avi: not a media file")
        assert [p.name for p in (copier.data / "results" / old).iterdir() if "copy" in p.name] == []
        assert copier.json("GET", f"/api/jobs/{old}")["state"] == "done"
        video.unlink()
        assert copier.json("POST", path, expect=404)["detail"] == "old.avi: is not there any more"
    finally:
        video.write_bytes(content)
    assert copier.json("POST", path, expect=201)["state"] in ("queued", "running")
    assert copied(copier, old)["state"] == "done"
    assert copier.ask("DELETE", path)[0] == 204


@pytest.mark.slow
def test_a_copy_goes_with_its_job(copier, short_clip):
    key = copier.done(short_clip)["id"]
    copier.json("POST", f"/api/jobs/{key}/copy", expect=201)
    assert copied(copier, key)["state"] == "done"
    assert copier.ask("DELETE", f"/api/jobs/{key}")[0] == 204
    assert not (copier.data / "results" / key).exists()
    copier.json("GET", f"/api/jobs/{key}/copy", expect=404)


@pytest.mark.slow
def test_a_copy_is_cancelled_in_the_middle_and_begun_again_after_a_restart(long_clip, tiny, tmp_path):
    first = start(tmp_path / "data", "-m", tiny)
    key = first.done(long_clip)["id"]
    path, folder = f"/api/jobs/{key}/copy", tmp_path / "data" / "results" / key

    def begin() -> None:
        first.json("POST", path, expect=201)
        eventually(lambda: 0 < first.json("GET", path)["seconds"] < 400)
        assert first.json("GET", path)["state"] == "running"
        assert [p.suffix for p in folder.iterdir() if "copy" in p.name] == [".tmp"]

    begin()
    assert first.ask("DELETE", path)[0] == 204
    assert first.json("GET", path) is None
    eventually(lambda: sorted(p.name for p in folder.iterdir()) == ["peaks.bin", "result.json"])
    begin()
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = start(tmp_path / "data", "-m", tiny)
    try:
        assert copied(second, key)["state"] == "done"
        assert sorted(p.name for p in folder.iterdir()) == ["copy.mp4", "peaks.bin", "result.json"]
        assert probe(folder / "copy.mp4").duration_seconds == pytest.approx(400, abs=0.05)
    finally:
        second.stop()
