"""Experts over sparse rows: some see all of it, the others the most useful columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.base import Expert, ExpertFacts, facts_of
from stream_moe.experts.pool import ExpertPool, step_some
from stream_moe.experts.sparse.columns import UsefulColumns
from stream_moe.runtime.threads import Task, WorkerThreads
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import UNLABELLED, Bool, Float64, Int32, Schema


class SparsePool:
    """E experts as `ExpertPool` has them, with x of `SparseRows`.

    Parameters
    ----------
    columns
        Chooses the columns.
    by_columns
        Experts over its K columns, all numeric; they come first.
    by_rows
        Experts over whole rows, their values scaled to at most 1.
    workers
        Threads.
    """

    def __init__(
        self, columns: UsefulColumns, by_columns: Sequence[Expert], by_rows: Sequence[Expert], workers: WorkerThreads
    ) -> None:
        self.columns, self._workers = columns, workers
        self._dense, self._sparse = ExpertPool(by_columns, workers=workers), list(by_rows)

    def __len__(self) -> int:
        return len(self._dense) + len(self._sparse)

    @property
    def kinds(self) -> list[str]:
        """Kind of each expert, in order."""
        return [expert.kind for expert in (*self._dense.experts, *self._sparse)]

    def add(self, experts: Sequence[Expert]) -> None:
        """As of no pool of sparse rows: its experts are chosen when it is made."""
        raise ConfigError(f"a pool of sparse rows takes no more experts, as {experts[0].kind}; make it with them")

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
        e, n = len(self._dense), len(rows)
        proba = np.empty((len(self), n, self._sparse[0].n_classes))
        chosen = np.ones(proba.shape[:2], np.bool_) if active is None else active
        self._dense.step(view, y, weight, chosen[:e], proba[:e], beside)
        labels, weights = np.ascontiguousarray(y[0]), np.ascontiguousarray(weight[0])

        def go(expert: Expert, active: Bool, out: Float64) -> Task:
            if active.all():
                return lambda: expert.step(rows, labels, weights, out)
            return lambda: step_some(expert, active.nonzero()[0], rows, labels, weights, out)

        self._workers.each(go(x, chosen[e + k], proba[e + k]) for k, x in enumerate(self._sparse))
        return proba

    def grow(self, schema: Schema) -> None:
        """Take more classes."""
        self.columns.grow(schema.n_classes)
        for expert in self._dense.experts:
            expert.grow(columns_schema(len(self.columns), schema))
        for expert in self._sparse:
            expert.grow(schema)

    def snapshot(self) -> Snapshot:
        parts = {f"rows{k}": expert.snapshot() for k, expert in enumerate(self._sparse)}
        return pack({"columns": self.columns.snapshot(), "dense": self._dense.snapshot()} | parts)

    def restore(self, snapshot: Snapshot) -> None:
        parts = unpack(snapshot)
        self.columns.restore(parts["columns"])
        self._dense.restore(parts["dense"])
        for k, expert in enumerate(self._sparse):
            expert.restore(parts[f"rows{k}"])

    def facts(self) -> list[ExpertFacts]:
        """Each expert's description of itself as it is now."""
        return [facts_of(expert) for expert in (*self._dense.experts, *self._sparse)]


def columns_schema(places: int, schema: Schema) -> Schema:
    """Return the schema of the columns that experts see of sparse rows."""
    return Schema.numeric(places, schema.classes)
