"""k nearest neighbours over a sliding window of events, compiled.

The window holds rows as they came, and each query scales the differences with the moments of that moment.
So a distance depends on two rows and the events learnt so far, never on when a row was stored or on how the
stream was cut into blocks; and no error can build up, as it would if stored rows were rescaled in place.

Columns are stored one after the other: the inner loop runs down a column over 128 rows, which vectorises
without changing the order in which a row's distance is summed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.compiled import DONE
from stream_moe.experts.state import MOMENTS, ArrayState, keep, no_moments, precision, take_in
from stream_moe.ranges import INPUT, Range, expect, index, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

TILE = 128  # rows whose distances are summed together: 512 bytes, kept in the first-level cache
ABANDON_EVERY = 8  # features between two looks whether the whole tile is already too far
PRIOR = 0.3  # votes that are spread over all classes, so that no probability is 0
LARGEST_WINDOW = 2**20
MOST_VALUES = 2**28  # of a window, in 2 GiB


class Window(NamedTuple):
    """The last rows learnt, oldest first, somewhere in buffers of twice their number."""

    x: Float32  # [d, 2 W]
    y: Int32  # [2 W]
    end: Int64  # [1] where the next row goes


class Scratch(NamedTuple):
    scale: Float32  # [d]
    squared: Float32  # [TILE] distances
    nearest: Float32  # [k] distances, ascending
    label: Int32  # [k]


@compiled(_nrt=False, fastmath={"contract", "nsz"})
def add_gaps(column: Float32, value: float, scale: float, squared: Float32) -> None:
    for i in range(column.shape[0]):
        gap = (column[i] - value) * scale
        gap *= gap
        squared[i] += np.float32(1.0) if math.isnan(gap) else gap  # NaN: the stored value is missing


@compiled(_nrt=False)
def add_mismatches(column: Float32, value: float, squared: Float32) -> None:
    for i in range(column.shape[0]):
        squared[i] += np.float32(1.0) if column[i] != value else np.float32(0.0)


@compiled(_nrt=False)
def all_beyond(squared: Float32, limit: float) -> bool:
    near = 0
    for i in range(squared.shape[0]):
        near += squared[i] < limit
    return near == 0


@compiled(_nrt=False)
def search(w: Window, n_categories: Int32, row: Float32, scratch: Scratch) -> int:
    """Put the labels of the nearest rows into scratch.label; return how many there are.

    Of equally near rows the later ones win: the window goes from its end to its start.
    """
    k = scratch.nearest.shape[0]
    scratch.nearest[:] = np.inf
    found = 0
    stop = w.end[0]
    first = max(0, stop - w.y.shape[0] // 2)
    while stop > first:
        begin = max(first, stop - TILE)
        squared = scratch.squared[: stop - begin]
        squared[:] = 0.0
        beyond = False
        for j in range(row.shape[0]):
            if math.isnan(row[j]):  # equally far from every row
                continue
            if n_categories[j] > 0:
                add_mismatches(w.x[j, begin:stop], row[j], squared)
            elif scratch.scale[j] > 0.0:
                add_gaps(w.x[j, begin:stop], row[j], scratch.scale[j], squared)
            if j % ABANDON_EVERY == ABANDON_EVERY - 1 and all_beyond(squared, scratch.nearest[k - 1]):
                beyond = True
                break
        if not (beyond or all_beyond(squared, scratch.nearest[k - 1])):
            for i in range(squared.shape[0] - 1, -1, -1):
                if squared[i] < scratch.nearest[k - 1]:
                    place = k - 1
                    while place > 0 and scratch.nearest[place - 1] > squared[i]:
                        scratch.nearest[place] = scratch.nearest[place - 1]
                        scratch.label[place] = scratch.label[place - 1]
                        place -= 1
                    scratch.nearest[place], scratch.label[place] = squared[i], w.y[begin + i]
                    found = min(found + 1, k)
        stop = begin
    return found


@compiled(_nrt=False)
def append(w: Window, row: Float32, y: int) -> None:
    size = w.y.shape[0] // 2
    if w.end[0] == 2 * size:  # once in W events: the last W - 1 rows go to the front
        for j in range(row.shape[0]):
            for i in range(size - 1):
                w.x[j, i] = w.x[j, size + 1 + i]
        for i in range(size - 1):
            w.y[i] = w.y[size + 1 + i]
        w.end[0] = size - 1
    for j in range(row.shape[0]):
        w.x[j, w.end[0]] = row[j]
    w.y[w.end[0]] = y
    w.end[0] += 1


@compiled(_nrt=False, no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then store, row by row: the kernel of `CompiledExpert`."""
    w, moments, n_categories, scratch = opened(state)
    n_classes = proba.shape[1]
    for t in range(x.shape[0]):
        for j in range(x.shape[1]):
            scratch.scale[j] = precision(moments, j)
        found = search(w, n_categories, x[t], scratch)
        proba[t] = PRIOR / n_classes / (PRIOR + found)
        for i in range(found):
            proba[t, scratch.label[i]] += 1.0 / (PRIOR + found)
        if y[t] >= 0 and weight[t] > 0.0:
            take_in(moments, x[t], n_categories)
            append(w, x[t], y[t])
    return DONE


