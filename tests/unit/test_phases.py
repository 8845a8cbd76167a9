from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_moe.engine.replay import replay
from stream_moe.models.catalogue import build_model
from stream_moe.report import PartitionReport
from stream_moe.streams import open_stream
from tests.unit.test_engine import filled_log, make_engine

STREAM = open_stream("electricity")
EXPERTS = {"experts", "account"}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("driftmoe", {*EXPERTS, "route"}),
        ("driftmoe-data", {*EXPERTS, "route", "update"}),
        ("driftmoe-task", {*EXPERTS, "update"}),
        ("hoeffding-tree", EXPERTS),
    ],
)
def test_a_replay_reports_its_phases(model: str, names: set[str]) -> None:
    found = replay(STREAM, lambda schema: build_model(model, schema), events=3000, chunk=100).to_dict()
    assert set(found["phases"]) == names
    assert all(seconds >= 0 for seconds in found["phases"].values())
    assert 0 < sum(found["phases"].values()) <= found["seconds"]


def test_an_engine_reports_the_phases_of_each_block(tmp_path: Path) -> None:
    reports: list[PartitionReport] = []
    engine = make_engine(filled_log(), tmp_path, on_report=reports.append)
    engine.run()
    blocks = [report.step_seconds for report in reports if report.block_size]
    names = {"decode", "route", *EXPERTS, "update", "encode", "send"}
    assert [set(block) for block in blocks] == [names] * len(blocks)
    total = sum(block["route"] for block in blocks)
    assert np.isclose(total, engine.tasks[0].learner.phases.seconds["route"])  # each block its own seconds
