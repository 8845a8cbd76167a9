"""DriftMoETwoStage, the published two-stage variants: experts first, then the router learns to choose among them.

Source: DriftMoE (arXiv 2507.18464), whose authors compare the co-trained mixture with these. Published, the stream
is cut in two halves. A stream without an end has none: the first half is a number of labelled events here. The
experts divide the events by cluster (variant "data") or by class ("task"); `divisions` has both ways.

1. Burn-in ("data"): one tree predicts each event, then learns it. At the burn-in's end its events are clustered
   (`clusters`), and each cluster's expert learns them, in their order; the one tree is dropped.
2. The rest of the first half: the event is predicted, then learnt, by the expert of its cluster ("data") or by all
   C one-against-rest experts, which vote ("task").
3. The second half: the experts learn no more.
   a. w = softmax(router(x) / T)
   b. every expert e gives p_e(. | x)
   c. the prediction is that of the expert of highest weight ("data"), or argmax w_c p_c(x) ("task")
   d. the mask, multi-hot ("data") or one-hot(y) ("task"), joins the router's mini-batch; the B-th event makes one
      Adam step, and Adam goes on from mini-batch to mini-batch

So every event is predicted before it is learnt, and what was found at an event is used from the next one on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.models.parts import Part
from stream_moe.models.published.clusters import find_clusters
from stream_moe.models.published.divisions import ByClass, ByCluster
from stream_moe.models.published.mixture import MOST_EXPERTS, Outcome, PublishedMixture, run_end
from stream_moe.models.published.stage import Stage
from stream_moe.report import LearnerReport
from stream_moe.router.published.routing import softmax
from stream_moe.snapshot import Snapshot, unpack
from stream_moe.types import Bool, Float32, Float64, Int32, Schema


class DriftMoETwoStage(PublishedMixture):
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
        for name, number in {"n_experts": n_experts, "first_half": first_half}.items():
            if number < 1:
                raise ConfigError(f"{name}: {number}; give 1 or more")
        if n_experts > MOST_EXPERTS:
            raise ConfigError(f"n_experts: {n_experts}; give {MOST_EXPERTS} or less")
        if clusters not in {"kmeans", "gmm"}:
            raise ConfigError(f"clusters: {clusters!r}; choose kmeans or gmm")
        ways: dict[str, Callable[[], ByCluster | ByClass]] = {
            "data": lambda: ByCluster(burn_in, first_half, n_experts),
            "task": ByClass,
        }
        if variant not in ways:
            raise ConfigError(f"variant: {variant!r}; choose data or task")
        self._division = ways[variant]()
        self.variant, self.clusters, self.burn_in, self.first_half = variant, clusters, burn_in, first_half
        self.mini_batch, self.hidden, self.temperature = mini_batch, hidden, temperature
        self.learning_rate, self.seed, self.threads = learning_rate, seed, threads
        self.grace_period, self.delta, self.tie_threshold = grace_period, delta, tie_threshold
        super().__init__(schema, n_experts=n_experts)

    @property
    def n_experts(self) -> int:
        return self._division.n_experts(self.schema.n_classes)

    def _start(self, schema: Schema) -> None:
        shape = schema.n_features, schema.n_classes
        self._stage = Stage(self._division.burn_in, self.first_half, self.n_experts, *shape)
        super()._start(schema)

    @property
    def _n_routed(self) -> int:
        return self._division.n_routed(self.n_experts, self._stage.clusters)

    def _run_end(self, y: Int32, start: int) -> int:
        if self._stage.in_first_half:
            return run_end(y, start, room=self._stage.room, longest=len(y))
        return super()._run_end(y, start)

    def _run(self, x: Float32, y: Int32) -> Outcome:
        return self._first_half(x, y) if self._stage.in_first_half else self._second_half(x, y)

    def _first_half(self, x: Float32, y: Int32) -> Outcome:
        weights, active = self._division.assigned(x, self.n_experts, self._stage.clusters)
        learns = self._learners(active, len(x))
        self.phases.end("route")
        p = self.pool.step(x, self._division.labels(y, self.n_experts), learns, active)  # steps 1 and 2
        self.phases.end("experts")
        found = self._outcome(p, weights, learns, y)
        self._stage.take(x, y)
        if self._stage.burning_in and not self._stage.room:
            self._end_burn_in()  # step 1
        self.phases.end("update")
        return found

    def _end_burn_in(self) -> None:
        x, y = self._stage.kept
        found = find_clusters(x, self.schema.n_categories, kind=self.clusters, most=self.n_experts, seed=self.seed)
        _, active = self._division.assigned(x, self.n_experts, found)
        self.pool = self._new_pool(self.schema)
        self.pool.step(x, self._division.labels(y, self.n_experts), self._learners(active, len(x)), active)
        self._stage.end_burn_in(found)
        self._set_router()

    def _second_half(self, x: Float32, y: Int32) -> Outcome:
        weights, active = self._routed(self.batch.route(x))  # step 3a
        self.phases.end("route")
        p = self.pool.predict(x, active)  # step 3b, [E, n, C]
        self.phases.end("experts")
        self.batch.remember(self._division.mask(p[: self._n_routed], y), y >= 0)  # step 3d
        found = self._outcome(p, weights, np.zeros((self.n_experts, len(x))), y)  # step 3c
        self.phases.end("update")
        return found

    def _routed(self, logits: Float32) -> tuple[Float32, Bool]:
        """Weights [n, E], 0 for experts that have no cluster; and who is active, bool [E, n]."""
        n, e, k = len(logits), self.n_experts, self._n_routed
        weights = np.zeros((n, e), np.float32)
        weights[:, :k] = softmax(logits, self.temperature)
        return weights, np.repeat(np.arange(e) < k, n).reshape(e, n)

    def _learners(self, active: Bool | None, n: int) -> Float64:
        """Who learns, float64 [E, n]: those who are active."""
        return np.ones((self.n_experts, n)) if active is None else active.astype(float)

    def _outcome(self, p: Float64, weights: Float32, learns: Float64, y: Int32) -> Outcome:
        by = self._division
        proba = by.predicted(p, weights)
        return Outcome(proba, weights, by.routed(weights, proba), learns, by.right(p, y))

    def _predict(self, x: Float32) -> Float64:
        if self._stage.in_first_half:
            weights, active = self._division.assigned(x, self.n_experts, self._stage.clusters)
        else:
            weights, active = self._routed(self.router.logits(x))
        return self._division.predicted(self.pool.predict(x, active), weights)

    def _expert_schema(self, schema: Schema) -> Schema:
        return self._division.expert_schema(schema)

    def _grow(self, schema: Schema) -> None:
        self._stage.grow(schema.n_features, schema.n_classes)
        super()._grow(schema)

    def _parts(self) -> Mapping[str, Part]:
        return {"stage": self._stage, **super()._parts()}

    def restore(self, snapshot: Snapshot) -> None:
        if self._rows.started:
            self._stage.restore(unpack(snapshot)["stage"])
            self._set_router()  # over as many experts as there are clusters
        super().restore(snapshot)

    def _report(self) -> LearnerReport:
        found = super()._report()
        return replace(found, router_loss=math.nan) if self._stage.in_first_half else found
