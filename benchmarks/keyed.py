"""A model for each key: what a key costs, 100,000 keys in bounded memory, and a key in each event.

    python -m benchmarks.keyed [cost | size | zipf | distinct] [--events N] [--keys N] [--key-memory MB]

Each run in bounded memory has a process of its own, a store of files, and a checkpoint every 100,000 events.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from connectors.files import FileCheckpointStore
from stream_moe.checkpoints.checkpoint import Checkpoint, Owner
from stream_moe.engine.checkpoint import CheckpointWriter
from stream_moe.engine.task import SAVE_SECONDS
from stream_moe.evaluation.metrics import Prequential
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed import record
from stream_moe.models.keyed.barrier import Barrier
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.memory import KeyMemory
from stream_moe.snapshot import pack
from stream_moe.types import Float32, Int32, Schema

SCHEMA, BLOCK = Schema.numeric(8, ["no", "yes"]), 4096
EVERY = 100_000  # events between two checkpoints
MODELS = ["softmax", "naive-bayes", "hoeffding-tree", "adaptive-tree", "driftmoe-data", "driftmoe"]
Keyed = tuple[Float32, Int32, list[bytes]]


def rss() -> float:
    """Resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def make(model: str) -> Callable[[Schema], BlockClassifier]:
    return lambda schema: build_model(model, schema)


def zipf(events: int, n_keys: int) -> Iterator[Keyed]:
    """Each key once, then keys with Zipf's frequencies, 1/rank; what the label means depends on the key."""
    rng = np.random.default_rng(1)
    share, once = np.cumsum(1 / np.arange(1, n_keys + 1)), rng.permutation(n_keys)
    for start in range(0, events, BLOCK):
        n = min(BLOCK, events - start)
        key = np.searchsorted(share, rng.random(n) * share[-1])
        key[: max(0, n_keys - start)] = once[start : start + n]
        yield (*rows(rng, key), [b"device-%d" % k for k in key.tolist()])


def distinct(events: int, _: int) -> Iterator[Keyed]:
    """A new key in each event."""
    rng = np.random.default_rng(1)
    for start in range(0, events, BLOCK):
        key = np.arange(start, min(start + BLOCK, events))
        yield (*rows(rng, key), [b"session-%d" % k for k in key.tolist()])


def rows(rng: np.random.Generator, key: np.ndarray[Any, Any]) -> tuple[Float32, Int32]:
    n = len(key)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    return x, ((x[np.arange(n), key % 8] > 0) ^ (rng.random(n) < 0.05)).astype(np.int32)


def bounded(stream: str, model: str, events: int, n_keys: int, memory: int, max_keys: int) -> dict[str, Any]:
    """Learn a stream with checkpoints as the engine writes them, telling memory as it goes."""
    given = {"zipf": zipf, "distinct": distinct}[stream]
    with tempfile.TemporaryDirectory() as folder:
        store = FileCheckpointStore(folder)
        learner = KeyedLearner(SCHEMA, make=make(model), max_keys=max_keys, memory=KeyMemory(memory << 20))
        learner.attach(store)
        writer, quality, done, saved = CheckpointWriter(store), Prequential(2), 0, 0
        writer.files = learner.files
        owner = Owner.of("benchmark", model, SCHEMA, {})
        barrier: Barrier | None = None
        most, begin, told_at = 0, time.process_time(), 0
        held, saves, steps = list[float](), list[float](), {False: list[float](), True: list[float]()}  # seconds
        for x, y, keys in given(events, n_keys):
            clock = [time.thread_time()]
            quality.update(learner.step(x, y, keys=keys), y)
            clock.append(time.thread_time())
            steps[barrier is not None].append(clock[1] - clock[0])
            done += len(y)
            most = max(most, learner.keys.resident_bytes)
            if barrier is None and done - saved >= EVERY:
                barrier, saved = learner.begin_snapshot(), done
                held.append(time.thread_time() - clock[1])
            elif barrier is not None:
                state = barrier.advance(max(SAVE_SECONDS, clock[1] - clock[0]))
                saves.append(time.thread_time() - clock[1])
                if state is not None:
                    arrays, plain = pack({"learner": state, "schema": ({}, SCHEMA.to_dict())})
                    writer.write(Checkpoint(saved, owner, plain, arrays))
                    barrier = None
            if done - told_at >= events / 10:
                told, told_at = learner.keys, done
                print(
                    f"  {done:>10,} events  {rss():6.0f} MB resident  {told.known:>7,} keys known  "
                    f"{told.resident:>7,} models in memory ({told.resident_bytes / 1e6:.0f} MB)  "
                    f"{told.evicted:>9,} evicted  {told.loaded:>9,} loaded  {told.forgotten:>9,} forgotten",
                    flush=True,
                )
        writer.wait()
        seconds = time.process_time() - begin
        on_disk = sum(file.stat().st_size for file in Path(folder).iterdir())
        told = learner.keys
        return {
            "events/CPU s": events / seconds, "accuracy": quality.report().accuracy, "digest": learner.digest,
            "bound held": most <= memory << 20, "evicted": told.evicted, "loaded": told.loaded,
            "forgotten": told.forgotten, "known": told.known, "on disk": on_disk, "checkpoint": writer.bytes,
            "held": max(held, default=0.0), "save": max(saves, default=0.0), "saves": len(saves) / max(1, len(held)),
            "steps": [statistics.median(steps[under_way] or [0.0]) for under_way in (False, True)],
        }  # fmt: skip


