"""The API under `/api`, which programs may use as the page does (`/api/openapi.json`), and the page itself.

No name or path that a client sends is ever used as one: uploads lie under random names, files of the server's folder
are chosen by an id, and results by their job's.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import ClientDisconnect

from davel import __version__, formats
from davel.core.errors import printable
from davel.core.events import Event, EventList
from davel.core.files import read_json
from davel.data.table import put_events
from davel.formats import Video
from davel.localize import read_model
from davel.media import MEDIA_SUFFIXES, peaks
from davel.web.child import LEAST_SCORE, SPARE_BYTES
from davel.web.jobs import Conflict, Copy, Full, Job, Jobs
from davel.web.runner import Limits, Runner
from davel.web.security import Guard

STATIC = Path(__file__).parent / "static"
CHUNK_SECONDS = 60.0
"""An upload from which nothing comes for so long is dropped."""
TOLERATED_SECONDS = 0.5
"""How far behind its video's end an event may end: containers round."""
NO_JOB = "there is no such job; it may have expired"
MEDIA_TYPES = {
    ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".ogv": "video/ogg", ".webm": "video/webm",
    ".avi": "video/x-msvideo", ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".ts": "video/mp2t",
}  # fmt: skip


class EventBody(BaseModel):
    """An event; times are seconds on the media clock."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    label: Annotated[str, Field(min_length=1, max_length=200)]
    start: Annotated[float, Field(ge=0)]
    end: float
    score: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _is_an_event(self) -> EventBody:
        if not self.start < self.end:
            raise ValueError("an event must end after its start")
        if printable(self.label) != self.label or not self.label.strip():
            raise ValueError("a label is a line of text")
        return self

    @property
    def event(self) -> Event:
        return Event(self.label.strip(), self.start, self.end, self.score)


class Corrections(BaseModel):
    """All events of a video, as a person wants them."""

    model_config = ConfigDict(extra="forbid")
    revision: int
    """That of the events on which these are based."""
    events: Annotated[list[EventBody], Field(max_length=100_000)]


class Events(BaseModel):
    revision: int
    corrected: bool
    """Whether a person has saved them; otherwise they are the model's, best first."""
    events: list[EventBody]


class Export(BaseModel):
    """Events to be written in a format."""

    model_config = ConfigDict(extra="forbid")
    format: str
    events: Annotated[list[EventBody], Field(max_length=100_000)]


class JobBody(BaseModel):
    """A video's way: uploading, queued, running, then done, failed or cancelled."""

    id: str
    name: str
    source: str
    size: int
    state: str
    created: float
    seconds: float
    """Of the video that are done."""
    duration: float | None
    error: str | None
    revision: int
    expires: float | None
    """Seconds since 1970, when it will be deleted."""


class CopyBody(BaseModel):
    """The way of a copy that browsers can play: queued, running, then done or failed."""

    state: str
    seconds: float
    """Of the video that are done."""
    duration: float | None
    error: str | None


class FileBody(BaseModel):
    """A video of the server's folder."""

    id: str
    name: str
    size: int
    job: str | None
    """The newest job for it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server is."""

    data: Path
    """Its folder: the jobs' database, uploads, results, and the table of corrections."""
    model: str = "scenes"
    device: str = "auto"
    videos: Path | None = None
    """A folder of which videos may be chosen."""
    truth: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    """True events by video, to be shown under those that were found."""
    token: str | None = None
    workers: int = 1
    limits: Limits = field(default_factory=Limits)

    @property
    def table(self) -> Path:
        return self.data / "events.csv"


