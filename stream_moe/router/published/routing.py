"""From logits to decisions, row by row: weights, who learns, who was right."""

from __future__ import annotations

import math

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32


def softmax(logits: Float32, temperature: float) -> Float32:
    """Weights float32 [n, E] = softmax(logits [n, E] / temperature), each row alone.

    Examples
    --------
    >>> softmax(np.zeros((1, 4), np.float32), 0.8).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    weights = np.empty_like(logits)
    _softmax(logits, temperature, weights)
    return weights


def top_k(weights: Float32, k: int) -> Float64:
    """float64 [E, n]: 1 for the k experts of highest weight in each row of weights [n, E], else 0.

    Of equal weights the expert of lower index comes first.

    Examples
    --------
    >>> top_k(np.float32([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]]), 2).tolist()
    [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    """
    chosen = np.zeros((weights.shape[1], len(weights)))
    _top_k(weights, k, chosen)
    return chosen


def multi_hot(proba: Float64, y: Int32) -> tuple[Float32, Float32]:
    """Who was right, and the router's target, both float32 [n, E], from proba [E, n, C] and labels y [n].

    An expert is right if its most probable class is y. The target is 1 for every expert that is right; if there is
    none, for the one that gave y the most. Rows without a label are all 0.

    Examples
    --------
    >>> proba = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.9, 0.1]]])
    >>> right, mask = multi_hot(proba, np.int32([0, 1]))
    >>> right.tolist(), mask.tolist()  # nobody is right on the second row; the first expert is closest
    ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
    """
    right, mask = (np.empty((proba.shape[1], len(proba)), np.float32) for _ in range(2))
    _multi_hot(proba, y, right, mask)
    return right, mask


@compiled(_nrt=False)
def _softmax(logits: Float32, temperature: float, out: Float32) -> None:
    for t in range(logits.shape[0]):
        top, total = logits[t, 0], 0.0
        for e in range(logits.shape[1]):
            top = max(top, logits[t, e])
        for e in range(logits.shape[1]):
            out[t, e] = math.exp((logits[t, e] - top) / temperature)
            total += out[t, e]
        for e in range(logits.shape[1]):
            out[t, e] = out[t, e] / total


@compiled(_nrt=False)
def _top_k(weights: Float32, k: int, chosen: Float64) -> None:
    for t in range(weights.shape[0]):
        last, bound = -1, np.float32(np.inf)  # the one chosen before
        for _ in range(k):
            best, most = -1, np.float32(-np.inf)
            for e in range(weights.shape[1]):
                weight = weights[t, e]
                if weight > most and (weight < bound or (weight == bound and e > last)):
                    best, most = e, weight
            chosen[best, t] = 1.0
            last, bound = best, most


@compiled(_nrt=False)
def _multi_hot(proba: Float64, y: Int32, right: Float32, mask: Float32) -> None:
    for t in range(proba.shape[1]):
        right[t] = 0.0
        if y[t] < 0:
            mask[t] = 0.0
            continue
        anyone = False
        closest = 0
        for e in range(proba.shape[0]):
            if np.argmax(proba[e, t]) == y[t]:
                right[t, e] = 1.0
                anyone = True
            if proba[e, t, y[t]] > proba[closest, t, y[t]]:
                closest = e
        for e in range(proba.shape[0]):
            mask[t, e] = right[t, e]
        if not anyone:
            mask[t, closest] = 1.0