def _child(folder: str, *given: Any) -> None:
    Path(folder, "found").write_text(json.dumps(bounded(*given)))


def apart(*given: Any) -> dict[str, Any]:
    """Run `bounded` in a process of its own, and say what it found."""
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(target=_child, args=(folder, *given))
        process.start()
        process.join()
        found: dict[str, Any] = json.loads(Path(folder, "found").read_text())
    print(
        f"  {found['events/CPU s']:,.0f} events a CPU second, accuracy {found['accuracy']:.4%}, digest "
        f"{found['digest'][:16]}; bound held: {found['bound held']}; {found['evicted']:,} evicted, "
        f"{found['loaded']:,} loaded, {found['forgotten']:,} forgotten; {found['on disk'] / 1e6:.0f} MB in the "
        f"store, the checkpoint itself {found['checkpoint'] / 1e6:.1f} MB"
    )
    print(
        f"  a checkpoint, ms of the loop: {1e3 * found['held']:.0f} to hold the state, at most "
        f"{1e3 * found['save']:.0f} after a block for its models, over {found['saves']:.0f} blocks; a block itself "
        f"takes {1e3 * found['steps'][0]:.0f}, and {1e3 * found['steps'][1]:.0f} while one is under way (medians)"
    )
    return found


def cost() -> None:
    """Events a CPU second by keys in a block of 4,096, all models in memory, against one model for all."""
    x, y = rows(np.random.default_rng(1), np.zeros(BLOCK, np.int64))
    for model in ("softmax", "hoeffding-tree"):
        one = build_model(model, SCHEMA)
        print(f"{model}: one model without keys {_speed(partial(one.step, x, y)):,.0f} events/s", flush=True)
        for n_keys in (1, 4, 16, 64, 256, 1024, 4096):
            learner = KeyedLearner(SCHEMA, make=make(model), memory=KeyMemory(1 << 40))
            keys = [b"%d" % (i * 7919 % n_keys) for i in range(BLOCK)]
            rate = _speed(partial(learner.step, x, y, keys=keys))
            each = 1e6 * BLOCK / rate / n_keys
            print(
                f"  {n_keys:>5} keys in a block: {rate:>9,.0f} events/s, {each:8.0f} microseconds per key", flush=True
            )


def _speed(step: Callable[[], object]) -> float:
    taken = []
    for _ in range(12):
        begin = time.process_time()
        step()
        taken.append(time.process_time() - begin)
    return BLOCK / statistics.median(taken[2:])


def size() -> None:
    """Memory of a model after its first event, CPU time of that event, and what a model takes in a segment."""
    for model in MODELS:
        process = multiprocessing.get_context("spawn").Process(target=_size, args=(model,))
        process.start()
        process.join()


def _size(model: str) -> None:
    count = 100 if model.startswith("driftmoe") else 5000
    x, y = rows(np.random.default_rng(1), np.zeros(1000, np.int64))
    learner = KeyedLearner(SCHEMA, make=make(model), memory=KeyMemory(1 << 40))
    one = build_model(model, SCHEMA)
    one.step(x, y)
    keys = [b"%d" % i for i in range(count)]
    gc.collect()
    before, begin = rss(), time.process_time()
    learner.step(np.repeat(x[:1], count, 0), np.repeat(y[:1], count), keys=keys)
    new = 1e6 * (time.process_time() - begin) / count
    taken, counted = 1e3 * (rss() - before) / count, 1e-3 * learner.keys.resident_bytes / count
    fresh, grown = (len(record.pack(record.to_bytes(m.snapshot()))) / 1e3 for m in (build_model(model, SCHEMA), one))
    print(
        f"{model:<15} new key {new:6.0f} microseconds of CPU; in memory {taken:8.1f} kB (counted as {counted:.1f}); "
        f"written {fresh:.1f} kB fresh, {grown:.1f} kB after 1,000 events",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keyed", description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", choices=["cost", "size", "zipf", "distinct"])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--key-memory", type=int, default=128, help="MB")
    parser.add_argument("--model", default="hoeffding-tree")
    given = parser.parse_args()
    wanted = given.what or ["cost", "size", "zipf", "distinct"]
    if "cost" in wanted:
        cost()
    if "size" in wanted:
        size()
    if "zipf" in wanted:
        print(f"Zipf over {given.keys:,} keys, {given.model}, {given.key_memory} MB for models:", flush=True)
        within = apart("zipf", given.model, given.events, given.keys, given.key_memory, 250_000)
        print("the same with room for all:", flush=True)
        free = apart("zipf", given.model, given.events, given.keys, 1 << 20, 250_000)
        print(f"digest and accuracy equal: {[within[k] == free[k] for k in ('digest', 'accuracy')]}")
    if "distinct" in wanted:
        print(f"a new key in each event, at most 100,000 known, {given.key_memory} MB for models:", flush=True)
        apart("distinct", given.model, given.events, given.keys, given.key_memory, 100_000)


if __name__ == "__main__":
    main()
