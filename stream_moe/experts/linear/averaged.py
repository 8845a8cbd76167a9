"""Softmax regression for sharp borders under noisy labels: what it answers with is an average of its iterates.

One gradient step per event leaves weights that tremble, and a wrong label far from the border moves them most.
Two old remedies: a share of the labels is taken to be drawn at random, and its size is estimated as we go; and
the answer comes from the mean of the weights since the last change, found by comparing the two.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.base import DriftCounts
from stream_moe.experts.compiled import DONE
from stream_moe.experts.linear.softmax import SMALLEST, encode, first_inputs, predict
from stream_moe.experts.state import MOMENTS, ArrayState, keep, no_moments, take_in
from stream_moe.ranges import AMOUNT, ANY, COUNT, Range, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.copies import copy
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

FIRST_NOISE, LEAST_NOISE, MOST_NOISE = 0.05, 1e-3, 0.5
NOISE_RATE = 0.01
LONGEST = 1e-5  # least share of the newest iterate in the average


class State(NamedTuple):
    """D inputs as of `SoftmaxRegression`."""

    weight: Float64  # [D, C] the newest iterate
    square: Float64  # [D, C] fading sum of squared gradients
    average: Float64  # [D, C] of the iterates since the last change
    counted: Float64  # [D] how many those are
    seen: Float64  # [C] weight learnt of each class; a class never seen gets probability 0
    noise: Float64  # [1] share of the labels that are drawn at random
    evidence: Float64  # [1] that the newest iterate is better than the average, nats
    changes: Int64  # [1]


@compiled
def learn(
    s: State, value: Float64, index: Int64, newest: Float64, answered: float, classes: float,
    y: int, weight: float, rate: float, memory: float, patience: float,
) -> None:  # fmt: skip
    """One step; `newest` [C] is the softmax of the newest iterate, `answered` the probability answered for y."""
    blur = s.noise[0] / classes
    clean = (1.0 - s.noise[0]) * newest[y]
    s.evidence[0] = max(0.0, s.evidence[0] + math.log((clean + blur) / answered))
    if s.evidence[0] > patience:
        s.evidence[0] = 0.0
        s.changes[0] += 1
        for k in range(s.weight.shape[0]):
            copy(s.weight[k], s.average[k])
        s.counted[:] = 0.0
    trust = clean / (clean + blur)
    s.noise[0] = max(s.noise[0] + NOISE_RATE * (1.0 - trust - s.noise[0]), LEAST_NOISE)
    if s.noise[0] >= MOST_NOISE:  # most labels cannot be noise: the weights are wrong, and must move
        s.noise[0], trust = MOST_NOISE, 1.0
    for c in range(newest.shape[0]):
        if s.seen[c] <= 0.0:
            continue
        error = weight * trust * (newest[c] - (1.0 if c == y else 0.0))
        for i in range(value.shape[0]):
            if value[i] != 0.0:
                gradient, k = error * value[i], index[i]
                s.square[k, c] = memory * s.square[k, c] + gradient * gradient
                s.weight[k, c] -= rate * gradient / math.sqrt(s.square[k, c] + SMALLEST)
    for i in range(value.shape[0]):
        if value[i] != 0.0:
            k = index[i]
            s.counted[k] += 1.0
            share = max(1.0 / s.counted[k], LONGEST)
            for c in range(newest.shape[0]):
                s.average[k, c] += share * (s.weight[k, c] - s.average[k, c])


@compiled(no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then train, row by row: the kernel of `CompiledExpert`."""
    s, moments, n_categories, start, rate, memory, patience, value, index, newest = opened(state)
    for t in range(x.shape[0]):
        encode(x[t], moments, n_categories, start, value, index)
        any_class = predict(s.average, s.seen, value, index, proba[t])
        classes = 0.0
        for c in range(proba.shape[1]):
            classes += s.seen[c] > 0.0
        for c in range(proba.shape[1]):
            if s.seen[c] > 0.0:
                proba[t, c] = (1.0 - s.noise[0]) * proba[t, c] + s.noise[0] / classes
        if y[t] < 0 or weight[t] <= 0.0:
            continue
        if any_class and s.seen[y[t]] > 0.0:
            predict(s.weight, s.seen, value, index, newest)
            learn(s, value, index, newest, proba[t, y[t]], classes, y[t], weight[t], rate, memory, patience)
        s.seen[y[t]] += weight[t]
        take_in(moments, x[t], n_categories)
    return DONE


