"""Gates over E predicted numbers: six first-level gates, and a mixture of all of them and of the experts.

Every expert's location becomes a law (Student's t) by the running scale of its own errors. The first level:

- *fixed share* (Herbster and Warmuth 1998) over log densities, two shares;
- *recent*: weights by the recent absolute error, over about 100 and 20 labels, and by the recent squared error;
- *stacking*: the recent gate plus least squares on how far each expert stands from it, robust and forgetting.

The last level is a fixed share mixture of the laws of all experts and gates. Its median is the answer; its quantiles,
moved by how often targets fell outside of late, are the interval (adaptive conformal: Gibbs and Candes 2021).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.experts.numbers.distribution import log_density, mixture_quantile, pull, standard_quantile
from stream_moe.experts.numbers.linear import absorb
from stream_moe.experts.numbers.rows import EPOCHS, RESTART, UNIT
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int64

GATES = ("share-fast", "share-slow", "recent", "recent-fast", "stacking", "recent-square")
FAST, CALM, RECENT, SUDDEN, STACK, SQUARED = range(6)
SHARES = (0.05, 0.005)  # that the two fixed share gates give away at each label
SHARPNESS = (30.0, 15.0, 8.0)  # of the weights by recent errors
RATES = (0.01, 0.05, 0.02)
TOP_SHARE = 0.002  # that the last level gives away
# Powers of a density, and how far a log density lies below the best one at most: where all are wrong by far, the
# widest law is the most likely, and should not take all of the weight for that.
SHARE_RATE, TOP_RATE, LEAST = 0.5, 0.25, -5.0
STACK_PRIOR, STACK_MEMORY, STACK_LIMIT = 0.3, 0.999, 10.0
SCALE_RATE, SCALE_FLOOR = 0.02, 1e-12  # of squared scales; in squared units
MOST_UNITS = 50.0  # of an error that counts
REACH_RATE = 0.05
IGNORED = 1e-4  # parts below so much weight are left out of quantiles
ANSWER, LOW, HIGH, SCALE = range(4)
ANSWERS = 4


class Gates(NamedTuple):
    """State of the gates over E experts; Q = E and the gates."""

    square: Float64  # [Q] squared scale of each part's errors, -1 = none yet
    share: Float64  # [2, E] weights of the fixed share gates
    recent: Float64  # [3, E] recent errors: absolute, absolute over fewer labels, squared; in units
    top: Float64  # [Q] weights of the last level
    stack: Float64  # [E]
    stack_inverse: Float64  # [E, E]
    stack_square: Float64  # [1] squared scale of the stack's error, in units
    reach: Float64  # [2] factors of the interval's two halves
    credit: Float64  # [E] sum of the shares of the answer
    error: Float64  # [E] sum of absolute errors
    counts: Int64  # [2] labels, epoch


@compiled
def softmin(errors: Float64, sharpness: float, out: Float64) -> None:
    """Weights exp(-sharpness (error / least - 1)) that sum up to 1; all alike before any error."""
    least, total = max(errors.min(), 1e-12), 0.0
    for e in range(errors.shape[0]):
        out[e] = math.exp(-sharpness * (errors[e] / least - 1.0))
        total += out[e]
    out /= total


@compiled
def foresee_row(gates: Gates, half: float, unit: float, said: Float64, scratch: Float64) -> None:
    """Write what is said of a row: said [2 Q + ANSWERS + 1] begins with the experts' locations."""
    parts, n = gates.square.shape[0], gates.stack.shape[0]
    location, scale, answer = said[:parts], said[parts : 2 * parts], said[2 * parts :]
    weight = scratch[0]
    for g in range(len(GATES)):
        location[n + g] = 0.0
    for g in range(2):
        for e in range(n):
            location[n + FAST + g] += gates.share[g, e] * location[e]
    for g in range(3):
        softmin(gates.recent[g], SHARPNESS[g], weight[:n])
        found = 0.0
        for e in range(n):
            found += weight[e] * location[e]
        location[n + (SQUARED if g == 2 else RECENT + g)] = found
    center, found = location[n + RECENT], 0.0
    for e in range(n):
        away = (location[e] - center) / unit
        found += gates.stack[e] * min(max(away, -STACK_LIMIT), STACK_LIMIT)
    location[n + STACK] = center + found * unit
    kept = 0
    for q in range(parts):
        scale[q] = math.sqrt(gates.square[q]) if gates.square[q] > 0.0 else unit
        if gates.top[q] > IGNORED:
            scratch[0, kept], scratch[1, kept], scratch[2, kept] = gates.top[q], location[q], scale[q]
            kept += 1
    middle = mixture_quantile(0.5, scratch[0], scratch[1], scratch[2], kept)
    low = mixture_quantile(half, scratch[0], scratch[1], scratch[2], kept)
    high = mixture_quantile(1.0 - half, scratch[0], scratch[1], scratch[2], kept)
    answer[ANSWER] = middle
    answer[LOW] = middle - gates.reach[0] * max(middle - low, 0.0)
    answer[HIGH] = middle + gates.reach[1] * max(high - middle, 0.0)
    answer[SCALE] = (answer[HIGH] - answer[LOW]) / (2.0 * standard_quantile(1.0 - half))
    answer[ANSWERS] = unit


