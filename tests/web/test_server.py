"""The server without HTTP."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from asgi import FOUND, SECONDS

from davel.core.errors import MissingError
from davel.core.events import Event
from davel.web.errors import Conflict, Full, Invalid, NoSpace, NotFound, Refusal, TooLarge
from davel.web.server import Server
from davel.web.settings import SPARE_BYTES, ServerSettings
from davel.web.uploads import Upload, title_of


@pytest.fixture
def rooms(server) -> Server:
    return server.server


def received(rooms: Server, name: str = "x.mp4", content: bytes = b"a video") -> str:
    upload = rooms.receive(name, len(content))
    upload.write(content)
    return upload.finish().id


def test_a_video_is_received_found_corrected_and_exported(server, rooms):
    key = received(rooms)
    with pytest.raises(Conflict, match=r"x\.mp4: is queued, not done"):
        rooms.events(key)
    assert server.finish() == key
    assert [event.label for event in rooms.events(key)] == [event["label"] for event in FOUND]
    bell = Event("bell", 1.0, 2.0)
    assert rooms.correct(key, [bell], 0).revision == 1
    assert rooms.events(key) == [bell]
    exported = rooms.export(key, "srt", rooms.events(key))
    assert exported.name == "x.srt"
    assert b"00:00:01,000 --> 00:00:02,000\nbell" in exported.content


def test_what_cannot_be_is_refused(server, rooms):
    with pytest.raises(NotFound, match="no such job"):
        rooms.events("none")
    with pytest.raises(NotFound, match="no such video in the folder"):
        rooms.choose("none")
    with pytest.raises(TooLarge, match=r"x\.mp4: is larger than 0\.001 GB"):
        rooms.receive("x.mp4", 1_000_001)
    key = received(rooms)
    server.finish()
    with pytest.raises(Invalid, match=r"events\.0: ends at 5\.6 s, behind the video's end"):
        rooms.correct(key, [Event("bell", 1.0, SECONDS + 0.6)], 0)
    with pytest.raises(Conflict, match=r"was saved by somebody else"):
        rooms.correct(key, [], 1)
    with pytest.raises(Invalid, match="format: choose from"):
        rooms.export(key, "pdf", [])
    for _ in range(7):
        received(rooms)
    with pytest.raises(Full, match="8 uploads already"):
        received(rooms)


def send(upload: Upload, content: bytes) -> None:
    try:
        for byte in range(0, len(content), 1000):
            upload.write(content[byte : byte + 1000])
        upload.finish()
    finally:
        if not upload.is_whole:
            upload.discard()


def test_an_upload_is_whole_or_nothing(rooms):
    for content, declared, error in ((b"", 0, Invalid), (b"half", 9, Refusal), (b"x" * 1_000_001, 0, TooLarge)):
        with pytest.raises(error):
            send(rooms.receive("x.mp4", declared), content)
    assert rooms.jobs.all() == []
    assert list((rooms.settings.data / "uploads").iterdir()) == []


def test_what_is_on_its_way_is_not_deleted(rooms):
    upload = rooms.receive("x.mp4", 0)
    with pytest.raises(Conflict, match=r"x\.mp4: is still on its way"):
        rooms.delete(upload.job.id)
    upload.discard()
    with pytest.raises(NotFound):
        rooms.delete(upload.job.id)


@pytest.mark.parametrize(
    ("name", "title"),
    [("a/b\\c.mp4", "c.mp4"), (".", "video"), ("..", ".."), ("a/", "video"), (" x ", "x"), ("\n", "\\n")],
)
def test_a_title_is_no_path(name, title):
    assert title_of(name) == title


def test_a_copy_is_refused_where_the_disk_is_full(server, rooms, monkeypatch):
    key = received(rooms, "x.avi")
    server.finish()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=SPARE_BYTES - 1))
    with pytest.raises(NoSpace, match=r"x\.avi: cannot be copied: the server's disk is full"):
        rooms.make_copy(key)
    with pytest.raises(NoSpace, match=r"y\.mp4: the server's disk is full"):
        rooms.receive("y.mp4", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=SPARE_BYTES))
    assert rooms.make_copy(key).state == "queued"


def test_a_model_that_is_none_makes_no_server(tmp_path):
    with pytest.raises(MissingError):
        Server(ServerSettings(data=tmp_path / "data", model=str(tmp_path / "none")))
    assert not (tmp_path / "data").exists()
