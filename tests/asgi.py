"""The server's application, asked in this process: no socket, no process, no model that runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from web_server import Answer, Asks

from davel.core.files import replacing
from davel.web.app import app_of
from davel.web.server import Server

SECONDS = 5.0
FOUND = [
    {"label": "bell", "start": 0.5, "end": 2.0, "score": 0.9},
    {"label": "bark", "start": 1.0, "end": 4.25, "score": 0.5},
    {"label": "bell", "start": 3.0, "end": 4.9, "score": 0.25},
    {"label": "rain", "start": 0.0, "end": 4.999, "score": 0.0625},
]
"""What the stand-in finds in every video."""
RESULT = {
    "schema": "davel.events/1",
    "media": {"path": "a clip.mp4", "duration_seconds": SECONDS},
    "coverage": {"video": [0.0, SECONDS], "audio": [0.0, SECONDS], "warnings": []},
    "gates": {"step_seconds": 0.5, "first_seconds": 0.25, "audio": [0.5] * 10, "visual": [0.25] * 10},
    "events": FOUND,
}
LOUD = 64
"""The peaks of every video's sound, of 127."""


class Client(Asks):
    """Asks one server; its runner is not started: `finish` does its work."""

    url = "http://127.0.0.1:8765"

    def __init__(self, server: Server) -> None:
        self.server, self.app, self.data = server, app_of(server), server.settings.data

    def close(self) -> None:
        self.server.database.close()

    def finish(self, *, error: str | None = None) -> str | None:
        """Have the job that has waited longest done, or failed: its id, None if none waits."""
        job = self.server.jobs.claim()
        if job is None:
            return None
        folder = self.server.runner.folder(job.id)
        if error is None:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / "result.json") as temporary:
                temporary.write_text(json.dumps(RESULT))
            (folder / "peaks.bin").write_bytes(np.tile([-LOUD, LOUD], round(100 * SECONDS)).astype(np.int8).tobytes())
            self.server.jobs.progress("events", job.id, SECONDS, SECONDS)
        self.server.jobs.end("events", job.id, error)
        return job.id

    def done(self, file: Path | bytes, name: str | None = None, **headers: str) -> dict[str, Any]:
        key = self.upload(file, name, **headers)["id"]
        while self.finish() not in (key, None):
            pass
        return self.job(key, **headers)

    def send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        """A chunk None means that the client goes away."""
        chunks = [] if body is None else [body] if isinstance(body, bytes) else list(body)
        given = {"host": "127.0.0.1:8765"} | {name.lower(): value for name, value in headers.items()}
        if isinstance(body, bytes):
            given.setdefault("content-length", str(len(body)))
        elif body is not None:
            given.setdefault("transfer-encoding", "chunked")
        target, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": unquote(target), "raw_path": target.encode(), "query_string": query.encode(),
            "root_path": "", "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765),
        }  # fmt: skip
        return asyncio.run(self._answer(scope, chunks))

    async def _answer(self, scope: dict[str, Any], chunks: Iterable[bytes | None]) -> Answer:
        waiting = [
            {"type": "http.disconnect"} if chunk is None else {"type": "http.request", "body": chunk, "more_body": True}
            for chunk in chunks
        ] + [{"type": "http.request", "body": b"", "more_body": False}]
        told: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            told.append(message)

        with contextlib.suppress(Exception):  # what is unforeseen is told, and then raised for the log
            await self.app(scope, receive, send)
        start, *rest = told
        headers = {k.decode().lower(): v.decode("latin-1") for k, v in start["headers"]}
        return start["status"], headers, b"".join(message.get("body", b"") for message in rest)
