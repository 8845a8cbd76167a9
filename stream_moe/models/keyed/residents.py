"""The models that are in memory, and what they take of it."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream_moe.checkpoints.checkpoint import understood
from stream_moe.models.contract import BlockClassifier
from stream_moe.ranges import of
from stream_moe.snapshot import Snapshot
from stream_moe.types import UNLABELLED, Schema

FIRST_MEASURE = 64  # rows; then whenever a model has learnt a quarter more, as no model grows faster than its rows


@dataclass(slots=True)
class Resident:
    """One model in memory; `changed` = it is not what was last written of it, `used` = when it was."""

    model: BlockClassifier
    bytes: int
    used: int = 0
    changed: bool = False
    rows: int = 0
    measure_at: int = FIRST_MEASURE


class Residents:
    """Models by key, the last used one last.

    Parameters
    ----------
    make
        Makes a fresh model.
    schema
        Of the events.

    Attributes
    ----------
    bytes
        What the models take together: their arrays, and for each what a fresh one was measured to take besides.
    """

    def __init__(self, make: Callable[[], BlockClassifier], schema: Schema) -> None:
        self.held: OrderedDict[bytes, Resident] = OrderedDict()
        self.bytes = 0
        self._make = make
        x, y = np.zeros((1, schema.n_features), np.float32), np.full(1, UNLABELLED, np.int32)
        make().step(x, y)  # loads code, which must not count as the model's memory
        self._besides, self._fresh = 0, 0
        tracing = tracemalloc.is_tracing()
        if not tracing:
            tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        model = make()
        model.step(x, y)
        taken = tracemalloc.get_traced_memory()[0] - before
        if not tracing:
            tracemalloc.stop()
        self._besides = max(0, taken - array_bytes(model.snapshot()))
        self._fresh = max(taken, self._besides)

    def __len__(self) -> int:
        return len(self.held)

    def use(self, key: bytes, now: int) -> None:
        """Say that a model which is here is used."""
        self.held.move_to_end(key)
        self.held[key].used = now

    def add(self, key: bytes, snapshot: Snapshot | None, now: int) -> None:
        """Take a model in: a fresh one, or the one of a snapshot."""
        model, size = self._make(), self._fresh
        if snapshot is not None:
            with of(f"the model of key {ascii(key)[1:][:60]}"), understood("its state"):
                model.restore(snapshot)
            size = self._besides + array_bytes(snapshot)
        self.held[key] = Resident(model, size, now)
        self.bytes += size

    def learnt(self, resident: Resident, rows: int) -> None:
        """Say that a model took so many rows with labels."""
        resident.changed = True
        resident.rows += rows
        if resident.rows >= resident.measure_at:
            size = self._besides + array_bytes(resident.model.snapshot())
            self.bytes += size - resident.bytes
            resident.bytes, resident.measure_at = size, resident.rows + resident.rows // 4

    def drop(self, key: bytes) -> None:
        """Let a model go, if it is there."""
        if (resident := self.held.pop(key, None)) is not None:
            self.bytes -= resident.bytes


def array_bytes(snapshot: Snapshot) -> int:
    return sum(array.nbytes for array in snapshot[0].values())
