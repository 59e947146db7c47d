"""One function over many files: in this process, in several on this machine, or on a Ray cluster.

The same function, whichever it is; its results come as they are ready.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from davel.compute.cluster import Cluster
from davel.core.errors import MissingError, printable

Job = TypeVar("Job")
Answer = TypeVar("Answer")
Tools = TypeVar("Tools")
WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Done(Generic[Job, Answer]):
    """A job, and what the function made of it."""

    job: Job
    value: Answer


@dataclass(frozen=True)
class Failed(Generic[Job]):
    """A job whose process ended, and ended again when the job was tried again."""

    job: Job
    reason: str


def each(
    function: Callable[[Job], Answer],
    jobs: Iterable[Job],
    *,
    workers: int = 0,
    cluster: Cluster | None = None,
) -> Generator[Done[Job, Answer] | Failed[Job]]:
    """The function of every job, in any order; in this process if there are no workers.

    What the function raises ends it all. A job whose process ends, for want of memory or by a broken decoder, is tried
    again by itself, and has failed if that ends, too. MissingError if Ray is not installed, or the cluster is not there
    or too small.
    """
    if cluster is not None:
        yield from _on_ray(function, jobs, cluster)
    elif workers == 0:
        for job in jobs:
            yield Done(job, function(job))
    else:
        yield from _in_processes(function, iter(jobs), workers)


def in_threads(function: Callable[[Job], Answer], jobs: Iterable[Job], threads: int) -> Generator[Done[Job, Answer]]:
    """The function of every job, in their order, for what waits or leaves Python. What it raises ends it all."""
    waiting = iter(jobs)
    running: deque[tuple[Job, Future[Answer]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            running.extend((job, pool.submit(function, job)) for job in islice(waiting, 4 * threads - len(running)))
            if not running:
                return
            job, future = running.popleft()
            yield Done(job, future.result())
    finally:
        pool.shutdown(cancel_futures=True)


_TOOLS: dict[Callable[[], Any], Any] = {}
"""Of a worker process, which has nothing else to keep: made once, used for all of its jobs."""


@dataclass(frozen=True)
class WithTools(Generic[Job, Tools, Answer]):
    """A function that works with something costly, which every worker process makes once: a class or a function."""

    function: Callable[[Job, Tools], Answer]
    make: Callable[[], Tools]

    def __call__(self, job: Job) -> Answer:
        if self.make not in _TOOLS:
            _TOOLS[self.make] = self.make()
        return self.function(job, _TOOLS[self.make])


def _in_processes(
    function: Callable[[Job], Answer], jobs: Iterator[Job], workers: int
) -> Generator[Done[Job, Answer] | Failed[Job]]:
    while True:
        lost: list[Job] = []
        yield from _in_pool(function, jobs, workers, lost)
        if not lost:
            return
        for job in lost:
            lost_again: list[Job] = []
            yield from _in_pool(function, iter([job]), 1, lost_again)
            if lost_again:
                yield Failed(job, "the process ended that worked on it (out of memory, or a broken decoder)")


class _Spawn(SpawnContext):
    """New interpreters, and a list of those that were started here: the program that called may start others."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[BaseProcess] = []

    def Process(self, *args: Any, **options: Any) -> BaseProcess:  # type: ignore[override]
        self.children.append(child := SpawnContext.Process(*args, **options))
        return child


def _in_pool(
    function: Callable[[Job], Answer], jobs: Iterator[Job], workers: int, lost: list[Job]
) -> Generator[Done[Job, Answer]]:
    """Until the jobs end, or one of the processes does: `lost` is then given those that were at work or in line."""
    threads, context = max((os.cpu_count() or 1) // workers, 1), _Spawn()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), threads))
    running: dict[Future[Answer], Job] = {}
    try:
        while True:
            for job in islice(jobs, 2 * workers - len(running)):
                try:
                    running[pool.submit(function, job)] = job
                except BrokenProcessPool:
                    lost.append(job)
                    raise
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                answer = future.result()
                yield Done(running.pop(future), answer)
    except BrokenProcessPool:
        lost.extend(running.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in context.children if running else ():
            child.terminate()


def _begin(parent: int, threads: int) -> None:
    """In a new process: leave interrupts to the parent, and do not outlive it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for a torch that is imported later, if the jobs need it
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(
    function: Callable[[Job], Answer], jobs: Iterable[Job], cluster: Cluster
) -> Generator[Done[Job, Answer] | Failed[Job]]:
    ray = _connect(cluster.address)
    threads = max(int(cluster.cpus), 1)

    def task(job: Job) -> Answer:
        import torch

        torch.set_num_threads(threads)
        return function(job)

    try:
        remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=cluster.retries)(task)
        resources = ray.cluster_resources()
        if resources.get("CPU", 0) < cluster.cpus or resources.get("GPU", 0) < cluster.gpus:
            raise MissingError(
                f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs, "
                f"a task wants {cluster.cpus:g} and {cluster.gpus:g}: ask for less"
            )
        at_once = 2 * int(resources["CPU"] / cluster.cpus) if cluster.cpus else 2 * int(resources["GPU"] / cluster.gpus)
        waiting: Iterator[Job] = iter(jobs)
        running: dict[Any, Job] = {}
        while True:
            for job in islice(waiting, at_once - len(running)):
                running[remote.remote(job)] = job
            if not running:
                return
            for ready in ray.wait(list(running), num_returns=1)[0]:
                job = running.pop(ready)
                try:
                    answer = ray.get(ready)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    yield Failed(job, f"its worker died ({type(error).__name__}: {printable(error)[:200]})")
                    continue
                yield Done(job, answer)
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise MissingError("Ray is not installed: pip install 'davel[ray]'") from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    started = {"auto": (), "local": ("local",)}.get(address, (address,))
    try:
        ray.init(*started, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = printable(str(error).splitlines()[0])
        raise MissingError(
            f"no Ray cluster at {address!r} ({reason}): start one with `ray start --head`, or say `local`"
        ) from error
    return ray
