"""What is seen and heard of a job: its video, a copy that browsers can play, and the outline of its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from davel.web.routes.common import TheServer, refusals
from davel.web.schemas import CopyBody

MEDIA_TYPES = {
    ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".ogv": "video/ogg", ".webm": "video/webm",
    ".avi": "video/x-msvideo", ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".ts": "video/mp2t",
}  # fmt: skip
router = APIRouter(prefix="/api/jobs/{key}", tags=["media"], responses=refusals(404))


def played(path: Path, kind: str) -> FileResponse:
    headers = {"content-security-policy": "sandbox", "cache-control": "private"}
    return FileResponse(path, media_type=kind, headers=headers)


@router.get("/media", response_class=FileResponse)
def media(key: str, server: TheServer) -> FileResponse:
    """The video, or a range of it."""
    job, path = server.video(key)
    return played(path, MEDIA_TYPES.get(Path(job.name).suffix.lower(), "video/mp4"))


@router.get("/copy")
def copy(key: str, server: TheServer) -> CopyBody | None:
    """How far the copy is that browsers can play; null if nobody has asked for one."""
    found = server.copy(key)
    return None if found is None else CopyBody.model_validate(found)


@router.post("/copy", status_code=201, responses=refusals(409, 507))
def make_copy(key: str, server: TheServer) -> CopyBody:
    """Make a small copy of the video that browsers can play, in step with the events; if there is one, keep it."""
    return CopyBody.model_validate(server.make_copy(key))


@router.delete("/copy", status_code=204)
def delete_copy(key: str, server: TheServer) -> None:
    """End the making of a copy, or delete it."""
    server.delete_copy(key)


@router.get("/copy/media", response_class=FileResponse)
def copy_media(key: str, server: TheServer) -> FileResponse:
    """The copy, or a range of it."""
    return played(server.copy_file(key), "video/mp4")


@router.get("/peaks", responses=refusals(409, 422))
def outline(
    key: str,
    start: Annotated[float, Query(ge=0, le=1e7)],
    end: Annotated[float, Query(gt=0, le=1e7)],
    server: TheServer,
    bins: Annotated[int, Query(ge=1, le=8192)] = 1024,
) -> list[tuple[int, int]]:
    """The least and greatest sample in each of so many bins from `start` to `end`, of -127 to 127."""
    return [(int(low), int(high)) for low, high in server.peaks(key, start, end, bins)]
