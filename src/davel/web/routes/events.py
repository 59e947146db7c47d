"""Events: what was found, what is true, what people saved, and files of them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from davel.web.routes.common import Answers, TheServer, refusals
from davel.web.schemas import CorrectionBody, EventBody, EventsBody, ExportBody, ResultBody
from davel.web.server import Exported

WHOLE: Answers = {200: {"model": ResultBody}}
UPLOADED = "application/octet-stream"
router = APIRouter(prefix="/api", tags=["events"], responses=refusals(404))


def download(exported: Exported) -> Response:
    disposition = f"attachment; filename*=UTF-8''{quote(exported.name, safe='', errors='replace')}"
    headers = {"content-disposition": disposition, "davel-not-held": exported.lost}
    return Response(exported.content, media_type=UPLOADED, headers=headers)


@router.get("/jobs/{key}/result", responses=WHOLE | refusals(409), response_class=FileResponse)
def result(key: str, server: TheServer) -> FileResponse:
    """What the model found, whole: `davel.events/1`."""
    return FileResponse(server.result_file(key), media_type="application/json")


@router.get("/jobs/{key}/truth")
def truth(key: str, server: TheServer) -> list[EventBody] | None:
    """The true events, where the server has annotations of this video."""
    known = server.truth(key)
    return None if known is None else [EventBody(label=e.label, start=e.start, end=e.end) for e in known]


@router.get("/jobs/{key}/events", responses=refusals(409))
def events(key: str, server: TheServer) -> EventsBody:
    """The events as they were saved last; those of the model, if nobody has corrected them."""
    kept = server.correction(key)
    return EventsBody.of(kept.revision if kept else 0, kept is not None, server.events(key))


@router.put("/jobs/{key}/events", responses=refusals(409, 422))
def correct(key: str, correction: CorrectionBody, server: TheServer) -> EventsBody:
    """Save all events of a video, for it and for the table of corrections, `/api/annotations`."""
    kept = server.correct(key, [given.event for given in correction.events], correction.revision)
    return EventsBody.of(kept.revision, True, kept.events)


@router.get("/jobs/{key}/export", responses=refusals(409, 422), response_class=Response)
def export(
    key: str, server: TheServer, format: str = "json", threshold: Annotated[float, Query(ge=0, le=1)] = 0.0
) -> Response:
    """The events of a job that score at least `threshold`, as a file; what it cannot hold is in a header."""
    return download(server.export(key, format, [e for e in server.events(key) if e.score >= threshold]))


@router.post("/jobs/{key}/export", responses=refusals(409, 422), response_class=Response)
def export_these(key: str, wanted: ExportBody, server: TheServer) -> Response:
    """The given events of a job's video as a file."""
    return download(server.export(key, wanted.format, [given.event for given in wanted.events]))


@router.get("/annotations", response_class=Response)
def all_corrections(server: TheServer) -> Response:
    """All saved corrections, as `davel data init` reads them."""
    content = server.annotations().encode("utf-8", "surrogateescape")
    return Response(content, media_type=UPLOADED, headers={"content-disposition": 'attachment; filename="events.csv"'})
