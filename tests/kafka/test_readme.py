"""The README's snippet of the daemon, on a real broker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.console import run_console
from tests.kafka.broker import Broker

README = (Path(__file__).parents[2] / "README.md").read_text()

pytestmark = pytest.mark.kafka


def test_the_daemon_says_what_the_readme_shows(own_broker: Broker, tmp_path: Path) -> None:
    (block,) = (block for block in re.findall(r"```console\n(.*?)```", README, re.S) if "localhost:9092" in block)
    run_console(block.replace("localhost:9092", own_broker.bootstrap), tmp_path)
