"""The compiled loops of the generated streams. Each continues from the state arrays it is given."""

from __future__ import annotations

import math

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.streams.java_random import next_double, next_gaussian, next_int


@compiled
def fill_led(random, segments, columns, noise, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 24], y int32 [n] with LED events.

    segments int8 [10, 7] holds the digits; columns int8 [24] where segment or noise bit i is put; noise is the
    percentage of wrong segments.
    """
    for t in range(len(y)):
        digit = next_int(random, 0, 10)
        y[t] = digit
        for i in range(7):
            flipped = 1 + next_int(random, 0, 100) <= noise
            x[t, columns[i]] = segments[digit, i] ^ flipped
        for i in range(7, 24):
            x[t, columns[i]] = next_int(random, 0, 2)


@compiled
def fill_sea(random, threshold, noise, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 3], y int32 [n] with SEA events; noise is the percentage of wrong labels."""
    for t in range(len(y)):
        a = 10.0 * next_double(random, 0)
        b = 10.0 * next_double(random, 0)
        x[t, 0], x[t, 1], x[t, 2] = a, b, 10.0 * next_double(random, 0)
        label = 0 if a + b <= threshold else 1
        if 1 + next_int(random, 0, 100) <= noise:
            label = 1 - label
        y[t] = label


@compiled
def fill_hyperplane(random, weights, directions, drifting, speed, reversal, noise, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, d], y int32 [n] with points beside a plane, changing weights and directions float64 [d].

    After each event the first `drifting` weights move by `speed`, and each turns back in `reversal` percent of
    them; noise is the percentage of wrong labels.
    """
    for t in range(len(y)):
        reached = 0.0
        total = 0.0
        for j in range(len(weights)):
            value = next_double(random, 0)
            x[t, j] = value
            reached += weights[j] * value
            total += weights[j]
        label = 1 if reached >= total * 0.5 else 0
        if 1 + next_int(random, 0, 100) <= noise:
            label = 1 - label
        y[t] = label
        for j in range(drifting):
            weights[j] += directions[j] * speed
            if 1 + next_int(random, 0, 100) <= reversal:
                directions[j] = -directions[j]


@compiled
def fill_sine(random, function, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 2 or 4], y int32 [n]: is the point of the unit square below a sine curve?"""
    for t in range(len(y)):
        a = next_double(random, 0)
        b = next_double(random, 0)
        x[t, 0], x[t, 1] = a, b
        for j in range(2, x.shape[1]):
            x[t, j] = next_double(random, 0)
        curve = math.sin(a) if function <= 2 else 0.5 + 0.3 * math.sin(3.0 * math.pi * a)
        y[t] = (b >= curve) ^ (function % 2 == 0)


@compiled
def fill_mixed(random, function, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 4], y int32 [n]: do two of three conditions hold, of two booleans and a sine curve?"""
    for t in range(len(y)):
        v = next_double(random, 0) >= 0.5
        w = next_double(random, 0) >= 0.5
        a = next_double(random, 0)
        b = next_double(random, 0)
        x[t, 0], x[t, 1], x[t, 2], x[t, 3] = v, w, a, b
        below = b < 0.5 + 0.3 * math.sin(3.0 * math.pi * a)
        y[t] = (int(v) + int(w) + int(below) < 2) ^ (function == 2)


@compiled
def fill_stagger(random, function, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 3], y int32 [n]: size small, medium, large; red, blue, green; circle, square, triangle."""
    for t in range(len(y)):
        size = next_int(random, 0, 3)
        colour = next_int(random, 0, 3)
        shape = next_int(random, 0, 3)
        x[t, 0], x[t, 1], x[t, 2] = size, colour, shape
        if function == 1:
            y[t] = size == 0 and colour == 0
        elif function == 2:
            y[t] = colour == 2 or shape == 0
        else:
            y[t] = size != 0


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
