"""Several processes on one job, as `torchrun` starts them; alone without it.

    torchrun --nproc-per-node 4 -m davel train ccnet-i3d --data unav100

Every process runs the same program on its share of each batch; the first one writes files and talks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes if `torchrun` has started some: the device of this one."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def total(x: Tensor) -> Tensor:
    """The sum of all processes' tensors."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def gather(item: T) -> list[T]:
    """What each process has, in order of rank."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through the block before the others enter it: what it leaves on disk is there for them."""
    if rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if rank() == 0 and world_size() > 1:
            dist.barrier()
