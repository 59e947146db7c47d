"""What holds for every endpoint: whoever adds one inherits these tests."""

from __future__ import annotations

import json
import re

import pytest
from asgi import Client
from fastapi.routing import APIRoute

from davel.core.errors import DavelError
from davel.web.app import ROUTERS
from davel.web.routes.common import server_of
from davel.web.server import Server
from davel.web.settings import ServerSettings

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
ENDPOINTS = sorted((method, route.path) for route in ROUTES for method in route.methods)
"""Method and path of each, as the routers have them."""
TOKEN = "correct horse battery"
EVENT = {"label": "bell", "start": 0.0, "end": 1.0}
BODIES = {
    ("POST", "/api/jobs"): b"a video",
    ("PUT", "/api/jobs/{key}/events"): {"revision": 0, "events": [EVENT]},
    ("POST", "/api/jobs/{key}/export"): {"format": "csv", "events": [EVENT]},
}
QUERIES = {("POST", "/api/jobs"): "?name=x.mp4", ("GET", "/api/jobs/{key}/peaks"): "?start=0&end=1"}
every = pytest.mark.parametrize(("method", "path"), ENDPOINTS)


@pytest.fixture(scope="module")
def open_server(tiny, tmp_path_factory):
    client = Client(Server(ServerSettings(data=tmp_path_factory.mktemp("open"), model=str(tiny))))
    yield client
    client.close()


@pytest.fixture(scope="module")
def guarded(tiny, tmp_path_factory):
    client = Client(Server(ServerSettings(data=tmp_path_factory.mktemp("guarded"), model=str(tiny), token=TOKEN)))
    yield client
    client.close()


@pytest.fixture(scope="module")
def described(open_server) -> dict:
    return open_server.json("GET", "/api/openapi.json")


def ask(server: Client, method: str, path: str, **headers: str) -> tuple[int, dict, bytes]:
    """As it is meant to be asked, of a job that there is not."""
    target = path.replace("{key}", "0" * 32) + QUERIES.get((method, path), "")
    return server.ask(method, target, BODIES.get((method, path)), **headers)


def test_the_description_names_every_endpoint(described):
    assert sorted((m.upper(), path) for path, ways in described["paths"].items() for m in ways) == ENDPOINTS


@every
def test_it_is_described_with_what_can_go_wrong(described, method, path):
    way = described["paths"][path][method.lower()]
    assert way["description"]
    errors = {code: answer for code, answer in way["responses"].items() if code >= "400"}
    assert {"401", "403", "421", "500"} <= errors.keys()
    assert ("404" in errors) == ("{key}" in path or path == "/api/annotations")
    for code, answer in errors.items():
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Error"}, code


@every
def test_it_needs_the_token_where_there_is_one(guarded, method, path):
    status, headers, content = ask(guarded, method, path)
    assert (status, headers["content-type"]) == (401, "application/json")
    assert "needs its token" in json.loads(content)["detail"]
    assert ask(guarded, method, path, Authorization=f"Bearer {TOKEN}")[0] != 401


@every
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_another_site_may_not_ask_it(open_server, method, path, headers, expected):
    status, _, content = ask(open_server, method, path, **headers)
    assert status == expected
    assert json.loads(content)["detail"]


@every
def test_of_an_unknown_id_it_knows_nothing(open_server, described, method, path):
    status, headers, content = ask(open_server, method, path)
    if "{key}" in path:
        assert (status, headers["content-type"]) == (404, "application/json")
        assert re.search("there is no such (job|video)", json.loads(content)["detail"])
    else:
        assert str(status) in described["paths"][path][method.lower()]["responses"]


@every
def test_an_error_is_one_line_of_json(open_server, monkeypatch, method, path):
    """Whatever of the server's rooms an endpoint enters, and whatever it finds broken there."""

    class Broken:
        def __getattr__(self, name: str) -> None:
            raise DavelError("x.mp4: went wrong")

    monkeypatch.setitem(open_server.app.dependency_overrides, server_of, Broken)
    status, headers, content = ask(open_server, method, path)
    assert (status, headers["content-type"]) == (500, "application/json")
    assert json.loads(content) == {"detail": "x.mp4: went wrong"}


@pytest.mark.parametrize(
    ("method", "path"), [way for way in ENDPOINTS if way in BODIES and way != ("POST", "/api/jobs")]
)
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"more": 1}', b"\xff"])
def test_a_body_that_does_not_fit_is_refused(open_server, method, path, body):
    target = path.replace("{key}", "0" * 32)
    status, _, content = open_server.ask(method, target, body, kind="application/json")
    assert status in (400, 422)
    assert "body" in json.loads(content)["detail"]
