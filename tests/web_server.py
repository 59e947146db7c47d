"""`davel serve` in a process of its own, as users have it, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT_SECONDS = 90


@dataclass
class Server:
    process: subprocess.Popen
    port: int
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, kind: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body. A dict or list is sent as JSON, bytes as an upload."""
        if isinstance(body, dict | list):
            body, kind = json.dumps(body).encode(), kind or "application/json"
        elif body is not None:
            kind = kind or "application/octet-stream"
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | (
            {"content-type": kind} if kind else {}
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None, expect: int | None = None, **headers: str) -> Any:
        status, _, content = self.ask(method, path, body, **headers)
        assert status in ((expect,) if expect else (200, 201)), (status, content)
        return json.loads(content)

    def upload(self, path: Path, name: str | None = None, **headers: str) -> dict[str, Any]:
        from urllib.parse import quote

        return self.json("POST", f"/api/jobs?name={quote(name or path.name)}", path.read_bytes(), **headers)

    def wait(self, key: str, *states: str, **headers: str) -> dict[str, Any]:
        """The job, once it is in one of these states, by default over."""
        states = states or ("done", "failed", "cancelled")
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            job = self.json("GET", f"/api/jobs/{key}", **headers)
            if job["state"] in states:
                return job
            time.sleep(0.1)
        raise AssertionError(f"still {job}")

    def done(self, path: Path, name: str | None = None, **headers: str) -> dict[str, Any]:
        job = self.wait(self.upload(path, name, **headers)["id"], **headers)
        assert job["state"] == "done", job
        return job

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
