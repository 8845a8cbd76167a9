"""k-fold distributed cross-validated prequential evaluation.

Source: Bifet, de Francisci Morales, Read, Holmes & Pfahringer, Efficient online evaluation of big data stream
classifiers, KDD 2015, section 3: each event is drawn to one of k folds; learner j is tested on the events of fold j
and trains on all others.

What learner j learns does not depend on its rivals, so they run one after the other, or in processes of their own,
and no more than one is in memory for each process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from stream_moe.errors import DataError, StreamMoeError
from stream_moe.evaluation.intervals import mean_interval
from stream_moe.runtime.origin import safe_start
from stream_moe.types import Bool

SCORES = (
    "accuracy", "kappa", "kappa_majority", "kappa_temporal", "log_loss", "g_mean", "balanced_accuracy",
    "calibration_error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of k: which events test a learner, and are never learnt by it.

    Examples
    --------
    >>> drawn = [Fold(j, 3, seed=1).start() for j in range(3)]
    >>> sum(draw(8).astype(int) for draw in drawn).tolist()  # each event is in one fold
    [1, 1, 1, 1, 1, 1, 1, 1]
    """

    index: int  # j, from 0
    folds: int  # k
    seed: int = 1  # of the drawing, which is the same for all folds of a seed

    def start(self) -> Callable[[int], Bool]:
        """Return what says of the next n events, bool [n], whether they test; the calls go through the stream."""
        generator = np.random.default_rng([self.seed, self.folds])
        # One draw of 64 bits an event: any blocks get the same ones.
        return lambda n: (generator.random(n) * self.folds).astype(np.int64) == self.index


def run_folds(
    run: Callable[[Fold], dict[str, Any]], folds: int, *, seed: int = 1, workers: int = 1
) -> Iterator[dict[str, Any]]:
    """Yield the result of each fold, in their order.

    `run` replays the stream under a fold and returns `ReplayResult.to_dict()`. For several workers it is sent to new
    processes, so it must be a module's function, or an object or `functools.partial` of such; one worker is this
    process. StreamMoeError if a worker dies; DataError if a fold has no labelled event, and none after it is run.
    """
    jobs = [Fold(index, folds, seed) for index in range(folds)]
    if workers == 1:
        for job in jobs:
            yield _tested(run(job), job)
        return
    pool = ProcessPoolExecutor(min(workers, folds), get_context("spawn"), _die_when_interrupted)
    try:
        with safe_start():  # all of them, with the first job
            results = pool.map(run, jobs)
        for job, result in zip(jobs, results, strict=True):
            yield _tested(result, job)
    except BrokenProcessPool:
        raise StreamMoeError(
            f"a process of --workers {workers} died (out of memory, or killed); give fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def combine(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the results of all folds together: mean of each score, its spread and 95 % interval, the folds' own.

    `kappa_temporal` compares with the label before it in the stream, whichever fold that is in, as without folds.

    Examples
    --------
    >>> one = dict.fromkeys(SCORES, 0.5) | {"class_labels": [3, 4], "events": 70, "seconds": 1.0, "cpu_seconds": 1.0}
    >>> found = combine([one, one | {"accuracy": 0.7}])
    >>> round(found["accuracy"], 3), round(found["intervals"]["accuracy"]["standard_deviation"], 3), found["tested"]
    (0.6, 0.141, 14)
    """
    tested = [sum(result["class_labels"]) for result in results]
    intervals = {name: asdict(mean_interval([result[name] for result in results])) for name in SCORES}
    own = ("seconds", "cpu_seconds", "state_digest")
    return {
        "folds": len(results),
        "events": results[0]["events"],
        "tested": sum(tested),
        **{name: interval["mean"] for name, interval in intervals.items()},
        "intervals": intervals,
        "fold_results": [
            {"fold": j, "tested": n, **{name: result[name] for name in (*SCORES, *own) if name in result}}
            for j, (n, result) in enumerate(zip(tested, results, strict=True), 1)
        ],
        "seconds": sum(result["seconds"] for result in results),
        "cpu_seconds": sum(result["cpu_seconds"] for result in results),
    }


def _tested(result: dict[str, Any], fold: Fold) -> dict[str, Any]:
    if not any(result["class_labels"]):
        raise DataError(
            f"fold {fold.index + 1} of {fold.folds} was drawn no labelled event; give fewer --folds or more --events"
        )
    return result


def _die_when_interrupted() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says it in one line; no traceback from each worker
