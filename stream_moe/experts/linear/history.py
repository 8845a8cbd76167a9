"""Softmax regression that also sees what came before: the last label, recent class frequencies, changes.

Labels of real streams come in runs and periods, and some follow the change of a feature rather than its
value. The linear expert can use all of that; the trees are kept from it, for a tree that leans on the last
label no longer notices that the features have drifted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.compiled import DONE
from stream_moe.experts.linear.softmax import SoftmaxRegression, first_inputs, step_row
from stream_moe.experts.state import MOMENTS, ArrayState, Moments, keep, no_moments, precision, take_in
from stream_moe.ranges import ANY, INPUT, SHARE, Range, check, expect, index, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.copies import copy
from stream_moe.runtime.draws import choose
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Feature, Float32, Float64, Int32, Int64, Schema

VALUE, CHANGE, LABEL, FREQUENCY, PRODUCT = range(5)
LIMIT = 8.0  # of a z-score in a product
MOST_FREQUENCIES = 2**13  # classes whose frequencies are inputs, times classes that each of them has weights for
MOST_PAIRED = 2048  # features that products are drawn of, the first ones
_COLUMN = ("source", "which", "other")
RATES = np.array([0.3, 0.05, 0.01])  # of the recent class frequencies: windows of about 3, 20 and 100 events


class Past(NamedTuple):
    """What is remembered, and which column of the wider rows holds what."""

    row: Float32  # [d] features of the event learnt last, NaN before any
    label: Int64  # [1] its class, -1 = none yet
    frequency: Float64  # [3, C] fading, from 0
    source: Int64  # [m] VALUE, CHANGE, LABEL, FREQUENCY or PRODUCT
    which: Int64  # [m] which feature, or which class
    other: Int64  # [m] the product's second feature, or which rate


@compiled
def z_score(moments: Moments, row: Float32, j: int) -> float:
    z = (row[j] - moments.mean[j]) * precision(moments, j)
    return min(max(z, -LIMIT), LIMIT)  # NaN stays NaN


@compiled
def widen(
    past: Past, moments: Moments, n_categories: Int32, row: Float32, y: int, weight: float, out: Float32
) -> None:
    """Write the wider row [m], from its own features [d] and the events learnt before it; then learn it."""
    for k in range(out.shape[0]):
        i = past.which[k]
        if past.source[k] == VALUE:
            out[k] = row[i]
        elif past.source[k] == CHANGE:
            change = row[i] - past.row[i]
            out[k] = change if math.isfinite(change) else np.nan
        elif past.source[k] == LABEL:
            out[k] = past.label[0] if past.label[0] >= 0 else np.nan
        elif past.source[k] == FREQUENCY:
            out[k] = past.frequency[past.other[k], i]
        else:
            out[k] = z_score(moments, row, i) * z_score(moments, row, past.other[k])
    if y >= 0 and weight > 0.0:
        take_in(moments, row, n_categories)
        copy(row, past.row)
        past.label[0] = y
        for r in range(RATES.shape[0]):
            for c in range(past.frequency.shape[1]):
                past.frequency[r, c] += RATES[r] * ((1.0 if c == y else 0.0) - past.frequency[r, c])


@compiled(no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Widen a row, then step the softmax over it, row by row: the kernel of `CompiledExpert`."""
    past, moments, n_categories, wide, softmax = opened(state)
    w, wide_moments, wide_categories, start, rate, memory, value, index = softmax
    for t in range(x.shape[0]):
        widen(past, moments, n_categories, x[t], y[t], weight[t], wide)
        step_row(w, wide_moments, wide_categories, start, rate, memory, wide, y[t], weight[t], proba[t], value, index)
    return DONE


