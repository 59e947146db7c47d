"""What the commands share on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from davel.core.errors import printable
from davel.core.progress import Report


class Rate(ProgressColumn):
    """How many are done a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "")


def results() -> Console:
    """Stdout; as wide as the text where it is not a terminal."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def complain(line: str) -> None:
    """One line on stderr, as it is."""
    print(line, file=sys.stderr)


def end(failed: Sequence[Path], total: int) -> None:
    """After many files: name those that failed, and end with 3 if there are any."""
    if failed and total > 1:
        complain(f"davel: {len(failed)} of {total} files failed, the others are done:")
        for path in failed:
            complain(f"  {printable(path)}")
    if failed:
        raise typer.Exit(3)


@contextmanager
def progress() -> Iterator[Report]:
    """A bar for each step that is reported, on stderr where that is a terminal."""
    with _bars() as bar:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: float, total: float | None, note: str = "") -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(printable(step), total=total, note="")
            bar.update(tasks[step], completed=done, total=total, note=printable(note))

        yield report


def _bars() -> Progress:
    """Bars on stderr with count, rate, time spent and time left; nothing where stderr is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
