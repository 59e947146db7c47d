"""The options of commands that work on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from davel.compute.cluster import Cluster

RAY_HELP = "Work on a Ray cluster: auto, local, or its address."
CPUS_HELP = "CPUs that one task takes (with --ray)."
GPUS_HELP = "GPUs that one task takes (with --ray)."


def cluster_of(address: str | None, cpus: float, gpus: float) -> Cluster | None:
    """What `--ray`, `--ray-cpus` and `--ray-gpus` say."""
    from davel.compute.cluster import Cluster

    if address is None:
        if cpus != 1 or gpus:
            raise typer.BadParameter("are for --ray", param_hint="--ray-cpus, --ray-gpus")
        return None
    if not cpus and not gpus:
        raise typer.BadParameter("a task takes some of either", param_hint="--ray-cpus, --ray-gpus")
    return Cluster(address, cpus, gpus)
