"""Videos of the server's folder."""

from __future__ import annotations

from fastapi import APIRouter

from davel.web.routes.common import TheServer, refusals
from davel.web.routes.jobs import body
from davel.web.schemas import FileBody, JobBody

router = APIRouter(prefix="/api/folder", tags=["folder"])


@router.get("")
def folder(server: TheServer) -> list[FileBody]:
    """The videos of the server's folder."""
    return [FileBody.model_validate(video) for video in server.folder()]


@router.post("/{key}", status_code=201, responses=refusals(404))
def choose(key: str, server: TheServer) -> JobBody:
    """Look for the events of a video of the server's folder."""
    return body(server, server.choose(key))
