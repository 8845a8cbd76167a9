"""What keeping a learner in Spark's state store costs for each micro-batch: `python -m benchmarks.spark_state`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pyspark.sql import Row

from examples.spark_streaming import EVENT, Learner, fill, session
from stream_moe import build_model, open_stream, restore_state, state_to_bytes

MODELS = ["driftmoe", "driftmoe-data", "adaptive-tree", "hoeffding-tree"]
EVENTS, BATCHES, WARM = 10_000, 10, 3  # of each of two keys half of them; batches before WARM load and compile
PARTS = ["get", "read", "step", "write", "put"]
TIMES = ", ".join(["size BIGINT", *(f"{part} DOUBLE" for part in PARTS)])


class TimedLearner(Learner):
    """The example's learner, which gives for each micro-batch the seconds of its parts instead of predictions."""

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:  # noqa: N802 (Spark's)
        events = sorted(rows, key=lambda row: row.offset)
        x = np.array([row.x for row in events], np.float32)
        y = np.array([self._schema.class_index[row.y] for row in events], np.int32)
        clock = [time.perf_counter()]
        found = self._state.get()
        clock.append(time.perf_counter())
        learner = build_model(self._model, self._schema, seed=self._seed)
        if found is not None:
            restore_state(learner, bytes(found[0]))
        clock.append(time.perf_counter())
        learner.step(x, y)
        clock.append(time.perf_counter())
        content = state_to_bytes(learner)
        clock.append(time.perf_counter())
        self._state.update((content, events[-1].offset + 1))
        clock.append(time.perf_counter())
        seconds = {part: after - before for part, (before, after) in zip(PARTS, pairwise(clock), strict=True)}
        yield Row(size=len(content), **seconds)


def main(models: list[str]) -> None:
    spark, schema = session(), open_stream("electricity").schema
    print(f"| {EVENTS // BATCHES // 2} events of each of 2 keys | state, MB | from the store, ms | restored | learnt "
          "| to bytes | to the store | the whole micro-batch |")  # fmt: skip
    print("| --- " * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        fill(f"{folder}/events", EVENTS, BATCHES)
        for model in models:
            events = spark.readStream.schema(EVENT).option("maxFilesPerTrigger", 1).json(f"{folder}/events")
            timed = events.groupBy("key").transformWithState(
                statefulProcessor=TimedLearner(model, schema),
                outputStructType=TIMES,
                outputMode="Append",
                timeMode="None",
            )
            name = model.replace("-", "_")
            query = timed.writeStream.format("memory").queryName(name).trigger(availableNow=True)
            query = query.option("checkpointLocation", str(Path(folder) / name)).start()
            query.awaitTermination()
            rows = spark.table(name).collect()[2 * WARM :]
            cells = [f"{1e3 * median(row[part] for row in rows):.1f}" for part in PARTS]
            whole = median(p["durationMs"]["triggerExecution"] for p in query.recentProgress[WARM:])
            print(f"| {model} | {rows[-1]['size'] / 1e6:.2f} | {' | '.join(cells)} | {whole:.0f} |", flush=True)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1:] or MODELS)
