"""`davel serve`: the API as programs use it, and what others might try on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import grey, make_media, tone
from tiny import LABELS, tiny_model
from web_server import Server, start

from davel.core.errors import ConfigError, MissingError
from davel.core.events import Event
from davel.data.table import put_events, read_table
from davel.media import open_media, peaks, probe
from davel.web import child
from davel.web.copies import LEAST_PICTURE_BITS, PICTURE_BITS, SOUND_BITS, picture_bits, size_of, write_copy
from davel.web.corrections import Corrections
from davel.web.database import Database
from davel.web.errors import Conflict, Full, NoSpace, NotFound
from davel.web.jobs import MAX_ATTEMPTS, Jobs, Kind
from davel.web.runner import Runner, last_words
from davel.web.security import is_loopback
from davel.web.server import Server as Rooms
from davel.web.settings import LEAST_SCORE, SPARE_BYTES, Limits, ServerSettings

TOKEN = "correct horse battery"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_media(tmp_path_factory.mktemp("clip") / "a clip.mp4", seconds=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of videos on the server, and one that is none of its."""
    top = tmp_path_factory.mktemp("server")
    (top / "videos").mkdir()
    for n in range(2):
        make_media(top / "videos" / f"clip {n}.mkv", seconds=3)
    (top / "secret.mp4").write_bytes(make_media(top / "videos" / "other.mkv", seconds=3).read_bytes())
    (top / "truth.csv").write_text("file,start,end,label\nclip 0.mkv,0.5,2,bell\n")
    return top


@pytest.fixture(scope="module")
def server(model, folder, tmp_path_factory):
    running = start(
        tmp_path_factory.mktemp("data"), folder / "videos", "-m", model, "--annotations", folder / "truth.csv",
        "--max-upload-gb", 0.001, "--max-uploads", 8,
    )  # fmt: skip
    yield running
    assert running.stop() in (0, -signal.SIGINT, 130)


@pytest.fixture(scope="module")
def done(server, clip) -> dict:
    return server.done(clip)


def test_a_video_goes_in_and_its_events_come_out(server, done, clip):
    assert (done["name"], done["size"], done["source"]) == ("a clip.mp4", clip.stat().st_size, "upload")
    assert done["expires"] == pytest.approx(time.time() + 7 * 86400, abs=600)
    kept = server.json("GET", f"/api/jobs/{done['id']}/events")
    assert kept["events"]
    assert (kept["revision"], kept["corrected"]) == (0, False)
    assert {e["label"] for e in kept["events"]} <= set(LABELS)


def test_the_result_is_the_same_as_on_the_command_line(server, done, clip, run, model):
    assert run("localize", clip, "-m", model, "--threshold", LEAST_SCORE, "--device", "cpu")[0] == 0
    expected = json.loads(Path("a clip.json").read_text())
    got = server.json("GET", f"/api/jobs/{done['id']}/result")
    assert got["media"].pop("path") == "a clip.mp4"
    expected["media"].pop("path")
    assert got == expected


def test_a_range_of_the_video_is_served(server, done, clip):
    status, headers, content = server.ask("GET", f"/api/jobs/{done['id']}/media", Range="bytes=10-19")
    assert (status, content) == (206, clip.read_bytes()[10:20])
    assert headers["content-type"] == "video/mp4"
    assert headers["content-security-policy"] == "sandbox"


def test_the_peaks_of_the_sound_are_served(server, done):
    bins = server.json("GET", f"/api/jobs/{done['id']}/peaks?start=1&end=11&bins=100")
    assert len(bins) == 100
    assert all(40 < high < 80 and -80 < low < -40 for low, high in bins[:35])  # a tone of half the full scale
    assert bins[60:] == [[0, 0]] * 40


