"""Softmax regression over sparse rows: an event costs time for its entries, whatever the number of names."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.base import Expert
from stream_moe.experts.sparse.buckets import grown, new_rows, packed, unpacked
from stream_moe.ranges import AMOUNT, ANY, expect
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

SMALLEST = 1e-8  # keeps the first step of a weight finite


class Weights(NamedTuple):
    """R rows of C classes."""

    weight: Float64  # [R, C]
    square: Float64  # [R, C] fading sums of squared gradients
    constant: Float64  # [2, C] weight and square of the constant
    seen: Float64  # [C] weight learnt of each class; one never seen gets probability 0
    used: Int64  # [1] rows that are not all 0


@compiled
def to_softmax(score: Float64, seen: Float64) -> int:
    """Make scores probabilities, in place, over the classes seen; uniform before any. Return how many were seen."""
    top, known, total = -np.inf, 0, 0.0
    for c in range(score.shape[0]):
        if seen[c] > 0.0:
            known += 1
            top = max(top, score[c])
    for c in range(score.shape[0]):
        score[c] = 1.0 if known == 0 else math.exp(score[c] - top) if seen[c] > 0.0 else 0.0
        total += score[c]
    for c in range(score.shape[0]):
        score[c] /= total
    return known


@compiled
def step_rows(
    w: Weights, start: Int64, bucket: Int32, value: Float32, y: Int32, weight: Float64, rate: float, memory: float,
    proba: Float64,
) -> None:  # fmt: skip
    """Test, then take one gradient step on the log-loss, row by row; a row counts as one of length 1."""
    mask, n_classes = w.weight.shape[0] - 1, proba.shape[1]
    for t in range(y.shape[0]):
        entries, length = range(start[t], start[t + 1]), 1.0
        for k in entries:
            length += value[k] * value[k]
        scale = 1.0 / math.sqrt(length)
        proba[t] = w.constant[0]
        for k in entries:
            x, i = value[k] * scale, bucket[k] & mask
            for c in range(n_classes):
                proba[t, c] += x * w.weight[i, c]
        known = to_softmax(proba[t], w.seen)
        if y[t] < 0 or weight[t] <= 0.0:
            continue
        known += w.seen[y[t]] <= 0.0
        w.seen[y[t]] += weight[t]
        if known < 2:  # with one class there is nothing to tell apart
            continue
        for c in range(n_classes):
            if w.seen[c] > 0.0:
                gradient = weight[t] * (proba[t, c] - (1.0 if c == y[t] else 0.0))
                w.constant[1, c] = memory * w.constant[1, c] + gradient * gradient
                w.constant[0, c] -= rate * gradient / math.sqrt(w.constant[1, c] + SMALLEST)
        for k in entries:
            x, i = value[k] * scale, bucket[k] & mask
            before = w.square[i].sum()
            for c in range(n_classes):
                if w.seen[c] > 0.0:
                    gradient = x * weight[t] * (proba[t, c] - (1.0 if c == y[t] else 0.0))
                    w.square[i, c] = memory * w.square[i, c] + gradient * gradient
                    w.weight[i, c] -= rate * gradient / math.sqrt(w.square[i, c] + SMALLEST)
            w.used[0] += before == 0.0 and w.square[i].sum() > 0.0


class SparseSoftmax(Expert):
    """Softmax regression with a step of its own for each name, which shortens as the name is met.

    Parameters
    ----------
    schema
        Of sparse rows: its classes.
    learning_rate
        Length of a step, in units of the root of the squared gradients so far.
    memory
        In (0, 1]: what is left of the sum of a name's squared gradients when it is next met; 1 is Adagrad.

    Notes
    -----
    Each row is divided by its Euclidean length, so that a long text weighs no more than a short one.
    Source: Duchi et al., Adaptive subgradient methods (2011); weights by hash: Weinberger et al., Feature hashing for
    large scale multitask learning (2009).

    Examples
    --------
    >>> from stream_moe.sparse_rows import SparseRows
    >>> rows = SparseRows.of([{"cheap": 1, "pills": 1}, {"minutes": 1, "meeting": 1}] * 50)
    >>> y, proba = np.arange(100, dtype=np.int32) % 2, np.empty((100, 2))
    >>> expert = SparseSoftmax(Schema((), ("ham", "spam"), sparse=True))
    >>> expert.step(rows, y, np.ones(100), proba)
    >>> bool((proba.argmax(1) == y)[4:].all())
    True
    """

    kind = "sparse-softmax"

    def __init__(self, schema: Schema, *, learning_rate: float = 0.5, memory: float = 1.0) -> None:
        self._rate, self._memory = learning_rate, memory
        c = self.n_classes = schema.n_classes
        self._weights = Weights(new_rows(c), new_rows(c), np.zeros((2, c)), np.zeros(c), np.zeros(1, np.int64))

    def step(self, x: Any, y: Int32, weight: Float64, proba: Float64) -> None:
        """As `Expert.step`, with x of `SparseRows`."""
        step_rows(self._weights, x.start, x.bucket, x.value, y, weight, self._rate, self._memory, proba)

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`; of sparse rows only the classes can become more."""
        old, c = self._weights, schema.n_classes
        wider = ((0, 0), (0, c - self.n_classes))
        weight, square = grown(old.weight, c), grown(old.square, c)
        used = np.array([square.any(1).sum()])
        self._weights = Weights(weight, square, np.pad(old.constant, wider), np.pad(old.seen, wider[1]), used)
        self.n_classes = c

    def snapshot(self) -> Snapshot:
        w = self._weights
        rows = packed({"weight": w.weight, "square": w.square})
        return rows | {"constant": w.constant.copy(), "seen": w.seen.copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        w, found = self._weights, snapshot[0]
        w.constant[...] = expect(self.kind, found, "constant", np.float64, w.constant.shape, ANY)
        w.seen[...] = expect(self.kind, found, "seen", np.float64, w.seen.shape, AMOUNT)
        unpacked({"weight": w.weight, "square": w.square}, found, self.kind)
        w.used[0] = w.square.any(1).sum()

    @property
    def memory_bytes(self) -> int:
        """Of the names met, not of the room there is."""
        return 2 * 8 * self.n_classes * int(self._weights.used[0])
