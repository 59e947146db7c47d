"""The application as a whole, asked in this process: the page's files, what describes the API, errors."""

from __future__ import annotations

import sqlite3

import pytest

from davel.core.errors import DavelError
from davel.web.app import STATIC
from davel.web.server import Server


def test_the_page_needs_no_other_server(server):
    for path in sorted(STATIC.iterdir()):
        status, headers, content = server.ask("GET", "/" if path.name == "index.html" else f"/{path.name}")
        assert (status, content) == (200, path.read_bytes())
        assert "script-src 'self'" in headers["content-security-policy"]
        assert b"https://" not in content
        assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (DavelError("x.mp4: went wrong"), 500, "x.mp4: went wrong"),
        (OSError(28, "No space left on device"), 507, "the server's disk is full"),
        (PermissionError(13, "Permission denied"), 500, "cannot read or write its files: Permission denied"),
        (sqlite3.OperationalError("database or disk is full"), 507, "the server's disk is full"),
        (sqlite3.OperationalError("database is locked"), 503, "another program holds the server's database"),
        (sqlite3.DatabaseError("malformed"), 500, "database does not answer: malformed"),
        (KeyError("x"), 500, "the server failed (KeyError)"),
    ],
)
def test_every_error_is_one_line_of_json(server, done, monkeypatch, error, status, text):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(Server, "correction", fails)
    code, headers, _ = server.ask("GET", f"/api/jobs/{done['id']}/events")
    assert (code, headers["content-type"]) == (status, "application/json")
    assert "script-src 'self'" in headers["content-security-policy"]
    detail = server.json("GET", f"/api/jobs/{done['id']}/events", expect=status)["detail"]
    assert text in detail
    assert "\n" not in detail
