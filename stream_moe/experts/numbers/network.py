"""A small neural network that also learns from events it has seen before.

One hidden layer beside direct weights, Adam (Kingma and Ba 2015) on a clipped error. Each event is learnt once when
its target comes, and then a few of the latest 2,000 are learnt again, drawn by a number that is a function of the
seed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.numbers.base import NumberExpert, View, width_of
from stream_moe.experts.numbers.distribution import pull
from stream_moe.experts.numbers.rows import CENTRE, EPOCHS, LAGS, LATEST, UNIT, begins_anew
from stream_moe.ranges import COUNT
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.draws import uniform
from stream_moe.types import Float64, Int64

KEPT = 2000  # rows that may be learnt again
INPUT_LIMIT = 6.0
LEAK = 0.1  # slope of a hidden unit below 0
MEAN, SQUARE = 0.9, 0.999  # what Adam's averages keep
FROM_LATEST, FROM_CENTRE, FROM_GUESS = range(3)


class Network(NamedTuple):
    """H hidden units over m inputs."""

    hidden: Float64  # [H, m]
    direct: Float64  # [H + m] of the hidden units, then of the inputs
    hidden_mean: Float64  # [H, m] Adam's averages
    hidden_square: Float64  # [H, m]
    direct_mean: Float64  # [H + m]
    direct_square: Float64  # [H + m]
    rows: Float64  # [KEPT, m]
    targets: Float64  # [KEPT]
    square: Float64  # [1] squared scale of the error
    counts: Int64  # [3] labels, steps, epoch
    start: Float64  # [H, m] where the hidden weights begin


@compiled
def clear(net: Network) -> None:
    """Forget all."""
    net.hidden[:] = net.start
    net.direct[:], net.direct_mean[:], net.direct_square[:] = 0.0, 0.0, 0.0
    net.hidden_mean[:], net.hidden_square[:] = 0.0, 0.0
    net.rows[:], net.targets[:], net.square[0], net.counts[0], net.counts[1] = 0.0, 0.0, 1.0, 0, 0


@compiled
def forward(net: Network, h: Float64, activity: Float64) -> float:
    """Return what is expected at inputs h [m]; write the hidden units' activity [H]."""
    found, n = 0.0, net.hidden.shape[0]
    for i in range(n):
        a = 0.0
        for j in range(h.shape[0]):
            a += net.hidden[i, j] * h[j]
        activity[i] = max(a, LEAK * a)
        found += net.direct[i] * activity[i]
    for j in range(h.shape[0]):
        found += net.direct[n + j] * h[j]
    return found


@compiled
def backward(net: Network, h: Float64, activity: Float64, error: float, rate: float) -> None:
    """One step of Adam."""
    net.counts[1] += 1
    n, steps = net.hidden.shape[0], min(net.counts[1], 100_000)
    warm = 1.0 - SQUARE**steps
    for i in range(n):
        inner = error * net.direct[i] * (1.0 if activity[i] > 0.0 else LEAK)
        g = error * activity[i]
        net.direct_square[i] += (1.0 - SQUARE) * (g * g - net.direct_square[i])
        net.direct_mean[i] += (1.0 - MEAN) * (g - net.direct_mean[i])
        net.direct[i] += rate * net.direct_mean[i] / (math.sqrt(net.direct_square[i] / warm) + 1e-8)
        for j in range(h.shape[0]):
            g = inner * h[j]
            square = net.hidden_square[i, j] + (1.0 - SQUARE) * (g * g - net.hidden_square[i, j])
            mean = net.hidden_mean[i, j] + (1.0 - MEAN) * (g - net.hidden_mean[i, j])
            net.hidden_square[i, j], net.hidden_mean[i, j] = square, mean
            net.hidden[i, j] += rate * mean / (math.sqrt(square / warm) + 1e-8)
    for j in range(h.shape[0]):
        g = error * h[j]
        net.direct_square[n + j] += (1.0 - SQUARE) * (g * g - net.direct_square[n + j])
        net.direct_mean[n + j] += (1.0 - MEAN) * (g - net.direct_mean[n + j])
        net.direct[n + j] += rate * net.direct_mean[n + j] / (math.sqrt(net.direct_square[n + j] / warm) + 1e-8)


