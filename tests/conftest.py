"""Which tests share a process, where several run side by side, and which only `make test-all` runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_moe.runtime.origin import SAFE
from stream_moe.telemetry.logs import OUR_LOGGERS

HERE = Path(__file__).parent
# What starts a broker, a cluster or a browser does so once for all of its tests; the longest group begins first.
TOGETHER = {
    "kafka/test_faults.py": "faults",
    "kafka": "kafka",
    "metrics": "prometheus",
    "ray": "ray",
    "browser": "browser",
}
LONG = ("kafka/test_faults.py", "simulation", "ray", "browser/test_report_page.py", "fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        place = item.path.relative_to(HERE).as_posix()
        group = next((group for begin, group in TOGETHER.items() if place.startswith(begin)), None)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))
        if place.startswith(LONG):
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def modules_are_found_as_before() -> Iterator[None]:
    """Undo what the command line does for its own process: it looks for no module in the working directory."""
    before, path = {name: os.environ.get(name) for name in (SAFE, "PYTHONPATH")}, list(sys.path)
    yield
    sys.path[:] = path
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def loggers_are_as_before() -> Iterator[None]:
    """Undo what the command line does to the levels of our loggers: what a test reads of the log hangs on them."""
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
