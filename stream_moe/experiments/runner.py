"""The runs of a grid: several at a time, each in a process of its own; those that are there are not made again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from stream_moe.experiments.plan import Run
from stream_moe.experiments.store import RunStore

OURS = "stream-moe: "  # begins the line in which the command line tells an error
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # jobs share the cores


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with a result, or with the reason why there is none."""

    run: Run
    result: dict[str, Any] | None = None
    reason: str = ""


def make_runs(
    runs: Sequence[Run], store: RunStore, jobs: int, on_outcome: Callable[[Outcome], None]
) -> dict[Run, Outcome]:
    """Make all runs that the store does not have; return the outcome of every run.

    Parameters
    ----------
    runs
        In the order in which they are begun.
    store
        Where finished ones are kept, locked by the caller.
    jobs
        Processes at a time.
    on_outcome
        Called after each run that was made, once it is kept.

    Raises
    ------
    StoreFullError
        If a result cannot be written. The processes that are still at work are ended.
    """
    outcomes = {run: Outcome(run, found) for run in runs if (found := store.find(run)) is not None}
    missing = [run for run in runs if run not in outcomes]
    store.write_tables(runs)
    theirs, ours = os.pipe()
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = iter(missing)
        working: set[Future[Outcome]] = set()
        while True:
            while len(working) < jobs and (run := next(waiting, None)) is not None:
                working.add(pool.submit(_make, run, theirs))
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
        os.close(ours)  # what still works ends
        pool.shutdown(cancel_futures=True)
        os.close(theirs)


def _make(run: Run, pipe: int) -> Outcome:
    """Make one run; its result comes through a pipe, so that only this process writes files."""
    command = [sys.executable, "-m", "stream_moe.experiments.child", str(pipe), *run.arguments()]
    done = subprocess.run(
        command, env=ONE_CORE | dict(os.environ), pass_fds=(pipe,), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return Outcome(run, reason=_why(done))
    try:
        return Outcome(run, json.loads(done.stdout))
    except ValueError:
        return Outcome(run, reason=f"its result is not JSON but {done.stdout[:80]!r}")


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    told = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}" + (" (out of memory?)" if done.returncode == -9 else "")
    return (told or lines or [f"exit code {done.returncode}"])[-1]
