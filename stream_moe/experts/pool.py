"""All experts over a block in this process: each goes through the rows alone, in threads where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.experts.base import Expert, ExpertFacts, facts_of
from stream_moe.experts.compiled import DONE, FRESH, kernel_of, last_change, step_all
from stream_moe.ranges import of
from stream_moe.runtime.bound import Bound
from stream_moe.runtime.threads import Task, WorkerThreads
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import UNLABELLED, Bool, Float32, Float64, Int32, Int64, Schema


class ExpertPool:
    """E experts of C classes, independent of each other.

    Because no expert reads another's state, a block gives the same result expert by expert (each tree stays
    in cache), event by event, or in any number of threads.

    Those that are compiled take one call of compiled code for each thread, whatever their kinds and number; the
    others are stepped by Python.
    """

    def __init__(self, experts: Sequence[Expert], *, workers: WorkerThreads | None = None) -> None:
        self.experts = list(experts)
        self._workers = workers or WorkerThreads(1)
        self._bound: list[Bound | None] = []
        self._seen: object = None

    def __len__(self) -> int:
        return len(self.experts)

    @property
    def kinds(self) -> list[str]:
        """Kind of each expert, in order."""
        return [expert.kind for expert in self.experts]

    def add(self, experts: Sequence[Expert]) -> None:
        """Take in more experts, behind the others."""
        self.experts += experts
        self._seen = None

    def step(
        self,
        x: Float32,
        y: Int32,
        weight: Float64,
        active: Bool | None = None,
        out: Float64 | None = None,
        beside: Task | None = None,
    ) -> Float64:
        """Test then train; return float64 [E, n, C], each expert's predictions before it learnt each row.

        An expert that is not active learns nothing, and its prediction is NaN.

        Parameters
        ----------
        x
            float32 [n, d], C-contiguous.
        y
            int32 [E, n], each expert's own labels, or [1, n], the same for all; -1 = unknown.
        weight
            float64 [E, n], how much each expert learns of each row, or [1, n].
        active
            bool [E, n], which experts predict and learn which rows; None = all of them.
        out
            float64 [E, n, C], C-contiguous, where to write it; None = into a new array.
        beside
            Something to be done meanwhile, by whichever thread is free: it neither reads nor changes an expert.
        """
        proba = np.empty((len(self.experts), len(x), self.experts[0].n_classes)) if out is None else out
        y, weight = np.array(y, order="C"), np.ascontiguousarray(weight)  # labels may be read-only, which is a type
        active = np.ones(proba.shape[:2], np.bool_) if active is None else np.ascontiguousarray(active)
        left, reasons = self._compiled(), np.empty(len(self.experts), np.int64)
        reasons.fill(FRESH)
        others = [] if beside is None else [beside]
        while len(left) or others:
            work = partial(
                step_all, self._functions, self._states, left, np.zeros(1, np.int64), reasons,
                x, y, weight, active, proba,
            )  # fmt: skip
            self._workers.each(others + [work] * min(self._workers.threads, len(left)))
            others = []
            left = left[reasons[left] != DONE]
            for e in left:
                self.experts[e].attend(int(reasons[e]))
            if len(left):
                self._compiled()
        if self._in_python:
            # A free thread takes the next expert.
            y, weight = np.broadcast_to(y, active.shape), np.broadcast_to(weight, active.shape)
            self._workers.each(
                partial(expert.step, x, y[e], weight[e], proba[e])
                if active[e].all()
                else partial(step_some, expert, active[e].nonzero()[0], x, y[e], weight[e], proba[e])
                for e, expert in self._in_python
            )
        return proba

    def predict(self, x: Float32, active: Bool | None = None) -> Float64:
        """float64 [E, n, C], learning nothing."""
        y = np.full((1, len(x)), UNLABELLED, np.int32)
        return self.step(x, y, np.zeros((1, len(x))), active)

    def grow(self, schema: Schema) -> None:
        for expert in self.experts:
            expert.grow(schema)

    def snapshot(self) -> Snapshot:
        return pack({str(e): expert.snapshot() for e, expert in enumerate(self.experts)})

    def restore(self, snapshot: Snapshot) -> None:
        found = unpack(snapshot)
        if found.keys() != {str(e) for e in range(len(self))}:
            raise CheckpointError(f"experts: {len(found)} in the checkpoint, {len(self)} here; set what decides it")
        for e, expert in enumerate(self.experts):
            with of(f"expert {e}"):
                expert.restore(found[str(e)])

    def facts(self) -> list[ExpertFacts]:
        """Each expert's description of itself as it is now."""
        return [facts_of(expert) for expert in self.experts]

    def _compiled(self) -> Int64:
        """Return which experts are compiled, int64 [M], bound to what their states are now."""
        if self._seen is not (latest := last_change()):
            self._bind()
            self._seen = latest
        return self._order

    def _bind(self) -> None:
        self._bound = [kernel_of(expert) for expert in self.experts]  # which keep what the addresses are of
        self._functions = np.array([0 if b is None else b.function for b in self._bound], np.int64)
        self._states = np.array([0 if b is None else b.address for b in self._bound], np.int64)
        self._order = self._functions.nonzero()[0]
        self._in_python = [(e, self.experts[e]) for e, b in enumerate(self._bound) if b is None]


def step_some(expert: Expert, rows: Int64, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
    """Step an expert through some of the rows; its prediction of the others is NaN."""
    predictions = np.empty((len(rows), proba.shape[1]))
    if len(rows):
        expert.step(x[rows], y[rows], weight[rows], predictions)
    proba[:] = np.nan
    proba[rows] = predictions
