"""Who may ask, and what is refused."""

from __future__ import annotations

import pytest
from asgi import Client

from davel.web.server import Server
from davel.web.settings import ServerSettings, is_loopback

TOKEN = "correct horse battery"


@pytest.fixture
def guarded(tiny, tmp_path):
    client = Client(Server(ServerSettings(data=tmp_path / "guarded", model=str(tiny), token=TOKEN)))
    yield client
    client.close()


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
        ({"Host": "[::1"}, 400),
        ({"Origin": "http://["}, 400),
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
    assert server.ask("POST", "/api/jobs?name=x.mp4", clip, kind=kind)[0] == 415


def test_the_page_itself_may(server, done):
    origin = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.ask("GET", f"/api/jobs/{done['id']}/result", **origin)[0] == 200
    assert server.json("POST", f"/api/jobs/{done['id']}/cancel", expect=409, **origin)["detail"].endswith(
        "is done already"
    )


def test_loopback_is_told_from_elsewhere():
    assert all(map(is_loopback, ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost", "LOCALHOST."]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""]))


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
    assert guarded.done(clip, "x.mp4", Authorization=f"Bearer {TOKEN}")["state"] == "done"
    assert guarded.ask("GET", "/?token=wrong")[0] == 401
    status, headers, _ = guarded.ask("GET", f"/?token={TOKEN.replace(' ', '+')}")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert guarded.ask("GET", "/api/jobs", Cookie=cookie.partition(";")[0])[0] == 200
    assert guarded.ask("DELETE", "/api/jobs/x", Cookie=cookie.partition(";")[0], Origin="http://evil.example")[0] == 403