@compiled
def step_network(
    net: Network, which: Int64, origin: int, rate: float, again: int, seed: int, scratch: Float64, k: int,
    view: View, out: Float64,
) -> None:  # fmt: skip
    """Predict and learn rows."""
    m = which.shape[0]
    h, activity = scratch[0, :m], scratch[1, : net.hidden.shape[0]]
    for t in range(out.shape[0] + 1):
        epoch = view.now if t == out.shape[0] else view.epochs[t]
        if net.counts[2] != epoch:
            if begins_anew(view.table, k, net.counts[2], epoch):
                clear(net)
            net.counts[2] = epoch
        if t == out.shape[0]:
            break
        facts = view.table[epoch % EPOCHS, 3 * k :]
        base = view.facts[t, LATEST] if origin == FROM_LATEST else facts[CENTRE]
        if origin == FROM_GUESS:
            base = view.guess[t]
        if epoch == 0:
            out[t] = view.facts[t, LATEST]
            continue
        for j in range(m):
            h[j] = min(max(view.columns[t, which[j]], -INPUT_LIMIT), INPUT_LIMIT)
        out[t] = base + forward(net, h, activity) * facts[UNIT]
        if math.isnan(view.y[t]):
            continue
        n = net.counts[0]
        place = n % KEPT
        net.rows[place], net.targets[place] = h, (view.y[t] - base) / facts[UNIT]
        net.counts[0] += 1
        for turn in range(again + 1):
            if turn > 0:
                place = int(uniform(seed, turn, n) * min(n + 1, KEPT))
                h[:] = net.rows[place]
            error = net.targets[place] - forward(net, h, activity)
            if turn == 0:
                capped = min(pull(error, net.square[0]) * error * error, 1e12)
                rise = max(1.0 / (n + 2), 0.01) * (capped - net.square[0])
                net.square[0] = max(net.square[0] + rise, 1e-12)
            limit = 3.0 * math.sqrt(net.square[0])
            error = min(max(error, -limit), limit) * (view.weight[t] if turn == 0 else 1.0)
            backward(net, h, activity, error, rate)


class NetworkExpert(NumberExpert):
    """A network with one hidden layer, and the latest events to learn from again.

    Parameters
    ----------
    k
        Features in a row.
    target
        What it expects: "level" from the features alone, "change" since the latest target from features and the
        target's past, or "rest", what the base expert leaves, from the features.
    hidden
        Hidden units.
    rate
        Adam's step.
    again
        Events learnt again with each.
    seed
        Of the first weights, and of what is learnt again.
    """

    kind = "network"
    ranges = {"counts": COUNT}  # noqa: RUF012

    def __init__(
        self, k: int, *, target: str = "level", hidden: int = 32, rate: float = 0.003, again: int = 2, seed: int = 1
    ) -> None:
        super().__init__(k)
        self.kind = f"network-{target}"  # type: ignore[misc]
        self._origin = {"level": FROM_CENTRE, "change": FROM_LATEST, "rest": FROM_GUESS}[target]
        past = range(1 + 2 * k, width_of(k)) if target == "change" else ()
        self._which = np.array([*range(1 + k), *past], np.int64)
        m = len(self._which)
        self._rate, self._again, self._seed = rate, again, seed
        rng = np.random.default_rng([seed, m, hidden, LAGS])
        start = rng.normal(0.0, 1.0 / math.sqrt(m), (hidden, m))
        self._net = Network(
            start.copy(), np.zeros(hidden + m), np.zeros((hidden, m)), np.zeros((hidden, m)), np.zeros(hidden + m),
            np.zeros(hidden + m), np.zeros((KEPT, m)), np.zeros(KEPT), np.ones(1), np.zeros(3, np.int64), start,
        )  # fmt: skip
        self._scratch = np.empty((2, max(m, hidden)))

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: array for name, array in self._net._asdict().items() if name != "start"}

    def step(self, view: View, out: Float64) -> None:
        step_network(
            self._net, self._which, self._origin, self._rate, self._again, self._seed, self._scratch, self.k, view,
            out,
        )  # fmt: skip
