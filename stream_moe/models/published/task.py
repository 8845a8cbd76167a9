"""DriftMoETask, the published MoE-Task: a one-against-rest expert for each class, and a router that predicts alone.

Source: DriftMoE: A Mixture of Experts Approach to Handle Concept Drifts, arXiv 2507.18464, written from the paper.
For each event (x, y), with C classes and as many experts:

1. z = router(x), under dropout; w = softmax(z)
2. expert c gives p_c(x), the probability that the event is of class c rather than of the rest
3. the mask is one-hot(y), whichever experts are right
4. the prediction is argmax w: as published, the experts have no vote. With `vote` it is argmax w_c p_c(x).
5. the router makes one Adam step on the binary cross-entropy of z and the mask, at every event
6. all experts learn (x, y), each whether the event is of its class

No expert depends on another or on the router. So the router goes through the events of a block alone, and so does
each expert: the result equals the event-by-event loop exactly.
"""

from __future__ import annotations

import numpy as np

from stream_moe.experts.executors import Executor
from stream_moe.models.published.mixture import Outcome, PublishedMixture
from stream_moe.models.published.one_against_rest import (
    CLASS,
    one_class_schema,
    one_hot,
    own_labels,
    shares,
    voted,
    who_is_right,
)
from stream_moe.router.published.routing import softmax
from stream_moe.types import Float32, Float64, Int32, Schema


class DriftMoETask(PublishedMixture):
    """The published mixture with one Hoeffding tree for each class.

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    hidden
        Width of the router's first hidden layer; the second has half of it.
    learning_rate
        Of the router's Adam.
    grace_period, delta, tie_threshold
        Of the trees.
    vote
        Predict by router weight times expert probability, instead of by the router alone.
    seed
        Of everything random.
    threads
        Threads over the experts; the result does not depend on it.
    executor, shards
        Where the experts live, and in how many parts; changes no result. See `stream_moe.experts.executors`.

    Notes
    -----
    Defaults as in the paper; dropout is 0.2. What `step` predicts is made under dropout, as published; what
    `predict_proba_many` predicts is not.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> evaluate.progressive_val_score(datasets.Phishing(), DriftMoETask(seed=1, vote=True), metrics.Accuracy())
    Accuracy: 89.03%
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        hidden: int = 256,
        learning_rate: float = 2e-3,
        grace_period: float = 50,
        delta: float = 1e-7,
        tie_threshold: float = 0.05,
        vote: bool = False,
        seed: int = 1,
        threads: int = 1,
        executor: Executor = "threads",
        shards: int = 0,
    ) -> None:
        self.hidden, self.learning_rate, self.vote = hidden, learning_rate, vote
        self.grace_period, self.delta, self.tie_threshold = grace_period, delta, tie_threshold
        self.seed, self.threads, self.executor, self.shards = seed, threads, executor, shards
        super().__init__(schema)

    @property
    def n_experts(self) -> int:
        return self.schema.n_classes

    def _run_end(self, y: Int32, start: int) -> int:
        return len(y)  # the router steps at every event, inside `learn_online`

    def _run(self, x: Float32, y: Int32) -> Outcome:
        mask = np.where(y[:, None] < 0, -1.0, one_hot(y, self.n_experts)).astype(np.float32)  # step 3, [n, C]
        logits = self.router.learn_online(x, mask)  # steps 1 and 5, [n, C]: each event routed, then learnt
        weights = softmax(logits, self.temperature)  # step 1
        self.phases.end("update")
        everyone = np.ones((self.n_experts, len(x)))  # step 6: who will learn, [C, n]
        p = self.pool.step(x, own_labels(y, self.n_experts), everyone)  # steps 2 and 6: predicted, then learnt
        self.phases.end("experts")
        yes = p[..., CLASS].T  # step 2, [n, C]
        proba = voted(weights, yes) if self.vote else shares(weights)  # step 4
        return Outcome(proba, weights, proba.argmax(1), everyone, who_is_right(yes, y))

    def _predict(self, x: Float32) -> Float64:
        weights = softmax(self.router.logits(x), self.temperature)
        return voted(weights, self.pool.predict(x)[..., CLASS].T) if self.vote else shares(weights)

    def _expert_schema(self, schema: Schema) -> Schema:
        return one_class_schema(schema)
