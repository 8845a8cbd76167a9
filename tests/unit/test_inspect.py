"""`inspect` shows of each expert what the summary shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.cli import app
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.report import PartitionReport
from stream_moe.streams import open_stream
from tests import golden

EVENTS = 16_000


def test_the_figures_of_sleepers_are_those_of_the_summary(tmp_path: Path) -> None:
    stream, log, reports = open_stream("led_a"), MemoryLog(), list[PartitionReport]()
    block = next(stream.blocks(EVENTS))
    for i, value in enumerate(JsonCodec(stream.schema).encode_events(block)):
        log.append("events", Record(value, str(i).encode(), i, (schema_header(stream.schema),) if i == 0 else ()))
    log.append("events", EOF)
    Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: FileCheckpointStore(tmp_path),
        lambda schema: DriftMoE(schema, trees=4, window=40, prototypes=4),
        EngineSettings("driftmoe", block_rows=1000),
        on_report=reports.append,
    ).run()
    experts = reports[-1].learner.experts
    assert any(expert.asleep for expert in experts)
    newest = max(tmp_path.glob("*.ckpt"))
    shown = CliRunner().invoke(app, ["inspect", str(newest)]).stdout
    rows = re.findall(r"^ +\d+ +([\d,]+) +([\d,]+) +([\d.]+%) +([\d,]+) +[\d,]+$", shown, re.M)
    assert rows == [(f"{e.routed:,}", f"{e.trained:,}", f"{e.accuracy:.2%}", f"{e.nodes:,}") for e in experts]


def test_a_state_that_nothing_can_be_made_of_is_bad_although_its_checksum_fits(tmp_path: Path) -> None:
    engine, _ = golden.engine(tmp_path, until=200, model="knn", options={"k": "5"})
    engine.run()
    newest = max(tmp_path.glob("*.ckpt"))
    assert CliRunner().invoke(app, ["inspect", str(newest)]).exit_code == 0
    found = Checkpoint.from_bytes(newest.read_bytes())
    labels = np.full_like(found.arrays["learner/expert/window.y"], 10**6)
    found.arrays["learner/expert/window.y"] = labels
    newest.write_bytes(found.to_bytes())
    told = CliRunner().invoke(app, ["inspect", str(newest)])
    said = f"{newest}: knn: array 'window.y' holds 1,000,000, and 0 to 1 is allowed"
    assert (told.exit_code, told.stderr) == (1, f"stream-moe: {said}\n")
