"""Published weights: fetched whole or not at all, found, told what is missing of them."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from golden_values import published_state

from davel.core.errors import ConfigError, DavelError, MissingError
from davel.core.files import home, locked
from davel.features import i3d_vggish, one_peace
from davel.features import weights as pretrained
from davel.features.i3d import I3D

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Sends CONTENT, or what is asked for of it; `breaks` bytes before the end it hangs up, if told to."""

    breaks = 0
    ranges: list[str]

    def do_GET(self) -> None:
        if self.path != "/file":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        Server.ranges.append(asked or "")
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if first >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.end_headers()
        self.wfile.write(CONTENT[first : len(CONTENT) - Server.breaks])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def source(monkeypatch, tmp_path):
    """The weights `raft` come from a server on this machine."""
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAVEL_OFFLINE", raising=False)
    Server.breaks, Server.ranges = 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/file"

    def publish(**changes: object) -> None:
        known = {"url": url, "sha256": DIGEST[:8]} | changes
        family = i3d_vggish.FAMILY
        weights = tuple(replace(w, **known) if w.name == "raft" else w for w in family.weights)
        monkeypatch.setattr(i3d_vggish, "FAMILY", replace(family, weights=weights))

    publish()
    yield publish
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_once_and_progress_is_told(source):
    told = []
    path = pretrained.fetch("raft", lambda *report: told.append(report))
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("raft, MB", len(CONTENT) / 2**20, len(CONTENT) / 2**20)
    assert pretrained.fetch("raft") == path
    assert Server.ranges == [""]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_interrupted_download_is_gone_on_with(source):
    Server.breaks = 1000
    with pytest.raises(MissingError, match=r"cannot download .*: run again to go on"):
        pretrained.fetch("raft")
    assert not pretrained.location("raft").exists()
    Server.breaks = 0
    assert pretrained.fetch("raft").read_bytes() == CONTENT
    assert Server.ranges[1] == f"bytes={len(CONTENT) - 1000}-"


def test_two_do_not_fetch_the_same_at_once(source):
    path = pretrained.location("raft")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        locked(home() / f".{path.name}.lock", ""),
        pytest.raises(ConfigError, match="'raft' are being downloaded by another davel: wait for it"),
    ):
        pretrained.fetch("raft")
    assert pretrained.fetch("raft").read_bytes() == CONTENT


def test_a_download_that_was_complete_but_for_its_name_is_fetched_again(source):
    part = pretrained.location("raft").with_name(f"{pretrained.location('raft').name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"and more")
    assert pretrained.fetch("raft").read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_deleted(source):
    source(sha256="00000000")
    with pytest.raises(DavelError, match=f"sha256 {DIGEST[:16]}…, expected 00000000…: it is deleted"):
        pretrained.fetch("raft")
    assert list(pretrained.location("raft").parent.iterdir()) == []


def test_a_missing_page_is_told_with_the_way_by_hand(source):
    source(url=pretrained.weights_of("raft").url.replace("/file", "/gone"))
    with pytest.raises(MissingError, match=r"the server answers 404 .*download it by other means and put it at"):
        pretrained.fetch("raft")


def test_nothing_is_downloaded_offline(source, monkeypatch):
    for forbid in (lambda: pretrained.fetch("raft", offline=True), lambda: pretrained.fetch("raft")):
        with pytest.raises(MissingError, match="downloads are forbidden"):
            forbid()
        monkeypatch.setenv("DAVEL_OFFLINE", "1")
    assert Server.ranges == []


def test_missing_weights_are_told_with_what_to_do(source, run):
    code, _, err = run("weights", "path", "raft")
    assert code == 5
    assert "run `davel weights fetch raft`, or download http" in err
    assert str(pretrained.location("raft")) in err
    with pytest.raises(ConfigError, match="no weights 'resnet': choose from i3d-rgb, i3d-flow, raft, vggish"):
        pretrained.find("resnet")


def test_the_command_fetches_and_lists(source, run):
    missing = len(pretrained.catalogue())
    assert run("weights", "list")[1].count("  no ") == missing
    code, out, _ = run("weights", "fetch", "raft")
    assert code == 0
    assert out.split() == [str(pretrained.location("raft"))]
    assert run("weights", "path", "raft")[:2] == (0, out)
    listed = run("weights", "list")[1]
    assert listed.count("  no ") == missing - 1
    assert "Apache-2.0" in listed
    assert run("weights", "fetch", "vggish", "--offline")[0] == 5


@pytest.fixture
def at_home(source):
    """Puts a state dict where weights belong."""

    def put(name: str, state: dict[str, torch.Tensor]) -> None:
        path = pretrained.location(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)

    return put


def test_weights_load_and_verify(at_home, run):
    at_home("i3d-flow", published_state("i3d_flow"))
    assert isinstance(pretrained.load("i3d-flow"), I3D)
    assert run("weights", "verify", "i3d-flow")[:2] == (0, "i3d-flow: whole\n")


def test_exchanged_streams_are_told(at_home, run):
    at_home("i3d-rgb", published_state("i3d_flow"))
    code, _, err = run("weights", "verify", "i3d-rgb")
    assert code == 4
    assert "the weights of I3D's other stream: exchange the two files" in err


def test_a_file_of_another_checksum_does_not_verify(at_home, run):
    at_home("raft", published_state("raft"))
    code, _, err = run("weights", "verify", "raft")
    assert code == 4
    assert f"published is {DIGEST[:8]}…: delete it and fetch it again" in err


def test_the_authors_file_of_raft_is_as_good(at_home):
    folder = home() / "weights"
    folder.mkdir(parents=True)
    torch.save(published_state("raft"), folder / "raft-sintel.pth")
    assert pretrained.find("raft").name == "raft-sintel.pth"
    assert pretrained.verify("raft") == ""


def test_the_doctor_tells_what_is_missing(source, run):
    code, out, _ = run("doctor")
    assert code == 0
    for line in (
        "davel ",
        "torch ",
        "FFmpeg",
        "CPUs",
        "GB free",
        "missing: weights vggish: `davel weights fetch vggish`",
    ):
        assert line in out


def test_the_largest_are_fetched_only_where_they_are_named(source, run, monkeypatch):
    asked = []
    monkeypatch.setattr(pretrained, "fetch", lambda name, *_: asked.append(name) or pretrained.location(name))
    assert run("weights", "fetch")[0] == 0
    assert asked == ["i3d-rgb", "i3d-flow", "raft", "vggish"]
    asked.clear()
    assert run("weights", "fetch", "one-peace")[0] == 0
    assert asked == [w.name for w in one_peace.FAMILY.sources if w.source is None]


def test_what_is_made_of_other_weights_is_not_fetched(source, run):
    code, _, err = run("weights", "fetch", "one-peace-audio")
    assert code == 5
    assert "are made of others: run `davel weights fetch one-peace-base` (15.5 GB), then `davel weights convert" in err
    assert (
        "one-peace-audio: made of one-peace-base by `davel weights convert one-peace-audio`"
        in run("weights", "list")[1]
    )
