"""The compiled loops of the generated streams. Each continues from the state arrays it is given."""

from __future__ import annotations

import numpy as np

from stream_moe.compiled import compiled
from stream_moe.streams.java_random import next_double, next_gaussian, next_int

NOISE_PERCENT = 10  # MOA's default of LED and SEA, and the benchmark's


@compiled
def fill_led(concepts, random, segments, columns, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 24], y int32 [n] with LED events.

    concepts int8 [n] names each event's concept; random int64 [concepts] holds a generator for each;
    segments int8 [10, 7] the digits; columns int8 [concepts, 24] where segment or noise bit i is put.
    """
    for t in range(len(y)):
        k = concepts[t]
        digit = next_int(random, k, 10)
        y[t] = digit
        for i in range(7):
            flipped = 1 + next_int(random, k, 100) <= NOISE_PERCENT
            x[t, columns[k, i]] = segments[digit, i] ^ flipped
        for i in range(7, 24):
            x[t, columns[k, i]] = next_int(random, k, 2)


@compiled
def fill_sea(concepts, random, thresholds, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 3], y int32 [n] with SEA events; thresholds float64 [concepts]."""
    for t in range(len(y)):
        k = concepts[t]
        a = 10.0 * next_double(random, k)
        b = 10.0 * next_double(random, k)
        x[t, 0] = a
        x[t, 1] = b
        x[t, 2] = 10.0 * next_double(random, k)
        label = 0 if a + b <= thresholds[k] else 1
        if 1 + next_int(random, k, 100) <= NOISE_PERCENT:
            label = 1 - label
        y[t] = label


@compiled
def build_rbf(random, n_classes, centres, velocity, labels, deviations, weights, speed):  # type: ignore[no-untyped-def]
    """Draw the model of a drifting RBF stream: centres and velocity float64 [c, d], the rest [c].

    random int64 [2]: centres and velocity have a generator each, in MOA both of the model's seed.
    """
    c, d = centres.shape
    for k in range(c):
        for j in range(d):
            centres[k, j] = next_double(random, 0)
        labels[k] = next_int(random, 0, n_classes)
        deviations[k] = next_double(random, 0)
        weights[k] = next_double(random, 0)
    for k in range(c):
        norm = 0.0
        for j in range(d):
            velocity[k, j] = next_double(random, 1)
            norm += velocity[k, j] * velocity[k, j]
        norm = np.sqrt(norm)
        for j in range(d):
            velocity[k, j] = velocity[k, j] / norm * speed


@compiled
def fill_rbf(random, spare, centres, velocity, labels, deviations, weights, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, d], y int32 [n] with drifting RBF events, changing `centres` and `velocity`."""
    c, d = centres.shape
    position = centres.reshape(c * d)
    step = velocity.reshape(c * d)
    direction = np.empty(d)
    total = 0.0
    for k in range(c):
        total += weights[k]
    for t in range(len(y)):
        # Every centre moves before every event and bounces off the unit cube; no branch, so it runs as SIMD.
        for i in range(c * d):
            moved = position[i] + step[i]
            step[i] = -step[i] if (moved > 1.0) | (moved < 0.0) else step[i]
            position[i] = min(max(moved, 0.0), 1.0)
        at = next_double(random, 0) * total
        k = 0
        reached = weights[0]
        while reached <= at and k < c - 1:
            k += 1
            reached += weights[k]
        norm = 0.0
        for j in range(d):
            direction[j] = next_double(random, 0) * 2.0 - 1.0
            norm += direction[j] * direction[j]
        scale = next_gaussian(random, 0, spare) * deviations[k] / np.sqrt(norm)
        for j in range(d):
            x[t, j] = centres[k, j] + direction[j] * scale
        y[t] = labels[k]
