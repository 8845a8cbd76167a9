"""The router's compiled half: a forward pass row by row, and the step that learns one event at a time.

Each row is computed alone and in a fixed order, so its logits have the same bits in whatever block it
comes (a BLAS rounds differently for different batch shapes). Weights are [inputs, outputs]: the inner loop
runs over outputs, which vectorises without changing the order of any sum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.compiled import compiled
from stream_moe.types import Float32, Int32

_FAST = {"contract", "nsz"}  # no `reassoc`: a sum over inputs keeps its order
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
    """Work vectors of one row: activations, dropout mask, gradients by layer, indices of non-zero inputs."""

    hidden1: Float32
    mask: Float32
    hidden2: Float32
    delta1: Float32
    delta2: Float32
    delta3: Float32
    active: Int32


@compiled(fastmath=_FAST)
def affine(x: Float32, w: Float32, b: Float32, active: Int32, out: Float32) -> None:
    """out = b + x w, summed over the inputs in their order.

    Inputs that are 0 (about half of them after a ReLU) cost nothing: `active` (scratch, at least as long as x)
    lists the others. Four of them share one pass over the outputs, which would otherwise be loaded and stored
    for each.
    """
    n = 0
    for j in range(x.shape[0]):
        if x[j] != 0.0:
            active[n] = j
            n += 1
    out[:] = b
    whole = n - n % 4
    for i in range(0, whole, 4):
        j0, j1, j2, j3 = active[i], active[i + 1], active[i + 2], active[i + 3]
        x0, x1, x2, x3 = x[j0], x[j1], x[j2], x[j3]
        w0, w1, w2, w3 = w[j0], w[j1], w[j2], w[j3]
        for k in range(out.shape[0]):
            out[k] = out[k] + x0 * w0[k] + x1 * w1[k] + x2 * w2[k] + x3 * w3[k]
    for i in range(whole, n):
        value, row = x[active[i]], w[active[i]]
        for k in range(out.shape[0]):
            out[k] += value * row[k]


@compiled(fastmath=_FAST)
def affine_pair(
    xa: Float32, xb: Float32, w: Float32, b: Float32, active: Int32, out_a: Float32, out_b: Float32
) -> None:
    """`affine` for two rows, which share the loading of the weights.

    Each row's sum has the same terms in the same order as alone: an input that only the other row has adds
    0 times a weight, which changes no bit. Eight inputs share one pass over the outputs.
    """
    n = 0
    for j in range(xa.shape[0]):
        if xa[j] != 0.0 or xb[j] != 0.0:
            active[n] = j
            n += 1
    for k in range(out_a.shape[0]):
        out_a[k] = b[k]
        out_b[k] = b[k]
    whole = n - n % 8
    for i in range(0, whole, 8):
        j0, j1, j2, j3 = active[i], active[i + 1], active[i + 2], active[i + 3]
        j4, j5, j6, j7 = active[i + 4], active[i + 5], active[i + 6], active[i + 7]
        a0, a1, a2, a3, a4, a5, a6, a7 = xa[j0], xa[j1], xa[j2], xa[j3], xa[j4], xa[j5], xa[j6], xa[j7]
        b0, b1, b2, b3, b4, b5, b6, b7 = xb[j0], xb[j1], xb[j2], xb[j3], xb[j4], xb[j5], xb[j6], xb[j7]
        for k in range(out_a.shape[0]):
            w0, w1, w2, w3 = w[j0, k], w[j1, k], w[j2, k], w[j3, k]
            w4, w5, w6, w7 = w[j4, k], w[j5, k], w[j6, k], w[j7, k]
            out_a[k] = out_a[k] + a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3 + a4 * w4 + a5 * w5 + a6 * w6 + a7 * w7
            out_b[k] = out_b[k] + b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3 + b4 * w4 + b5 * w5 + b6 * w6 + b7 * w7
    for i in range(whole, n):
        j = active[i]
        a0, b0 = xa[j], xb[j]
        for k in range(out_a.shape[0]):
            out_a[k] += a0 * w[j, k]
            out_b[k] += b0 * w[j, k]


@compiled(fastmath=_FAST)
def relu(out: Float32) -> None:
    for k in range(out.shape[0]):
        out[k] = max(out[k], np.float32(0.0))


@compiled(fastmath=_FAST)
def forward(x: Float32, net: Layers, active: Int32, hidden1: Float32, hidden2: Float32, logits: Float32) -> None:
    """Write both hidden layers [n, .] and the logits [n, E] of x [n, d]."""
    pairs = x.shape[0] - x.shape[0] % 2
    for t in range(0, pairs, 2):
        affine_pair(x[t], x[t + 1], net.w1, net.b1, active, hidden1[t], hidden1[t + 1])
        relu(hidden1[t])
        relu(hidden1[t + 1])
        affine_pair(hidden1[t], hidden1[t + 1], net.w2, net.b2, active, hidden2[t], hidden2[t + 1])
        relu(hidden2[t])
        relu(hidden2[t + 1])
        affine_pair(hidden2[t], hidden2[t + 1], net.w3, net.b3, active, logits[t], logits[t + 1])
    for t in range(pairs, x.shape[0]):
        affine(x[t], net.w1, net.b1, active, hidden1[t])
        relu(hidden1[t])
        affine(hidden1[t], net.w2, net.b2, active, hidden2[t])
        relu(hidden2[t])
        affine(hidden2[t], net.w3, net.b3, active, logits[t])


@compiled
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


@compiled
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


@compiled(fastmath=_FAST)
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


@compiled(fastmath=_FAST)
def pull_back(w: Float32, delta: Float32, active: Float32, out: Float32) -> None:
    """out = (w delta) where the unit was active, else 0."""
    for j in range(out.shape[0]):
        s = np.float32(0.0)
        if active[j] > 0.0:
            for k in range(delta.shape[0]):
                s += w[j, k] * delta[k]
        out[j] = s


@compiled(fastmath=_FAST)
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

    x [n, d]; target [n, E] of 0 and 1, a negative first entry = predict only; logits [n, E], out: what the
    network said before it learnt the row, dropout active as in the published task variant. Biases are
    [1, outputs] in the update. loss is the moving loss so far, NaN before the first step.
    """
    h1, mask, h2, d1, d2, d3, active = scratch
    one = np.ones(1, np.float32)
    step = steps_done
    for t in range(x.shape[0]):
        keep_mask(seed, step, dropout, mask)
        affine(x[t], net.w1, net.b1, active, h1)
        relu(h1)
        for k in range(h1.shape[0]):
            h1[k] *= mask[k]
        affine(h1, net.w2, net.b2, active, h2)
        relu(h2)
        affine(h2, net.w3, net.b3, active, logits[t])
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
