"""A server that is asked in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asgi import Client

from davel.core.events import Event
from davel.web.server import Server
from davel.web.settings import Limits, ServerSettings

CLIP = b"what the stand-in takes for a video"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of videos on the server, beside one that is none of its."""
    (tmp_path / "videos").mkdir()
    for name in ("clip 0.mkv", "clip 1.mkv", "other.mkv"):
        (tmp_path / "videos" / name).write_bytes(name.encode())
    (tmp_path / "secret.mp4").write_bytes(b"nobody's business")
    return tmp_path


@pytest.fixture
def server(tiny, folder) -> Iterator[Client]:
    truth = {"clip 0": [Event("bell", 0.5, 2.0)]}
    limits = Limits(max_upload_bytes=1_000_000, max_uploads=8)
    videos, data = folder / "videos", folder / "data"
    settings = ServerSettings(data=data, model=str(tiny), device="cpu", videos=videos, truth=truth, limits=limits)
    client = Client(Server(settings))
    yield client
    client.close()


@pytest.fixture
def clip() -> bytes:
    return CLIP


@pytest.fixture
def done(server, clip) -> dict:
    """A job whose events are found."""
    return server.done(clip, "a clip.mp4")
