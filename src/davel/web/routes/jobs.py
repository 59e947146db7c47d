"""Jobs: videos that were sent or chosen, and how far they are."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from davel.web.errors import Invalid, Refusal, TooSlow
from davel.web.jobs import Job
from davel.web.routes.common import TheServer, refusals
from davel.web.schemas import JobBody
from davel.web.server import Server
from davel.web.uploads import Upload, title_of

CHUNK_SECONDS = 60.0
"""An upload from which nothing comes for so long is dropped."""
VIDEO = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
router = APIRouter(prefix="/api/jobs", tags=["jobs"])


def body(server: Server, job: Job) -> JobBody:
    return JobBody.model_validate(job).model_copy(update={"expires": server.expires(job)})


@router.get("")
def list_jobs(server: TheServer) -> list[JobBody]:
    """All jobs, newest first."""
    return [body(server, job) for job in server.jobs.all()]


@router.post("", status_code=201, responses=refusals(400, 408, 413, 422, 429, 507), openapi_extra=VIDEO)
async def upload(
    request: Request, name: Annotated[str, Query(min_length=1, max_length=500)], server: TheServer
) -> JobBody:
    """Send a video as the body, of type application/octet-stream; `name` is what it is called."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal():
        raise Invalid(f"{title_of(name)}: content-length must be a number of bytes")
    return body(server, await _take(request, await asyncio.to_thread(server.receive, name, int(announced))))


async def _take(request: Request, upload: Upload) -> Job:
    """The job of a file that has come whole; nothing is left of one that has not."""
    try:
        chunks = aiter(request.stream())
        while (chunk := await asyncio.wait_for(anext(chunks, None), CHUNK_SECONDS)) is not None:
            await asyncio.to_thread(upload.write, chunk)
        return await asyncio.to_thread(upload.finish)
    except TimeoutError:
        raise TooSlow(f"{upload.job.name}: nothing came for {CHUNK_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Refusal(f"{upload.job.name}: broke off") from None
    finally:
        if not upload.is_whole:
            await asyncio.shield(asyncio.to_thread(upload.discard))  # also where the server ends meanwhile


@router.get("/{key}", responses=refusals(404))
def job(key: str, server: TheServer) -> JobBody:
    """How far a job is."""
    return body(server, server.jobs.get(key))


@router.post("/{key}/cancel", responses=refusals(404, 409))
def cancel(key: str, server: TheServer) -> JobBody:
    """End a job that waits or runs."""
    return body(server, server.cancel(key))


@router.delete("/{key}", status_code=204, responses=refusals(404, 409))
def delete(key: str, server: TheServer) -> None:
    """Delete a job, its results and its upload; what was saved of it stays in the table."""
    server.delete(key)
