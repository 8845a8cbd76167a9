"""DriftMoEData, the published MoE-Data: multi-class experts, co-trained with a neural router.

Source: DriftMoE: A Mixture of Experts Approach to Handle Concept Drifts, arXiv 2507.18464, written from the paper.
For each event (x, y), with E experts, k of which learn it, a router that steps every B events, and temperature T:

1. z = router(x), w = softmax(z / T)
2. every expert e gives p_e(. | x)
3. multi-hot mask: m_e = 1 where argmax p_e = y; if nobody is right, 1 for the highest p_e(y)
4. the prediction is that of the expert of highest weight, and is made before anything learns (x, y)
5. (z, m) joins the mini-batch; the B-th makes one Adam step on the mean binary cross-entropy of z and m
6. the k experts of highest weight learn (x, y)

The router does not change inside a mini-batch, and no expert depends on another. So the events of a run that ends
with the mini-batch are routed at once, and each expert goes through the run alone, predicting each event before it
learns it: the result equals the event-by-event loop exactly.
"""

from __future__ import annotations

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.executors import Executor
from stream_moe.models.published.mixture import MOST_EXPERTS, Outcome, PublishedMixture
from stream_moe.router.published.mlp import Router
from stream_moe.router.published.routing import multi_hot, softmax, top_k
from stream_moe.runtime.extras import need
from stream_moe.types import Float32, Float64, Int32, Schema


class DriftMoEData(PublishedMixture):
    """The published mixture of Hoeffding trees under a learned router.

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    n_experts
        E.
    top_k
        k, how many experts learn each event.
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
    device
        "cpu" or "cuda", where the router lives.
    executor, shards
        Where the experts live, and in how many parts; changes no result. See `stream_moe.experts.executors`.

    Notes
    -----
    Defaults as in the paper, whose router sees no dropout in this variant.

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
        n_experts: int = 12,
        top_k: int = 3,
        mini_batch: int = 256,
        hidden: int = 256,
        temperature: float = 0.8,
        learning_rate: float = 2e-3,
        grace_period: float = 50,
        delta: float = 1e-7,
        tie_threshold: float = 0.05,
        seed: int = 1,
        threads: int = 1,
        device: str = "cpu",
        executor: Executor = "threads",
        shards: int = 0,
    ) -> None:
        if not 1 <= top_k <= n_experts <= MOST_EXPERTS:
            raise ConfigError(
                f"top_k {top_k} must lie in 1..n_experts ({n_experts}), and n_experts in 1..{MOST_EXPERTS}"
            )
        self.n_trees, self.top_k, self.mini_batch = n_experts, top_k, mini_batch
        self.hidden, self.temperature, self.learning_rate = hidden, temperature, learning_rate
        self.grace_period, self.delta, self.tie_threshold = grace_period, delta, tie_threshold
        self.seed, self.threads, self.device, self.executor, self.shards = seed, threads, device, executor, shards
        super().__init__(schema, n_experts=n_experts)

    @property
    def n_experts(self) -> int:
        return self.n_trees

    def _run(self, x: Float32, y: Int32) -> Outcome:
        weights = softmax(self.batch.route(x), self.temperature)  # step 1, [n, E]
        routed = weights.argmax(1)  # step 4: whose prediction counts
        learns = top_k(weights, self.top_k)  # step 6: who will learn, [E, n]
        self.phases.end("route")
        p = self.pool.step(x, y[None], learns)  # steps 2 and 6, [E, n, C]: each event predicted, then learnt
        self.phases.end("experts")
        right, mask = multi_hot(p, y)  # step 3, [n, E]
        self.batch.remember(mask, y >= 0)  # step 5: the B-th event makes the router step
        self.phases.end("update")
        return Outcome(p[routed, np.arange(len(x))], weights, routed, learns, right)  # step 4

    def _predict(self, x: Float32) -> Float64:
        weights = softmax(self.router.logits(x), self.temperature)
        # By weight, not by logit: two logits may differ by less than their weights can.
        routed, rows = weights.argmax(1), np.arange(len(x))
        active = np.zeros((self.n_experts, len(x)), np.bool_)
        active[routed, rows] = True
        return self.pool.predict(x, active)[routed, rows]

    def _new_router(self, n_features: int, n_experts: int) -> Router:
        if self.device == "cpu":
            return super()._new_router(n_features, n_experts)
        need("torch", "torch", f"device: {self.device!r}")
        from stream_moe.router.published.device import DeviceRouter

        return DeviceRouter(
            n_features, n_experts, device=self.device, tile=self.mini_batch, hidden=(self.hidden, self.hidden // 2),
            learning_rate=self.learning_rate, seed=self.seed,
        )  # fmt: skip
