"""What `davel serve` does, without HTTP: videos go in as jobs, events come out, corrections are kept.

No name or path that a client sends is ever used as one: uploads lie under random names, files of the server's folder
are chosen by an id, and results by their job's. What cannot be done raises a `davel.web.errors.Refusal`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel import formats
from davel.core.errors import DavelError, printable
from davel.core.events import Event, EventList
from davel.core.files import read_json
from davel.formats import Video
from davel.localize import read_model
from davel.media import MEDIA_SUFFIXES, peaks
from davel.web.corrections import Correction, Corrections
from davel.web.database import Database
from davel.web.errors import DISK_FULL, Conflict, Invalid, NoSpace, NotFound, TooLarge
from davel.web.jobs import Copy, Job, Jobs
from davel.web.runner import Runner
from davel.web.settings import SPARE_BYTES, ServerSettings
from davel.web.uploads import Upload, title_of, too_large

TOLERATED_SECONDS = 0.5
"""How far behind its video's end an event may end: containers round."""


@dataclass(frozen=True)
class FolderVideo:
    """A video of the server's folder."""

    id: str
    name: str
    size: int
    """Bytes."""
    job: str | None
    """The newest job for it."""


@dataclass(frozen=True)
class Exported:
    """Events as a file."""

    name: str
    content: bytes
    lost: str
    """What the format does not hold."""


