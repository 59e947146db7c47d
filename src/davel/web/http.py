"""The HTTP server, until it is interrupted."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from davel.core.errors import ConfigError


def run(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve; `ready` is told the address once it is open. ConfigError if that cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        advice = "choose another --port" if error.errno == errno.EADDRINUSE else "choose another --host"
        raise ConfigError(f"{host}:{port}: cannot listen there: {error.strerror}: {advice}") from error
    name = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=65536,
    )
    with listener:
        ready(f"http://{name}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])