class WindowKNN(ArrayState):
    """k nearest neighbours among the last events: the fastest expert to follow a drift.

    Parameters
    ----------
    schema
        Features and classes.
    k
        Neighbours that vote.
    window
        W, how many of the latest events are kept; an event's weight decides only whether it is.

    Notes
    -----
    The squared distance adds, per feature, the squared difference in standard deviations of all events learnt
    so far (numeric), or 1 for different categories. A stored value that is missing adds 1; a feature that is
    missing in the query, or has not varied yet, adds nothing. The k votes share the classes with 0.3 votes
    that are spread evenly.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe.types import Schema
    >>> rng = np.random.default_rng(1)
    >>> x = rng.random((2000, 2), dtype=np.float32)
    >>> y = ((x[:, 0] > 0.5) != (x[:, 1] > 0.5)).astype(np.int32)  # no linear model can tell
    >>> expert, proba = WindowKNN(Schema.numeric(2, ["no", "yes"])), np.empty((2000, 2))
    >>> expert.step(x, y, np.ones(2000), proba)
    >>> bool((proba.argmax(1) == y)[1000:].mean() > 0.95)
    True
    """

    kind = "knn"
    kernel = step
    expensive = True

    def __init__(self, schema: Schema, *, k: int = 3, window: int = 1000) -> None:
        if not 1 <= k <= window <= LARGEST_WINDOW:
            raise ConfigError(f"knn: k {k} must lie in 1..window, window {window} in k..{LARGEST_WINDOW}")
        if schema.n_features * window > MOST_VALUES:
            raise ConfigError(
                f"knn: window {window} of {schema.n_features} features; {MOST_VALUES:,} values may be kept, give "
                f"{MOST_VALUES // schema.n_features} or less"
            )
        self._k, self._size = k, window
        self._set_schema(schema)

    def _parts(self) -> dict[str, Any]:
        return {"window": self._window, "moments": self._moments}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        window = named(Window, x=INPUT, y=index(self.n_classes), end=Range(0, 2 * self._size))
        return {"window": window, "moments": MOMENTS}

    def _state(self) -> tuple[Any, ...]:
        return self._window, self._moments, self._n_categories, self._scratch

    def grow(self, schema: Schema) -> None:
        window, moments = self._window, self._moments
        self._set_schema(schema)
        keep(self._moments, moments)
        d, end = len(window.x), int(window.end[0])
        self._window.x[:d, :end], self._window.y[:end], self._window.end[0] = window.x[:, :end], window.y[:end], end
        self._window.x[d:, :end] = np.nan  # a feature that comes late is missing in the rows before it

    def snapshot(self) -> Snapshot:
        """As `Expert.snapshot`; the window without where in its buffer it lies."""
        end = int(self._window.end[0])
        rows = slice(max(0, end - self._size), end)
        arrays = super().snapshot()[0]
        del arrays["window.end"]
        return arrays | {"window.x": self._window.x[:, rows].copy(), "window.y": self._window.y[rows].copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        arrays = dict(snapshot[0])
        x, y = arrays["window.x"], arrays["window.y"]
        if x.shape != (len(self._window.x), len(y)) or len(y) > self._size:
            raise CheckpointError(
                f"knn: a window of {x.shape} in the checkpoint, {len(self._window.x)} features and at most "
                f"{self._size} rows here; set window to what it was"
            )
        for name, dtype, found in (("x", np.float32, x), ("y", np.int32, y)):
            expect(self.kind, arrays, f"window.{name}", dtype, found.shape, self._ranges()["window"][name])
        moments = {f"moments.{name}": array for name, array in self._moments._asdict().items()}
        fill(moments, arrays, self.kind, {f"moments.{name}": allowed for name, allowed in MOMENTS.items()})
        self._window.x[:, : len(y)], self._window.y[: len(y)], self._window.end[0] = x, y, len(y)

    def _set_schema(self, schema: Schema) -> None:
        d = schema.n_features
        self.n_classes = schema.n_classes
        self._n_categories = schema.n_categories
        x = np.zeros((d, 2 * self._size), np.float32)  # which takes memory where it is written to, and no sooner
        self._window = Window(x, np.zeros(2 * self._size, np.int32), np.zeros(1, np.int64))
        self._moments = no_moments(d)
        self._scratch = Scratch(
            np.empty(d, np.float32), np.empty(TILE, np.float32), np.empty(self._k, np.float32),
            np.empty(self._k, np.int32),
        )  # fmt: skip
        self._unbind()
