"""The events of many files, found here or on a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from davel.compute.cluster import Cluster
from davel.compute.pool import Failed, WithTools, each
from davel.core.errors import MediaError, printable
from davel.core.progress import Report, clock, silent
from davel.localize.localizer import Result
from davel.localize.requests import Request
from davel.localize.workspace import Workspace


@dataclass(frozen=True)
class Failure:
    path: Path
    reason: str
    """One line that names the file and what to do."""


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
