"""What must hold for experts in any executor, beside the same experts in threads."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np

from stream_moe.models.catalogue import build_model
from stream_moe.types import Schema
from tests.laws.cases import OPTIONS, SCHEMA, events, mixed_stream, run

MODELS = ["driftmoe", "driftmoe-data", "driftmoe-task"]


def at(executor: str, name: str, schema: Schema | None = SCHEMA, shards: int = 2) -> Any:
    options = OPTIONS.get(name, {}) | ({} if executor == "threads" else {"executor": executor, "shards": str(shards)})
    return build_model(name, schema, seed=3, options=options)


def stop(model: Any) -> None:
    model.pool.close()


def kill(model: Any, shard: int) -> None:
    """Between two runs."""
    os.kill(model.pool.workers[shard].pid, signal.SIGKILL)


def kill_during(model: Any, shard: int) -> threading.Timer:
    """Kill a shard that has been told to do something, but not done it."""
    pid = model.pool.workers[shard].pid
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    timer.start()
    return timer


def assert_same_bits(executor: str, name: str, sizes: tuple[int, ...], n: int) -> None:
    """Predictions, weights, state and report, for blocks of any size; snapshots moved there and back; two deaths."""
    x, y = mixed_stream(n)
    here, there = at("threads", name), at(executor, name)
    try:
        begin, half = there.snapshot(), n // 2
        proba, weights = run(here, x, y, 10_000)
        for rows in sizes:
            there.restore(begin)
            found = run(there, x, y, rows)
            assert np.array_equal(found[0], proba), f"predictions, blocks of {rows}"
            assert np.array_equal(found[1], weights), f"weights, blocks of {rows}"
            assert there.digest == here.digest, f"state, blocks of {rows}"
            assert np.array_equal(there.predict_proba_many(x), here.predict_proba_many(x))
        assert repr(there.report()) == repr(here.report())

        # Half of the way in threads, the rest there, where one shard dies between two runs and one during a run.
        moved = at("threads", name)
        run(moved, x[:half], y[:half], 64)
        there.restore(moved.snapshot())
        run(there, x[half : half + 100], y[half : half + 100], 64)
        kill(there, 0)
        run(there, x[half + 100 : half + 200], y[half + 100 : half + 200], 64)
        timer = kill_during(there, 1)
        run(there, x[half + 200 :], y[half + 200 :], 64)
        timer.join()
        assert there.pool.rebuilt == 2
        assert there.digest == here.digest
        moved.restore(there.snapshot())
        assert moved.digest == here.digest
    finally:
        stop(there)


def assert_growth_is_the_same(executor: str, name: str) -> None:
    """Features, categories and classes as they come, one event at a time; a shard dies after they have."""
    x, y = mixed_stream(120)
    here, there = at("threads", name, None), at(executor, name, None)
    try:
        for t, (event, label) in enumerate(zip(events(x), y.tolist(), strict=True)):
            if t == 100:
                kill(there, 0)
            for model in (here, there):
                model.learn_one(event, SCHEMA.classes[label])
        assert there.pool.rebuilt == 1
        assert there.digest == here.digest
    finally:
        stop(there)
