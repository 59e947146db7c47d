"""Many files: which are meant, and the events of each, here or on a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from davel.compute.pool import Cluster, Failed, WithTools, each
from davel.core.errors import ConfigError, MediaError, printable
from davel.core.progress import Report, clock, silent
from davel.localize.localizer import Localizer, Result, Runtime
from davel.localize.workspace import Workspace
from davel.media import MEDIA_SUFFIXES


def expand(inputs: Sequence[Path]) -> list[Path]:
    """The files meant by files, folders (the videos right in them) and globs, in order and each once.

    A file that is not there stays, for its reader to complain of. ConfigError if a folder or glob holds no video.
    """
    files: list[Path] = []
    for path in inputs:
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
            if not found:
                raise ConfigError(f"{printable(path)}: no videos in this folder: name files, or a folder that has some")
        elif not path.exists() and any(c in str(path) for c in "*?["):
            parent, pattern = Path(path.anchor or "."), str(path.relative_to(path.anchor) if path.anchor else path)
            found = sorted(p for p in parent.glob(pattern) if p.is_file())
            if not found:
                raise ConfigError(f"{printable(path)}: no file has such a name")
        files += found
    return list(dict.fromkeys(files))


@dataclass(frozen=True)
class Failure:
    path: Path
    reason: str
    """One line that names the file and what to do."""


@dataclass(frozen=True)
class Request:
    """One file's events, as a process that has nothing but this can find them."""

    path: Path
    model: str
    device: str = "auto"
    colours: str | None = None
    resampler: str | None = None
    threshold: float | Literal["auto"] | None = None
    top_k: int | None = None
    kept: Path | None = None
    """A folder of features to use, and to keep others in."""
    start: float = 0.0
    end: float | None = None
    """Seconds between which events are looked for."""
    runtime: Runtime | None = None

    def localizer(self, workspace: Workspace) -> Localizer:
        """What answers it. ConfigError or MissingError if the model cannot be read."""
        return workspace.localizer(
            self.model, self.device, colours=self.colours, resampler=self.resampler, runtime=self.runtime
        )


def answer(request: Request, workspace: Workspace, report: Report | None = None) -> Result | Failure:
    """The events of a file, or why there are none."""
    try:
        return request.localizer(workspace).localize(
            request.path,
            threshold=request.threshold,
            top_k=request.top_k,
            kept=request.kept,
            start=request.start,
            end=request.end,
            report=report,
        )
    except MediaError as error:
        return Failure(request.path, str(error))


def localize_files(
    requests: Sequence[Request],
    write: Callable[[Result], None],
    *,
    workspace: Workspace | None = None,
    cluster: Cluster | None = None,
    report: Report = silent,
) -> Generator[Result | Failure]:
    """Localize file after file, or many at a time on a cluster; `write` is called with each result.

    A failure does not end the rest. `workspace` is where models are open, if this process does the work; a cluster's
    processes make their own. `report` is told the files that are done, and of the one at work how far it is.
    """
    own, finished = workspace or Workspace(), 0

    def work(request: Request) -> Result | Failure:
        def tell(step: str, done: float, total: float | None, note: str = "") -> None:
            part = done / total if total else 0.0
            end = math.inf if total is None else request.start + total
            where = f"{note}: {clock(request.start + done)} of {clock(end)}"
            report(step, finished + min(part, 1.0), len(requests), where)

        return answer(request, own, tell)

    function = WithTools(answer, Workspace) if cluster else work
    with closing(each(function, requests, cluster=cluster)) as answers:
        for answered in answers:
            request = answered.job
            finished += 1
            report("localize", finished, len(requests), request.path.name)
            if isinstance(answered, Failed):
                yield Failure(request.path, f"{printable(request.path)}: {answered.reason}: run again")
                continue
            outcome = answered.value
            if isinstance(outcome, Result):
                try:
                    write(outcome)
                except OSError as error:
                    target = printable(error.filename or request.path)
                    reason = f"cannot write {target}: {error.strerror}: choose another folder"
                    outcome = Failure(request.path, f"{printable(request.path)}: {reason}")
            yield outcome
