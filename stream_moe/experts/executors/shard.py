"""A shard: some of the experts, in their process or actor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import StreamMoeError
from stream_moe.experts.base import Expert, ExpertFacts
from stream_moe.experts.pool import ExpertPool
from stream_moe.snapshot import Snapshot
from stream_moe.types import UNLABELLED, Bool, Float32, Float64, Int32, Schema


class Run(NamedTuple):
    """The input of k experts for a run of n events.

    Attributes
    ----------
    x
        float32 [n, d].
    y
        int32 [k, n], or [1, n] where all have the same labels; None = predict only.
    weight
        float64 [k, n], or [1, n]; None = predict only.
    active
        bool [k, n]; None = all of them.
    """

    x: Float32
    y: Int32 | None
    weight: Float64 | None
    active: Bool | None

    def of(self, experts: slice) -> Run:
        """Return the part of some of the experts."""
        y, weight, active = self.y, self.weight, self.active
        return Run(
            self.x,
            y if y is None or len(y) == 1 else y[experts],
            weight if weight is None or len(weight) == 1 else weight[experts],
            None if active is None else active[experts],
        )

    def copy(self) -> Run:
        return Run(*(None if a is None else a.copy() for a in self))  # type: ignore[arg-type]

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self if a is not None)


class Failure(NamedTuple):
    """An error of a shard, on its way back."""

    error: Exception


class Shard:
    """Experts that a pool elsewhere calls."""

    def __init__(self, experts: Sequence[Expert]) -> None:
        self._pool = ExpertPool(experts)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method; an error comes back as a value, in the same way from every executor."""
        try:
            return getattr(self, method)(*arguments)
        except StreamMoeError as error:
            return Failure(error)
        except Exception as error:  # of any class, which may not exist or not be built there
            return Failure(RuntimeError(f"{type(error).__name__}: {error}"))

    def step(self, *arrays: Any) -> Float64:
        """Test then train through a `Run`, given by its parts; return float64 [k, n, C]."""
        return self.pass_through(Run(*arrays))

    def pass_through(self, run: Run, out: Float64 | None = None) -> Float64:
        shape = (1, len(run.x))
        y = np.full(shape, UNLABELLED, np.int32) if run.y is None else run.y
        weight = np.zeros(shape) if run.weight is None else run.weight
        return self._pool.step(run.x, y, weight, run.active, out)

    def rebuild(self, snapshot: Snapshot, runs: Sequence[Run]) -> None:
        """Go back to a snapshot, and learn again what has been learnt since."""
        self.restore(snapshot)
        for run in runs:
            self.pass_through(run)

    def add(self, experts: Sequence[Expert]) -> None:
        self._pool.add(experts)

    def grow(self, schema: Schema) -> None:
        self._pool.grow(schema)

    def snapshot(self) -> Snapshot:
        return self._pool.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self._pool.restore(snapshot)

    def facts(self) -> list[ExpertFacts]:
        return self._pool.facts()
