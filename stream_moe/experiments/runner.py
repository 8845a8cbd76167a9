"""The runs of a grid: several at a time, each in a process of its own; those that are there are not made again.

The process is started by an executor: on this machine, or wherever a Ray cluster has a CPU free.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from stream_moe.experiments.plan import Run
from stream_moe.experiments.store import RunStore

OURS = "stream-moe: "  # begins the line in which the command line reports an error
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # jobs share the cores


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with a result, or with the reason why there is none."""

    run: Run
    result: dict[str, Any] | None = None
    reason: str = ""


class Executor(Protocol):
    """What makes a run somewhere; called by several threads."""

    def make(self, run: Run) -> Outcome: ...

    def stop(self) -> None:
        """End the runs that are still at work, so that their `make` returns soon."""


class Here:
    """Makes a run in a process of this machine, which ends when this one does."""

    def __init__(self) -> None:
        self._theirs, self._ours = os.pipe()
        weakref.finalize(self, os.close, self._theirs)  # not before the last process is started

    def make(self, run: Run) -> Outcome:
        return make_in_child(run, self._theirs)

    def stop(self) -> None:
        os.close(self._ours)


def make_runs(
    runs: Sequence[Run],
    store: RunStore,
    jobs: int,
    on_outcome: Callable[[Outcome], None],
    executor: Executor | None = None,
) -> dict[Run, Outcome]:
    """Make all runs that the store, locked by the caller, does not have; return the outcome of every run.

    They are begun in their order, so many `jobs` at a time. `on_outcome` is called after each run that was made, once
    it is kept. The executor (None = this machine) is stopped at the end. StoreFullError if a result cannot be
    written; the processes that are still at work are ended.
    """
    outcomes = {run: Outcome(run, found) for run in runs if (found := store.find(run)) is not None}
    missing = [run for run in runs if run not in outcomes]
    store.write_tables(runs)
    executor = executor or Here()
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = iter(missing)
        working: set[Future[Outcome]] = set()
        while True:
            while len(working) < jobs and (run := next(waiting, None)) is not None:
                working.add(pool.submit(executor.make, run))
            if not working:
                return outcomes
            done, working = wait(working, return_when=FIRST_COMPLETED)
            for outcome in sorted((future.result() for future in done), key=lambda o: missing.index(o.run)):
                if outcome.result is None:
                    store.fail(outcome.run, outcome.reason)
                    outcomes[outcome.run] = outcome
                else:
                    outcomes[outcome.run] = Outcome(outcome.run, store.add(outcome.run, outcome.result))
                store.write_tables(runs)
                on_outcome(outcome)
    finally:
        executor.stop()
        pool.shutdown(cancel_futures=True)


def make_in_child(run: Run, pipe: int, environment: dict[str, str] | None = None) -> Outcome:
    """Make one run in a process that ends when nobody holds the other end of the pipe.

    Its result comes through another one, so that only whoever keeps results writes files.
    """
    command = [sys.executable, "-P", "-m", "stream_moe.cli.child", str(pipe), *run.arguments()]
    done = subprocess.run(
        command, env=ONE_CORE | dict(os.environ) | (environment or {}), pass_fds=(pipe,), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return Outcome(run, reason=_why(done))
    try:
        return Outcome(run, json.loads(done.stdout))
    except ValueError:
        return Outcome(run, reason=f"its result is not JSON but {done.stdout[:80]!r}")


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    ours = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}" + (" (out of memory?)" if done.returncode == -9 else "")
    return (ours or lines or [f"exit code {done.returncode}"])[-1]