class Server:
    """The application; `start` begins its work, and `stop` ends it."""

    def __init__(self, settings: ServerSettings) -> None:
        """MissingError or ConfigError if the model is none, ConfigError if the folder's database is a newer davel's."""
        _, self.model, _ = read_model(settings.model)
        self.settings, self.limits = settings, settings.limits
        for name in ("uploads", "results"):
            (settings.data / name).mkdir(parents=True, exist_ok=True)
        self.database = Database(settings.data / "jobs.sqlite")
        self.jobs = Jobs(self.database)
        self.corrections = Corrections(self.database, settings.table)
        self.runner = Runner(self.jobs, settings)

    def start(self) -> None:
        self.runner.start()

    def stop(self) -> None:
        """What runs waits for the next start."""
        self.runner.stop()
        self.database.close()

    # Jobs.

    def done(self, key: str) -> Job:
        """A job whose events are there. NotFound if there is no such job, Conflict if it is in another state."""
        job = self.jobs.get(key)
        if job.state != "done":
            raise Conflict(f"{job.name}: is {job.state}, not done")
        return job

    def expires(self, job: Job) -> float | None:
        """Seconds since 1970, when it will be deleted."""
        return job.finished + self.limits.keep_days * 86400 if job.finished and job.source == "upload" else None

    def receive(self, name: str, declared: int) -> Upload:
        """Begin to take a file, of so many bytes as announced (0: unknown). TooLarge, NoSpace, Full."""
        title = title_of(name)
        if declared > self.limits.max_upload_bytes:
            raise TooLarge(too_large(title, self.limits.max_upload_bytes))
        if shutil.disk_usage(self.settings.data).free < declared + SPARE_BYTES:
            raise NoSpace(f"{title}: {DISK_FULL}")
        job = self.jobs.add(title, "upload", "", declared, "uploading", self.limits.max_uploads)
        path = self.settings.data / "uploads" / job.media
        try:
            return Upload(self.jobs, job, path, declared, self.limits.max_upload_bytes)
        except OSError:
            self.jobs.delete(job.id)
            raise

    def cancel(self, key: str) -> Job:
        """End a job that waits or runs. Conflict if it does neither."""
        job = self.jobs.get(key)
        if job.state not in ("queued", "running"):
            raise Conflict(f"{job.name}: is {job.state} already")
        self.jobs.cancel(key)
        return self.jobs.get(key)

    def delete(self, key: str) -> None:
        """Delete a job, its results and its upload; corrections stay. Conflict while the upload is on its way."""
        job = self.jobs.get(key)
        if job.state == "uploading":
            raise Conflict(f"{job.name}: is still on its way")
        self.runner.delete(key)

    # The server's folder.

    def _files(self) -> dict[str, Path]:
        """The videos of the folder by id, in order."""
        if self.settings.videos is None:
            return {}
        found = sorted(p for p in self.settings.videos.iterdir() if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
        return {sha256(str(p.name).encode("utf-8", "surrogateescape")).hexdigest()[:32]: p for p in found}

    def folder(self) -> list[FolderVideo]:
        """The videos of the folder, in order."""
        newest = {job.media: job.id for job in reversed(self.jobs.all()) if job.source == "folder"}
        return [
            FolderVideo(key, printable(path.name), path.stat().st_size, newest.get(path.name))
            for key, path in self._files().items()
        ]

    def choose(self, key: str) -> Job:
        """A new job for a video of the folder. NotFound if there is none of this id."""
        path = self._files().get(key)
        if path is None:
            raise NotFound("there is no such video in the folder")
        size = path.stat().st_size
        return self.jobs.add(printable(path.name), "folder", path.name, size, "queued", self.limits.max_uploads)

    # Files of a job.

    def video(self, key: str) -> tuple[Job, Path]:
        """The file of a job's video. NotFound if it is gone."""
        job = self.jobs.get(key)
        path = self.runner.media(job)
        if not path.is_file():
            raise NotFound(f"{job.name}: is not there any more")
        return job, path

    def result_file(self, key: str) -> Path:
        """What the model found, whole: `davel.events/1`."""
        path = self.runner.folder(self.done(key).id) / "result.json"
        if not path.is_file():
            raise NotFound(f"{self.jobs.get(key).name}: its result is not there any more")
        return path

    def result(self, key: str) -> dict[str, Any]:
        return dict(read_json(self.result_file(key), "result"))

    def peaks(self, key: str, start: float, end: float, bins: int) -> NDArray[np.int8]:
        """(bins, 2): the least and greatest sample of each from `start` to `end` seconds, of -127 to 127."""
        path = self.runner.folder(self.done(key).id) / "peaks.bin"
        content = np.memmap(path, np.int8, "r") if path.stat().st_size else np.zeros(0, np.int8)
        return peaks.between(content.reshape(-1, 2), start, max(end, start + 1e-3), bins)

    # Copies to watch.

    def copy(self, key: str) -> Copy | None:
        """How far the copy is that browsers can play; None if nobody has asked for one."""
        return self.jobs.copy(self.jobs.get(key).id)

    def make_copy(self, key: str) -> Copy:
        """Have a copy made, unless there is one. NotFound if the video is gone, NoSpace if the disk is full."""
        job = self.done(key)
        self.video(key)
        if shutil.disk_usage(self.settings.data).free < SPARE_BYTES:
            raise NoSpace(f"{job.name}: cannot be copied: {DISK_FULL}")
        return self.jobs.ask_copy(key)

    def delete_copy(self, key: str) -> None:
        """End the making of a copy, or delete it."""
        self.runner.delete_copy(self.jobs.get(key).id)

    def copy_file(self, key: str) -> Path:
        """The copy. NotFound if there is none."""
        job = self.jobs.get(key)
        path = self.runner.copy(job.id)
        if not path.is_file():
            raise NotFound(f"{job.name}: has no copy")
        return path

    # Events.

    def truth(self, key: str) -> Sequence[Event] | None:
        """The true events of a job's video; None where the server has no annotations of it."""
        return self.settings.truth.get(Path(self.jobs.get(key).name).stem)

    def correction(self, key: str) -> Correction | None:
        """The events of a job's video as they were saved last; None if nobody has corrected them."""
        return self.corrections.of(self.done(key).content)

    def events(self, key: str) -> list[Event]:
        """Those that were saved last; those of the model, best first, if nobody has corrected them."""
        kept = self.correction(key)
        if kept is not None:
            return kept.events
        return [Event(e["label"], e["start"], e["end"], e["score"]) for e in self.result(key)["events"]]

    def correct(self, key: str, events: Sequence[Event], revision: int) -> Correction:
        """Keep these as all events of a job's video.

        Invalid if one lies behind the video's end, Conflict if somebody else has saved since `revision`.
        """
        job = self.done(key)
        last = self.result(key)["media"]["duration_seconds"] + TOLERATED_SECONDS
        for n, event in enumerate(events):
            if event.end > last:
                raise Invalid(f"events.{n}: ends at {event.end:g} s, behind the video's end")
        return self.corrections.put(job, events, revision)

    def export(self, key: str, name: str, events: Sequence[Event]) -> Exported:
        """Events of a job's video in a format. Invalid if there is no such format, or it cannot hold them."""
        if name not in formats.FORMATS:
            raise Invalid(f"format: choose from {', '.join(formats.FORMATS)}")
        form, job = formats.FORMATS[name], self.done(key)
        labels = tuple(dict.fromkeys((*self.model.labels, *(e.label for e in events))))
        duration = self.result(key)["media"]["duration_seconds"]
        video = Video(Path(job.name).stem, EventList.of(events, labels), duration, job.name)
        try:
            text = form.dumps([video])
        except DavelError as error:
            raise Invalid(str(error)) from error
        lost = "; ".join(formats.losses([video], form))
        return Exported(f"{video.id}.{form.suffix}", text.encode("utf-8", "surrogateescape"), lost)

    def annotations(self) -> str:
        """The table of all corrections. NotFound if nothing was saved yet."""
        text = self.corrections.render()
        if text is None:
            raise NotFound("nothing has been saved yet")
        return text
