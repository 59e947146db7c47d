"""`davel serve`, asked as users ask it: in a process of its own, or without one, by `asgi.Client`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from davel.web.settings import LEAST_SCORE

WAIT_SECONDS = 90
Answer = tuple[int, dict[str, str], bytes]
"""Status, headers (lower case) and body."""


def eventually(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What a condition gives, once that is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)
    return found


class Asks(ABC):
    """Requests to a server."""

    data: Path

    @abstractmethod
    def send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        """`body`: bytes, an iterable of them, or None."""

    def ask(self, method: str, path: str, body: Any = None, kind: str | None = None, **headers: str) -> Answer:
        """A dict or list is sent as JSON, bytes as an upload."""
        if isinstance(body, dict | list):
            body, kind = json.dumps(body).encode(), kind or "application/json"
        elif body is not None:
            kind = kind or "application/octet-stream"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(method, path, body, sent | ({"content-type": kind} if kind else {}))

    def json(self, method: str, path: str, body: Any = None, expect: int | None = None, **headers: str) -> Any:
        status, _, content = self.ask(method, path, body, **headers)
        assert status in ((expect,) if expect else (200, 201)), (status, content)
        return json.loads(content)

    def upload(self, file: Path | bytes, name: str | None = None, **headers: str) -> dict[str, Any]:
        """The job of a file, or of bytes under a name."""
        title, content = (name or "", file) if isinstance(file, bytes) else (name or file.name, file.read_bytes())
        return self.json("POST", f"/api/jobs?name={quote(title)}", content, **headers)

    def job(self, key: str, **headers: str) -> dict[str, Any]:
        return self.json("GET", f"/api/jobs/{key}", **headers)

    def wait(self, key: str, *states: str, **headers: str) -> dict[str, Any]:
        """The job, once it is in one of these states, by default over."""
        states = states or ("done", "failed", "cancelled")
        eventually(lambda: self.job(key, **headers)["state"] in states)
        return self.job(key, **headers)

    def done(self, file: Path | bytes, name: str | None = None, **headers: str) -> dict[str, Any]:
        job = self.wait(self.upload(file, name, **headers)["id"], **headers)
        assert job["state"] == "done", job
        return job


def comparable(events: list[dict[str, Any]], least: float = LEAST_SCORE + 1e-3) -> list[tuple[Any, ...]]:
    """Events in an order that does not depend on how a processor rounds, without those that may or may not be kept."""
    rows = [tuple(event[name] for name in ("label", "start", "end", "score")) for event in events]
    return sorted(
        (row for row in rows if row[3] >= least), key=lambda row: (row[0], round(row[1], 2), round(row[2], 2))
    )


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same events, but for rounding: kernels differ in the 7th digit."""
    pairs = list(zip(comparable(found), comparable(expected), strict=True))
    assert pairs
    for one, other in pairs:
        assert one[0] == other[0]
        assert max(abs(a - b) for a, b in zip(one[1:], other[1:], strict=True)) < 1e-3, (one, other)


@dataclass
class Server(Asks):
    """`davel serve` in a process of its own."""

    process: subprocess.Popen
    port: int
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, method: str, path: str, body: bytes | Iterable[bytes] | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stop(self, how: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(30)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()
        return code


def start(data: Path, *options: object) -> Server:
    """Once it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "davel", "serve", "--port", "0", "--data", str(data), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    line = process.stdout.readline()
    if "http://" not in line:
        process.wait(30)
        raise AssertionError(process.stderr.read())
    return Server(process, int(line.split("http://")[1].split(" ")[0].split("/")[0].rpartition(":")[2]), data)