@compiled
def learn_stack(gates: Gates, said: Float64, unit: float, y: float, scratch: Float64) -> None:
    """One robust step of least squares, and of its prior on one weight in turn."""
    n = gates.stack.shape[0]
    h, gain, inverse = scratch[0, :n], scratch[1, :n], gates.stack_inverse
    error = min(max((y - said[n + STACK]) / unit, -1e6), 1e6)
    square = gates.stack_square[0]
    steady = min(1.0, 3.0 * math.sqrt(square) / max(abs(error), 1e-300))
    rise = min(error * error, 9.0 * square + 1e-9) - square
    gates.stack_square[0] = square + max(1.0 / (gates.counts[0] + 1), 0.01) * rise
    gain[:] = 0.0
    for e in range(n):
        h[e] = min(max((said[e] - said[n + RECENT]) / unit, -STACK_LIMIT), STACK_LIMIT)
        for i in range(n):
            gain[i] += inverse[e, i] * h[e]
    q = 0.0
    for e in range(n):
        q += gain[e] * h[e]
    denominator = STACK_MEMORY / max(steady, 1e-9) + q
    for e in range(n):
        gates.stack[e] += gain[e] / denominator * error
    absorb(inverse, gain, denominator, STACK_MEMORY)
    i = gates.counts[0] % n
    prior = STACK_PRIOR / ((1.0 - STACK_MEMORY) * n)
    gain[:] = inverse[i]
    value, denominator = gates.stack[i], prior + inverse[i, i]
    for e in range(n):
        gates.stack[e] -= gain[e] * value / denominator
    absorb(inverse, gain, denominator, 1.0)


@compiled
def note_shares(gates: Gates, scratch: Float64) -> None:
    """Add each expert's share of the answer: its own weight, and what it has of the gates'."""
    n, credit = gates.stack.shape[0], gates.credit
    for e in range(n):
        credit[e] += gates.top[e]
        for g in range(2):
            credit[e] += gates.top[n + FAST + g] * gates.share[g, e]
    for g in range(3):
        softmin(gates.recent[g], SHARPNESS[g], scratch[0, :n])
        mass = gates.top[n + SQUARED] if g == 2 else gates.top[n + RECENT + g]
        if g == 0:
            mass += gates.top[n + STACK]  # which begins from it
        for e in range(n):
            credit[e] += mass * scratch[0, e]