@pytest.mark.parametrize("name", ["csv", "vtt", "eaf", "labelstudio", "edl"])
def test_the_events_are_downloaded_in_any_format(server, done, name, tmp_path):
    from davel import formats

    events = server.json("GET", f"/api/jobs/{done['id']}/events")["events"]
    wanted = [e for e in events if e["score"] >= events[len(events) // 2]["score"]]
    least = f"{events[len(events) // 2]['score']:.6f}"
    status, headers, content = server.ask("GET", f"/api/jobs/{done['id']}/export?format={name}&threshold={least}")
    assert status == 200
    assert headers["content-disposition"] == f"attachment; filename*=UTF-8''a%20clip.{formats.FORMATS[name].suffix}"
    path = tmp_path / f"x.{formats.FORMATS[name].suffix}"
    path.write_bytes(content)
    [video] = formats.read(path, name)
    assert len(video.events) == len(wanted)


def test_given_events_are_written_in_a_format(server, done):
    event = {"label": "bell", "start": 1.0, "end": 2.5, "score": 0.5}
    path = f"/api/jobs/{done['id']}/export"
    status, headers, content = server.ask("POST", path, {"format": "srt", "events": [event]})
    assert status == 200
    assert b"00:00:01,000 --> 00:00:02,500\nbell" in content
    assert "srt holds no scores" in headers["davel-not-held"]
    assert server.json("POST", path, {"format": "pdf", "events": []}, expect=422)["detail"].startswith("format: choose")


def test_videos_of_the_servers_folder_are_chosen_by_an_id(server, folder):
    files = {file["name"]: file for file in server.json("GET", "/api/folder")}
    assert set(files) == {"clip 0.mkv", "clip 1.mkv", "other.mkv"}
    job = server.wait(server.json("POST", f"/api/folder/{files['clip 0.mkv']['id']}", expect=201)["id"])
    assert (job["state"], job["source"], job["expires"]) == ("done", "folder", None)
    assert server.json("GET", f"/api/jobs/{job['id']}/truth") == [
        {"label": "bell", "start": 0.5, "end": 2.0, "score": 1.0}
    ]
    assert {file["job"] for file in server.json("GET", "/api/folder")} == {None, job["id"]}
    server.ask("DELETE", f"/api/jobs/{job['id']}")
    assert (folder / "videos" / "clip 0.mkv").exists()


def test_corrections_are_kept_and_go_into_the_table_for_training(server, clip, folder):
    key = server.done(clip, "clip 1.mkv")["id"]
    path = f"/api/jobs/{key}/events"
    events = [{"label": "new, one", "start": 2.0, "end": 4.9}, {"label": "bell", "start": 0.5, "end": 1.5}]
    kept = server.json("PUT", path, {"revision": 0, "events": events})
    assert (kept["revision"], kept["corrected"]) == (1, True)
    assert server.json("GET", path)["events"] == [event | {"score": 1.0} for event in events]
    status, _, table = server.ask("GET", "/api/annotations")
    assert status == 200
    assert table.decode() == (server.data / "events.csv").read_text()
    identity = sha256(clip.read_bytes()).hexdigest()[:16].encode()
    assert b'clip 1.mkv,0.500,1.500,bell,%b\nclip 1.mkv,2.000,4.900,"new, one",%b\n' % (identity, identity) in table
    # whoever corrected an older state is told
    assert server.json("PUT", path, {"revision": 0, "events": []}, expect=409)["detail"].startswith(
        "clip 1.mkv: was saved"
    )
    assert server.json("GET", path)["revision"] == 1
    server.json("PUT", path, {"revision": 1, "events": []})
    assert b"clip 1.mkv,,,," + identity in server.ask("GET", "/api/annotations")[2]
    assert server.ask("DELETE", f"/api/jobs/{key}")[0] == 204
    assert b"clip 1.mkv" in server.ask("GET", "/api/annotations")[2]


@pytest.mark.parametrize(
    "event",
    [
        {"label": "", "start": 0, "end": 1},
        {"label": "a\nb", "start": 0, "end": 1},
        {"label": "bell", "start": 2, "end": 2},
        {"label": "bell", "start": -1, "end": 2},
        {"label": "bell", "start": 0, "end": 1e9},
        {"label": "bell", "start": 0, "end": 1, "score": 2},
        {"label": "bell", "start": 0, "end": 1, "more": 1},
        {"label": "bell", "start": 0},
    ],
)
def test_what_is_no_event_is_not_kept(server, done, event):
    path = f"/api/jobs/{done['id']}/events"
    before = server.json("GET", path)
    refusal = server.json("PUT", path, {"revision": before["revision"], "events": [event]}, expect=422)
    assert "events.0" in refusal["detail"]
    assert server.json("GET", path) == before


def test_not_a_number_is_no_time(server, done):
    body = b'{"revision": 0, "events": [{"label": "bell", "start": 0, "end": NaN}]}'
    status, _, _ = server.ask("PUT", f"/api/jobs/{done['id']}/events", body, kind="application/json")
    assert status == 422


def test_the_api_describes_itself(server):
    described = server.json("GET", "/api/openapi.json")
    paths = described["paths"]
    assert {"/api/jobs", "/api/jobs/{key}/events", "/api/annotations", "/api/folder/{key}"} <= set(paths)
    assert all(way["description"] for methods in paths.values() for way in methods.values())


def test_the_page_needs_no_other_server(server):
    static = Path(child.__file__).parent / "static"
    for path in sorted(static.iterdir()):
        status, headers, content = server.ask("GET", "/" if path.name == "index.html" else f"/{path.name}")
        assert (status, content) == (200, path.read_bytes())
        assert "script-src 'self'" in headers["content-security-policy"]
        assert b"https://" not in content
        assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    "content",
    [b"no video at all", b"\x00" * 1000, "zip bomb", "cut off", b"ffconcat version 1.0\nfile 'events.csv'\n"],
    ids=["text", "zeros", "zip bomb", "cut off", "playlist"],
)
def test_what_is_no_video_fails_and_says_so(server, clip, tmp_path, content):
    if content == "zip bomb":
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("bomb", b"\0" * 300_000_000)
        content = (tmp_path / "bomb.zip").read_bytes()
    if content == "cut off":
        content = clip.read_bytes()[: clip.stat().st_size // 2]
    (tmp_path / "bad.mp4").write_bytes(content)
    job = server.wait(server.upload(tmp_path / "bad.mp4")["id"])
    assert job["state"] == "failed"
    assert job["error"].startswith("bad.mp4: ")
    assert str(server.data) not in job["error"]
    assert server.json("GET", f"/api/jobs/{job['id']}/events", expect=409)["detail"] == "bad.mp4: is failed, not done"
    assert server.ask("DELETE", f"/api/jobs/{job['id']}")[0] == 204
    assert not (server.data / "uploads" / job["id"]).exists()
    assert not (server.data / "results" / job["id"]).exists()


def test_a_client_names_no_path(server, clip, folder, done):
    job = server.upload(clip, "../../../../tmp/x/../evil\\..\\name.mp4")
    assert job["name"] == "name.mp4"
    assert sorted(p.name for p in (server.data / "uploads").iterdir()) == sorted({done["id"], job["id"]})
    server.wait(job["id"])
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
        status, _, content = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert status in (400, 404, 405), path
        assert secret[:64] not in content
        assert b"root:" not in content
        assert b"create_app" not in content
    for name in ("..%2Fsecret.mp4", "secret.mp4", "clip%200.mkv"):
        assert server.ask("POST", f"/api/folder/{name}")[0] in (404, 405)


def raw(server: Server, request: str) -> tuple[int, bytes, bytes]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(request.encode())
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def test_an_upload_beyond_the_limit_is_refused_whether_it_says_so_or_not(server):
    before = server.json("GET", "/api/jobs")
    announced = "POST /api/jobs?name=x.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
    status, _, body = raw(server, announced + "Content-Length: 1000001\r\nConnection: close\r\n\r\n")
    assert status == 413
    assert b"x.mp4: is larger than 0.001 GB" in body
    status, _, body = server.ask("POST", "/api/jobs?name=x.mp4", iter([b"\0" * 300_000] * 5))
    assert status == 413
    assert server.json("GET", "/api/jobs") == before
    assert len(list((server.data / "uploads").iterdir())) == len([j for j in before if j["source"] == "upload"])


def test_an_upload_that_breaks_off_leaves_nothing(server):
    before = sorted((server.data / "uploads").iterdir())
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(
            b"POST /api/jobs?name=x.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 5000\r\n\r\n" + b"\0" * 100
        )
        until = time.monotonic() + 30
        while len(list((server.data / "uploads").iterdir())) == len(before) and time.monotonic() < until:
            time.sleep(0.05)
        [job] = [j for j in server.json("GET", "/api/jobs") if j["state"] == "uploading"]
    while sorted((server.data / "uploads").iterdir()) != before and time.monotonic() < until:
        time.sleep(0.05)
    assert sorted((server.data / "uploads").iterdir()) == before
    assert server.ask("GET", f"/api/jobs/{job['id']}")[0] == 404


def test_empty_uploads_are_refused(server):
    assert server.json("POST", "/api/jobs?name=x.mp4", b"", expect=422)["detail"] == "x.mp4: is empty"


def test_only_so_many_uploads_are_kept(server, clip):
    jobs = []
    while len([j for j in server.json("GET", "/api/jobs") if j["source"] == "upload"]) < 8:
        jobs.append(server.upload(clip)["id"])
    status, _, body = server.ask("POST", "/api/jobs?name=x.mp4", clip.read_bytes())
    assert status == 429
    assert b"8 uploads already" in body
    for key in jobs:
        assert server.ask("DELETE", f"/api/jobs/{key}")[0] == 204


def test_a_long_body_that_is_no_upload_is_refused(server, done):
    status, _, _ = server.ask("PUT", f"/api/jobs/{done['id']}/events", b" " * 17_000_000, kind="application/json")
    assert status == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": ""}, 421),
    ],
)
def test_another_sites_page_cannot_use_a_visitors_server(server, done, headers, status):
    path = f"/api/jobs/{done['id']}"
    assert server.ask("DELETE", path, **headers)[0] == status
    assert server.ask("POST", f"{path}/cancel", **headers)[0] == status
    assert server.ask("GET", f"{path}/result", **headers)[0] == status
    assert server.ask("GET", f"{path}/result")[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_what_a_form_of_another_site_can_send_is_refused(server, clip, kind):
    assert server.ask("POST", "/api/jobs?name=x.mp4", clip.read_bytes(), kind=kind)[0] == 415


def test_the_page_itself_may(server, done):
    origin = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.ask("GET", f"/api/jobs/{done['id']}/result", **origin)[0] == 200
    assert server.json("POST", f"/api/jobs/{done['id']}/cancel", expect=409, **origin)["detail"].endswith(
        "is done already"
    )


def test_loopback_is_told_from_elsewhere():
    assert all(map(is_loopback, ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost", "LOCALHOST."]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""]))


def test_other_machines_need_a_token(run, model, tmp_path):
    code, _, err = run("serve", "--host", "0.0.0.0", "-m", model, "--data", tmp_path / "data")
    assert code == 2
    assert "--token" in err
    code, _, err = run("serve", "--token", "short", "-m", model, "--data", tmp_path / "data")
    assert code == 2
    assert "16" in err


@pytest.fixture(scope="module")
def guarded(model, tmp_path_factory):
    running = start(tmp_path_factory.mktemp("guarded"), "--host", "0.0.0.0", "--token", TOKEN, "-m", model)
    yield running
    running.stop()


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/jobs", "/api/info", "/api/openapi.json", "/api/jobs?token=x"])
def test_nothing_is_told_without_the_token(guarded, path):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Cookie": f"davel_token={TOKEN}"},
    ):
        status, _, body = guarded.ask("GET", path, **headers)
        assert status == 401
        assert b"needs its token" in body


def test_programs_send_the_token_and_browsers_get_a_cookie(guarded, clip):
    assert guarded.json("GET", "/api/jobs", Authorization=f"Bearer {TOKEN}") == []
    assert guarded.done(clip, Authorization=f"Bearer {TOKEN}")["state"] == "done"
    assert guarded.ask("GET", "/?token=wrong")[0] == 401
    status, headers, _ = guarded.ask("GET", f"/?token={TOKEN.replace(' ', '+')}")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert guarded.ask("GET", "/api/jobs", Cookie=cookie.partition(";")[0])[0] == 200
    assert guarded.ask("DELETE", "/api/jobs/x", Cookie=cookie.partition(";")[0], Origin="http://evil.example")[0] == 403


def test_a_restart_in_the_middle_loses_nothing(model, clip, tmp_path):
    long = make_media(tmp_path / "long.mp4", seconds=400, picture=lambda t: grey(90))
    first = start(tmp_path / "data", "-m", model)
    done = first.done(clip)
    first.json("PUT", f"/api/jobs/{done['id']}/events", {"revision": 0, "events": []})
    running = first.upload(long)["id"]
    waiting = first.upload(clip)["id"]
    first.wait(running, "running")
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    (tmp_path / "data" / "uploads" / "half").write_bytes(b"x")
    second = start(tmp_path / "data", "-m", model)
    try:
        assert second.json("GET", f"/api/jobs/{done['id']}/events")["corrected"]
        assert second.wait(running)["state"] == "done"
        assert second.wait(waiting)["state"] == "done"
    finally:
        second.stop()


def test_a_second_server_keeps_off(server, run, model):
    code, _, err = run("serve", "-m", model, "--data", server.data, "--port", 0)
    assert code == 4
    assert "another davel serve uses it" in err


def test_a_port_that_is_taken_is_named(server, run, model, tmp_path):
    code, _, err = run("serve", "-m", model, "--data", tmp_path / "d", "--port", server.port)
    assert code == 4
    assert f"127.0.0.1:{server.port}: cannot listen there" in err


def test_a_running_job_is_cancelled(model, tmp_path):
    long = make_media(tmp_path / "long.mp4", seconds=400, picture=lambda t: grey(90))
    running = start(tmp_path / "data", "-m", model)
    try:
        key = running.upload(long)["id"]
        running.wait(key, "running")
        assert running.json("POST", f"/api/jobs/{key}/cancel")["state"] == "cancelled"
        until = time.monotonic() + 30
        while (tmp_path / "data" / "results" / key).exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert not (tmp_path / "data" / "results" / key).exists()
        assert running.json("GET", f"/api/jobs/{key}")["state"] == "cancelled"
    finally:
        running.stop()


# Without a server: the parts.


def runner_with(tmp_path: Path, program: str, **limits: float) -> tuple[Jobs, Runner]:
    """A runner whose jobs run a Python program instead of reading a video."""
    for name in ("uploads", "results"):
        (tmp_path / name).mkdir()
    jobs = Jobs(Database(tmp_path / "jobs.sqlite"))
    runner = Runner(jobs, ServerSettings(data=tmp_path, device="cpu", limits=Limits(**limits)), look_seconds=0.05)
    runner.command = (sys.executable, "-c", program)
    return jobs, runner


def outcome(jobs: Jobs, runner: Runner) -> tuple[str, str | None]:
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    runner.start()
    until = time.monotonic() + 60
    while jobs.get(key).finished is None and time.monotonic() < until:
        time.sleep(0.05)
    runner.stop()
    return jobs.get(key).state, jobs.get(key).error


def test_a_decoder_that_hangs_is_ended(tmp_path):
    tell = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    jobs, runner = runner_with(tmp_path, f"import os; os.chdir({str(tmp_path)!r}); {tell}", stall_seconds=2)
    assert outcome(jobs, runner) == ("failed", "x.mp4: nothing moved for 2 s: convert it with another tool")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_decoder_that_goes_on_for_ever_is_ended(tmp_path):
    program = (
        "import json, time\nfor n in range(10**6): print(json.dumps(dict(seconds=n, duration=9)), flush=True); "
        "time.sleep(.05)"
    )
    jobs, runner = runner_with(tmp_path, program, job_hours=2 / 3600)
    state, error = outcome(jobs, runner)
    assert state == "failed"
    assert "took longer than" in error


def test_a_process_that_dies_is_told(tmp_path):
    jobs, runner = runner_with(tmp_path, "import os; os.kill(os.getpid(), 11)")
    state, error = outcome(jobs, runner)
    assert state == "failed"
    assert "takes more memory than a job may, or breaks its decoder" in error


def test_a_process_that_ends_without_a_word_has_failed(tmp_path):
    jobs, runner = runner_with(tmp_path, "raise SystemExit('out of luck')")
    assert outcome(jobs, runner) == ("failed", "x.mp4: the process that read it ended with 1: out of luck")


def task_of(
    path: Path, folder: Path, model: Path, memory_bytes: int = 4_000_000_000, kind: Kind = "events"
) -> child.Task:
    return child.Task(kind, str(path), path.name, str(folder), memory_bytes, str(model), "cpu")


def run_child(task: child.Task, *command: str) -> list[dict]:
    """What it told, and what the server tells of one that ended without a word."""
    with subprocess.Popen(
        [sys.executable, *(command or ("-m", "davel.web.child"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(child.to_json(task) + "\n")
            process.stdin.flush()
        told = [json.loads(line) for line in process.stdout]
        said = process.stderr.read().splitlines()[-3:]
    ended = told and ("error" in told[-1] or told[-1].get("done"))
    return told if ended else [*told, {"error": last_words(task.name, process.returncode, said)}]


@pytest.fixture(scope="module")
def huge(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("huge")
    return make_media(
        folder / "huge.mp4", times=[0.0, 0.04, 0.08], picture=lambda t: np.zeros((8000, 8000, 3), np.uint8), seconds=1
    )


@pytest.mark.parametrize("megabytes", [350, 500, 650, 800])
def test_a_job_takes_no_more_memory_than_it_may(huge, model, tmp_path, megabytes):
    """FFmpeg fails in many ways where memory is short, and with some amounts drops pictures without a word."""
    task = task_of(huge, tmp_path, model, megabytes * 1_000_000)
    assert "more memory than a job may" in run_child(task)[-1]["error"]
    assert not (tmp_path / "result.json").exists()


def test_what_was_mapped_and_let_go_is_not_taken_for_memory(tmp_path):
    """As the weights of a large model are."""
    program = (
        "import mmap, resource; from davel.web.child import Memory; "
        "resource.setrlimit(resource.RLIMIT_DATA, (2 * 10**9, 2 * 10**9)); "
        "file = open('big', 'w+b'); file.truncate(10**9); memory = Memory(); "
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); mapped.close(); memory.loaded(); "
        "few = bytearray(10**8); assert not memory.is_short; del few; "
        "much = bytearray(1_700_000_000); assert memory.is_short"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_a_job_that_takes_less_memory_is_done(clip, model, tmp_path):
    task = task_of(clip, tmp_path, model)
    assert run_child(task)[-1]["done"]


def test_a_job_ends_with_its_server(model, tmp_path):
    long = make_media(tmp_path / "long.mp4", seconds=400, picture=lambda t: grey(90))
    task = task_of(long, tmp_path, model)
    with subprocess.Popen(
        [sys.executable, "-m", "davel.web.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(child.to_json(task) + "\n")
        process.stdin.close()
        assert process.wait(60) == 1
    assert not (tmp_path / "result.json").exists()


def test_old_uploads_are_deleted(tmp_path):
    program = "import json; print(json.dumps(dict(seconds=1, duration=1, done=True)))"
    jobs, runner = runner_with(tmp_path, program, keep_days=1 / 86400)
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    (tmp_path / "uploads" / key).write_bytes(b"x")
    runner.start()
    until = time.monotonic() + 30
    while jobs.all() and time.monotonic() < until:
        time.sleep(0.1)
    runner.stop()
    assert not jobs.all()
    assert not list((tmp_path / "uploads").iterdir())


# Copies to watch.


@pytest.fixture(scope="module")
def copier(model, tmp_path_factory):
    """A server with a video that browsers do not play, found and done."""
    top = tmp_path_factory.mktemp("copier")
    (top / "videos").mkdir()
    make_media(
        top / "videos" / "old.avi", seconds=4, picture=lambda t: grey(int(40 + 20 * t), (144, 176)),
        video_codec="mpeg4", audio_codec="mp2", sample_rate=32000,
    )  # fmt: skip
    running = start(top / "data", top / "videos", "-m", model)
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
    until = time.monotonic() + 60
    while time.monotonic() < until:
        copy = server.json("GET", f"/api/jobs/{key}/copy")
        if copy["state"] in ("done", "failed"):
            return copy
        time.sleep(0.1)
    raise AssertionError(f"still {copy}")


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


def test_there_is_a_copy_only_of_what_is_done(copier, tmp_path):
    for method, path in (("GET", "copy"), ("POST", "copy"), ("DELETE", "copy"), ("GET", "copy/media")):
        assert copier.json(method, f"/api/jobs/none/{path}", expect=404)["detail"].startswith("there is no such job")
    (tmp_path / "bad.avi").write_bytes(b"no video at all")
    key = copier.wait(copier.upload(tmp_path / "bad.avi")["id"])["id"]
    assert copier.json("POST", f"/api/jobs/{key}/copy", expect=409)["detail"] == "bad.avi: is failed, not done"
    assert copier.json("GET", f"/api/jobs/{key}/copy") is None


def test_another_sites_page_cannot_ask_for_a_copy(copier, old):
    path = f"/api/jobs/{old}/copy"
    assert copier.ask("POST", path, Origin="http://evil.example")[0] == 403
    assert copier.json("GET", path) is None


def test_a_copy_goes_with_its_job(copier, clip):
    key = copier.done(clip)["id"]
    copier.json("POST", f"/api/jobs/{key}/copy", expect=201)
    assert copied(copier, key)["state"] == "done"
    assert copier.ask("DELETE", f"/api/jobs/{key}")[0] == 204
    assert not (copier.data / "results" / key).exists()
    copier.json("GET", f"/api/jobs/{key}/copy", expect=404)


def test_a_copy_is_cancelled_in_the_middle_and_begun_again_after_a_restart(model, tmp_path):
    long = make_media(tmp_path / "long.mp4", seconds=200, picture=lambda t: grey(90))
    first = start(tmp_path / "data", "-m", model)
    key = first.done(long)["id"]
    path, folder = f"/api/jobs/{key}/copy", tmp_path / "data" / "results" / key

    def begin() -> None:
        first.json("POST", path, expect=201)
        until = time.monotonic() + 60
        while not 0 < first.json("GET", path)["seconds"] < 200 and time.monotonic() < until:
            time.sleep(0.05)
        assert first.json("GET", path)["state"] == "running"
        assert [p.suffix for p in folder.iterdir() if "copy" in p.name] == [".tmp"]

    begin()
    assert first.ask("DELETE", path)[0] == 204
    assert first.json("GET", path) is None
    until = time.monotonic() + 30
    while len(list(folder.iterdir())) > 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert sorted(p.name for p in folder.iterdir()) == ["peaks.bin", "result.json"]
    begin()
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = start(tmp_path / "data", "-m", model)
    try:
        assert copied(second, key)["state"] == "done"
        assert sorted(p.name for p in folder.iterdir()) == ["copy.mp4", "peaks.bin", "result.json"]
        assert probe(folder / "copy.mp4").duration_seconds == pytest.approx(200, abs=0.05)
    finally:
        second.stop()


def test_a_copy_is_refused_where_the_disk_is_full(model, tmp_path, monkeypatch):
    rooms = Rooms(ServerSettings(data=tmp_path, model=str(model)))
    jobs = rooms.jobs
    key = jobs.add("x.avi", "upload", "", 1, "queued", 9).id
    (tmp_path / "uploads" / key).write_bytes(b"x")
    jobs.claim()
    jobs.end("events", key)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=SPARE_BYTES - 1))
    with pytest.raises(NoSpace, match=r"x\.avi: cannot be copied: the server's disk is full"):
        rooms.make_copy(key)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=SPARE_BYTES))
    assert rooms.make_copy(key).state == "queued"


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("child.MAX_OUTPUT_BYTES = 20_000", "the copy takes more than 2e-05 GB: cut the video into parts"),
        ("child.SPARE_BYTES = 2**62", "the server's disk is full: delete some videos"),
    ],
)
def test_a_copy_stays_within_its_limits(clip, model, tmp_path, limit, reason):
    task = task_of(clip, tmp_path, model, kind="copy")
    told = run_child(task, "-c", f"from davel.web import child\n{limit}\nchild.main()")
    assert told[-1]["error"] == f"a clip.mp4: cannot be copied: {reason}"
    assert list(tmp_path.iterdir()) == []
    assert run_child(task)[-1]["done"]
    assert [p.name for p in tmp_path.iterdir()] == ["copy.mp4"]


def test_a_pyav_without_the_coder_is_told(clip, tmp_path, monkeypatch):
    def absent(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr("av.Codec", absent)
    with pytest.raises(MissingError, match=r"a clip.mp4: cannot be copied: this PyAV has no libx264"):
        write_copy(clip, tmp_path / "copy.mp4", 2**30, lambda seconds: None)


FLASH, BEEP = 1.2, 2.6
"""Seconds at which the pictures turn white, and the sound sets in."""


@pytest.mark.parametrize(
    "starts", [{}, {"audio_start": 2.0}, {"video_start": 1.0}, {"audio_start": 1.0, "video_start": 0.5}]
)
def test_a_copy_is_in_step_with_the_video(tmp_path, starts):
    seconds, rate = 4.0, 16000
    delay = min(starts.get("audio_start", 0.0), starts.get("video_start", 0.0))
    flash, beep = (at + starts.get(name, 0.0) - delay for at, name in ((FLASH, "video_start"), (BEEP, "audio_start")))
    samples = np.where(np.arange(round(seconds * rate)) < BEEP * rate, 0, tone(seconds, rate))
    video = make_media(
        tmp_path / "x.mkv", seconds=seconds, picture=lambda t: grey(235 if t >= FLASH - 1e-6 else 20), samples=samples,
        sample_rate=rate, audio_codec="pcm_s16le", **starts,
    )  # fmt: skip
    told: list[float] = []
    end = write_copy(video, tmp_path / "copy.mp4", 2**30, told.append)
    assert end == pytest.approx(seconds + max(starts.values(), default=0.0) - delay, abs=0.05)
    assert told == sorted(told)
    assert probe(tmp_path / "copy.mp4").duration_seconds == pytest.approx(end, abs=0.03)
    with av.open(tmp_path / "copy.mp4") as copy:
        frames = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in copy.decode(video=0)]
    with av.open(tmp_path / "copy.mp4") as copy:
        sound = [(frame.time, frame.sample_rate, frame.to_ndarray()[0]) for frame in copy.decode(audio=0)]
    assert frames[0][0] == 0
    assert next(time for time, level in frames if level > 128) == pytest.approx(flash, abs=0.02)
    onset = next(t + np.argmax(np.abs(x) > 0.1) / rate for t, rate, x in sound if np.abs(x).max() > 0.1)
    assert onset == pytest.approx(beep, abs=0.02)


@pytest.mark.parametrize(("pictures", "sound"), [(75, 5.0), (125, 3.0)])
def test_a_track_that_ends_early_does_not_end_the_copy(tmp_path, pictures, sound):
    video = make_media(tmp_path / "x.mkv", times=[n / 25 for n in range(pictures)], seconds=sound)
    assert write_copy(video, tmp_path / "copy.mp4", 2**30, lambda s: None) == pytest.approx(5, abs=0.1)
    assert probe(tmp_path / "copy.mp4").duration_seconds == pytest.approx(5, abs=0.1)


def test_a_copy_has_the_videos_colours_and_stands_upright(tmp_path):
    picture = np.zeros((128, 64, 3), np.uint8)
    picture[:64], picture[64:] = (200, 40, 90), (30, 90, 220)
    video = make_media(tmp_path / "x.mp4", seconds=2, picture=lambda t: picture, rotation=90)
    write_copy(video, tmp_path / "copy.mp4", 2**30, lambda s: None)
    shown = []
    for path in (video, tmp_path / "copy.mp4"):
        with open_media(path) as source:
            shown.append(next(item.rgb for item in source.read(fps=1, sample_rate=None)).astype(int))
    assert shown[0].shape == shown[1].shape == (64, 128, 3)
    assert np.abs(shown[0] - shown[1])[8:-8, 8:48].max() <= 8
    assert np.abs(shown[0] - shown[1])[8:-8, 80:-8].max() <= 8


@pytest.mark.parametrize(
    ("video", "aspect", "size"),
    [
        ((1080, 1920), 1, (360, 640)),
        ((1920, 1080), 1, (360, 202)),
        ((576, 720), Fraction(64, 45), (360, 640)),
        ((49, 65), 1, (48, 64)),
        ((1, 1), 1, (2, 2)),
        ((100, 10_000), 1, (12, 1280)),
    ],
)
def test_a_copy_is_small_and_of_even_size(video, aspect, size):
    track = SimpleNamespace(height=video[0], width=video[1])
    assert size_of(SimpleNamespace(info=SimpleNamespace(video=track), pixel_aspect=Fraction(aspect))) == size


def test_a_copy_of_an_anamorphic_video_is_as_wide_as_that_is_shown(tmp_path):
    """As DVDs are: 720 columns that fill a wide screen."""
    with av.open(tmp_path / "dvd.mpg", "w") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.height, video.width, video.pix_fmt = 576, 720, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(64, 45)
        for n in range(10):
            frame = av.VideoFrame.from_ndarray(grey(90, (576, 720)), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with open_media(tmp_path / "dvd.mpg") as source:
        assert source.pixel_aspect == Fraction(64, 45)
        assert size_of(source) == (360, 640)
    square = make_media(tmp_path / "square.mp4", seconds=1, picture=None)
    with open_media(square) as source:
        assert source.pixel_aspect == 1


def test_a_copy_takes_no_more_memory_than_it_may(huge, model, tmp_path):
    task = task_of(huge, tmp_path, model, 350_000_000, "copy")
    assert "more memory than a job may" in run_child(task)[-1]["error"]
    assert list(tmp_path.iterdir()) == []


def test_hours_fit_into_a_copy():
    assert picture_bits(None, 2**30) == picture_bits(60, 2**30) == PICTURE_BITS
    assert picture_bits(1e9, 2**30) == LEAST_PICTURE_BITS
    for hours in (1, 3, 10, 24):
        assert (picture_bits(3600 * hours, 2**30) + SOUND_BITS) * 3600 * hours / 8 < 0.95 * 2**30


BY_KIND = """
import json, sys, time
from pathlib import Path
task = json.loads(sys.stdin.readline())
(Path(task["output"]) / f".{task['kind']}.1.tmp").write_bytes(b"x")
print(json.dumps(dict(seconds=1, duration=2)), flush=True)
time.sleep(600 * (task["kind"] == "KIND"))
print(json.dumps(dict(seconds=2, duration=2, done=True)), flush=True)
"""


def eventually(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_copy_does_not_wait_for_jobs(tmp_path):
    jobs, runner = runner_with(tmp_path, BY_KIND.replace("KIND", "copy"))
    first = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    runner.start()
    eventually(lambda: jobs.get(first).state == "done")
    runner.command = (sys.executable, "-c", BY_KIND.replace("KIND", "events"))
    second = jobs.add("y.mp4", "upload", "", 1, "queued", 9).id
    eventually(lambda: jobs.get(second).state == "running")
    jobs.ask_copy(first)
    eventually(lambda: jobs.copy(first).state == "done")
    assert jobs.get(second).state == "running"
    runner.stop()


def test_a_copy_ended_in_the_middle_leaves_nothing_whatever_ends_it(tmp_path):
    jobs, runner = runner_with(tmp_path, BY_KIND.replace("KIND", "copy"))
    key = jobs.add("x.mp4", "upload", "", 1, "queued", 9).id
    runner.start()
    eventually(lambda: jobs.get(key).state == "done")
    folder = runner.folder(key)
    assert list(folder.iterdir()) == []

    def begin() -> None:
        jobs.ask_copy(key)
        eventually(lambda: jobs.copy(key).seconds == 1)
        assert [p.name for p in folder.iterdir()] == [".copy.1.tmp"]

    begin()
    runner.delete_copy(key)
    begin()  # at once again: nothing of the first one ends the second
    assert jobs.copy(key).state == "running"
    runner.stop()
    assert list(folder.iterdir()) == []
    assert jobs.copy(key).state == "running"
    (folder / ".copy.2.tmp").write_bytes(b"of a server that was killed")
    again = Runner(jobs, ServerSettings(data=tmp_path, device="cpu"), look_seconds=0.05)
    again.command = (sys.executable, "-c", BY_KIND.replace("KIND", "nothing"))
    again.start()
    eventually(lambda: jobs.copy(key).state == "done")
    assert list(folder.iterdir()) == []
    again.command = runner.command
    again.delete_copy(key)
    begin()
    again.delete(key)
    eventually(lambda: not folder.exists())
    again.stop()
    assert not folder.exists()
    assert jobs.copy(key) is None


def test_a_copy_is_begun_again_but_not_for_ever(tmp_path):
    jobs = Jobs(Database(tmp_path / "jobs.sqlite"))
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


def test_what_ran_when_the_server_stopped_is_begun_again_but_not_for_ever(tmp_path):
    jobs = Jobs(Database(tmp_path / "jobs.sqlite"))
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


def test_a_job_is_claimed_once_and_oldest_first(tmp_path):
    jobs = Jobs(Database(tmp_path / "jobs.sqlite"))
    keys = [jobs.add(f"{n}.mp4", "upload", "", 1, "queued", 9).id for n in range(3)]
    assert [jobs.claim().id for _ in range(3)] == keys
    assert jobs.claim() is None
    with pytest.raises(Full):
        jobs.add("x", "upload", "", 1, "queued", 3)


def test_an_older_state_is_not_saved_over_a_newer(tmp_path):
    jobs = Jobs(Database(tmp_path / "jobs.sqlite"))
    corrections = Corrections(jobs.database, tmp_path / "events.csv")
    job = jobs.add("x.mp4", "upload", "", 1, "queued", 9)
    assert corrections.of(job.content) is None
    assert corrections.put(job, [Event("bell", 1.0, 2.0)], 0).revision == 1
    with pytest.raises(Conflict):
        corrections.put(job, [], 0)
    assert corrections.of(job.content).events == [Event("bell", 1.0, 2.0)]


times = st.integers(0, 10**6).map(lambda n: n / 1000)
rows = st.lists(st.tuples(times, times, st.sampled_from(LABELS)).filter(lambda e: e[0] < e[1]), max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["a.mp4", "b, c.mkv", 'd "e".mov']), rows), min_size=1, max_size=6))
def test_the_table_says_of_each_file_what_was_put_last(tmp_path_factory, puts):
    from davel.data.table import _rows

    path = tmp_path_factory.mktemp("table") / "events.csv"
    expected: dict[str, list] = {}
    for file, events in puts:
        put_events(path, file, [Event(label, start, end, 0.3) for start, end, label in events])
        expected[file] = sorted((start, end, label) for start, end, label in events)
    found: dict[str, list] = {file: [] for file in expected}
    for _, file, event in _rows(path)[0]:
        found[file] += [(event.start, event.end, event.label)] if event else []
    assert {file: sorted(events) for file, events in found.items()} == expected


def test_the_table_is_training_data(tmp_path):
    for n in range(3):
        make_media(tmp_path / f"{n}.mkv", seconds=2)
        put_events(tmp_path / "events.csv", f"{n}.mkv", [Event("bell", 0.5, 1.5)] if n else [])
    annotations = read_table(tmp_path / "events.csv", tmp_path)
    assert [len(v.events) for v in annotations.videos.values()] == [0, 1, 1]


def test_another_table_is_not_written_over(tmp_path):
    (tmp_path / "events.csv").write_text("something,else\n1,2\n")
    with pytest.raises(ConfigError, match="expected the columns"):
        put_events(tmp_path / "events.csv", "x.mp4", [])
    assert (tmp_path / "events.csv").read_text() == "something,else\n1,2\n"


@given(st.integers(1, 500), st.floats(0, 6), st.floats(0.01, 6), st.integers(1, 300))
def test_no_peak_of_what_is_shown_is_lost(N, start, length, bins):
    whole = np.stack([-np.arange(N) % 100, np.arange(N) % 101], axis=1).astype(np.int8)
    found = peaks.between(whole, start, start + length, bins)
    first, last = int(start * 100), int(np.ceil((start + length) * 100))
    inside = whole[first:last]
    assert found.shape == (bins, 2)
    assert found[:, 1].max(initial=0) == inside[:, 1].max(initial=0)
    assert found[:, 0].min(initial=0) == inside[:, 0].min(initial=0)
