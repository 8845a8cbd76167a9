"""Experts over rows with very many features: some see all of a row, the others the most useful columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.base import Expert, ExpertFacts, facts_of
from stream_moe.experts.pool import ExpertPool, step_some
from stream_moe.runtime.threads import Task, WorkerThreads
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import UNLABELLED, Bool, Float32, Float64, Int32, Schema


class Columns(Protocol):
    """What chooses the columns."""

    def __len__(self) -> int: ...

    def take(self, x: Any, y: Int32, *, keep: bool = True) -> tuple[Float32, Any]: ...

    def grow(self, n_classes: int) -> None: ...

    def snapshot(self) -> Snapshot: ...

    def restore(self, snapshot: Snapshot) -> None: ...


class ColumnsPool:
    """E experts as `ExpertPool` has them; x may be `SparseRows`.

    Parameters
    ----------
    columns
        Chooses the columns.
    by_columns
        Experts over its K columns, all numeric; they come first.
    by_rows
        Experts over whole rows, as the columns' `take` gives them.
    workers
        Threads.
    """

    def __init__(
        self, columns: Columns, by_columns: Sequence[Expert], by_rows: Sequence[Expert], workers: WorkerThreads
    ) -> None:
        self.columns, self._workers = columns, workers
        self._narrow, self._whole = ExpertPool(by_columns, workers=workers), list(by_rows)

    def __len__(self) -> int:
        return len(self._narrow) + len(self._whole)

    @property
    def kinds(self) -> list[str]:
        """Kind of each expert, in order."""
        return [expert.kind for expert in (*self._narrow.experts, *self._whole)]

    def add(self, experts: Sequence[Expert]) -> None:
        """As of no such pool: its experts are chosen when it is made."""
        raise ConfigError(f"a pool with columns takes no more experts, as {experts[0].kind}; make it with them")

    def step(
        self, x: Any, y: Int32, weight: Float64, active: Bool | None = None, *, beside: Task | None = None
    ) -> Float64:
        """As `ExpertPool.step`, with the same labels and weights, [1, n], for all."""
        view, rows = self.columns.take(x, np.ascontiguousarray(y[0]))
        return self._step(view, rows, y, weight, active, beside)

    def predict(self, x: Any, active: Bool | None = None) -> Float64:
        """float64 [E, n, C], learning nothing."""
        y = np.full((1, len(x)), UNLABELLED, np.int32)
        view, rows = self.columns.take(x, y[0], keep=False)
        return self._step(view, rows, y, np.zeros((1, len(x))), active, None)

    def _step(
        self, view: Any, rows: Any, y: Int32, weight: Float64, active: Bool | None, beside: Task | None
    ) -> Float64:
        e, n = len(self._narrow), len(rows)
        proba = np.empty((len(self), n, self._whole[0].n_classes))
        chosen = np.ones(proba.shape[:2], np.bool_) if active is None else active
        self._narrow.step(view, y, weight, chosen[:e], proba[:e], beside)
        labels, weights = np.ascontiguousarray(y[0]), np.ascontiguousarray(weight[0])

        def go(expert: Expert, active: Bool, out: Float64) -> Task:
            if active.all():
                return lambda: expert.step(rows, labels, weights, out)
            return lambda: step_some(expert, active.nonzero()[0], rows, labels, weights, out)

        self._workers.each(go(x, chosen[e + k], proba[e + k]) for k, x in enumerate(self._whole))
        return proba

    def grow(self, schema: Schema) -> None:
        """Take more classes."""
        self.columns.grow(schema.n_classes)
        for expert in self._narrow.experts:
            expert.grow(columns_schema(len(self.columns), schema))
        for expert in self._whole:
            expert.grow(schema)

    def snapshot(self) -> Snapshot:
        parts = {f"rows{k}": expert.snapshot() for k, expert in enumerate(self._whole)}
        return pack({"columns": self.columns.snapshot(), "narrow": self._narrow.snapshot()} | parts)

    def restore(self, snapshot: Snapshot) -> None:
        parts = unpack(snapshot)
        self.columns.restore(parts["columns"])
        self._narrow.restore(parts["narrow"])
        for k, expert in enumerate(self._whole):
            expert.restore(parts[f"rows{k}"])

    def facts(self) -> list[ExpertFacts]:
        """Each expert's description of itself as it is now."""
        return [facts_of(expert) for expert in (*self._narrow.experts, *self._whole)]


def columns_schema(places: int, schema: Schema) -> Schema:
    """Return the schema of the columns that experts see."""
    return Schema.numeric(places, schema.classes)
