"""Window k-nearest-neighbours for a number: of the target itself, or of what the base expert leaves."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.numbers.base import NumberExpert, View, width_of
from stream_moe.experts.numbers.rows import CENTRE, EPOCHS, LATEST, LEVEL, NONE, SPREAD, UNIT, begins_anew
from stream_moe.ranges import COUNT
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int64

INPUT_LIMIT = 6.0
NEAR = 0.1  # of the distance of the furthest neighbour: added to each before its inverse is the weight


class Window(NamedTuple):
    """The latest w events."""

    rows: Float64  # [m, w] by column, so that distances to all are one pass
    targets: Float64  # [w] in the target's units
    counts: Int64  # [2] labels, epoch


@compiled
def move_window(window: Window, which: Int64, k: int, old: Float64, new: Float64) -> None:
    """Take the rows to the coordinates of another epoch."""
    facts, to = old[3 * k :], new[3 * k :]
    for i in range(which.shape[0]):
        j = which[i]
        factor, shift = 1.0, 0.0
        if 1 <= j <= 2 * k:
            a, b = old[k + j - 1], new[k + j - 1]
            if a < NONE and b < NONE:
                factor, shift = a / b, (old[j - 1] - new[j - 1]) / b if j <= k else 0.0
        elif j == 1 + 2 * k + LEVEL:
            factor, shift = facts[SPREAD] / to[SPREAD], (facts[CENTRE] - to[CENTRE]) / to[SPREAD]
        else:
            factor = facts[UNIT] / to[UNIT]
        for s in range(window.targets.shape[0]):
            z = window.rows[i, s] * factor + shift
            window.rows[i, s] = min(max(z, -INPUT_LIMIT), INPUT_LIMIT)


@compiled
def step_window(
    window: Window, which: Int64, neighbours: int, of_rest: bool, distance: Float64, near: Float64, place: Int64,
    k: int, view: View, out: Float64,
) -> None:  # fmt: skip
    """Predict and learn rows; distance [w], near and place [neighbours] are written over."""
    size = window.targets.shape[0]
    for t in range(out.shape[0] + 1):
        epoch = view.now if t == out.shape[0] else view.epochs[t]
        if window.counts[1] != epoch:
            if begins_anew(view.table, k, window.counts[1], epoch):
                window.counts[0], window.rows[:], window.targets[:] = 0, 0.0, 0.0
            else:
                entry = view.table[window.counts[1] % EPOCHS]
                move_window(window, which, k, entry, view.table[epoch % EPOCHS])
            window.counts[1] = epoch
        if t == out.shape[0]:
            break
        n = min(window.counts[0], size)
        base = view.guess[t] if of_rest else 0.0
        distance[:n] = 0.0
        for i in range(which.shape[0]):
            h = min(max(view.columns[t, which[i]], -INPUT_LIMIT), INPUT_LIMIT)
            row = window.rows[i]
            for s in range(n):
                distance[s] += (row[s] - h) ** 2
        found = 0
        for s in range(n):
            if found < neighbours or distance[s] < near[found - 1]:
                i = min(found, neighbours - 1)
                found = min(found + 1, neighbours)
                while i > 0 and near[i - 1] > distance[s]:
                    near[i], place[i] = near[i - 1], place[i - 1]
                    i -= 1
                near[i], place[i] = distance[s], s
        if found == 0 or epoch == 0:
            out[t] = view.facts[t, LATEST]
        else:
            mass, total, margin = 0.0, 0.0, NEAR * math.sqrt(near[found - 1]) + 1e-9
            for i in range(found):
                weight = 1.0 / (math.sqrt(near[i]) + margin)
                mass += weight
                total += weight * window.targets[place[i]]
            out[t] = base + total / mass
        if not math.isnan(view.y[t]) and epoch > 0:
            s = window.counts[0] % size
            for i in range(which.shape[0]):
                window.rows[i, s] = min(max(view.columns[t, which[i]], -INPUT_LIMIT), INPUT_LIMIT)
            window.targets[s] = view.y[t] - base
            window.counts[0] += 1


class NeighboursExpert(NumberExpert):
    """Mean over the nearest of a window, weighted by inverse distance.

    Parameters
    ----------
    k
        Features in a row.
    target
        "level": the target, by its features; "rest": what the base expert leaves, by features and the target's past.
    window
        Events.
    neighbours
        How many.
    """

    kind = "neighbours"
    ranges = {"counts": COUNT}  # noqa: RUF012

    def __init__(self, k: int, *, target: str = "level", window: int = 1000, neighbours: int = 5) -> None:
        super().__init__(k)
        self.kind = f"neighbours-{target}"  # type: ignore[misc]
        past = range(1 + 2 * k, width_of(k)) if target == "rest" else ()
        self._which = np.array([*range(1, 1 + k), *past], np.int64)
        self._of_rest, self._neighbours = target == "rest", neighbours
        self._window = Window(np.zeros((len(self._which), window)), np.zeros(window), np.zeros(2, np.int64))
        self._distance, self._near = np.empty(window), np.empty(neighbours)
        self._place = np.empty(neighbours, np.int64)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return dict(self._window._asdict())

    def step(self, view: View, out: Float64) -> None:
        step_window(
            self._window, self._which, self._neighbours, self._of_rest, self._distance, self._near, self._place,
            self.k, view, out,
        )  # fmt: skip