def create_app(settings: Settings) -> FastAPI:
    """The application. ConfigError if the model is not one."""
    _, model, _ = read_model(settings.model)
    for name in ("uploads", "results"):
        (settings.data / name).mkdir(parents=True, exist_ok=True)
    jobs, saving = Jobs(settings.data / "jobs.sqlite"), threading.Lock()
    runner = Runner(
        jobs, settings.data, settings.videos, settings.model, settings.device, settings.limits, settings.workers
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runner.start()
        yield
        await asyncio.to_thread(runner.stop)
        jobs.close()

    app = FastAPI(
        title="davel",
        version=__version__,
        description="Events of videos that are both seen and heard.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Guard, token=settings.token)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)

    def job_of(key: str) -> Job:
        try:
            return jobs.get(key)
        except KeyError:
            raise HTTPException(404, NO_JOB) from None

    def done(key: str) -> Job:
        job = job_of(key)
        if job.state != "done":
            raise HTTPException(409, f"{job.name}: is {job.state}, not done")
        return job

    def body(job: Job) -> JobBody:
        kept = settings.limits.keep_days * 86400
        expires = job.finished + kept if job.finished and job.source == "upload" else None
        fields = JobBody.model_fields.keys() - {"expires"}
        return JobBody(**{name: getattr(job, name) for name in fields}, expires=expires)

    def copy_body(copy: Copy) -> CopyBody:
        return CopyBody(**asdict(copy))

    def played(path: Path, kind: str) -> FileResponse:
        headers = {"content-security-policy": "sandbox", "cache-control": "private"}
        return FileResponse(path, media_type=kind, headers=headers)

    def media_of(job: Job) -> Path:
        path = runner.media(job)
        if not path.is_file():
            raise HTTPException(404, f"{job.name}: is not there any more")
        return path

    def result_of(job: Job) -> dict[str, Any]:
        return dict(read_json(runner.folder(job.id) / "result.json", "result"))

    def events_of(job: Job) -> list[Event]:
        corrected = jobs.corrected(job.id)
        if corrected is not None:
            return corrected
        return [Event(e["label"], e["start"], e["end"], e["score"]) for e in result_of(job)["events"]]

    def files() -> dict[str, Path]:
        """The videos of the folder by id, in order."""
        if settings.videos is None:
            return {}
        found = sorted(p for p in settings.videos.iterdir() if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
        return {sha256(str(p.name).encode("utf-8", "surrogateescape")).hexdigest()[:32]: p for p in found}

    def written(job: Job, name: str, events: Sequence[Event]) -> Response:
        if name not in formats.FORMATS:
            raise HTTPException(422, f"format: choose from {', '.join(formats.FORMATS)}")
        form = formats.FORMATS[name]
        labels = tuple(dict.fromkeys((*model.labels, *(e.label for e in events))))
        video = Video(Path(job.name).stem, EventList.of(events, labels), result_of(job)["media"]["duration_seconds"])
        text = form.dumps([Video(video.id, video.events, video.duration, job.name)])
        file = f"{video.id}.{form.suffix}"
        disposition = f"attachment; filename*=UTF-8''{quote(file, safe='', errors='replace')}"
        lost = "; ".join(formats.losses([video], form))
        return Response(
            text.encode("utf-8", "surrogateescape"),
            media_type="application/octet-stream",
            headers={"content-disposition": disposition, "davel-not-held": lost},
        )

    @app.get("/api/info")
    def info() -> dict[str, Any]:
        """The model, the formats, the limits."""
        return {
            "version": __version__,
            "model": {
                "name": model.name,
                "labels": list(model.labels),
                "threshold": model.threshold,
                "step_seconds": model.features.step_seconds,
            },
            "least_score": LEAST_SCORE,
            "formats": [{"name": f.name, "suffix": f.suffix} for f in formats.FORMATS.values()],
            "folder": settings.videos is not None,
            "max_upload_bytes": settings.limits.max_upload_bytes,
            "keep_days": settings.limits.keep_days,
        }

    @app.get("/api/folder")
    def folder() -> list[FileBody]:
        """The videos of the server's folder."""
        newest = {job.media: job.id for job in reversed(jobs.all()) if job.source == "folder"}
        return [
            FileBody(id=key, name=printable(path.name), size=path.stat().st_size, job=newest.get(path.name))
            for key, path in files().items()
        ]

    @app.post("/api/folder/{key}", status_code=201)
    def choose(key: str) -> JobBody:
        """Look for the events of a video of the server's folder."""
        path = files().get(key)
        if path is None:
            raise HTTPException(404, "there is no such video in the folder")
        size = path.stat().st_size
        return body(jobs.add(printable(path.name), "folder", path.name, size, "queued", settings.limits.max_uploads))

    @app.get("/api/jobs")
    def list_jobs() -> list[JobBody]:
        """All jobs, newest first."""
        return [body(job) for job in jobs.all()]

    @app.post("/api/jobs", status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(min_length=1, max_length=500)]) -> JobBody:
        """Send a video as the body, of type application/octet-stream; `name` is what it is called."""
        most = settings.limits.max_upload_bytes
        declared = int(request.headers.get("content-length") or 0)
        title = (printable(re.split(r"[\\/]", name)[-1]).strip() or "video")[-120:]
        too_large = HTTPException(413, f"{title}: is larger than {most / 1e9:.3g} GB, the most that is taken")
        if declared > most:
            raise too_large
        if shutil.disk_usage(settings.data).free < declared + SPARE_BYTES:
            raise HTTPException(507, f"{title}: the server's disk is full: delete some videos")
        try:
            job = jobs.add(title, "upload", "", declared, "uploading", settings.limits.max_uploads)
        except Full:
            raise HTTPException(
                429, f"there are {settings.limits.max_uploads} uploads already, the most that are kept: delete one"
            ) from None
        path, size = settings.data / "uploads" / job.media, 0
        try:
            with path.open("xb") as stream:
                chunks = aiter(request.stream())
                while (chunk := await asyncio.wait_for(anext(chunks, None), CHUNK_SECONDS)) is not None:
                    size += len(chunk)
                    if size > most:
                        raise too_large
                    await asyncio.to_thread(stream.write, chunk)
            if size == 0:
                raise HTTPException(422, f"{title}: is empty")
            if declared and size != declared:
                raise ClientDisconnect
        except BaseException as error:
            jobs.delete(job.id)
            path.unlink(missing_ok=True)
            if isinstance(error, TimeoutError):
                raise HTTPException(408, f"{title}: nothing came for {CHUNK_SECONDS:g} s") from None
            if isinstance(error, ClientDisconnect):
                raise HTTPException(400, f"{title}: broke off") from None
            if isinstance(error, OSError):
                raise HTTPException(507, f"{title}: cannot be kept: {error.strerror}") from None
            raise
        jobs.queue(job.id, size)
        return body(jobs.get(job.id))

    @app.get("/api/jobs/{key}")
    def job(key: str) -> JobBody:
        """How far a job is."""
        return body(job_of(key))

    @app.post("/api/jobs/{key}/cancel")
    def cancel(key: str) -> JobBody:
        """End a job that waits or runs."""
        if job_of(key).state not in ("queued", "running"):
            raise HTTPException(409, f"{job_of(key).name}: is {job_of(key).state} already")
        jobs.cancel(key)
        return body(job_of(key))

    @app.delete("/api/jobs/{key}", status_code=204)
    def delete(key: str) -> None:
        """Delete a job, its results and its upload; what was saved of it stays in the table."""
        if job_of(key).state == "uploading":
            raise HTTPException(409, "is still on its way")
        runner.delete(key)

    @app.get("/api/jobs/{key}/result")
    def result(key: str) -> dict[str, Any]:
        """What the model found, whole: `davel.events/1`."""
        return result_of(done(key))

    @app.get("/api/jobs/{key}/media")
    def media(key: str) -> FileResponse:
        """The video, or a range of it."""
        job = job_of(key)
        return played(media_of(job), MEDIA_TYPES.get(Path(job.name).suffix.lower(), "video/mp4"))

    @app.get("/api/jobs/{key}/copy")
    def copy(key: str) -> CopyBody | None:
        """How far the copy is that browsers can play; null if nobody has asked for one."""
        found = jobs.copy(job_of(key).id)
        return None if found is None else copy_body(found)

    @app.post("/api/jobs/{key}/copy", status_code=201)
    def make_copy(key: str) -> CopyBody:
        """Make a small copy of the video that browsers can play, in step with the events; if there is one, keep it."""
        job = done(key)
        media_of(job)
        if shutil.disk_usage(settings.data).free < SPARE_BYTES:
            raise HTTPException(507, f"{job.name}: cannot be copied: the server's disk is full: delete some videos")
        try:
            return copy_body(jobs.ask_copy(key))
        except KeyError:
            raise HTTPException(404, NO_JOB) from None

    @app.delete("/api/jobs/{key}/copy", status_code=204)
    def delete_copy(key: str) -> None:
        """End the making of a copy, or delete it."""
        runner.delete_copy(job_of(key).id)

    @app.get("/api/jobs/{key}/copy/media")
    def copy_media(key: str) -> FileResponse:
        """The copy, or a range of it."""
        job = job_of(key)
        path = runner.copy(job.id)
        if not path.is_file():
            raise HTTPException(404, f"{job.name}: has no copy")
        return played(path, "video/mp4")

    @app.get("/api/jobs/{key}/peaks")
    def outline(
        key: str,
        start: Annotated[float, Query(ge=0, le=1e7)],
        end: Annotated[float, Query(gt=0, le=1e7)],
        bins: Annotated[int, Query(ge=1, le=8192)] = 1024,
    ) -> list[list[int]]:
        """The least and greatest sample in each of so many bins from `start` to `end`, of -127 to 127."""
        job = done(key)
        whole = np.memmap(runner.folder(job.id) / "peaks.bin", np.int8, "r").reshape(-1, 2)
        return [[int(low), int(high)] for low, high in peaks.between(whole, start, max(end, start + 1e-3), bins)]

    @app.get("/api/jobs/{key}/truth")
    def truth(key: str) -> list[EventBody] | None:
        """The true events, where the server has annotations of this video."""
        known = settings.truth.get(Path(job_of(key).name).stem)
        return None if known is None else [EventBody(label=e.label, start=e.start, end=e.end) for e in known]

    @app.get("/api/jobs/{key}/events")
    def events(key: str) -> Events:
        """The events as they were saved last; those of the model, if nobody has corrected them."""
        job = done(key)
        found = [EventBody(label=e.label, start=e.start, end=e.end, score=e.score) for e in events_of(job)]
        return Events(revision=job.revision, corrected=jobs.corrected(key) is not None, events=found)

    @app.put("/api/jobs/{key}/events")
    def correct(key: str, corrections: Corrections) -> Events:
        """Save all events of a video, for it and for the table of corrections, `/api/annotations`."""
        job = done(key)
        last = result_of(job)["media"]["duration_seconds"] + TOLERATED_SECONDS
        for n, given in enumerate(corrections.events):
            if given.end > last:
                raise HTTPException(422, f"events.{n}: ends at {given.end:g} s, behind the video's end")
        kept = [given.event for given in corrections.events]
        with saving:
            try:
                jobs.correct(key, kept, corrections.revision)
            except Conflict:
                raise HTTPException(409, f"{job.name}: was saved by somebody else in the meantime") from None
            put_events(settings.table, job.name, kept)
        return events(key)

    @app.get("/api/jobs/{key}/export")
    def export(key: str, format: str = "json", threshold: Annotated[float, Query(ge=0, le=1)] = 0.0) -> Response:
        """The events of a job that score at least `threshold`, as a file; what it cannot hold is in a header."""
        job = done(key)
        return written(job, format, [e for e in events_of(job) if e.score >= threshold])

    @app.post("/api/jobs/{key}/export")
    def export_these(key: str, wanted: Export) -> Response:
        """The given events of a job's video as a file."""
        return written(done(key), wanted.format, [given.event for given in wanted.events])

    @app.get("/api/annotations")
    def annotations() -> Response:
        """All saved corrections, as `davel data init` reads them."""
        if not settings.table.exists():
            raise HTTPException(404, "nothing has been saved yet")
        return FileResponse(settings.table, filename="events.csv", media_type="application/octet-stream")

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app
