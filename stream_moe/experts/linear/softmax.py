"""Multinomial logistic regression as an expert: one compiled gradient step per event."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.compiled import DONE
from stream_moe.experts.state import (
    MOMENTS,
    MOST_CATEGORIES,
    ArrayState,
    Moments,
    keep,
    no_moments,
    precision,
    take_in,
)
from stream_moe.ranges import AMOUNT, ANY, Range, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

LIMIT = 8.0  # z-scores are clipped here: one wild value must not throw the weights away
SMALLEST = 1e-8  # keeps the first step of a weight finite


class Weights(NamedTuple):
    """D inputs: the constant 1, a z-score per numeric feature, an indicator per category."""

    weight: Float64  # [D, C]
    square: Float64  # [D, C] fading sum of squared gradients
    seen: Float64  # [C] weight learnt of each class; a class never seen gets probability 0


@compiled(_nrt=False)
def encode(row: Float32, moments: Moments, n_categories: Int32, start: Int64, value: Float64, index: Int64) -> None:
    """Write each feature's input value (0 = no influence) and where its weights are."""
    value[0], index[0] = 1.0, 0
    for j in range(row.shape[0]):
        value[j + 1], index[j + 1] = 0.0, start[j]
        if math.isnan(row[j]) or (n_categories[j] > 0 and row[j] >= MOST_CATEGORIES):
            continue
        if n_categories[j] > 0:
            value[j + 1], index[j + 1] = 1.0, start[j] + np.int64(row[j])
        else:
            z = (row[j] - moments.mean[j]) * precision(moments, j)
            value[j + 1] = min(max(z, -LIMIT), LIMIT)


@compiled(_nrt=False)
def predict(weight: Float64, seen: Float64, value: Float64, index: Int64, proba: Float64) -> bool:
    """Write the softmax over the classes seen; uniform, and False, before any."""
    top = -np.inf
    for c in range(proba.shape[0]):
        proba[c] = 0.0 if seen[c] > 0.0 else -np.inf
    for i in range(value.shape[0]):
        if value[i] != 0.0:
            for c in range(proba.shape[0]):
                proba[c] += value[i] * weight[index[i], c]
    for c in range(proba.shape[0]):
        top = max(top, proba[c])
    if top == -np.inf:
        proba[:] = 1.0 / proba.shape[0]
        return False
    total = 0.0
    for c in range(proba.shape[0]):
        proba[c] = math.exp(proba[c] - top)
        total += proba[c]
    for c in range(proba.shape[0]):
        proba[c] /= total
    return True


@compiled(_nrt=False)
def step_row(
    w: Weights,
    moments: Moments,
    n_categories: Int32,
    start: Int64,
    rate: float,
    memory: float,
    row: Float32,
    y: int,
    weight: float,
    proba: Float64,
    value: Float64,
    index: Int64,
) -> None:
    """Test, then take one gradient step on the log-loss; value and index [1 + d] are scratch."""
    encode(row, moments, n_categories, start, value, index)
    any_class = predict(w.weight, w.seen, value, index, proba)
    if y < 0 or weight <= 0.0:
        return
    w.seen[y] += weight
    for c in range(proba.shape[0]):
        if w.seen[c] <= 0.0 or not any_class:  # with one class there is nothing to tell apart
            continue
        error = weight * (proba[c] - (1.0 if c == y else 0.0))
        for i in range(value.shape[0]):
            if value[i] != 0.0:
                gradient, k = error * value[i], index[i]
                w.square[k, c] = memory * w.square[k, c] + gradient * gradient
                w.weight[k, c] -= rate * gradient / math.sqrt(w.square[k, c] + SMALLEST)
    take_in(moments, row, n_categories)


@compiled(_nrt=False, no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Step row by row: the kernel of `CompiledExpert`."""
    w, moments, n_categories, start, rate, memory, value, index = opened(state)
    for t in range(x.shape[0]):
        step_row(w, moments, n_categories, start, rate, memory, x[t], y[t], weight[t], proba[t], value, index)
    return DONE


class SoftmaxRegression(ArrayState):
    """Softmax regression learnt online, on z-scored numeric and one-hot nominal features.

    Parameters
    ----------
    schema
        Features and classes.
    learning_rate
        Length of a step, in units of the root of the recent squared gradients.
    memory
        In (0, 1]: what is left of the sum of squared gradients after each event. 1 is Adagrad, whose steps
        vanish; below 1 the steps keep a length, so that the expert follows a drift.

    Notes
    -----
    With the defaults a step is at most 0.2 and, once 1,000 events are seen, of the order of 0.01.
    Of a nominal feature the first 4,096 categories have weights; the others count as missing.
    Z-scores use the mean and deviation of the events learnt before. A missing value has the z-score 0.
    Source of the step: Duchi et al., Adaptive subgradient methods (2011), with a fading sum.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe.types import Schema
    >>> rng = np.random.default_rng(1)
    >>> x = rng.normal(50, 9, (2000, 4)).astype(np.float32)
    >>> y = (x[:, 0] > x[:, 1]).astype(np.int32)
    >>> expert, proba = SoftmaxRegression(Schema.numeric(4, ["no", "yes"])), np.empty((2000, 2))
    >>> expert.step(x, y, np.ones(2000), proba)
    >>> bool((proba.argmax(1) == y)[1000:].mean() > 0.97)
    True
    """

    kind = "softmax"
    kernel = step

    def __init__(self, schema: Schema, *, learning_rate: float = 0.2, memory: float = 0.999) -> None:
        if not (0 < learning_rate < math.inf and 0 < memory <= 1):
            raise ConfigError(
                f"softmax: learning_rate {learning_rate} must be finite and above 0, memory {memory} in (0, 1]"
            )
        self._rate, self._memory = learning_rate, memory
        self._set_schema(schema)

    def _parts(self) -> dict[str, Any]:
        return {"weights": self._weights, "moments": self._moments}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        return {"weights": named(Weights, weight=ANY, square=ANY, seen=AMOUNT), "moments": MOMENTS}

    def _state(self) -> tuple[Any, ...]:
        return (
            self._weights, self._moments, self._n_categories, self._start, self._rate, self._memory, *self._scratch,
        )  # fmt: skip

    def grow(self, schema: Schema) -> None:
        weights, moments, start = self._weights, self._moments, self._start
        self._set_schema(schema)
        keep(self._moments, moments)
        self._weights.seen[: len(weights.seen)] = weights.seen
        ends = [*start[1:], len(weights.weight)]
        for target, source in zip(self._weights[:2], weights[:2], strict=True):
            target[0, : source.shape[1]] = source[0]
            for at, begin, end in zip(self._start, start, ends, strict=False):
                target[at : at + end - begin, : source.shape[1]] = source[begin:end]

    def _set_schema(self, schema: Schema) -> None:
        d, c = schema.n_features, schema.n_classes
        self.n_classes = c
        self._n_categories = schema.n_categories
        self._start, n_inputs = first_inputs(schema)
        self._weights = Weights(np.zeros((n_inputs, c)), np.zeros((n_inputs, c)), np.zeros(c))
        self._moments = no_moments(d)
        self._scratch = np.empty(d + 1), np.empty(d + 1, np.int64)
        self._unbind()


def first_inputs(schema: Schema) -> tuple[Int64, int]:
    """Return where each feature's weights begin, int64 [d], and how many inputs there are with the constant."""
    ends = 1 + np.cumsum(np.clip(schema.n_categories, 1, MOST_CATEGORIES), dtype=np.int64)
    return np.concatenate([np.ones(1, np.int64), ends])[:-1], int(ends[-1]) if schema.n_features else 1