class AveragedSoftmax(ArrayState):
    """Softmax regression that doubts labels and answers with the average of its iterates.

    Parameters
    ----------
    schema
        Features and classes.
    learning_rate, memory
        As of `SoftmaxRegression`: of the newest iterate.
    patience
        Nats of evidence that the newest iterate is better than the average, after which the average begins anew.

    Notes
    -----
    With weights w the model is p(c | x) = (1 - e) softmax(x w)_c + e / C over the classes seen. A gradient counts by
    the posterior probability that its label is no noise, and e follows the mean of that: the closer a wrong label is
    to the border the more it counts, and the border becomes as sharp as the data show. Where e reaches a half it is
    the weights that are wrong, and every label counts in full.
    The evidence is the cumulative sum, never below 0, of the log-likelihood ratio of newest iterate and average
    (Page, 1954): while nothing changes the average is the better of the two and the sum stays small.
    Sources: averaging, Polyak and Juditsky (1992); noise, Bootkrajang and Kaban, Label-noise robust logistic
    regression (2012).

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> rng = np.random.default_rng(1)
    >>> x = rng.random((30000, 2), dtype=np.float32)
    >>> border = x.sum(1) > np.where(np.arange(30000) < 15000, 1.0, 1.2)  # it moves halfway
    >>> y = (border ^ (rng.random(30000) < 0.1)).astype(np.int32)  # one label in ten is wrong
    >>> expert, proba = AveragedSoftmax(Schema.numeric(2, ["no", "yes"])), np.empty((30000, 2))
    >>> expert.step(x, y, np.ones(30000), proba)
    >>> right = proba.argmax(1) == border
    >>> bool(right[5000:15000].mean() > 0.993), bool(right[18000:].mean() > 0.993)
    (True, True)
    """

    kind = "averaged-softmax"
    kernel = step
    detector = "cusum"

    def __init__(
        self, schema: Schema, *, learning_rate: float = 0.5, memory: float = 0.999, patience: float = 10.0
    ) -> None:
        if not (0 < learning_rate < math.inf and 0 < memory <= 1 and 0 < patience < math.inf):
            raise ConfigError(
                f"averaged-softmax: learning_rate {learning_rate} and patience {patience} must be finite and above "
                f"0, memory {memory} in (0, 1]"
            )
        self._settings = learning_rate, memory, patience
        self._set_schema(schema)

    @property
    def drift_counts(self) -> DriftCounts:
        """How often the average began anew."""
        changes = int(self._regression.changes[0])
        return DriftCounts(drifts=changes, resets=changes)

    def _parts(self) -> dict[str, Any]:
        return {"state": self._regression, "moments": self._moments}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        state = named(
            State, weight=ANY, square=ANY, average=ANY, counted=COUNT, seen=AMOUNT, noise=Range(0.0, 1.0, nan=True),
            evidence=Range(0.0, nan=True), changes=COUNT,
        )  # fmt: skip
        return {"state": state, "moments": MOMENTS}

    def _state(self) -> tuple[Any, ...]:
        return (
            self._regression, self._moments, self._n_categories, self._start, *self._settings, *self._scratch,
        )  # fmt: skip

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`: every feature's weights move to where they now begin."""
        state, moments, start = self._regression, self._moments, self._start
        self._set_schema(schema)
        keep(self._moments, moments)
        keep(self._regression[4:], state[4:])
        ends = [*start[1:], len(state.weight)]
        places = zip([0, *self._start], [0, *start], [1, *ends], strict=False)
        for at, begin, end in places:
            for target, source in zip(self._regression[:3], state[:3], strict=True):
                target[at : at + end - begin, : source.shape[1]] = source[begin:end]
            self._regression.counted[at : at + end - begin] = state.counted[begin:end]

    def _set_schema(self, schema: Schema) -> None:
        d, c = schema.n_features, schema.n_classes
        self.n_classes = c
        self._n_categories = schema.n_categories
        self._start, n_inputs = first_inputs(schema)
        self._regression = State(
            np.zeros((n_inputs, c)), np.zeros((n_inputs, c)), np.zeros((n_inputs, c)), np.zeros(n_inputs),
            np.zeros(c), np.full(1, FIRST_NOISE), np.zeros(1), np.zeros(1, np.int64),
        )  # fmt: skip
        self._moments = no_moments(d)
        self._scratch = np.empty(d + 1), np.empty(d + 1, np.int64), np.empty(c)
        self._unbind()
