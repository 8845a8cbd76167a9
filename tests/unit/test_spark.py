"""The learner inside a real Spark: the answers and the state of a replay, killed or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="no pyspark here: pip install -c constraints.txt '.[spark]'")

from examples.spark_streaming import fill
from stream_moe import Block, Schema, build_model, open_stream, replay
from stream_moe.types import Float64

ROOT = Path(__file__).parents[2]
EVENTS, BATCHES, KEYS = 3000, 4, "ab"


class OneKey:
    """The events of one key as a stream."""

    name, n_events, bayes_accuracy = "one key", EVENTS // len(KEYS), None

    def __init__(self, turn: int) -> None:
        stream = open_stream("electricity")
        block = next(stream.blocks(EVENTS))
        self.schema: Schema = stream.schema
        self._block = Block(block.x[turn :: len(KEYS)], block.y[turn :: len(KEYS)])

    def blocks(self, rows: int) -> Iterator[Block]:
        for start in range(0, len(self._block), rows):
            yield Block(self._block.x[start : start + rows], self._block.y[start : start + rows])

    def answers(self) -> Float64:
        (block,) = self.blocks(EVENTS)
        return build_model("driftmoe", self.schema).step(block.x, block.y)


class Query:
    """The example as a process of its own, with all that Spark starts for it in its session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "SPARK_LOCAL_DIRS": str(folder / "spark"), "PYTHONPATH": str(ROOT)}
        environment["JAVA_TOOL_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # half the CPU of a short run
        command = [sys.executable, "-m", "examples.spark_streaming", "run", "events", "predictions", "checkpoint"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=(folder / "log").open("w"),
        )  # fmt: skip

    def kill_when_there_is(self, pattern: str) -> None:
        deadline = time.monotonic() + 120
        while not list((self.folder / "checkpoint").glob(pattern)):
            assert self.process.poll() is None, (self.folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, f"no {pattern} after two minutes"
            time.sleep(0.01)
        self.kill()
        assert not (self.folder / "checkpoint" / "commits" / str(BATCHES - 1)).exists(), "done before it was killed"

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def result(self) -> list[str]:
        out, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, (self.folder / "log").read_text()[-4000:]
        return out.splitlines()


@pytest.fixture
def queries(tmp_path: Path) -> Iterator[list[Query]]:
    started: list[Query] = []
    yield started
    for query in started:
        query.kill()


def committed(output: Path) -> list[dict[str, object]]:
    """What a reader that knows of Spark's file sink sees: files of batches that were committed."""
    entries = [
        line for log in (output / "_spark_metadata").glob("[0-9]*") for line in log.read_text().split("\n")[1:]
    ]
    names = [json.loads(line)["path"].removeprefix("file://") for line in entries]
    return [json.loads(line) for name in names for line in Path(name).read_text().splitlines()]


def test_spark_gives_the_answers_and_the_state_of_a_replay_killed_or_not(
    queries: list[Query], tmp_path: Path
) -> None:
    fill(str(tmp_path / "events"), EVENTS, BATCHES)
    queries.append(Query(tmp_path))
    # The state of the second micro-batch is in the store, and Spark has not committed the batch yet, or just now.
    queries[0].kill_when_there_is("state/0/*/2.zip")
    queries.append(Query(tmp_path))
    told = queries[1].result()
    assert not any(line.startswith("batch 0:") for line in told), "a committed batch was done again"
    found = sorted(committed(tmp_path / "predictions"), key=lambda row: int(str(row["offset"])))
    assert [row["offset"] for row in found] == list(range(EVENTS))  # each exactly once
    for turn, key in enumerate(KEYS):
        stream = OneKey(turn)
        digest = replay(stream, lambda schema: build_model("driftmoe", schema)).state_digest
        assert f"key {key}: state {digest}" in told
        assert [row["proba"] for row in found if row["key"] == key] == stream.answers().tolist()
