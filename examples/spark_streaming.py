"""A learner inside Spark Structured Streaming: one for each key, its state in Spark's own state store.

Kafka, this project's daemon and its checkpoints have no part in it: Spark reads the events, keeps the state, writes
the predictions and goes on after a crash. docs/spark.md says what is guaranteed then.

    pip install -c constraints.txt '.[spark]'                            # and Java 17
    python -m examples.spark_streaming fill events                       # electricity in turns to keys a and b
    python -m examples.spark_streaming run events predictions checkpoint  # kill it, run it again: the same answers
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle

from stream_moe import Schema, build_model, open_stream, restore_state, state_to_bytes

EVENT = "key STRING, offset BIGINT, x ARRAY<FLOAT>, y STRING"  # offset: ascending within its key; y null = no label
PREDICTION = "key STRING, offset BIGINT, class STRING, proba ARRAY<DOUBLE>"
STATE = "learner BINARY, next_offset BIGINT"
STORE = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


class Learner(StatefulProcessor):  # type: ignore[misc]
    """Predict, then learn, the events of one key.

    Parameters
    ----------
    model, seed
        As `build_model` takes them.
    schema
        Of the events.
    """

    def __init__(self, model: str, schema: Schema, seed: int = 1) -> None:
        self._model, self._schema, self._seed = model, schema, seed

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._state = handle.getValueState("learner", STATE)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:  # noqa: N802 (Spark's)
        """Take all rows that a micro-batch has for the key; Spark's shuffle has mixed them up."""
        events = sorted(rows, key=lambda row: row.offset)
        learner, done = build_model(self._model, self._schema, seed=self._seed), 0
        if (found := self._state.get()) is not None:
            restore_state(learner, bytes(found[0]), f"state of key {key[0]!r}")
            done = found[1]
        if events[0].offset < done:  # learnt out of order, it would be another model
            raise ValueError(
                f"key {key[0]!r}: offset {events[0].offset} comes after {done - 1}; see the source's order"
            )
        x = np.array([row.x for row in events], np.float32)
        y = np.array([-1 if row.y is None else self._schema.class_index[row.y] for row in events], np.int32)
        proba = learner.step(x, y)  # each answer before its label is learnt
        self._state.update((state_to_bytes(learner), events[-1].offset + 1))
        for row, p in zip(events, proba, strict=True):
            yield Row(key=row.key, offset=row.offset, **{"class": self._schema.classes[p.argmax()]}, proba=p.tolist())

    def close(self) -> None:
        """Nothing is held between micro-batches."""


def session() -> SparkSession:
    """A Spark of two threads on this machine; on a cluster, spark-submit brings one."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", "512m")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")  # of the state too: fixed by the first run of a checkpoint
        .config("spark.sql.streaming.stateStore.providerClass", STORE)
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def predict(events: DataFrame, model: str, schema: Schema) -> DataFrame:
    """Predictions of a stream of events: the part to take along."""
    learner = Learner(model, schema)
    return events.groupBy("key").transformWithState(
        statefulProcessor=learner, outputStructType=PREDICTION, outputMode="Append", timeMode="None"
    )


def digests(spark: SparkSession, checkpoint: str, model: str, schema: Schema) -> dict[str, str]:
    """Digest of each key's learner, from what Spark's state store holds now."""
    found = spark.read.format("statestore").option("stateVarName", "learner").load(checkpoint)
    result = {}
    for row in found.selectExpr("key.key AS key", "value.learner AS learner").collect():
        learner = build_model(model, schema, seed=1)
        restore_state(learner, bytes(row.learner))
        result[row.key] = learner.digest
    return dict(sorted(result.items()))


def fill(folder: str, count: int = 6000, files: int = 6) -> None:
    """Write electricity's first events as JSON lines; Spark takes one file for each micro-batch, the oldest first."""
    stream = open_stream("electricity")
    block = next(stream.blocks(count))
    lines = [
        json.dumps({"key": "ab"[t % 2], "offset": t, "x": x.tolist(), "y": stream.schema.classes[y]})
        for t, (x, y) in enumerate(zip(block.x, block.y, strict=True))
    ]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.array_split(lines, files)):
        path = Path(folder) / f"{number:05d}.json"
        path.write_text("\n".join(part) + "\n")
        os.utime(path, (1e9 + number, 1e9 + number))


def run(folder: str, output: str, checkpoint: str, model: str = "driftmoe") -> None:
    """Work off what the folder holds, and say what each key's learner has become."""
    spark, schema = session(), open_stream("electricity").schema
    events = spark.readStream.schema(EVENT).option("maxFilesPerTrigger", 1).json(folder)
    query = (
        predict(events, model, schema)
        .writeStream.format("json")  # the file sink: a file counts once the batch that wrote it is committed
        .option("path", output)
        .option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    for progress in query.recentProgress:
        events_seen, milliseconds = progress["numInputRows"], progress["durationMs"]["triggerExecution"]
        print(f"batch {progress['batchId']}: {events_seen} events, {milliseconds} ms")
    print(f"{spark.read.schema(PREDICTION).json(output).count()} predictions")
    for key, digest in digests(spark, checkpoint, model, schema).items():
        print(f"key {key}: state {digest}")
    spark.stop()


def main(verb: str, folder: str, *more: str) -> None:
    if verb == "fill":
        fill(folder)
    else:
        run(folder, *more)


if __name__ == "__main__":
    main(*sys.argv[1:])
