"""DriftMoEData: experts co-trained with a neural router, the whole algorithm on one page.

Source: DriftMoE: A Mixture of Experts Approach to Handle Concept Drifts, arXiv 2507.18464. Symbols: d
features, C classes, E experts, k = top-k, B = mini-batch of the router. Written from the paper; both
variants test before they train.

MoE-Data: E multiclass trees; each event trains the k experts the router trusts most, and the router learns
from a multi-hot mask of the experts that were right. Inside one mini-batch the router does not change, so a
run of events (a tile) is routed at once and each expert goes through it alone: the result equals the
event-by-event loop exactly.

MoE-Task: E = C one-against-rest trees that all train on every event; the router is told the class itself,
one step per event, and answers alone, as published. With `vote` the experts' opinions count too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import ConfigError
from stream_moe.experts.executors import Executor, check_executor, open_pool
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.parts import Part
from stream_moe.models.specialization import Specialization, drifts_found, learner_report
from stream_moe.report import LearnerDrift, LearnerReport
from stream_moe.router.published.device import DeviceRouter
from stream_moe.router.published.mini_batch import MiniBatch
from stream_moe.router.published.mlp import Router
from stream_moe.router.published.routing import right_or_most_confident, softmax_rows, top_k
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.types import UNLABELLED, Float32, Float64, Int32, Int64, Schema

ONE_AGAINST_REST = ("rest", "class")


def voted(weights: Float32, yes: Float64 | None) -> Float64:
    """Answers [n, C]: weights times what each class's expert gives its class; weights alone where all give 0.

    Examples
    --------
    >>> weights = np.float32([[0.5, 0.5], [0.25, 0.75]])
    >>> voted(weights, np.array([[0.2, 0.6], [0.0, 0.0]])).round(6).tolist()
    [[0.25, 0.75], [0.25, 0.75]]
    """
    answer = weights.astype(float) if yes is None else weights * yes
    answer = np.where(answer.sum(1, keepdims=True) > 0, answer, weights)
    return answer / answer.sum(1, keepdims=True)


class DriftMoEData(BlockClassifier):
    """The published mixture of Hoeffding trees under a learned router.

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    variant
        "data" or "task".
    n_experts
        E of the data variant; the task variant has one expert per class.
    top_k
        k, how many experts learn each event (data variant).
    mini_batch
        B, events per step of the router (data variant).
    hidden
        Width of the router's first hidden layer; the second has half of it.
    temperature
        Of the softmax over the logits.
    learning_rate
        Of the router's Adam.
    grace_period, delta, tie_threshold
        Of the trees.
    vote
        Task variant: answer by router weight times expert probability, instead of the router alone.
    seed
        Of everything random.
    threads
        Threads over the experts; the result does not depend on it.
    device
        "cpu" or "cuda", where the router lives.
    executor, shards
        Where the experts live, and in how many parts; changes no result. See `stream_moe.experts.executors`.

    Notes
    -----
    Tree parameters and, unless `hidden` is given, router widths as in the paper; no dropout in the data variant, 0.2
    in the task variant.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> evaluate.progressive_val_score(datasets.Phishing(), DriftMoEData(seed=1), metrics.Accuracy())
    Accuracy: 88.87%
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        variant: Literal["data", "task"] = "data",
        n_experts: int = 12,
        top_k: int = 3,
        mini_batch: int = 256,
        hidden: int = 256,
        temperature: float = 0.8,
        learning_rate: float = 2e-3,
        grace_period: float = 50,
        delta: float = 1e-7,
        tie_threshold: float = 0.05,
        vote: bool = False,
        seed: int = 1,
        threads: int = 1,
        device: str = "cpu",
        executor: Executor = "threads",
        shards: int = 0,
    ) -> None:
        if variant not in {"data", "task"}:
            raise ConfigError(f"variant: {variant!r}; choose data or task")
        if not (1 <= top_k <= n_experts and mini_batch >= 1 and temperature > 0 and learning_rate > 0):
            raise ConfigError(
                f"top_k {top_k} must lie in 1..n_experts ({n_experts}), mini_batch {mini_batch} must be at least "
                f"1, temperature {temperature} and learning_rate {learning_rate} above 0"
            )
        if hidden < 2:
            raise ConfigError(f"hidden: {hidden}; the router's layers have {hidden} and half as many, give 2 or more")
        if threads < 1:
            raise ConfigError(f"threads: {threads}; give 1 or more")
        if variant == "task" and device != "cpu":
            raise ConfigError(f"device: {device!r}; the task variant's router learns event by event, on the CPU only")
        self.variant, self.n_trees, self.top_k, self.mini_batch = variant, n_experts, top_k, mini_batch
        self.temperature, self.learning_rate, self.hidden, self.vote = temperature, learning_rate, hidden, vote
        self.grace_period, self.delta, self.tie_threshold = grace_period, delta, tie_threshold
        check_executor(executor, shards, threads)
        self.seed, self.threads, self.device, self.executor, self.shards = seed, threads, device, executor, shards
        super().__init__(schema, n_experts=n_experts)

    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        proba = np.empty((len(x), self.schema.n_classes))
        n, e = len(x), self.n_experts
        chosen, right = np.ones((e, n)), np.empty((n, e), np.float32)  # who learns what; who was right
        run = self._data_tile if self.variant == "data" else self._task_tile
        start = 0
        while start < n:
            tile = self._tile(y, start)
            proba[tile] = run(x[tile], y[tile], weights[tile], chosen[:, tile], right[tile])
            start = tile.stop
        self.phases.begin()
        self._account(proba, weights, chosen, right, y)
        self.phases.end("account")
        return proba

    def _data_tile(self, x: Float32, y: Int32, weights: Float32, chosen: Float64, right: Float32) -> Float64:
        self.phases.begin()
        softmax_rows(self.batch.route(x), self.temperature, weights)  # [n, E]
        top_k(weights, self.top_k, chosen)  # [E, n] who learns what
        self.phases.end("route")
        proba = self.pool.step(x, np.broadcast_to(y, chosen.shape), chosen)  # [E, n, C] before learning
        self.phases.end("experts")
        mask = np.empty_like(right)
        right_or_most_confident(proba, y, right, mask)  # [n, E] the multi-hot target
        self.batch.remember(mask, y >= 0)  # steps the router when the mini-batch is full
        self.phases.end("update")
        return proba[weights.argmax(1), np.arange(len(x))]

    def _task_tile(self, x: Float32, y: Int32, weights: Float32, chosen: Float64, right: Float32) -> Float64:
        self.phases.begin()
        target = np.where(y[:, None] < 0, -1.0, np.arange(self.n_experts) == y[:, None]).astype(np.float32)
        logits = self.router.learn_online(x, target)  # one step per event: the target is the class itself
        softmax_rows(logits, 1.0, weights)
        own = np.where(y < 0, UNLABELLED, np.arange(self.n_experts)[:, None] == y).astype(np.int32)
        own.setflags(write=False)  # one kind of labels for the experts to be compiled for
        self.phases.end("update")  # routing and learning are one there
        experts = self.pool.step(x, own, chosen)[..., 1].T  # [n, C] each expert on its own class
        self.phases.end("experts")
        right[:] = (experts > 0.5) == (target > 0)
        return voted(weights, experts if self.vote else None)

    def _tile(self, y: Int32, start: int) -> slice:
        """The next run of events that does not cross the end of a router mini-batch."""
        stop = start + self.mini_batch
        if self.variant == "data":
            labelled = np.flatnonzero(y[start:stop] >= 0)
            room = self.mini_batch - self.batch.filled
            if len(labelled) >= room:
                return slice(start, start + int(labelled[room - 1]) + 1)
        return slice(start, min(stop, len(y)))

    def _account(self, proba: Float64, weights: Float32, chosen: Float64, right: Float32, y: Int32) -> None:
        top = weights.argmax(1) if self.variant == "data" else proba.argmax(1)
        errors = np.empty((len(y), self.n_experts + 1), np.float32)
        np.subtract(1, right, out=errors[:, :-1])
        errors[:, -1] = top != y if self.variant == "task" else errors[np.arange(len(y)), top]
        labelled = errors if y.min(initial=0) >= 0 else errors[y >= 0]
        self.workers.each(
            [
                lambda: self.monitor.update(labelled),
                lambda: self.specialization.update(top, weights, chosen, right, y),
            ]
        )

    def _predict(self, x: Float32) -> Float64:
        experts = self.pool.predict(x)
        weights = np.empty((len(x), self.n_experts), np.float32)
        softmax_rows(self.router.logits(x), self.temperature if self.variant == "data" else 1.0, weights)
        if self.variant == "data":  # by weight, not by logit: two logits may differ by less than their weights can
            return experts[weights.argmax(1), np.arange(len(x))]
        return voted(weights, experts[..., 1].T if self.vote else None)

    @property
    def n_experts(self) -> int:
        by_class = self.variant == "task" and self._rows.started
        return self.schema.n_classes if by_class else self.n_trees

    def _start(self, schema: Schema) -> None:
        d, e = schema.n_features, self.n_experts
        self.workers = WorkerThreads(self.threads)
        self.pool = open_pool([self._tree(schema) for _ in range(e)], self.workers, self.executor, self.shards)
        self.router = self._router(d, e)
        self.specialization = Specialization(e, schema.n_classes)
        self.monitor = DriftMonitor(e + 1)  # the experts, then the mixture
        self.batch = MiniBatch(self.router, self.mini_batch)

    def _router(self, n_features: int, n_experts: int) -> Router:
        rate, seed, hidden = self.learning_rate, self.seed, (self.hidden, self.hidden // 2)
        if self.device == "cpu":
            return Router(n_features, n_experts, hidden=hidden, learning_rate=rate, seed=seed, workers=self.workers)
        return DeviceRouter(
            n_features,
            n_experts,
            device=self.device,
            tile=self.mini_batch,
            hidden=hidden,
            learning_rate=rate,
            seed=seed,
        )

    def _tree(self, schema: Schema) -> HoeffdingTree:
        if self.variant == "task":
            schema = Schema(schema.features, ONE_AGAINST_REST)
        return HoeffdingTree(
            schema, grace_period=self.grace_period, delta=self.delta, tie_threshold=self.tie_threshold
        )

    def _grow(self, schema: Schema) -> None:
        """Take a schema with new features, categories or classes; the router's half-filled mini-batch stays."""
        d, e = schema.n_features, self.n_experts
        self.pool.add([self._tree(schema) for _ in range(e - len(self.pool))])
        self.pool.grow(schema if self.variant == "data" else Schema(schema.features, ONE_AGAINST_REST))
        self.router.grow(d, e)
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

    def report(self) -> LearnerReport:
        return learner_report(self.pool.facts(), self.specialization, self.monitor, self.router.loss)
