"""From logits to decisions, row by row and compiled: weights, who learns, who was right."""

from __future__ import annotations

import math

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32


@compiled(_nrt=False)
def softmax_rows(logits: Float32, temperature: float, out: Float32) -> None:
    """out [n, E] = softmax(logits / temperature), each row alone."""
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
def top_k(weights: Float32, k: int, chosen: Float64) -> None:
    """chosen [E, n]: 1 for the k experts of highest weight in each row, else 0; ties go to the lower index."""
    chosen[:] = 0.0
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
def right_or_most_confident(proba: Float64, y: Int32, right: Float32, mask: Float32) -> None:
    """Write who was right (right [n, E]), and the router's target (mask [n, E]).

    The target is 1 for every expert whose most probable class is y; if there is none, for the one that gave
    y the most. proba [E, n, C]. Rows without a label are all 0.
    """
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
