"""The `Server` over HTTP: its API under `/api`, which programs may use as the page does, and the page itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles

from davel import __version__
from davel.core.errors import DavelError
from davel.core.lazy import attributes
from davel.web.errors import answer_to
from davel.web.routes import events, folder, info, jobs, media
from davel.web.routes.common import refusals
from davel.web.security import HEADERS, Guard
from davel.web.server import Server
from davel.web.settings import ServerSettings

STATIC = Path(__file__).parent / "static"
ROUTERS = (info.router, folder.router, jobs.router, media.router, events.router)


def create_app(settings: ServerSettings) -> FastAPI:
    """The application of a new server. ConfigError if the model is not one."""
    return app_of(Server(settings))


def app_of(server: Server) -> FastAPI:
    """The application, which starts and stops the server with itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(server.start)
        yield
        await asyncio.to_thread(server.stop)

    app = FastAPI(
        title="davel",
        version=__version__,
        description="Events of videos that are both seen and heard.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for kind in (DavelError, OSError, sqlite3.Error, Exception):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.state.server = server
    app.add_middleware(Guard, token=server.settings.token)
    bearer = Depends(HTTPBearer(auto_error=False, description="The server's token, where it has one."))
    for router in ROUTERS:
        app.include_router(router, dependencies=[bearer], responses=refusals(401, 403, 415, 421, 422, 500))
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


async def _told(request: Request, error: Exception) -> JSONResponse:
    status, text = answer_to(error)
    return JSONResponse({"detail": text}, status, HEADERS)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)


__getattr__ = attributes(__name__, moved={"Settings": "davel.web.settings:ServerSettings"})
