"""A learner with a model for each key, and a store in memory that dies when it is told to: for its tests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from connectors.files import check_parts
from connectors.memory import SimulatedCrashError
from stream_moe.errors import CheckpointError
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.record import digest, to_bytes
from stream_moe.ports import CheckpointStore
from stream_moe.types import Float64, Int32, Schema

SCHEMA = Schema.numeric(3, ["no", "yes"])
MODEL = "naive-bayes"
LABELS = np.array([0, 1, 1], np.int32)
SMALL = 60_000  # bytes: room for a handful of models


def make(schema: Schema) -> BlockClassifier:
    return build_model(MODEL, schema)


def keyed(store: CheckpointStore | None = None, **options: Any) -> KeyedLearner:
    learner = KeyedLearner(SCHEMA, make=make, **options)
    if store is not None:
        learner.attach(store)
    return learner


def stream(n: int, n_keys: int, seed: int = 1) -> tuple[Any, Int32, list[bytes]]:
    """Rows whose label depends on the key, a tenth without one; some keys are far more frequent than others."""
    rng = np.random.default_rng(seed)
    key = rng.zipf(1.4, n) % n_keys
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = ((x[:, 0] > 0) ^ (key % 2 == 0)).astype(np.int32)
    y[rng.random(n) < 0.1] = -1
    return x, y, [b"k%d" % k for k in key]


def one_by_one(x: Any, y: Int32, keys: list[bytes], max_keys: int) -> tuple[Float64, dict[bytes, bytes]]:
    """Do what a keyed learner says it does, event by event, with a dictionary of models."""
    models: OrderedDict[bytes, BlockClassifier] = OrderedDict()
    proba = np.empty((len(x), 2))
    for t, key in enumerate(keys):
        model = models.get(key) or make(SCHEMA)
        proba[t] = model.step(x[t : t + 1], y[t : t + 1])[0]
        if y[t] >= 0:
            models[key] = model
            models.move_to_end(key)
            if len(models) > max_keys:
                models.popitem(last=False)
    return proba, {key: digest(to_bytes(model.snapshot())) for key, model in models.items()}


class Memory:
    """A `CheckpointStore` whose writes and deletions can be made the process's last act."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.acts, self.dies_at, self.done_first = 0, -1, False

    @property
    def dead(self) -> bool:
        return self.acts > self.dies_at >= 0

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise CheckpointError(f"{name}: not there")
        return self.files[name]

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        content = self.read(name)
        found = [content[begin:end] for begin, end in parts]
        check_parts(name, parts, found)
        return found

    def write(self, name: str, content: bytes) -> None:
        self._act(lambda: self.files.update({name: content}))

    def delete(self, name: str) -> None:
        self._act(lambda: self.files.pop(name, None))

    def _act(self, act: Any) -> None:
        last = self.acts == self.dies_at
        self.acts += 1
        if self.done_first or not self.dead:
            act()
        if last or self.dead:
            raise SimulatedCrashError(f"act {self.acts - 1}")
