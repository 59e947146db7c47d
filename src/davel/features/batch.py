"""The features of many files, in one folder with a manifest: what is done stays done, what fails is told.

`manifest.jsonl` has a line for every file and every attempt, the last one counts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from davel.compute.cluster import Cluster
from davel.compute.pool import Failed, each
from davel.core.errors import ConfigError, DavelError, MediaError, printable
from davel.core.progress import Report, in_words, silent
from davel.features.reading import PROCESS, Extractors, Reading, Settings
from davel.features.store import FeatureStore, Ready, Written, fingerprint
from davel.media import probe
from davel.media.inputs import named

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Job:
    """One file's features, to be written as `key` into `folder`."""

    path: Path
    folder: Path
    key: str
    settings: Settings

    def is_finished(self, extractors: Extractors = PROCESS) -> bool:
        """Whether there is nothing to do. MissingError if weights are not there."""
        store = FeatureStore(self.folder, extractors)
        return isinstance(store.status(self.key, self.settings, self.path), Ready)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    error: str = ""
    seconds: float = 0.0
    """Of work."""
    written: Written | None = None

    def line(self) -> str:
        """For the manifest."""
        written = self.written
        size, modified = written.source if written else _fingerprint(self.job.path)
        facts = {
            "id": self.job.key,
            "input": str(self.job.path),
            "size_bytes": size,
            "mtime_ns": modified,
            "sha256": written.sha256 if written else None,
            "spec": self.job.settings.spec.to_dict(),
            "status": self.status,
            "error": self.error or None,
            "seconds": round(self.seconds, 3),
            "num_steps": written.num_steps if written else None,
            "lengths": written.lengths if written else None,
        }
        return json.dumps(facts) + "\n"


def _fingerprint(path: Path) -> tuple[int | None, int | None]:
    try:
        size, modified = fingerprint(path)
    except MediaError:
        return None, None
    return size, modified


def plan(inputs: Sequence[Path], folder: Path, settings: Settings) -> list[Job]:
    """A job for each file meant by files, folders and globs, named by its stem, or by its folder and stem where two of
    a folder or a glob have one stem. ConfigError if two files would still have one name."""
    jobs: dict[str, Job] = {}
    for file, name in named(inputs):
        job = Job(file.path, folder, name.as_posix(), settings)
        if (other := jobs.setdefault(job.key, job)) is not job:
            raise ConfigError(
                f"{printable(other.path)} and {printable(job.path)} would both be written to "
                f"{printable(job.key)}_*.npy: use two folders"
            )
    return list(jobs.values())


def extract_files(
    jobs: Sequence[Job],
    *,
    workers: int = 0,
    cluster: Cluster | None = None,
    report: Report = silent,
    extractors: Extractors = PROCESS,
) -> Generator[Outcome]:
    """Do what is not done yet; a file that fails does not stop the others. Every outcome is in the manifest.

    `report` is told the files that are done, and how far the one at work is. `extractors` are used if this process does
    the work; others have their own. MissingError if weights are not there, ConfigError if nothing can be written.
    """
    if not jobs:
        return
    target = jobs[0].folder
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{printable(target)}: cannot make this folder: {error.strerror}: name another") from error
    missing, finished = list[Job](), 0
    for job in jobs:
        if job.is_finished(extractors):
            report("extract", finished := finished + 1, len(jobs), job.path.name)
            yield Outcome(job=job, status="skipped")
        else:
            missing.append(job)
    alone = workers == 0 and cluster is None

    def work(job: Job) -> Outcome:
        def tell(step: str, done: float, total: float | None, note: str = "") -> None:
            report(step, finished, len(jobs), f"{note}: {done:.0f} s")

        return run_job(job, tell, extractors)

    with closing(each(work if alone else run_job, missing, workers=workers, cluster=cluster)) as answers:
        for answer in answers:
            finished += 1
            report("extract", finished, len(jobs), answer.job.path.name)
            if isinstance(answer, Failed):
                job = answer.job
                outcome = Outcome(job=job, status="failed", error=f"{printable(job.path)}: {answer.reason}: run again")
            else:
                outcome = answer.value
            _append(target, outcome)
            yield outcome


