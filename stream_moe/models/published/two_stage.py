"""The two-stage variants: first the experts learn and then, on what follows, the router learns to choose among them.

Source: DriftMoE (arXiv 2507.18464), whose authors compare the co-trained mixture with these. Published, the stream
is cut in two halves. A stream without an end has none: the first half is a number of labelled events here.

- burn-in ("data"): one tree predicts and learns. At its end the burn-in's events are clustered, and each cluster's
  expert learns them, in their order; the one tree is dropped.
- the rest of the first half: an event is predicted, then learnt, by the expert of its cluster ("data") or by C
  one-against-rest experts, all of them ("task").
- from then on the experts learn no more. The router learns, a mini-batch at a time, and its Adam goes on all the
  while. The answer is that of the expert of highest weight ("data"), or weight times probability ("task").

So every event is predicted before it is learnt, and what was found at an event is used from the next one on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.pool import ExpertPool
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.published.clusters import Clusters, find_clusters, require_sklearn
from stream_moe.models.published.moe import ONE_AGAINST_REST, voted
from stream_moe.models.specialization import Specialization, drifts_found, learner_report
from stream_moe.report import LearnerDrift, LearnerReport
from stream_moe.router.published.mini_batch import MiniBatch
from stream_moe.router.published.mlp import Router
from stream_moe.router.published.routing import right_or_most_confident, softmax_rows
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.snapshot import Snapshot, unpack
from stream_moe.types import UNLABELLED, Bool, Float32, Float64, Int32, Int64, Schema

MOST_BURN_IN = 100_000  # they are kept, and each k is a fit to all of them


class DriftMoETwoStage(BlockClassifier):
    """Experts first, router second.

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    variant
        "data": an expert per cluster; "task": an expert per class, one against the rest, and no burn-in.
    clusters
        "kmeans" or "gmm" (data variant).
    burn_in
        Labelled events that are clustered (data variant).
    first_half
        Labelled events, the burn-in among them, that experts learn; after so many the router does. To do as
        published give half of the stream's events.
    n_experts
        Most clusters (data variant); how many there are is for the silhouette to say.
    mini_batch
        B, events per step of the router.
    hidden
        Width of the router's first hidden layer; the second has half of it.
    temperature
        Of the softmax over the logits.
    learning_rate
        Of the router's Adam.
    grace_period, delta, tie_threshold
        Of the trees.
    seed
        Of everything random.
    threads
        Threads over the experts; the result does not depend on it.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> model = DriftMoETwoStage(variant="task", first_half=600, mini_batch=32, seed=1)
    >>> evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())
    Accuracy: 88.31%
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        variant: Literal["data", "task"] = "data",
        clusters: Literal["kmeans", "gmm"] = "kmeans",
        burn_in: int = 2000,
        first_half: int = 20_000,
        n_experts: int = 12,
        mini_batch: int = 256,
        hidden: int = 256,
        temperature: float = 0.8,
        learning_rate: float = 2e-3,
        grace_period: float = 50,
        delta: float = 1e-7,
        tie_threshold: float = 0.05,
        seed: int = 1,
        threads: int = 1,
    ) -> None:
        if variant not in {"data", "task"} or clusters not in {"kmeans", "gmm"}:
            raise ConfigError(f"variant {variant!r} must be data or task, clusters {clusters!r} kmeans or gmm")
        if not (min(n_experts, mini_batch) >= 1 and hidden >= 2 and temperature > 0 and learning_rate > 0):
            raise ConfigError(
                f"n_experts {n_experts} and mini_batch {mini_batch} must be at least 1, hidden {hidden} at least 2, "
                f"temperature {temperature} and learning_rate {learning_rate} above 0"
            )
        if variant == "data" and not (2 * n_experts <= burn_in <= min(first_half, MOST_BURN_IN)):
            raise ConfigError(
                f"burn_in {burn_in} must lie between 2 n_experts ({2 * n_experts}) and first_half ({first_half}), "
                f"and not above {MOST_BURN_IN}"
            )
        if first_half < 1 or threads < 1:
            raise ConfigError(f"first_half {first_half} and threads {threads} must be at least 1")
        if variant == "data":
            require_sklearn()  # it must be told now, not at the burn-in's end
        self.variant, self.clusters, self.burn_in, self.first_half = variant, clusters, burn_in, first_half
        self.n_trees, self.mini_batch, self.hidden = n_experts, mini_batch, hidden
        self.temperature, self.learning_rate = temperature, learning_rate
        self.grace_period, self.delta, self.tie_threshold = grace_period, delta, tie_threshold
        self.seed, self.threads = seed, threads
        super().__init__(schema, n_experts=n_experts)

    @property
    def n_experts(self) -> int:
        by_class = self.variant == "task" and self._rows.started
        return self.schema.n_classes if by_class else self.n_trees

    def _start(self, schema: Schema) -> None:
        e = self.n_experts
        self.workers = WorkerThreads(self.threads)
        self.pool = self._trees(schema)
        self.specialization = Specialization(e, schema.n_classes)
        self.monitor = DriftMonitor(e + 1)  # the experts, then the mixture
        self._learnt = 0  # labelled events of the first half so far
        room = self.burn_in if self.variant == "data" else 0  # the events of the burn-in
        self._x, self._y = np.empty((room, schema.n_features), np.float32), np.empty(room, np.int32)
        self._found: Clusters | None = None
        self._set_router(e if self.variant == "task" else 1)

    def _set_router(self, n_experts: int) -> None:
        """Make the router over the experts that take part; in the data variant, as many as there are clusters."""
        self.router = Router(
            self.schema.n_features, n_experts, hidden=(self.hidden, self.hidden // 2),
            learning_rate=self.learning_rate, seed=self.seed, workers=self.workers,
        )  # fmt: skip
        self.batch = MiniBatch(self.router, self.mini_batch)

    def _trees(self, schema: Schema) -> ExpertPool:
        return ExpertPool([self._tree(schema) for _ in range(self.n_experts)], workers=self.workers)

    def _tree(self, schema: Schema) -> HoeffdingTree:
        schema = Schema(schema.features, ONE_AGAINST_REST) if self.variant == "task" else schema
        return HoeffdingTree(
            schema, grace_period=self.grace_period, delta=self.delta, tie_threshold=self.tie_threshold
        )

    @property
    def _burning_in(self) -> bool:
        return self.variant == "data" and self._found is None

    @property
    def _in_first_half(self) -> bool:
        return self._learnt < self.first_half

    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        n, e = len(x), self.n_experts
        proba = np.empty((n, self.schema.n_classes))
        chosen, right = np.zeros((e, n)), np.full((n, e), np.nan, np.float32)  # who learns what; who was right
        start = 0
        while start < n:
            tile = self._tile(y, start)
            step = self._first_tile if self._in_first_half else self._second_tile
            proba[tile] = step(x[tile], y[tile], weights[tile], chosen[:, tile], right[tile])
            start = tile.stop
        self.phases.begin()
        top = weights.argmax(1) if self.variant == "data" else proba.argmax(1)
        errors = np.column_stack([1 - right, proba.argmax(1) != y]).astype(np.float32)
        self.monitor.update(errors[y >= 0])
        self.specialization.update(top, weights, chosen, right, y)
        self.phases.end("account")
        return proba

    def _tile(self, y: Int32, start: int) -> slice:
        """The next run of events in which neither the stage nor the router changes."""
        if self._in_first_half:
            room, longest = (self.burn_in if self._burning_in else self.first_half) - self._learnt, len(y)
        else:
            room, longest = self.mini_batch - self.batch.filled, self.mini_batch
        stop = min(start + longest, len(y))
        labelled = np.flatnonzero(y[start:stop] >= 0)
        return slice(start, start + int(labelled[room - 1]) + 1 if len(labelled) >= room else stop)

    def _first_tile(self, x: Float32, y: Int32, weights: Float32, chosen: Float64, right: Float32) -> Float64:
        self.phases.begin()
        asked = self._route(x, weights, self.router.logits)
        chosen[:] = True if asked is None else asked
        self.phases.end("route")
        own = self._labels(y)
        said = self.pool.step(x, own, chosen, asked)  # [E, n, C] before learning
        self.phases.end("experts")
        self._judge(said, y, right)
        answer = self._answer(said, weights)
        labelled = y >= 0
        new = slice(self._learnt, self._learnt + int(labelled.sum()))
        self._learnt = new.stop
        if self._burning_in:
            self._x[new], self._y[new] = x[labelled], y[labelled]
            if self._learnt == self.burn_in:
                self._end_burn_in()
        self.phases.end("update")
        return answer

    def _end_burn_in(self) -> None:
        x, y = self._x, self._y
        self._found = find_clusters(
            x, self.schema.n_categories, kind=self.clusters, most=self.n_trees, seed=self.seed
        )
        asked = self._found.assign(x) == np.arange(self.n_experts)[:, None]
        self.pool = self._trees(self.schema)
        self.pool.step(x, self._labels(y), asked.astype(float), asked)
        self._x, self._y = x[:0], y[:0]
        self._set_router(len(self._found.bias))

    def _second_tile(self, x: Float32, y: Int32, weights: Float32, chosen: Float64, right: Float32) -> Float64:
        self.phases.begin()
        asked = self._route(x, weights, self.batch.route)
        self.phases.end("route")
        said = self.pool.predict(x, asked)
        self.phases.end("experts")
        self._judge(said, y, right)
        k = self.router.n_experts
        target = np.empty((len(x), k), np.float32)
        if self.variant == "data":
            right_or_most_confident(said[:k], y, np.empty_like(target), target)
        else:
            target[:] = np.arange(k) == y[:, None]
        self.batch.remember(target, y >= 0)  # steps the router when the mini-batch is full
        self.phases.end("update")
        return self._answer(said, weights)

    def _route(self, x: Float32, weights: Float32, logits: Callable[[Float32], Float32]) -> Bool | None:
        """Fill weights [n, E], and return who is asked, bool [E, n]; None = everyone."""
        weights[:] = 0.0
        if not self._in_first_half:
            k = self.router.n_experts
            shares = np.empty((len(x), k), np.float32)
            softmax_rows(logits(x), self.temperature, shares)
            weights[:, :k] = shares
            return np.repeat(np.arange(self.n_experts) < k, len(x)).reshape(-1, len(x))
        if self.variant == "task":
            weights[:] = 1 / self.n_experts
            return None
        cluster = np.zeros(len(x), np.int64) if self._found is None else self._found.assign(x)
        weights[np.arange(len(x)), cluster] = 1.0
        return np.arange(self.n_experts)[:, None] == cluster

    def _labels(self, y: Int32) -> Int32:
        """Each expert's own labels int32 [E, n], read-only: one kind of labels for them to be compiled for."""
        every = np.arange(self.n_experts)[:, None]
        own = np.where(y < 0, UNLABELLED, every == y if self.variant == "task" else every * 0 + y).astype(np.int32)
        own.setflags(write=False)
        return own

    def _judge(self, said: Float64, y: Int32, right: Float32) -> None:
        """Write who was right into right [n, E]: NaN where an expert was not asked."""
        if self.variant == "task":
            is_class = np.arange(self.n_experts) == y[:, None]
            right[:] = is_class == (said[..., 1] > 0.5).T
        else:
            right[:] = np.where(np.isnan(said[..., 0]), np.nan, said.argmax(2) == y).T

    def _answer(self, said: Float64, weights: Float32) -> Float64:
        if self.variant == "data":
            return said[weights.argmax(1), np.arange(len(weights))]
        return voted(weights, said[..., 1].T)

    def _predict(self, x: Float32) -> Float64:
        weights = np.empty((len(x), self.n_experts), np.float32)
        asked = self._route(x, weights, self.router.logits)
        return self._answer(self.pool.predict(x, asked), weights)

    def _grow(self, schema: Schema) -> None:
        """Take new features, categories or classes; the clusters go by what they were found in."""
        e = self.n_experts
        more = np.full((len(self._x), schema.n_features - self._x.shape[1]), np.nan, np.float32)
        self._x = np.concatenate([self._x, more], 1)
        self.pool.add([self._tree(schema) for _ in range(e - len(self.pool))])
        self.pool.grow(schema if self.variant == "data" else Schema(schema.features, ONE_AGAINST_REST))
        self.router.grow(schema.n_features, e if self.variant == "task" else self.router.n_experts)
        self.batch.grow()
        self.specialization.grow(e, schema.n_classes)
        self.monitor.grow(e + 1)

    def snapshot(self) -> Snapshot:
        held = self._learnt if self._burning_in else 0
        arrays = {"x": self._x[:held].copy(), "y": self._y[:held].copy()}
        arrays |= self._found.arrays() if self._found else {}
        parts, own = super().snapshot(), {f"stage/{name}": array for name, array in arrays.items()}
        return own | parts[0], {"stage": {"learnt": self._learnt}} | parts[1]

    def restore(self, snapshot: Snapshot) -> None:
        found = unpack(snapshot)
        arrays, plain = found["stage"]
        self._learnt = int(plain["learnt"])
        self._found = Clusters.restored(arrays, self.schema.n_features, self.n_trees)
        held = self._learnt if self._burning_in else 0
        x, y = arrays["x"], arrays["y"]
        if x.shape != (held, self.schema.n_features) or y.shape != (held,) or held > len(self._x):
            raise CheckpointError(
                f"two stages: {x.shape} values and {y.shape} labels in the burn-in, here it has {held} events of "
                f"{self.schema.n_features} features, and {self.burn_in} at its end"
            )
        if self._found is not None:
            self._x, self._y = x, y
            self._set_router(len(self._found.bias))
        self._x[:held], self._y[:held] = x, y
        super().restore(snapshot)

    def _parts(self) -> dict[str, Any]:
        return {
            "experts": self.pool,
            "router": self.router,
            "batch": self.batch,  # after the router, whose weights its activations come from
            "specialization": self.specialization,
            "monitor": self.monitor,
        }

    def take_drifts(self) -> list[LearnerDrift]:
        return drifts_found(self.pool.kinds, self.monitor)

    def report(self) -> LearnerReport:
        loss = self.router.loss if not self._in_first_half else math.nan
        return learner_report(self.pool.facts(), self.specialization, self.monitor, loss)
