"""The API of events, asked in this process."""

from __future__ import annotations

from hashlib import sha256

import pytest
from asgi import FOUND, RESULT

from davel import formats


def test_what_was_found_is_given_whole(server, done):
    assert server.json("GET", f"/api/jobs/{done['id']}/result") == RESULT
    events = server.json("GET", f"/api/jobs/{done['id']}/events")
    assert events == {"revision": 0, "corrected": False, "events": FOUND}


def test_a_result_that_is_gone_or_broken_is_told(server, done):
    path, file = f"/api/jobs/{done['id']}", server.data / "results" / done["id"] / "result.json"
    file.write_text("{")
    assert "result.json: not JSON" in server.json("GET", f"{path}/events", expect=500)["detail"]
    file.unlink()
    for name in ("result", "events"):
        answer = server.json("GET", f"{path}/{name}", expect=404)
        assert answer["detail"] == "a clip.mp4: its result is not there any more"


@pytest.mark.parametrize("name", ["csv", "vtt", "eaf", "labelstudio", "edl"])
def test_the_events_are_downloaded_in_any_format(server, done, name, tmp_path):
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
    identity = sha256(clip).hexdigest()[:16].encode()
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


def test_two_videos_of_one_name_are_two(server, clip):
    """And one video under two names is one."""
    events = [{"label": "bell", "start": 1.0, "end": 2.0, "score": 1.0}]
    one, other = server.done(clip, "clip.mp4"), server.done(clip + b"!", "clip.mp4")
    server.json("PUT", f"/api/jobs/{one['id']}/events", {"revision": 0, "events": events})
    server.json("PUT", f"/api/jobs/{other['id']}/events", {"revision": 0, "events": []})
    table = server.ask("GET", "/api/annotations")[2].decode().splitlines()
    ids = [sha256(content).hexdigest()[:16] for content in (clip, clip + b"!")]
    assert table == ["file,start,end,label,id", f"clip.mp4,1.000,2.000,bell,{ids[0]}", f"clip.mp4,,,,{ids[1]}"]
    again = server.done(clip, "another name.mp4")
    assert again["revision"] == 1
    assert server.json("GET", f"/api/jobs/{again['id']}/events")["events"] == events


def test_a_correction_outlives_its_job(server, done, clip):
    events = [{"label": "bell", "start": 1.0, "end": 2.0, "score": 1.0}]
    server.json("PUT", f"/api/jobs/{done['id']}/events", {"revision": 0, "events": events})
    server.ask("DELETE", f"/api/jobs/{done['id']}")
    again = server.done(clip, "again.mp4")
    expected = {"revision": 1, "corrected": True, "events": events}
    assert server.json("GET", f"/api/jobs/{again['id']}/events") == expected


def test_nothing_saved_is_no_table(server, done):
    assert server.json("GET", "/api/annotations", expect=404)["detail"] == "nothing has been saved yet"


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