def run_job(job: Job, report: Report = silent, extractors: Extractors = PROCESS) -> Outcome:
    """Extract one file's features. ConfigError or MissingError if no file could be done."""
    started = time.monotonic()
    try:
        written = FeatureStore(job.folder, extractors).write(job.path, job.key, job.settings, report)
    except MediaError as error:
        return Outcome(job=job, status="failed", error=str(error), seconds=time.monotonic() - started)
    except DavelError:
        raise
    except OSError as error:
        target = printable(error.filename or job.folder)
        raise ConfigError(f"{target}: cannot write: {error.strerror}: make room or name another folder") from error
    except Exception as error:  # noqa: BLE001  # one file that nobody foresaw must not end a week's run
        reason = f"{printable(job.path)}: unexpected {type(error).__name__}: {printable(error)}"
        return Outcome(job=job, status="failed", error=reason, seconds=time.monotonic() - started)
    return Outcome(job=job, status="done", seconds=time.monotonic() - started, written=written)


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The last line of each file; lines that were cut off are passed over."""
    entries: dict[str, dict[str, Any]] = {}
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
            entries[entry["id"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def _append(folder: Path, outcome: Outcome) -> None:
    try:
        with (folder / MANIFEST).open("ab+") as manifest:
            if manifest.tell():
                manifest.seek(-1, os.SEEK_END)
                if manifest.read(1) != b"\n":  # a line that was cut off must not take this one with it
                    manifest.write(b"\n")
            manifest.write(outcome.line().encode())
            manifest.flush()
            os.fsync(manifest.fileno())
    except OSError as error:
        raise ConfigError(f"{printable(folder / MANIFEST)}: cannot write: {error.strerror}") from error


@dataclass(frozen=True)
class Estimate:
    """What a run will take."""

    media_seconds: float
    work_seconds: float

    def __str__(self) -> str:
        rate, work = self.work_seconds / self.media_seconds, in_words(self.work_seconds)
        return f"{in_words(self.media_seconds)} of media: about {work} of work ({rate:.2g} s a second)"


def media_seconds(jobs: Iterable[Job]) -> float:
    """How long the files are together, as far as they can be read."""
    seconds = 0.0
    for job in jobs:
        try:
            seconds += probe(job.path).duration_seconds or 0
        except MediaError:
            continue
    return seconds


def work_ahead(jobs: Sequence[Job], extractors: Extractors = PROCESS) -> str:
    """What there is to do, in numbers that need no measuring; an empty text where it is not worth a word."""
    made = jobs[0].settings.family if jobs else None
    waiting = [job for job in jobs if not job.is_finished(extractors)]
    if made is None or made.step_tflop is None or not waiting:
        return ""
    seconds = media_seconds(waiting)
    steps = seconds / made.spec.step_seconds
    return (
        f"{in_words(seconds)} of media: {steps:,.0f} steps of {made.step_tflop:g} TFLOP, "
        f"{steps * made.step_tflop / 1000:.3g} PFLOP in all"
    )


def estimate(jobs: Iterable[Job], least_seconds: float = 0, extractors: Extractors = PROCESS) -> Estimate | None:
    """From the first steps of the first file that has some, on this machine; None if there is little to do.

    `least_seconds`: of media that is not done yet.
    """
    jobs = [job for job in jobs if not job.is_finished(extractors)]
    media = media_seconds(jobs)
    if media < least_seconds:
        return None
    for job in jobs:
        reading, first = Reading(extractors.get(job.settings), job.path), None
        try:
            with closing(reading.rows()) as rows:
                for stream, _ in rows:
                    if stream != next(iter(job.settings.family.streams)):
                        continue
                    now = reading.seconds, time.monotonic()
                    if first and now[0] > first[0]:
                        return Estimate(media, media * (now[1] - first[1]) / (now[0] - first[0]))
                    first = first or now
        except MediaError:
            continue
    return None
