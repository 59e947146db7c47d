"""What the server says of itself."""

from __future__ import annotations

from tiny import LABELS

from davel import __version__, formats


def test_the_server_says_what_it_is(server):
    info = server.json("GET", "/api/info")
    assert info["version"] == __version__
    assert (info["model"]["name"], info["model"]["labels"]) == ("tiny", list(LABELS))
    assert [form["name"] for form in info["formats"]] == list(formats.FORMATS)
    assert (info["folder"], info["max_upload_bytes"], info["keep_days"]) == (True, 1_000_000, 7.0)
