"""The rows of the fault table; importing `tests.faults.rows` fills it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tests.faults.rig import FaultyBroker
from tests.kafka.broker.cluster import stop_shared

GROUPS = (
    "kill -9",
    "checkpoint",
    "keys",
    "broker",
    "cluster",
    "group",
    "labels",
    "two topics",
    "input",
    "process",
    "ops",
)
Run = Callable[[FaultyBroker], str]
R = TypeVar("R", bound=Run)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    Attributes
    ----------
    group, fault, expected
        What is shown.
    run
        Produces the fault, asserts what must hold, and says what was seen. None = it cannot be produced here, for
        the reason that `expected` gives.
    slow
        Left to the command: takes longer than a test should.
    alone
        Takes the broker's proxy or its log: nothing else runs beside it.
    """

    group: str
    fault: str
    expected: str
    run: Run | None
    slow: bool = False
    alone: bool = False

    @property
    def name(self) -> str:
        return f"{self.group}: {self.fault}"


ROWS: list[Row] = []


def row(group: str, fault: str, expected: str, slow: bool = False, alone: bool = False) -> Callable[[R], R]:
    """Put a function into the table."""

    def add(run: R) -> R:
        ROWS.append(Row(group, fault, expected, run, slow, alone))
        return run

    return add


def not_produced(group: str, fault: str, reason: str) -> None:
    """Say why a fault is not in the table."""
    ROWS.append(Row(group, fault, reason, None))


Outcome = tuple[str, float]  # what was seen, seconds


def run_all(rows: Sequence[Row], broker: FaultyBroker, jobs: int) -> Iterator[tuple[Row, Future[Outcome]]]:
    """Run rows, `jobs` at a time as they mostly wait, then those that must be alone; give each as it is done."""

    def timed(one: Row) -> Outcome:
        began = time.monotonic()
        assert one.run is not None
        return one.run(broker), time.monotonic() - began

    runnable = [one for one in rows if one.run is not None]
    try:
        for alone in (False, True):
            with ThreadPoolExecutor(1 if alone else jobs) as pool:
                futures = [(one, pool.submit(timed, one)) for one in runnable if one.alone == alone]
                for one, future in futures:
                    future.exception()  # wait
                    yield one, future
    finally:
        stop_shared()
