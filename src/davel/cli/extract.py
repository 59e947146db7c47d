"""`davel extract`: from media files to feature files."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.errors import printable
from davel.core.options import OptionError
from davel.features.options import ExtractOptions

if TYPE_CHECKING:
    from davel.features.batch import Outcome

LONG_SECONDS = 60
"""Of media; before a longer run with networks one is told how long it takes."""


@with_options(ExtractOptions)
def extract(
    inputs: list[Path] = typer.Argument(help="Media files, folders of them, or globs."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for ID_STREAM.npy (ID_rgb.npy, ...)."),
    *,
    options: ExtractOptions,
) -> None:
    """Make the features of each file, in UnAV-100's layout.

    What is done is not done again; OUTPUT/manifest.jsonl tells what became of each file.
    """
    from davel.features.batch import estimate, extract_files, plan, work_ahead
    from davel.features.reading import PROCESS
    from davel.features.weights import checksum_problem

    settings = options.settings()
    made = settings.family
    cluster = options.cluster.cluster()
    if cluster and options.workers:
        raise OptionError(("workers", "ray"), "a cluster has its own: leave one out")
    workers = options.workers or (os.cpu_count() or 1 if made.parallel else 0)
    jobs = plan(inputs, output, settings)
    if not cluster:
        digests = PROCESS.digests.of(made)
        for weights in made.weights:
            if problem := checksum_problem(weights, digests[weights.name]):
                console.complain(f"davel: {problem}")
    counts: Counter[str] = Counter()
    failures: list[Path] = []
    if not cluster and (ahead := work_ahead(jobs)):
        console.complain(f"davel: {ahead}")
    if not made.parallel and (forecast := estimate(jobs, LONG_SECONDS)):
        console.complain(f"davel: {forecast}")
    with (
        console.progress() as report,
        closing(extract_files(jobs, workers=workers, cluster=cluster, report=report)) as outcomes,
    ):
        for outcome in outcomes:
            counts[outcome.status] += 1
            tell(outcome)
            if outcome.status == "failed":
                failures.append(outcome.job.path)
    console.results().print(
        f"{counts['done']} done, {counts['skipped']} were done before, {counts['failed']} failed: {printable(output)}"
    )
    console.end(failures, len(jobs))


def tell(outcome: Outcome) -> None:
    """What one must know of a file: why it failed, what is missing of it, what was cut off."""
    name = printable(outcome.job.path)
    if outcome.error:
        console.complain(f"davel: {outcome.error}")
    if (written := outcome.written) is None:
        return
    for warning in written.coverage.warnings:
        console.complain(f"davel: {name}: {warning}")
    lengths = written.lengths
    console.results().print(f"{name}: {written.num_steps} steps, {outcome.seconds:.1f} s", markup=False)
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{stream} {length}" for stream, length in lengths.items())
        console.complain(f"davel: {name}: the streams have unequal lengths ({each}), cut to {written.num_steps} steps")
