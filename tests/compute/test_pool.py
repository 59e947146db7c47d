"""Many jobs: what becomes of each, and of the processes that do them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from pool_jobs import Tools, die_at_three, double, refuse_three, use, wait_for

from davel.compute.pool import Done, Failed, WithTools, each, in_threads


@pytest.mark.parametrize("workers", [0, 2])
def test_every_job_has_its_value(workers):
    assert sorted((d.job, d.value) for d in each(double, range(5), workers=workers)) == [(x, 2 * x) for x in range(5)]


def test_a_job_whose_process_ends_has_failed_and_the_others_are_done():
    outcomes = list(each(die_at_three, range(6), workers=2))
    assert sorted(o.value for o in outcomes if isinstance(o, Done)) == [0, 1, 2, 4, 5]
    (failed,) = [o for o in outcomes if isinstance(o, Failed)]
    assert failed.job == 3
    assert failed.reason.startswith("the process ended that worked on it")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_job_raises_ends_it_all(workers):
    with pytest.raises(ValueError, match="three"):
        list(each(refuse_three, range(6), workers=workers))


def test_processes_of_the_program_that_calls_are_left_alone(tmp_path):
    """Those that were there before, and those that it starts meanwhile."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=time.sleep, args=(600,)) for _ in range(2)]
    others[0].start()
    started = tmp_path / "started"

    def interrupt():
        until = time.monotonic() + 120
        while not (started.exists() and started.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        others[1].start()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    try:
        watcher.start()
        with pytest.raises(KeyboardInterrupt), closing(each(wait_for, [str(started)], workers=1)) as answers:
            next(answers)
        watcher.join()
        worker = int(started.read_text())
        until = time.monotonic() + 60
        while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
            multiprocessing.active_children()  # takes leave of those that have ended
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()
        assert all(process.is_alive() for process in others)
    finally:
        for process in others:
            if process.pid is not None:
                process.terminate()
                process.join()


def test_a_worker_process_makes_its_tools_once():
    answers = [done.value for done in each(WithTools(use, Tools), range(4), workers=1)]
    assert len(set(answers)) == 1
    assert answers[0] == (answers[0][0], 1)
    assert answers[0][0] != os.getpid()


def test_threads_keep_the_order_and_end_at_the_first_error():
    def slow_first(x: int) -> int:
        if x == 0:
            time.sleep(0.2)
        return refuse_three(x)

    answers = in_threads(slow_first, range(100), threads=4)
    assert [next(answers).value for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(answers)
