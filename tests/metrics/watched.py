"""A real Prometheus watches a real daemon on a real broker, well at first and then made ill."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectors.kafka import KafkaProducerLog, KafkaSettings
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.streams import open_stream
from stream_moe.types import UNLABELLED, Block
from tests.kafka.daemons import finish, run_arguments, stream_moe
from tests.metrics.queries import NOT_PROVOKED, PROVOKED, Query, all_queries
from tests.metrics.tools import COMPILE_SECONDS, Prometheus, free_port, promtool

PARTITIONS, WELL, APART = 2, 18_000, 500
TURNS, TURN, JUNK = 7, 2_000, 1_000
ABSENT, DROP = "StreamMoeAbsent", "StreamMoeAccuracyDrop"


@dataclass(slots=True)
class Seen:
    """How many series a query returned: in the well run as it is and with its comparisons made `bool`, then ill."""

    query: Query
    well: int
    joined: int
    ill: int | None = None

    @property
    def wrong(self) -> str | None:
        """What is wrong with it, None if nothing."""
        name = self.query.name
        if self.joined == 0 and name not in PROVOKED:
            return f"{name}: nothing, whatever the values are"
        if self.query.alert and self.well:
            return f"{name}: fires in a well run"
        if self.query.alert and name not in PROVOKED and name not in NOT_PROVOKED:
            return f"{name}: neither provoked nor said why not"
        if not self.query.alert and not self.well and name not in PROVOKED and name not in NOT_PROVOKED:
            return f"{name}: no data"
        if self.ill == 0:
            return f"{name}: no data although provoked ({PROVOKED[name]})"
        return None


class Watched:
    """The daemon, its Prometheus, and what is written to its topic."""

    def __init__(self, settings: KafkaSettings, folder: Path) -> None:
        self.state, self.port, self.result = folder / "state", free_port(), folder / "run.json"
        stream = open_stream("sea", seed=1)
        self._codec = JsonCodec(stream.schema)
        self._blocks = stream.blocks(500)
        self._log = KafkaProducerLog(settings, [schema_header(stream.schema)], create=True, partitions=PARTITIONS)
        self.sent = self.labelled = 0
        arguments = run_arguments(settings, self.state, "--json", str(self.result), "--max-waiting", "500",
                                  "--block-rows", "250", "--checkpoint-seconds", "1",
                                  "--cost", "groupB:groupA=2")  # fmt: skip
        arguments[arguments.index("--metrics-port") + 1] = str(self.port)
        self.daemon: subprocess.Popen[str] = stream_moe(*arguments)
        (folder / "prometheus").mkdir()
        self.prometheus = Prometheus(folder / "prometheus", f"127.0.0.1:{self.port}")

    def close(self) -> None:
        self.prometheus.close()
        self._log.close()
        self.stop()

    def stop(self) -> None:
        """Let the daemon drain, unless it did."""
        if self.daemon.poll() is None:
            self.daemon.terminate()
            finish(self.daemon)

    def send(self, events: int, *, labels: str = "right") -> None:
        """Write events whose labels are right, drawn by lot (x shifted), missing, or in records of their own.

        "renamed" are right ones, whose last feature has another name.
        """
        for _ in range(events // 500):
            block = next(self._blocks)
            rng, y = np.random.default_rng(self.sent), block.y
            given = {"right": y, "renamed": y, "lot": rng.integers(0, 2, len(y)).astype(y.dtype)}.get(
                labels, np.full_like(y, UNLABELLED)
            )
            x = block.x + np.array([20, 0, 0], np.float32) if labels == "lot" else block.x
            self._write(replace(block, x=x, y=given), renamed=labels == "renamed")
            if labels == "apart":
                self._write(replace(block, has_features=np.zeros(len(block), np.bool_)))
            self.sent += len(block)
            self.labelled += len(block) if labels != "missing" else 0
        self._log.flush()

    def _write(self, block: Block, *, renamed: bool = False) -> None:
        keys = [str(self.sent + i).encode() for i in range(len(block))]
        values = self._codec.encode_events(block, self.sent)
        if renamed:
            names = [*(feature.name for feature in self._codec.schema.features[:-1]), "another"]
            plain = [json.loads(value) for value in values]
            values = [json.dumps(each | {"x": dict(zip(names, each["x"], strict=True))}).encode() for each in plain]
        self._log.send(zip(keys, values, strict=True))

    def settle(self) -> None:
        """Wait until Prometheus has seen everything committed."""
        self.prometheus.wait_for(f"sum(stream_moe_predictions_committed_total) == {self.sent}", 300)
        self.prometheus.wait_for("sum(stream_moe_consumer_lag_records) == 0")

    def well(self) -> list[Seen]:
        """Let it work as it should, and ask everything."""
        self.send(WELL // 2)
        self.prometheus.wait_for("stream_moe_predictions_committed_total", COMPILE_SECONDS)
        self.settle()
        self.send(WELL // 2)
        self.send(APART, labels="apart")
        self.settle()
        self.prometheus.wait_for("stream_moe_pending_events == 0")
        self.prometheus.wait_for("ALERTS or count(stream_moe_checkpoint_bytes) == 2")
        return [self._seen(query) for query in all_queries()]

    def _seen(self, query: Query, seconds: float = 10.0) -> Seen:
        """Ask, and again for a while where that looks wrong: a scrape that was late on a busy machine is no fault."""
        deadline = time.monotonic() + seconds
        while True:
            seen = Seen(query, self._count(query.promql), self._count(query.joined))
            if seen.wrong is None or time.monotonic() > deadline:
                return seen
            time.sleep(0.5)

    def lint(self) -> str:
        """What `promtool check metrics` says of a scrape of the running daemon; nothing, if all is well."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            result = promtool("check", "metrics", stdin=answer.read())
        said = (result.stdout + result.stderr).decode()
        return said if result.returncode == 0 else f"{said}exit code {result.returncode}"

    def ill(self, seen: Sequence[Seen]) -> None:
        """Make it ill in every way that is cheap, and ask again what needs that."""
        waiting = {one.query.name: one for one in seen if one.query.name in PROVOKED}
        shutil.rmtree(self.state)
        self.state.touch()
        self._junk()
        self.send(TURN, labels="lot")
        self._ask([waiting.pop(DROP)])  # at once, before its day is no better
        self._junk()
        for _ in range(TURNS):
            self.send(TURN)
            self.send(TURN, labels="lot")
        self.send(2 * TURN, labels="missing")
        self.send(3 * TURN, labels="renamed")  # last: a feature that comes back is not gone
        self.settle()
        absent = waiting.pop(ABSENT)
        self._ask(list(waiting.values()))
        self.stop()
        self._ask([absent])

    def _junk(self) -> None:
        self._log.send((b"", b"no JSON") for _ in range(JUNK))
        self._log.flush()

    def _ask(self, seen: Sequence[Seen], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        for one in seen:
            while not (found := self._count(one.query.promql)) and time.monotonic() < deadline:
                time.sleep(0.2)
            one.ill = found

    def _count(self, promql: str) -> int:
        """Count the series that have a number."""
        return sum(not math.isnan(float(sample["value"][1])) for sample in self.prometheus.query(promql))


@contextmanager
def watched(settings: KafkaSettings, folder: Path) -> Iterator[Watched]:
    run = Watched(settings, folder)
    try:
        yield run
    finally:
        run.close()
