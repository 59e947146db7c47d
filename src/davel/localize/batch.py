"""Many files: which are meant, and the events of each, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from davel.compute.pool import Cluster, WorkerLost, each
from davel.core.errors import ConfigError, MediaError, printable
from davel.localize.localizer import Localizer, Result, Runtime, load
from davel.media import MEDIA_SUFFIXES
from davel.models.saved import find_model


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

    @property
    def localizer(self) -> Localizer:
        is_file = Path(self.model).suffix == ".onnx"
        files = [Path(self.model)] if is_file else sorted(find_model(self.model).glob("model.*"))
        stamps = tuple(path.stat().st_mtime_ns for path in files if path.exists())
        return _localizer(self.model, self.device, self.colours, self.resampler, self.runtime, stamps)


@lru_cache(maxsize=1)
def _localizer(
    model: str,
    device: str,
    colours: str | None,
    resampler: str | None,
    runtime: Runtime | None,
    stamps: tuple[int, ...],
) -> Localizer:
    """Made once in a process, as long as the model's files stay what they are (`stamps`)."""
    return load(model, device, colours=colours, resampler=resampler, runtime=runtime)


def answer(request: Request, progress: Callable[[float], None] | None = None) -> Result | Failure:
    """The events of a file, or why there are none."""
    try:
        return request.localizer.localize(
            request.path,
            threshold=request.threshold,
            top_k=request.top_k,
            kept=request.kept,
            start=request.start,
            end=request.end,
            progress=progress,
        )
    except MediaError as error:
        return Failure(request.path, str(error))


def localize_files(
    requests: Sequence[Request],
    write: Callable[[Result], None],
    *,
    cluster: Cluster | None = None,
    progress: Callable[[Path, float], None] | None = None,
) -> Generator[Result | Failure]:
    """Localize file after file, or many at a time on a cluster; `write` is called with each result.

    A failure does not end the rest. `progress` is told the file and the seconds of media that are done, if this process
    does the work.
    """

    def work(request: Request) -> Result | Failure:
        return answer(request, partial(progress, request.path) if progress else None)

    with closing(each(answer if cluster else work, requests, cluster=cluster)) as answers:
        for request, outcome in answers:
            if isinstance(outcome, WorkerLost):
                yield Failure(request.path, f"{printable(request.path)}: {outcome}: run again")
                continue
            if isinstance(outcome, Result):
                try:
                    write(outcome)
                except OSError as error:
                    target = printable(error.filename or request.path)
                    reason = f"cannot write {target}: {error.strerror}: choose another folder"
                    outcome = Failure(request.path, f"{printable(request.path)}: {reason}")
            yield outcome
