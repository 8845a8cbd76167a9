"""The router's forward pass, and the step that learns one event at a time, compiled.

Each row's sums are made in a fixed order (`stream_moe.router.published.sparse`), so its logits have the same bits in
whatever block it comes. Weights are [inputs, outputs].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.router.published.sparse import combine, pick
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Int32

# Compiled without reference counts (`_nrt`), which would take half of the time: nothing here allocates.
FAST = {"contract", "nsz"}  # no `reassoc`: a sum over inputs keeps its order
INPUT_LIMIT = np.float32(1e9)  # far beyond any real feature, and small enough that no square overflows float32
_LOSS_RATE = 1.0 / 256.0  # of the moving loss: about as many events as a mini-batch of the data variant


class Layers(NamedTuple):
    """Weights [inputs, outputs] and biases of the three layers, float32."""

    w1: Float32
    b1: Float32
    w2: Float32
    b2: Float32
    w3: Float32
    b3: Float32


class Scratch(NamedTuple):
    """Work vectors of one row: activations, dropout mask, gradients by layer, the number 1, indices of inputs."""

    hidden1: Float32
    mask: Float32
    hidden2: Float32
    delta1: Float32
    delta2: Float32
    delta3: Float32
    one: Float32
    row: Int32


@compiled(_nrt=False)
def make_usable(x: Float32) -> None:
    """Take missing values as 0 and bound the others, in place."""
    for t in range(x.shape[0]):
        for j in range(x.shape[1]):
            if math.isnan(x[t, j]):
                x[t, j] = 0.0
            x[t, j] = min(max(x[t, j], -INPUT_LIMIT), INPUT_LIMIT)


@compiled(_nrt=False, fastmath=FAST)
def layer(xa: Float32, xb: Float32, w: Float32, b: Float32, row: Int32, out_a: Float32, out_b: Float32) -> None:
    """out = b + x w for two rows, which share the loading of the weights; zeros of both cost nothing."""
    combine(xa, xb, row, pick(xa, xb, row), w, b, out_a, out_b)


@compiled(_nrt=False, fastmath=FAST)
def hidden_layer(
    xa: Float32, xb: Float32, w: Float32, b: Float32, row: Int32, out_a: Float32, out_b: Float32
) -> None:
    """`layer`, then ReLU."""
    layer(xa, xb, w, b, row, out_a, out_b)
    for k in range(out_a.shape[0]):
        out_a[k] = max(out_a[k], np.float32(0.0))
    for k in range(out_b.shape[0]):
        out_b[k] = max(out_b[k], np.float32(0.0))


@compiled(_nrt=False, fastmath=FAST)
def forward(x: Float32, net: Layers, row: Int32, hidden1: Float32, hidden2: Float32, logits: Float32) -> None:
    """Write both hidden layers [n, .] and the logits [n, E] of x [n, d]; `row` (scratch) is as long as any layer."""
    for t in range(0, x.shape[0], 2):
        u = min(t + 1, x.shape[0] - 1)  # the last row of an odd number goes with itself
        hidden_layer(x[t], x[u], net.w1, net.b1, row, hidden1[t], hidden1[u])
        hidden_layer(hidden1[t], hidden1[u], net.w2, net.b2, row, hidden2[t], hidden2[u])
        layer(hidden2[t], hidden2[u], net.w3, net.b3, row, logits[t], logits[u])


@compiled(_nrt=False)
def keep_mask(seed: int, step: int, dropout: float, mask: Float32) -> None:
    """Inverted dropout mask that is a function of (seed, step, unit) alone: nothing to checkpoint.

    The mixing function is splitmix64 (Steele et al., Fast splittable pseudorandom number generators, 2014).
    """
    scale = np.float32(1.0 / (1.0 - dropout))
    for k in range(mask.shape[0]):
        z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(step) * np.uint64(mask.shape[0])
        z = (z + np.uint64(k) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        uniform = np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)
        mask[k] = scale if uniform >= dropout else np.float32(0.0)


@compiled(_nrt=False, fastmath=FAST)
def adam(
    p: Float32, m: Float32, v: Float32, source: Float32, delta: Float32, rate: float, b1t: float, b2t: float
) -> None:
    """One Adam step of weights [i, o] whose gradient is source [i] times delta [o] (Kingma and Ba, 2015)."""
    correction = np.float32(1.0 / math.sqrt(1.0 - b2t))
    size = np.float32(rate / (1.0 - b1t))
    for j in range(p.shape[0]):
        for k in range(p.shape[1]):
            g = source[j] * delta[k]
            m[j, k] = np.float32(0.9) * m[j, k] + np.float32(0.1) * g
            v[j, k] = np.float32(0.999) * v[j, k] + np.float32(0.001) * g * g
            p[j, k] -= size * m[j, k] / (np.sqrt(v[j, k]) * correction + np.float32(1e-8))


@compiled(_nrt=False, fastmath=FAST)
def pull_back(w: Float32, delta: Float32, active: Float32, out: Float32) -> None:
    """out = (w delta) where the unit was active, else 0."""
    for j in range(out.shape[0]):
        s = np.float32(0.0)
        if active[j] > 0.0:
            for k in range(delta.shape[0]):
                s += w[j, k] * delta[k]
        out[j] = s


@compiled(_nrt=False, fastmath=FAST)
def online_steps(
    x: Float32,
    target: Float32,
    net: Layers,
    m: Layers,
    v: Layers,
    rate: float,
    dropout: float,
    seed: int,
    steps_done: int,
    scratch: Scratch,
    logits: Float32,
    loss: float,
) -> float:
    """Predict, then take one Adam step on the binary cross-entropy, for each row; return the moving loss.

    x [n, d]; target [n, E] of 0 and 1, a negative first entry = predict only; logits [n, E], out: those of
    each row before it was learnt, dropout active as in the published task variant. Biases are
    [1, outputs] in the update. loss is the moving loss so far, NaN before the first step.
    """
    h1, mask, h2, d1, d2, d3, one, row = scratch
    step = steps_done
    for t in range(x.shape[0]):
        keep_mask(seed, step, dropout, mask)
        hidden_layer(x[t], x[t], net.w1, net.b1, row, h1, h1)
        for k in range(h1.shape[0]):
            h1[k] *= mask[k]
        hidden_layer(h1, h1, net.w2, net.b2, row, h2, h2)
        layer(h2, h2, net.w3, net.b3, row, logits[t], logits[t])
        if target[t, 0] < 0.0:
            continue
        step += 1
        n_out = d3.shape[0]
        event_loss = 0.0
        for k in range(n_out):
            z, wanted = logits[t, k], target[t, k]
            d3[k] = (np.float32(1.0 / (1.0 + math.exp(-z))) - wanted) / np.float32(n_out)
            event_loss += (max(z, 0.0) - z * wanted + math.log1p(math.exp(-abs(z)))) / n_out
        loss = event_loss if math.isnan(loss) else loss + _LOSS_RATE * (event_loss - loss)
        pull_back(net.w3, d3, h2, d2)
        pull_back(net.w2, d2, h1, d1)
        for k in range(d1.shape[0]):
            d1[k] *= mask[k]
        b1t, b2t = 0.9**step, 0.999**step
        adam(net.w3, m.w3, v.w3, h2, d3, rate, b1t, b2t)
        adam(net.b3.reshape(1, -1), m.b3.reshape(1, -1), v.b3.reshape(1, -1), one, d3, rate, b1t, b2t)
        adam(net.w2, m.w2, v.w2, h1, d2, rate, b1t, b2t)
        adam(net.b2.reshape(1, -1), m.b2.reshape(1, -1), v.b2.reshape(1, -1), one, d2, rate, b1t, b2t)
        adam(net.w1, m.w1, v.w1, x[t], d1, rate, b1t, b2t)
        adam(net.b1.reshape(1, -1), m.b1.reshape(1, -1), v.b1.reshape(1, -1), one, d1, rate, b1t, b2t)
    return loss
