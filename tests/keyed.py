"""A model for each key on a real broker: 1 -> 3 -> 2 daemons under load, one killed; `python -m tests.keyed`.

At the end every record must be answered once and in order, and each partition's models must equal those of one
process that saw the whole log.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from connectors.kafka import KafkaProducerLog, KafkaSettings
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.models.catalogue import build_model
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.types import Block, RecordBatch, Schema
from tests.kafka.broker import Broker
from tests.kafka.daemons import Members, digests_of
from tests.kafka.steps import CommitWatcher

SCHEMA = Schema.numeric(8, ["no", "yes"])
CODEC = JsonCodec(SCHEMA, keys=KeySettings())
PARTITIONS = 6
ROWS = 5_000


def records(events: int, n_keys: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Events of keys with Zipf's frequencies; what the label means depends on the key."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_keys + 1)
    for start in range(0, events, ROWS):
        n = min(ROWS, events - start)
        key = rng.choice(n_keys, n, p=share / share.sum())
        x = rng.normal(size=(n, 8)).astype(np.float32)
        y = ((x[np.arange(n), key % 8] > 0) ^ (rng.random(n) < 0.05)).astype(np.int32)
        values = CODEC.encode_events(Block(x, y), start)
        yield from ((b"device-%d" % k, value) for k, value in zip(key.tolist(), values, strict=True))


class Watcher(CommitWatcher):
    """Waits for what is committed of all partitions together."""

    def done(self) -> int:
        return sum(self.committed(PARTITIONS))

    def wait(self, records: int, seconds: float = 600) -> float:
        """Wait until so many records are committed; seconds since 1970."""
        deadline = time.monotonic() + seconds
        while (done := self.done()) < records:
            if time.monotonic() > deadline:
                raise SystemExit(f"{done} of {records} records after {seconds:.0f} s")
            time.sleep(0.05)
        return time.time()


def fill(settings: KafkaSettings, events: int, n_keys: int, seed: int) -> None:
    with closing(KafkaProducerLog(settings, [schema_header(SCHEMA)], True, PARTITIONS)) as log:
        log.send(records(events, n_keys, seed))
        log.flush()


def embedded(watcher: Watcher, settings: KafkaSettings, model: str, partition: int) -> tuple[str, list[int], int]:
    """Feed a partition to a learner in this process; its digest, the offsets, and how many keys there are."""
    found = watcher.records(settings.topic, partition)
    offsets = np.array([each.offset for each in found], np.int64)
    batch = RecordBatch(offsets, offsets, [each.key for each in found], [each.value for each in found], 0)
    block, _ = CODEC.decode(batch)
    learner = KeyedLearner(SCHEMA, make=lambda schema: build_model(model, schema))
    learner.step(block.x, block.y, keys=block.keys)
    return learner.digest, offsets.tolist(), learner.keys.known


def grow_and_shrink(broker: Broker, folder: Path, events: int, n_keys: int, model: str, memory: int) -> bool:
    """1 -> 3 -> 2 members, one of them killed, while records arrive; compare with one member and with no engine."""
    name = f"keyed-{uuid.uuid4().hex[:8]}"
    settings = KafkaSettings(broker.bootstrap, name, f"{name}-out", f"{name}-dead", f"{name}-grown")
    options = ["--model", model, "--model-per", "key", "--key-memory", str(memory)]
    small = ["--block-rows", "1000", "--checkpoint-events", "10000"]
    members, watcher = Members(settings, folder / "grown", *options, *small), Watcher(settings)
    parts = 4
    with closing(members), closing(watcher):
        for seed in range(parts):
            fill(settings, events // parts, n_keys, seed)  # the log grows while the members work
            if seed == 0:
                first = members.start()
                watcher.wait(events // parts // 4)
                print(f"one member, {watcher.done():,} records committed", flush=True)
            if seed == 1:
                second, third = members.start(), members.start()
                for member in (second, third):
                    members.joined(member)
                print(f"three members, {watcher.done():,} records committed", flush=True)
            if seed == 2:
                os.kill(second.pid, signal.SIGKILL)
                print(f"kill -9 of one, {watcher.done():,} records committed", flush=True)
        watcher.wait(events // parts * parts)
        for member in (first, third):
            member.send_signal(signal.SIGTERM)
        grown = [members.result(member, 600) for member in (first, third)]
        alone = Members(
            KafkaSettings(settings.bootstrap, name, f"{name}-out-alone", f"{name}-dead", f"{name}-alone"),
            folder / "alone",
            *options,
        )
        with closing(alone):
            one = alone.result(alone.start("--until-caught-up"), 600)
        mine, theirs, right = digests_of(*grown), digests_of(one), True
        keys = 0
        for partition in range(PARTITIONS):
            expected, offsets, known = embedded(watcher, settings, model, partition)
            answered = [json.loads(each.value)["offset"] for each in watcher.records(settings.predictions, partition)]
            same = mine.get(partition) == theirs.get(partition) == expected
            right &= same and answered == offsets
            keys += known
            print(
                f"partition {partition}: {len(offsets):,} records, {known:,} keys, answered once and in order: "
                f"{answered == offsets}, digest {expected[:12]} of group, one member and no engine equal: {same}"
            )
        files = list((folder / "grown" / "state").rglob("*.models"))
        print(f"{keys:,} keys; {len(files)} files of models, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")
    return right


def throughput(broker: Broker, folder: Path, events: int, n_keys: int, model: str, memory: int) -> None:
    """Events a second of one member and of two, over records that are in the log before the clock starts."""
    for count in (1, 2):
        name = f"speed-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(broker.bootstrap, name, f"{name}-out", f"{name}-dead", name)
        members = Members(
            settings, folder / name, "--model", model, "--model-per", "key", "--key-memory", str(memory)
        )
        with closing(members), closing(Watcher(settings)) as watcher:
            fill(settings, ROWS * PARTITIONS, n_keys, 0)
            fill(settings, events, n_keys, 1)
            started = [members.start() for _ in range(count)]
            begun_at = watcher.wait(ROWS * PARTITIONS)  # all have joined, and compiled what they run
            begun = watcher.done()
            ended_at = watcher.wait(ROWS * PARTITIONS + events)
            rate = (ROWS * PARTITIONS + events - begun) / (ended_at - begun_at)
            for process in started:
                process.send_signal(signal.SIGTERM)
            shares = [
                sum(part["events"] for part in members.result(process, 600)["partitions"]) for process in started
            ]
            print(
                f"{count} member{'s' if count > 1 else ''}: {rate:,.0f} events/s ({shares} events each)", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.keyed", description=__doc__)
    parser.add_argument("what", nargs="*", choices=["group", "speed"], help="default: group")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--model", default="hoeffding-tree")
    parser.add_argument("--key-memory", type=int, default=16, help="MB of each partition's models")
    given = parser.parse_args()
    broker, right, what = Broker(), True, given.what or ["group"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            broker.start()
            options = (given.events, given.keys, given.model, given.key_memory)
            if "group" in what:
                right = grow_and_shrink(broker, Path(folder), *options)
                print("as if nothing had happened" if right else "NOT the same")
            if "speed" in what:
                throughput(broker, Path(folder), *options)
        finally:
            broker.stop()
    sys.exit(not right)


if __name__ == "__main__":
    main()
