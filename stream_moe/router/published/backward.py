"""The gradient of a mini-batch, written out by hand and compiled.

Every weight's gradient is a sum over the batch in the order of its events, whichever thread makes it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.router.published.kernels import FAST, Layers
from stream_moe.router.published.sparse import aligned, combine, pick
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.types import Float32, Int32


class Work(NamedTuple):
    """Arrays of a backward pass over B rows, float32 but for the two of indices; a `_t` is a transpose."""

    delta3: Float32  # [B, E] gradient at the logits
    delta2: Float32  # [B, h2] and at what enters the ReLUs of the hidden layers
    delta1: Float32  # [B, h1]
    x_t: Float32
    hidden1_t: Float32
    delta3_t: Float32
    w2_t: Float32
    w3_t: Float32
    g3_t: Float32
    zeros: Float32
    row1: Int32  # one for each of two threads
    row2: Int32

    @classmethod
    def empty(cls, rows: int, widths: tuple[int, int, int, int]) -> Work:
        d, h1, h2, e = widths
        shapes = (rows, e), (rows, h2), (rows, h1), (d, rows), (h1, rows), (e, rows), (h2, h1), (e, h2), (e, h2)
        longest = max(rows, *widths)
        arrays = [aligned(*shape) for shape in shapes]
        return cls(*arrays, np.zeros(longest, np.float32), np.empty(longest, np.int32), np.empty(longest, np.int32))  # type: ignore[call-arg, arg-type]


def descend(
    x: Float32, hidden1: Float32, hidden2: Float32, net: Layers, work: Work, gradient: Layers, workers: WorkerThreads
) -> None:
    """Write the gradient of all parameters, given `work.delta3`."""
    hand_back(work.delta3, net.w3, work.w3_t, hidden2, work.zeros, work.row1, work.delta2)
    workers.each(  # about the same work
        [
            lambda: first_layer(x, hidden1, net.w2, work, gradient),
            lambda: other_layers(hidden1, hidden2, work, gradient),
        ]
    )


@compiled(_nrt=False)
def blame(logits: Float32, target: Float32, delta: Float32) -> float:
    """Write the gradient of the mean binary cross-entropy at the logits [n, E]; return that loss.

    log(1 + exp(-|z|)) is summed as the logarithm of a product, of which a float64 holds a thousand factors.
    """
    size = np.float32(logits.size)
    loss, product, factors = 0.0, 1.0, 0
    for t in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            z, wanted = logits[t, k], target[t, k]
            small = math.exp(-abs(z))  # sigmoid(|z|) = 1 / (1 + small)
            likely = np.float32((1.0 if z >= 0.0 else small) / (1.0 + small))
            delta[t, k] = (likely - wanted) / size
            loss += max(z, np.float32(0.0)) - z * wanted
            product *= 1.0 + small
            factors += 1
            if factors == 1000:
                loss += math.log(product)
                product, factors = 1.0, 0
    return (loss + math.log(product)) / logits.size


@compiled(_nrt=False, fastmath=FAST)
def first_layer(x: Float32, hidden1: Float32, w2: Float32, work: Work, gradient: Layers) -> None:
    hand_back(work.delta2, w2, work.w2_t, hidden1, work.zeros, work.row1, work.delta1)
    transpose(x, work.x_t)
    multiply(work.x_t, work.delta1, work.zeros, work.row1, gradient.w1)
    sum_rows(work.delta1, gradient.b1)


@compiled(_nrt=False, fastmath=FAST)
def other_layers(hidden1: Float32, hidden2: Float32, work: Work, gradient: Layers) -> None:
    transpose(hidden1, work.hidden1_t)
    multiply(work.hidden1_t, work.delta2, work.zeros, work.row2, gradient.w2)
    sum_rows(work.delta2, gradient.b2)
    transpose(work.delta3, work.delta3_t)  # few and long sums instead of many short ones
    multiply(work.delta3_t, hidden2, work.zeros, work.row2, work.g3_t)
    transpose(work.g3_t, gradient.w3)
    sum_rows(work.delta3, gradient.b3)


@compiled(_nrt=False, fastmath=FAST)
def hand_back(
    delta: Float32, w: Float32, w_t: Float32, hidden: Float32, zeros: Float32, row: Int32, out: Float32
) -> None:
    """out [B, J] = delta [B, K] times the transpose of w [J, K], where `hidden` [B, J] is above 0."""
    transpose(w, w_t)
    multiply(delta, w_t, zeros, row, out)
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[t, j] = out[t, j] if hidden[t, j] > np.float32(0.0) else np.float32(0.0)


@compiled(_nrt=False, fastmath=FAST)
def multiply(a: Float32, m: Float32, zeros: Float32, row: Int32, out: Float32) -> None:
    """out = a m, where much of a is 0; `row` is scratch."""
    for t in range(0, a.shape[0], 2):
        u = min(t + 1, a.shape[0] - 1)
        combine(a[t], a[u], row, pick(a[t], a[u], row), m, zeros, out[t], out[u])


@compiled(_nrt=False, fastmath=FAST)
def sum_rows(a: Float32, out: Float32) -> None:
    out[:] = np.float32(0.0)
    for t in range(a.shape[0]):
        for k in range(a.shape[1]):
            out[k] += a[t, k]


@compiled(_nrt=False)
def transpose(a: Float32, out: Float32) -> None:
    """out [K, J] = a [J, K]; eight of its columns at a time, which is a vector to write."""
    whole = a.shape[0] - a.shape[0] % 8
    for start in range(0, whole, 8):
        for k in range(a.shape[1]):
            for j in range(start, start + 8):
                out[k, j] = a[j, k]
    for j in range(whole, a.shape[0]):
        for k in range(a.shape[1]):
            out[k, j] = a[j, k]
