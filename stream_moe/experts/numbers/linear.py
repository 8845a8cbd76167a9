"""Robust recursive least squares over the row, in four forms.

A step counts less the further the target lies from what was expected (Huber's weights over a running scale), so that
an outlier moves nothing far. Forgetting alone lets the inverse covariance grow without bound where inputs do not
vary; here the prior's share is put back, one column at a time, so that it stays positive and bounded. When the table
of the rows moves to another epoch the model moves with it by a change of coordinates and predicts what it predicted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.numbers.base import NumberExpert, View, width_of
from stream_moe.experts.numbers.distribution import pull
from stream_moe.experts.numbers.rows import CENTRE, EPOCHS, LAGS, LATEST, LEVEL, NONE, SPREAD, UNIT, begins_anew
from stream_moe.ranges import COUNT
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int64

ALL, PAST, FEATURES, PRODUCTS = range(4)  # which columns are inputs
FROM_LATEST, FROM_CENTRE = range(2)  # what the target is measured from
MOST_MULTIPLIED = 10  # features of which products are inputs
PRODUCT_LIMIT = 5.0  # of a factor, in scales
SCALE_RATE = 0.01


class Linear(NamedTuple):
    """Robust recursive least squares of m inputs, in units of the target."""

    weights: Float64  # [m]
    inverse: Float64  # [m, m] of the weighted covariance
    square: Float64  # [1] squared scale of the error
    counts: Int64  # [2] labels learnt, epoch


@compiled
def clear(model: Linear, ridge: float) -> None:
    """Forget all."""
    model.weights[:], model.inverse[:], model.square[0], model.counts[0] = 0.0, 0.0, 1.0, 0
    for i in range(model.weights.shape[0]):
        model.inverse[i, i] = 1.0 / ridge


@compiled
def absorb(inverse: Float64, gain: Float64, denominator: float, forgetting: float) -> None:
    """Take one observation into the inverse: (P - g g' / denominator) / forgetting, symmetric to the last bit."""
    share, growth = 1.0 / denominator, 1.0 / forgetting
    for i in range(gain.shape[0]):
        for j in range(gain.shape[0]):
            inverse[i, j] = (inverse[i, j] - (gain[i] * gain[j]) * share) * growth


@compiled
def learn_row(
    weights: Float64, inverse: Float64, h: Float64, gain: Float64, error: float, weight: float,
    forgetting: float, ridge: float, turn: int,
) -> None:  # fmt: skip
    """One step of least squares on an error, and of the prior on one of the inputs in turn."""
    m = weights.shape[0]
    gain[:] = 0.0
    for j in range(m):
        for i in range(m):
            gain[i] += inverse[j, i] * h[j]
    q = 0.0
    for i in range(m):
        q += gain[i] * h[i]
    denominator = forgetting / weight + q
    for i in range(m):
        weights[i] += gain[i] / denominator * error
    absorb(inverse, gain, denominator, forgetting)
    if turn % 2:
        return
    i = (turn // 2) % m
    prior = 1.0 / ((1.0 - forgetting) * m * 2.0 * ridge)
    gain[:] = inverse[i]
    value, denominator = weights[i], prior + inverse[i, i]
    for j in range(m):
        weights[j] -= gain[j] * value / denominator
    absorb(inverse, gain, denominator, 1.0)


@compiled
def move_linear(model: Linear, which: Int64, k: int, old: Float64, new: Float64, origin: int) -> None:
    """Move to the coordinates of another epoch: the same predictions, in the new units."""
    m, facts, to = which.shape[0], old[3 * k :], new[3 * k :]
    units = facts[UNIT] / to[UNIT]
    for turn in range(-1, 2 * m):  # the weights, then the inverse by rows, then by columns
        shift = 0.0
        for i in range(m):
            j = which[i]
            stretch, moved = 1.0, 0.0
            if 1 <= j <= 2 * k:
                a, b = old[k + j - 1], new[k + j - 1]
                if a < NONE and b < NONE:
                    stretch = b / a
                    moved = (new[j - 1] - old[j - 1]) / a if j <= k else 0.0
            elif j == 1 + 2 * k + LEVEL:
                stretch, moved = to[SPREAD] / facts[SPREAD], (to[CENTRE] - facts[CENTRE]) / facts[SPREAD]
            elif j > 2 * k:
                stretch = 1.0 / units
            if turn < 0:
                shift += model.weights[i] * moved
                model.weights[i] *= stretch
            elif turn < m:
                shift += model.inverse[i, turn] * moved
                model.inverse[i, turn] *= stretch
            else:
                shift += model.inverse[turn - m, i] * moved
                model.inverse[turn - m, i] *= stretch
        if turn < 0:
            model.weights[0] += shift
            model.weights[:] *= units
            if origin == FROM_CENTRE:
                model.weights[0] += (facts[CENTRE] - to[CENTRE]) / to[UNIT]
        elif turn < m:
            model.inverse[0, turn] += shift
        else:
            model.inverse[turn - m, 0] += shift
    for i in range(m):  # what is not symmetric in it would grow with every event
        for j in range(i):
            model.inverse[j, i] = model.inverse[i, j]
    model.square[0] *= units * units


@compiled
def write_inputs(form: int, which: Int64, k: int, columns: Float64, h: Float64) -> None:
    """Write the inputs [m] of a row."""
    if form != PRODUCTS:
        for i in range(which.shape[0]):
            h[i] = columns[which[i]]
        return
    n, at = min(k, MOST_MULTIPLIED) + 1, 0
    for i in range(-1, n):  # the constant, features, and the target's level
        a = 1.0 if i < 0 else columns[1 + i] if i < n - 1 else columns[1 + 2 * k + LEVEL]
        a = min(max(a, -PRODUCT_LIMIT), PRODUCT_LIMIT)
        for j in range(i, n):
            b = 1.0 if j < 0 else columns[1 + j] if j < n - 1 else columns[1 + 2 * k + LEVEL]
            h[at] = a * min(max(b, -PRODUCT_LIMIT), PRODUCT_LIMIT)
            at += 1
    for j in range(1 + k, columns.shape[0]):
        h[at] = columns[j]
        at += 1


@compiled
def adopt(
    model: Linear, form: int, which: Int64, k: int, table: Float64, epoch: int, origin: int, ridge: float
) -> None:
    """Be in this epoch."""
    if model.counts[1] == epoch:
        return
    if form == PRODUCTS or begins_anew(table, k, model.counts[1], epoch):
        clear(model, ridge)
    else:
        move_linear(model, which, k, table[model.counts[1] % EPOCHS], table[epoch % EPOCHS], origin)
    model.counts[1] = epoch


@compiled
def step_linear(
    model: Linear, form: int, which: Int64, origin: int, forgetting: float, ridge: float, robust: float,
    scratch: Float64, k: int, view: View, out: Float64,
) -> None:  # fmt: skip
    """Predict and learn rows."""
    h, gain = scratch[0], scratch[1]
    for t in range(out.shape[0]):
        adopt(model, form, which, k, view.table, view.epochs[t], origin, ridge)
        facts = view.table[view.epochs[t] % EPOCHS, 3 * k :]
        base = view.facts[t, LATEST] if origin == FROM_LATEST else facts[CENTRE]
        if view.epochs[t] == 0:  # nothing is known of any scale
            out[t] = view.facts[t, LATEST]
            continue
        write_inputs(form, which, k, view.columns[t], h)
        expected = 0.0
        for i in range(h.shape[0]):
            expected += model.weights[i] * h[i]
        out[t] = base + expected * facts[UNIT]
        if math.isnan(view.y[t]):
            continue
        error = (view.y[t] - base) / facts[UNIT] - expected
        model.counts[0] += 1
        n, square = model.counts[0], model.square[0]
        weight = min(1.0, robust * math.sqrt(square) / max(abs(error), 1e-300)) * view.weight[t]
        capped = min(pull(error, square) * error * error, 1e12)
        model.square[0] = max(square + max(1.0 / (n + 3), SCALE_RATE) * (capped - square), 1e-12)
        learn_row(model.weights, model.inverse, h, gain, error, weight, forgetting, ridge, n)
    adopt(model, form, which, k, view.table, view.now, origin, ridge)


class LinearExpert(NumberExpert):
    """Robust recursive least squares with forgetting (Ljung 1999; Huber 1964).

    Parameters
    ----------
    k
        Features in a row.
    form
        Its inputs: "history" (all columns), "past" (the target's past), "features", or "products" (all columns, and
        the products of two features or the target's level).
    memory
        Weight that an observation keeps from one event to the next.
    robust
        Scales of the error from which on a target counts less.
    """

    kind = "linear"
    ranges = {"counts": COUNT}  # noqa: RUF012

    def __init__(self, k: int, *, form: str = "history", memory: float = 0.999, robust: float = 2.0) -> None:
        super().__init__(k)
        self.kind = f"linear-{form}"  # type: ignore[misc]
        width = width_of(k)
        self._form = {"history": ALL, "past": PAST, "features": FEATURES, "products": PRODUCTS}[form]
        self._which = np.array(
            [0, *{PAST: range(width - LAGS, width), FEATURES: range(1, 1 + k)}.get(self._form, range(1, width))],
            np.int64,
        )
        n = min(k, MOST_MULTIPLIED) + 2
        m = n * (n + 1) // 2 + width - 1 - k if self._form == PRODUCTS else len(self._which)
        self._origin = FROM_CENTRE if self._form == FEATURES else FROM_LATEST
        self._memory, self._robust, self._ridge = memory, robust, 0.1 if self._form == FEATURES else 1.0
        self._model = Linear(np.zeros(m), np.zeros((m, m)), np.ones(1), np.zeros(2, np.int64))
        self._scratch = np.empty((2, m))
        clear(self._model, self._ridge)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return dict(self._model._asdict())

    def step(self, view: View, out: Float64) -> None:
        step_linear(
            self._model, self._form, self._which, self._origin, self._memory, self._ridge, self._robust,
            self._scratch, self.k, view, out,
        )  # fmt: skip