class HistorySoftmax(ArrayState):
    """Softmax regression on the features, their change since the event learnt last, and recent labels.

    Parameters
    ----------
    schema
        Features and classes.
    learning_rate, memory
        As of `SoftmaxRegression`.
    products
        How many products of two numeric features (squares too) are inputs besides; drawn at random where there
        are more pairs than that.

    Notes
    -----
    Only labels that have arrived count: under a label delay of d events the "last" label is d events old, and
    so is the event the change is measured from. With more than 90 classes the frequencies of the first 8192 / C alone
    are inputs, for each input has C weights; products are drawn of the first 2,048 numeric features.

    Examples
    --------
    >>> import numpy as np
    >>> y = (np.arange(600) % 3).astype(np.int32)  # no feature tells, but each class follows the one before
    >>> expert, proba = HistorySoftmax(Schema.numeric(1, ["a", "b", "c"])), np.empty((600, 3))
    >>> expert.step(np.zeros((600, 1), np.float32), y, np.ones(600), proba)
    >>> bool((proba.argmax(1) == y)[100:].all())
    True
    """

    kind = "history-softmax"
    kernel = step

    def __init__(
        self, schema: Schema, *, learning_rate: float = 0.2, memory: float = 0.999, products: int = 0
    ) -> None:
        if not 0 <= products <= 65536:
            raise ConfigError(f"history-softmax: products {products} must lie in 0..65536")
        self._products, self._rate, self._memory = products, learning_rate, memory
        self._moments = no_moments(schema.n_features)
        self._schema, self.n_classes = schema, schema.n_classes
        self._past = Past(
            np.full(schema.n_features, np.nan, np.float32), np.full(1, -1, np.int64),
            np.zeros((len(RATES), schema.n_classes)), *_columns(Schema((), ()), schema, products, first=True),
        )  # fmt: skip
        self._inner = SoftmaxRegression(self._wide(), learning_rate=learning_rate, memory=memory)

    @property
    def memory_bytes(self) -> int:
        return super().memory_bytes + self._inner.memory_bytes

    def _parts(self) -> dict[str, Any]:
        return {"past": self._past, "moments": self._moments}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        d, c = self._schema.n_features, self.n_classes
        past = named(
            Past, row=INPUT, label=index(c, none=True), frequency=SHARE, source=index(PRODUCT + 1),
            which=index(max(d, c)), other=index(max(d, len(RATES))),
        )  # fmt: skip
        return {"past": past, "moments": MOMENTS}

    def _state(self) -> tuple[Any, ...]:
        wide = np.empty(len(self._past.source), np.float32)
        return self._past, self._moments, self._schema.n_categories, wide, self._inner._state()

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`: columns for what is new go to the end, where nothing learnt moves."""
        past = self._past
        room = self._products - int((past.source == PRODUCT).sum())
        new = _columns(self._schema, schema, room, first=False)
        moments, self._moments = self._moments, no_moments(schema.n_features)
        keep(self._moments, moments)
        more = schema.n_features - self._schema.n_features
        self._past = Past(
            np.pad(past.row, (0, more), constant_values=np.nan),
            past.label,
            np.pad(past.frequency, ((0, 0), (0, schema.n_classes - self.n_classes))),
            *(np.concatenate([a, b]) for a, b in zip(past[3:], new, strict=True)),
        )
        self._schema, self.n_classes = schema, schema.n_classes
        self._inner.grow(self._wide())
        self._unbind()

    def snapshot(self) -> Snapshot:
        return pack({"history": super().snapshot(), "softmax": self._inner.snapshot()})

    def restore(self, snapshot: Snapshot) -> None:
        parts = unpack(snapshot)
        # The columns stand in the order in which they came, which a fresh schema does not tell.
        arrays, ranges = parts["history"][0], self._ranges()["past"]
        n = len(expect(self.kind, arrays, "past.source", np.int64, (None,), ranges["source"]))
        found = {name: expect(self.kind, arrays, f"past.{name}", np.int64, (n,), ranges[name]) for name in _COLUMN}
        self._check_columns(**found)
        self._past = self._past._replace(**{name: column.copy() for name, column in found.items()})
        super().restore(parts["history"])
        inputs = first_inputs(self._wide())[1], self.n_classes
        expect(self.kind, parts["softmax"][0], "weights.weight", np.float64, inputs, ANY)  # before they are allocated
        self._inner = SoftmaxRegression(self._wide(), learning_rate=self._rate, memory=self._memory)
        self._inner.restore(parts["softmax"])
        self._unbind()

    def _check_columns(self, source: Int64, which: Int64, other: Int64) -> None:
        """Raise CheckpointError unless each column is of a feature, class or rate that there is, and there once."""
        d, c, size = self._schema.n_features, self.n_classes, 2**20  # above any feature, class or rate
        bounds = {"which": (which, [d, d, 1, c, d]), "other": (other, [1, 1, 1, len(RATES), d])}  # by source
        for name, (column, ends) in bounds.items():
            check(self.kind, f"past.{name}", column, Range(0, np.array(ends)[source] - 1))
        products, different = int((source == PRODUCT).sum()), len(np.unique((source * size + which) * size + other))
        if different != len(source) or products > self._products:
            raise CheckpointError(
                f"{self.kind}: {len(source)} columns, {different} of them different, and {products} products of at "
                f"most {self._products}"
            )

    def _wide(self) -> Schema:
        """Return the schema of the wider rows."""
        features = []
        for k, (source, j) in enumerate(zip(self._past.source, self._past.which, strict=True)):
            categories = self._schema.classes if source == LABEL else None
            if source == VALUE:
                categories = self._schema.features[j].categories
            features.append(Feature(str(k), categories))
        return Schema(tuple(features), self._schema.classes)


def _columns(old: Schema, new: Schema, products: int, *, first: bool) -> tuple[Int64, Int64, Int64]:
    """Return source, which and other of the columns that `new` has and `old` has not."""
    features = range(old.n_features, new.n_features)
    numeric = [j for j, feature in enumerate(new.features) if not feature.is_nominal]
    fresh = [j for j in features if not new.features[j].is_nominal]
    found = [(VALUE, j, 0) for j in features]
    found += [(CHANGE, j, 0) for j in fresh]
    found += [(LABEL, 0, 0)] if first else []
    counted = range(old.n_classes, min(new.n_classes, MOST_FREQUENCIES // new.n_classes))
    found += [(FREQUENCY, c, r) for c in counted for r in range(len(RATES))]
    if products > 0:
        found += [(PRODUCT, i, j) for i, j in _pairs(numeric, fresh, products)]
    source, which, other = np.array(found, np.int64).reshape(-1, 3).T
    return source.copy(), which.copy(), other.copy()


def _pairs(numeric: list[int], fresh: list[int], products: int) -> list[tuple[int, int]]:
    """Draw pairs of a numeric feature and a fresh one, no pair twice: a wide schema has more than can be listed."""
    if len(numeric) > MOST_PAIRED:
        numeric = numeric[:MOST_PAIRED]
        fresh = [j for j in fresh if j <= numeric[-1]]
    ends = np.cumsum(np.searchsorted(numeric, fresh, side="right"))  # pairs with each fresh one and those before it
    n = int(ends[-1]) if fresh else 0
    drawn = np.arange(n) if n <= products else choose(1, n, n, products / n)
    at = np.searchsorted(ends, drawn, side="right")
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    return [(numeric[k], fresh[p]) for k, p in zip((drawn - begins[at]).tolist(), at.tolist(), strict=True)]