@compiled
def learn_gates(gates: Gates, half: float, said: Float64, y: float, scratch: Float64) -> None:
    """Learn the target of a row from what was said of it."""
    parts, n = gates.square.shape[0], gates.stack.shape[0]
    answer = said[2 * parts :]
    unit = answer[ANSWERS]
    gates.counts[0] += 1
    labels = gates.counts[0]
    note_shares(gates, scratch)
    for e in range(n):
        gates.error[e] += abs(y - said[e])
    if labels == 1:  # nobody knew anything
        return
    gates.reach[0] *= math.exp(REACH_RATE * ((1.0 if y < answer[LOW] else 0.0) - half))
    gates.reach[1] *= math.exp(REACH_RATE * ((1.0 if y > answer[HIGH] else 0.0) - half))
    logs, best, best_expert = scratch[0], -np.inf, -np.inf
    for q in range(parts):
        logs[q] = log_density(y, said[q], said[parts + q])
        best = max(best, logs[q])
        if q < n:
            best_expert = max(best_expert, logs[q])
    for g in range(2):
        total = 0.0
        for e in range(n):
            gates.share[g, e] *= math.exp(max(SHARE_RATE * (logs[e] - best_expert), LEAST))
            total += gates.share[g, e]
        for e in range(n):
            gates.share[g, e] = (1.0 - SHARES[g]) * gates.share[g, e] / total + SHARES[g] / n
    total = 0.0
    for q in range(parts):
        gates.top[q] *= math.exp(max(TOP_RATE * (logs[q] - best), LEAST))
        total += gates.top[q]
    for q in range(parts):
        prior = 0.5 / n if q < n else 0.5 / len(GATES)
        gates.top[q] = (1.0 - TOP_SHARE) * gates.top[q] / total + TOP_SHARE * prior
    for g in range(3):
        rate = max(1.0 / (labels - 1), RATES[g])
        for e in range(n):
            error = min(abs(y - said[e]) / unit, MOST_UNITS)
            gates.recent[g, e] += rate * ((error * error if g == 2 else error) - gates.recent[g, e])
    for q in range(parts):
        error, square = y - said[q], gates.square[q]
        if square > 0.0:
            error = min(abs(error), 1e3 * math.sqrt(square))
            square += max(1.0 / labels, SCALE_RATE) * (pull(error, square) * error * error - square)
        else:
            square = error * error
        gates.square[q] = max(square, SCALE_FLOOR * unit * unit)
    learn_stack(gates, said, unit, y, scratch)


@compiled
def new_scales(gates: Gates, k: int, table: Float64, epoch: int) -> None:
    """Forget scales and recent errors where the target has become another number."""
    before = gates.counts[1]
    if before == epoch:
        return
    again = not 0 <= epoch - before < EPOCHS
    if not again:
        for passed in range(before + 1, epoch + 1):
            again = again or table[passed % EPOCHS, 3 * k + RESTART] > 0.0
    if again:
        gates.square[:], gates.recent[:], gates.reach[:], gates.stack_square[0] = -1.0, 0.0, 1.0, 1.0
    gates.counts[1] = epoch


@compiled
def step_gates(
    gates: Gates, half: float, k: int, epochs: Int64, table: Float64, now: int, source: Int64, y: Float64,
    said: Float64, scratch: Float64,
) -> None:  # fmt: skip
    """Go through n rows; of one that comes back late `source` [n] is the row whose `said` is what was said of it."""
    for t in range(said.shape[0]):
        new_scales(gates, k, table, epochs[t])
        if source[t] >= 0:
            said[t] = said[source[t]]
        else:
            foresee_row(gates, half, table[epochs[t] % EPOCHS, 3 * k + UNIT], said[t], scratch)
        if not math.isnan(y[t]):
            learn_gates(gates, half, said[t], y[t], scratch)
    new_scales(gates, k, table, now)


@compiled
def foresee_gates(gates: Gates, half: float, unit: float, said: Float64, scratch: Float64) -> None:
    """Say what would be said of n rows; nothing changes."""
    for t in range(said.shape[0]):
        foresee_row(gates, half, unit, said[t], scratch)
