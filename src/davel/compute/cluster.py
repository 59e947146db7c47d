"""A Ray cluster as a value, and how one is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from davel.core.options import OptionError, option


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what of it one task takes."""

    address: str = "auto"
    """`local` starts one on this machine, `auto` finds the one that runs or starts one; else a cluster's address."""
    cpus: float = 1
    gpus: float = 0
    retries: int = 3
    """Of a task whose worker or machine died."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """The options of commands that can work on a Ray cluster."""

    ray: str | None = option(None, metavar="ADDRESS")
    """Work on a Ray cluster: auto, local, or its address."""
    ray_cpus: float = option(1, minimum=0)
    """CPUs that one task takes (with --ray)."""
    ray_gpus: float = option(0, minimum=0)
    """GPUs that one task takes (with --ray)."""

    def cluster(self) -> Cluster | None:
        """None if none is asked for. OptionError if a task takes nothing, or these are given without an address."""
        if self.ray is None:
            if self != ClusterOptions():
                raise OptionError(("ray_cpus", "ray_gpus"), "are for --ray")
            return None
        if not self.ray_cpus and not self.ray_gpus:
            raise OptionError(("ray_cpus", "ray_gpus"), "a task takes some of either")
        return Cluster(self.ray, self.ray_cpus, self.ray_gpus)
