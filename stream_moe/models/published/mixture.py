"""What the published variants have in common: their trees, their router, and the account of who does what.

The algorithms are in `data`, `task` and `two_stage`, each on a page of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import ConfigError
from stream_moe.experts.executors import Executor, Pool, check_executor, open_pool
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.parts import Part
from stream_moe.models.specialization import Specialization, drifts_found, labelled_errors, learner_report
from stream_moe.report import LearnerDrift, LearnerReport
from stream_moe.router.published.mini_batch import MiniBatch
from stream_moe.router.published.mlp import Router
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

MOST_HIDDEN, MOST_EXPERTS = 2**14, 1000  # a file of a model names these too, and they decide what is allocated
MOST = {"mini_batch": 2**20, "threads": 4096}


class Outcome(NamedTuple):
    """What came of n events, each of which was predicted before it was learnt."""

    proba: Float64  # [n, C] the prediction
    weights: Float32  # [n, E] of the router
    routed: Int64  # [n] the expert that the event counts for
    learns: Float64  # [E, n] 1 where the expert learnt the event
    right: Float32  # [n, E] 1 where the expert was right, NaN where it was not active

    @classmethod
    def joined(cls, runs: Sequence[Outcome]) -> Outcome:
        """Several runs, one after another."""
        if len(runs) == 1:
            return runs[0]
        proba, weights, routed, learns, right = zip(*runs, strict=True)
        return cls(
            np.concatenate(proba), np.concatenate(weights), np.concatenate(routed), np.concatenate(learns, 1),
            np.concatenate(right),
        )  # fmt: skip


def run_end(y: Int32, start: int, *, room: int, longest: int) -> int:
    """Where a run of rows from `start` on ends: behind its `room`-th label, and after at most `longest` rows.

    Examples
    --------
    >>> y = np.int32([0, -1, 1, 0, 1])
    >>> run_end(y, 0, room=2, longest=4), run_end(y, 0, room=9, longest=4), run_end(y, 3, room=9, longest=4)
    (3, 4, 5)
    """
    stop = min(start + longest, len(y))
    if stop - start < room:
        return stop
    labelled = np.flatnonzero(y[start:stop] >= 0)
    return start + int(labelled[room - 1]) + 1 if len(labelled) >= room else stop


class PublishedMixture(BlockClassifier):
    """Hoeffding trees under the published router; a variant adds its settings and its algorithm, `_run`."""

    hidden: int
    learning_rate: float
    grace_period: float
    delta: float
    tie_threshold: float
    seed: int
    threads: int
    mini_batch = 1  # events per step of the router
    temperature = 1.0  # of the softmax over its logits
    executor: Executor = "threads"
    shards = 0

    def __init__(self, schema: Schema | None, **given: Any) -> None:
        """Check the settings that a variant keeps as attributes; `given` as for `BlockClassifier`."""
        if not 2 <= self.hidden <= MOST_HIDDEN:
            half = f"the router's layers have {self.hidden} and half as many"
            raise ConfigError(f"hidden: {self.hidden}; {half}, give 2 or more, at most {MOST_HIDDEN:,}")
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: {getattr(self, name)}; give 1 or more, at most {most:,}")
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: {getattr(self, name)}; give a number above 0")
        check_executor(self.executor, self.shards, self.threads)
        super().__init__(schema, **given)

    # What a variant provides.
    @abstractmethod
    def _run(self, x: Float32, y: Int32) -> Outcome:
        """Test, then train, on a run of events that `_run_end` has bounded."""

    def _run_end(self, y: Int32, start: int) -> int:
        """Where the run from row `start` on ends: inside it the router does not change."""
        return run_end(y, start, room=self.batch.room, longest=self.mini_batch)

    @property
    def _n_routed(self) -> int:
        """How many experts the router is over: the first so many."""
        return self.n_experts

    def _expert_schema(self, schema: Schema) -> Schema:
        """What the trees see of the schema."""
        return schema

    def _new_router(self, n_features: int, n_experts: int) -> Router:
        hidden = (self.hidden, self.hidden // 2)
        return Router(
            n_features, n_experts, hidden=hidden, learning_rate=self.learning_rate, seed=self.seed,
            workers=self.workers,
        )  # fmt: skip

    # What they share.
    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        if not len(x):
            return np.empty((0, self.schema.n_classes))
        runs, start = [], 0
        while start < len(x):
            stop = self._run_end(y, start)
            self.phases.begin()
            runs.append(self._run(x[start:stop], y[start:stop]))
            start = stop
        self.phases.begin()
        found = Outcome.joined(runs)
        weights[:] = found.weights
        self._account(found, y)
        self.phases.end("account")
        return found.proba

    def _account(self, found: Outcome, y: Int32) -> None:
        """Watch the errors of the experts and of the mixture for drifts, and count who does what."""
        errors = labelled_errors(found.right, found.proba.argmax(1).astype(np.int32), y)
        self.workers.each(
            [
                lambda: self.monitor.update(errors),
                lambda: self.specialization.update(found.routed, found.weights, found.learns, found.right, y),
            ]
        )

    def _start(self, schema: Schema) -> None:
        e = self.n_experts
        self.workers = WorkerThreads(self.threads)
        self.pool = self._new_pool(schema)
        self.specialization = Specialization(e, schema.n_classes)
        self.monitor = DriftMonitor(e + 1)  # the experts, then the mixture
        self._set_router()

    def _set_router(self) -> None:
        """Begin anew with a router that has learnt nothing."""
        self.router = self._new_router(self.schema.n_features, self._n_routed)
        self.batch = MiniBatch(self.router, self.mini_batch)

    def _new_pool(self, schema: Schema) -> Pool:
        return open_pool(self._new_trees(schema, self.n_experts), self.workers, self.executor, self.shards)

    def _new_trees(self, schema: Schema, n: int) -> list[HoeffdingTree]:
        seen, grace, delta, tie = self._expert_schema(schema), self.grace_period, self.delta, self.tie_threshold
        return [HoeffdingTree(seen, grace_period=grace, delta=delta, tie_threshold=tie) for _ in range(n)]

    def _grow(self, schema: Schema) -> None:
        """Take a schema with new features, categories or classes; the router's half-filled mini-batch stays."""
        e = self.n_experts
        self.pool.add(self._new_trees(schema, e - len(self.pool)))
        self.pool.grow(self._expert_schema(schema))
        self.router.grow(schema.n_features, self._n_routed)
        self.batch.grow()
        self.specialization.grow(e, schema.n_classes)
        self.monitor.grow(e + 1)

    def _parts(self) -> Mapping[str, Part]:
        return {
            "experts": self.pool,
            "router": self.router,
            "batch": self.batch,  # after the router, whose weights its activations come from
            "specialization": self.specialization,
            "monitor": self.monitor,
        }

    def take_drifts(self) -> list[LearnerDrift]:
        return drifts_found(self.pool.kinds, self.monitor)

    def _report(self) -> LearnerReport:
        return learner_report(self.pool.facts(), self.specialization, self.monitor, self.router.loss)
