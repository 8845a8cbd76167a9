"""The quick rows of the fault table, each a test. `python -m tests.faults` has the slow ones too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.faults import rows
from tests.faults.rig import FaultyBroker
from tests.faults.table import ROWS, Row, run_all
from tests.kafka.broker import missing_tools

__all__ = ["rows"]  # which fill the table
pytestmark = pytest.mark.kafka
QUICK = {one.name: one for one in ROWS if one.run is not None and not one.slow}
JOBS = 3  # at a time: a row mostly waits


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> Iterator[Callable[[Row], str]]:
    """Runs all rows that are asked for, and tells what each saw."""
    missing = missing_tools()
    if missing and "CI" not in os.environ:
        pytest.skip(f"no {' and no '.join(missing)} here to start an Apache Kafka broker with")
    asked = [name for name in QUICK if any(f"[{name}]" in item.name for item in request.session.items)]
    broker = FaultyBroker()
    try:
        broker.start()
        outcomes = {one.name: future for one, future in run_all([QUICK[name] for name in asked], broker, JOBS)}
        yield lambda one: outcomes[one.name].result()[0]
    finally:
        broker.stop()


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_fault(seen: Callable[[Row], str], name: str) -> None:
    assert seen(QUICK[name])


def test_every_row_has_a_name_of_its_own_and_what_it_expects() -> None:
    assert len({one.name for one in ROWS}) == len(ROWS)
    assert all(one.expected for one in ROWS)
