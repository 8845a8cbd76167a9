"""Tasks shared among threads."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from stream_moe.runtime.threads import WorkerThreads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_task_runs_once(threads: int) -> None:
    workers = WorkerThreads(threads)
    found: list[int] = []
    for n in (0, 1, 40):
        found.clear()
        workers.each([lambda i=i: found.append(i) for i in range(n)])  # type: ignore[misc]
        assert sorted(found) == list(range(n))


def test_several_threads_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)
    WorkerThreads(3).each([together.wait] * 3)  # would time out if two of them ran in one thread


def test_a_failure_is_raised_when_all_are_done_and_the_crew_goes_on() -> None:
    workers = WorkerThreads(2)
    found: list[int] = []

    def fail() -> None:
        raise ValueError("broken")

    def slow() -> None:
        time.sleep(0.05)
        found.append(1)

    for _ in range(3):
        found.clear()
        with pytest.raises(ValueError, match="broken"):
            workers.each([fail, slow])
        assert found == [1]


def test_threads_end_with_their_crew() -> None:
    workers = WorkerThreads(4)
    workers.each([int] * 8)
    before = threading.active_count()
    del workers
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before - 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before - 3
