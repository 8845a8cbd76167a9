"""All experts over a block in this process: each goes through the rows alone, in threads where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from stream_moe.experts.base import Expert, ExpertFacts, facts_of
from stream_moe.experts.trees.forest import Forest
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import UNLABELLED, Bool, Float32, Float64, Int32, Int64, Schema


class ExpertPool:
    """E experts of C classes, independent of each other.

    Because no expert reads another's state, a block gives the same result expert by expert (each tree stays
    in cache), event by event, or in any number of threads.
    """

    def __init__(self, experts: Sequence[Expert], *, workers: WorkerThreads | None = None) -> None:
        self.experts = list(experts)
        self._workers = workers or WorkerThreads(1)
        self._forest = Forest(self.experts) if Forest.can_hold(self.experts) else None

    def __len__(self) -> int:
        return len(self.experts)

    @property
    def kinds(self) -> list[str]:
        """Kind of each expert, in order."""
        return [expert.kind for expert in self.experts]

    def add(self, experts: Sequence[Expert]) -> None:
        """Take in more experts, behind the others."""
        self.experts += experts

    def step(
        self, x: Float32, y: Int32, weight: Float64, active: Bool | None = None, out: Float64 | None = None
    ) -> Float64:
        """Test then train; return float64 [E, n, C], each expert's predictions before it learnt each row.

        An expert that is not active learns nothing, and its prediction is NaN.

        Parameters
        ----------
        x
            float32 [n, d].
        y
            int32 [E, n], each expert's own labels; -1 = unknown.
        weight
            float64 [E, n], how much each expert learns of each row.
        active
            bool [E, n], which experts predict and learn which rows; None = all of them.
        out
            float64 [E, n, C], where to write it; None = into a new array.
        """
        proba = np.empty((len(self.experts), len(x), self.experts[0].n_classes)) if out is None else out
        if self._forest is not None and active is None:
            self._forest.step(x, y, weight, proba, self._workers)
            return proba
        # A free thread takes the next expert: trees differ in size.
        self._workers.each(
            partial(expert.step, x, y[e], weight[e], proba[e])
            if active is None or active[e].all()
            else partial(step_some, expert, active[e].nonzero()[0], x, y[e], weight[e], proba[e])
            for e, expert in enumerate(self.experts)
        )
        return proba

    def predict(self, x: Float32, active: Bool | None = None) -> Float64:
        """float64 [E, n, C], learning nothing."""
        shape = (len(self.experts), len(x))
        return self.step(x, unknown_labels(shape), np.zeros(shape), active)

    def grow(self, schema: Schema) -> None:
        for expert in self.experts:
            expert.grow(schema)

    def snapshot(self) -> Snapshot:
        return pack({str(e): expert.snapshot() for e, expert in enumerate(self.experts)})

    def restore(self, snapshot: Snapshot) -> None:
        for name, part in unpack(snapshot).items():
            self.experts[int(name)].restore(part)

    def facts(self) -> list[ExpertFacts]:
        """Each expert's description of itself as it is now."""
        return [facts_of(expert) for expert in self.experts]


def unknown_labels(shape: int | tuple[int, int]) -> Int32:
    """Labels to predict by; read-only as broadcast labels are, or numba would compile the experts again for them."""
    unknown = np.full(shape, UNLABELLED, np.int32)
    unknown.setflags(write=False)
    return unknown


def step_some(expert: Expert, rows: Int64, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
    """Step an expert through some of the rows; its prediction of the others is NaN."""
    predictions = np.empty((len(rows), proba.shape[1]))
    if len(rows):
        labels = y[rows]
        labels.setflags(write=y.flags.writeable)
        expert.step(x[rows], labels, weight[rows], predictions)
    proba[:] = np.nan
    proba[rows] = predictions
