"""`davel extract`: from media files to feature files."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from davel.cli import console
from davel.cli.cluster import CPUS_HELP, GPUS_HELP, RAY_HELP, cluster_of
from davel.core.errors import printable

if TYPE_CHECKING:
    from davel.features.batch import Outcome
    from davel.features.family import Precision

LONG_SECONDS = 60
"""Of media; before a longer run with networks one is told how long it takes."""


def extract(
    inputs: list[Path] = typer.Argument(help="Media files, folders of them, or globs."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder for ID_STREAM.npy (ID_rgb.npy, ...)."),
    features: str = typer.Option("i3d-vggish", "--features", help="i3d-vggish, light, or of another package."),
    colours: str = typer.Option("declared", help="declared, or bt601 whatever a file declares, as the published ones."),
    resampler: str = typer.Option("soxr", help="soxr, or resampy-0.2.2, as the published ones."),
    flow_updates: int | None = typer.Option(
        None, min=1, help="Refinements of the flow; fewer than 20 are faster, and other features."
    ),
    option: list[str] | None = typer.Option(
        None, "--option", metavar="NAME=VALUE", help="An option of these features; may be repeated."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    precision: str = typer.Option("float32", help="float32, bfloat16 or float16."),
    compile: bool = typer.Option(False, "--compile", help="Compile the networks first."),
    workers: int | None = typer.Option(None, min=1, help="Processes (default: this one; for light, one per CPU)."),
    ray: str | None = typer.Option(None, metavar="ADDRESS", help=RAY_HELP),
    ray_cpus: float = typer.Option(1, min=0, help=CPUS_HELP),
    ray_gpus: float = typer.Option(0, min=0, help=GPUS_HELP),
) -> None:
    """Make the features of each file, in UnAV-100's layout.

    What is done is not done again; OUTPUT/manifest.jsonl tells what became of each file.
    """
    from davel.core.config import put
    from davel.features.batch import estimate, extract_files, plan
    from davel.features.family import family
    from davel.features.reading import PROCESS, Settings
    from davel.features.weights import checksum_problem

    options: dict[str, Any] = {}
    for given in option or ():
        put(options, given)
    if precision not in ("float32", "bfloat16", "float16"):
        raise typer.BadParameter(f"expected float32, bfloat16 or float16, got {precision!r}", param_hint="--precision")
    for name in ("device", "precision", "compile"):
        if name in options:
            raise typer.BadParameter(f"is an option of its own: --{name}", param_hint="--option")
    options |= {"colours": colours, "resampler": resampler}
    if flow_updates is not None:
        options["flow_updates"] = flow_updates
    settings = Settings(family(features).specified(options), device, cast("Precision", precision), compile)
    made = settings.family
    cluster = cluster_of(ray, ray_cpus, ray_gpus)
    if cluster and workers:
        raise typer.BadParameter("a cluster has its own: leave one out", param_hint="--workers and --ray")
    workers = workers or (os.cpu_count() or 1 if made.parallel else 0)
    jobs = plan(inputs, output, settings)
    if not cluster:
        digests = PROCESS.digests.of(made)
        for weights in made.weights:
            if problem := checksum_problem(weights, digests[weights.name]):
                console.complain(f"davel: {problem}")
    counts: Counter[str] = Counter()
    failures: list[Path] = []
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
