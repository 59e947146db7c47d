"""A file that comes piece by piece, checked as it comes."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from davel.core.errors import printable
from davel.web.errors import Invalid, Refusal, TooLarge
from davel.web.jobs import Job, Jobs

MOST_LETTERS = 120


def title_of(name: str) -> str:
    """What people call a file, from what a client says: one line, and never a path."""
    title = printable(re.split(r"[\\/]", name)[-1]).strip()[-MOST_LETTERS:].strip()
    return title if title and Path(title).name == title else "video"


class Upload:
    """One file on its way. It is either finished or discarded."""

    def __init__(self, jobs: Jobs, job: Job, path: Path, declared: int, most_bytes: int) -> None:
        """`declared`: the bytes that were announced, 0 if none were."""
        self.jobs, self.job, self.path = jobs, job, path
        self.declared, self.most_bytes = declared, most_bytes
        self.size, self.is_whole, self._digest = 0, False, sha256()
        self._stream = path.open("xb")

    def write(self, chunk: bytes) -> None:
        """TooLarge if that is more than is taken."""
        self.size += len(chunk)
        if self.size > self.most_bytes:
            raise TooLarge(too_large(self.job.name, self.most_bytes))
        self._digest.update(chunk)
        self._stream.write(chunk)

    def finish(self) -> Job:
        """The job, which waits now. Invalid if nothing has come, Refusal if it is not all that was announced."""
        if self.size == 0:
            raise Invalid(f"{self.job.name}: is empty")
        if self.declared and self.size != self.declared:
            raise Refusal(f"{self.job.name}: broke off")
        self._stream.close()
        self.jobs.queue(self.job.id, self.size, self._digest.hexdigest())
        self.is_whole = True
        return self.jobs.get(self.job.id)

    def discard(self) -> None:
        """Leave nothing of it."""
        try:
            self._stream.close()
        finally:
            self.path.unlink(missing_ok=True)
            self.jobs.delete(self.job.id)


def too_large(title: str, most_bytes: int) -> str:
    return f"{title}: is larger than {most_bytes / 1e9:.3g} GB, the most that is taken"
