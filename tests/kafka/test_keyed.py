"""A model for each key on a real broker; `python -m tests.keyed` is the same at a size of your choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from tests.keyed import grow_and_shrink

pytestmark = pytest.mark.kafka


def test_one_then_three_then_two_members_with_one_killed(own_broker: Broker, tmp_path: Path) -> None:
    assert grow_and_shrink(own_broker, tmp_path, 8_000, 400, "naive-bayes", 1)
