"""Target encoding online: the class rates of THIS flight number, this hour, this pair of them, mixed.

Every value of a feature, every stretch of a numeric one and some pairs of values are contexts. Of each context
it keeps how often every class came lately, at three speeds, and the answer is the geometric mean of all those
rates, weighted by what each kind of context has been worth. So a nominal feature may have any number of
categories: a rare one leans on the others and costs one row of a table of fixed size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.compiled import DONE
from stream_moe.experts.state import MOMENTS, ArrayState, Moments, keep, no_moments, precision, take_in
from stream_moe.ranges import ANY, INPUT, SHARE, Range, index, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

RATES = np.array([0.5, 0.1, 0.01])  # windows of about 2, 10 and 100 events of the same value
PRIOR_EVENTS = 10.0  # what a value's first rates, those of all values, count for
FLOOR = 0.05  # of all classes together, added to the rates before their logarithm is taken
FIRST_WEIGHTS = 1.5  # their sum, as of the gates
WAYS = 4  # rows of a table in which a value may lie
EXACT_ROWS, BIN_ROWS, PAIR_ROWS = 4096, 64, 1024
MOST_BYTES = 2**25
EXACT, BIN, PAIR = range(3)
HASHES = 2**62
FULL = 1e6  # events that a row counts


class Contexts(NamedTuple):
    """M contexts; the rows of all their tables lie one after the other."""

    kind: Int64  # [M]
    first: Int64  # [M] which place of `feature` it looks at
    second: Int64  # [M] and, of a pair, the other
    start: Int64  # [M] of its table
    rows: Int64  # [M] a power of two


class Rates(NamedTuple):
    """T table rows, R rates, C classes."""

    value: Int64  # [T] the hash of the value that the row belongs to, -1 = free
    events: Float32  # [T] how many it had
    rate: Float32  # [T, R, C]
    overall: Float64  # [R, C] of all events
    seen: Float64  # [C] 1 = a class that has come; the others get probability 0
    weight: Float64  # [M R + R] of each context's rates, then of the overall ones
    square: Float64  # [M R + R] fading sums of their squared gradients
    feature: Int64  # [K] features that have shown more than two values, in the order they did; -1 = none yet
    shown: Float32  # [d, 2] the first two values of each feature, NaN before


class Scratch(NamedTuple):
    row: Int64  # [M] where each context's value lies, -1 = nowhere
    hashed: Int64  # [M] its hash, -1 = missing
    log: Float64  # [M R + R, C]
    x: Float32  # [d] the row, in which -0.0 and 0.0 are one value


@compiled(_nrt=False)
def scramble(a: int, b: int) -> Any:
    """Hash two integers to 62 bits; the constants are those of splitmix64 (Steele et al., 2014)."""
    h = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) + np.uint64(b)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
    return np.int64((h ^ (h >> np.uint64(31))) >> np.uint64(2))


@compiled(_nrt=False)
def stretch(row: Float32, j: int, moments: Moments, n_categories: Int32, per_deviation: float) -> Any:
    """Return which stretch of feature j a value lies in; a category is its own."""
    if n_categories[j] > 0:
        return np.int64(row[j])
    z = (row[j] - moments.mean[j]) * precision(moments, j)
    return np.int64(math.floor(per_deviation * min(max(z, -8.0), 8.0)))


@compiled(_nrt=False)
def hash_values(
    c: Contexts, r: Rates, row: Float32, bits: Int32, moments: Moments, n_categories: Int32, s: Scratch
) -> None:
    """Write the hash of each context's value at a row, -1 where it has none."""
    for m in range(c.kind.shape[0]):
        s.hashed[m] = -1
        j = r.feature[c.first[m]]
        k = r.feature[c.second[m]]
        if j < 0 or k < 0 or math.isnan(row[j]) or math.isnan(row[k]):
            continue
        if c.kind[m] == EXACT:
            s.hashed[m] = scramble(bits[j], m)
        elif c.kind[m] == PAIR:
            a = stretch(row, j, moments, n_categories, 2.0)
            s.hashed[m] = scramble(scramble(a, m), stretch(row, k, moments, n_categories, 2.0))
        elif n_categories[j] == 0:  # a category has no neighbours to share a stretch with
            s.hashed[m] = scramble(stretch(row, j, moments, n_categories, 4.0), m)


@compiled(_nrt=False)
def find(c: Contexts, r: Rates, m: int, hashed: int) -> int:
    """Return the row of a value in table m, or -1."""
    base = (hashed >> 20) & (c.rows[m] - 1)
    for way in range(WAYS):
        at = c.start[m] + (base ^ way)
        if r.value[at] == hashed:
            return at
    return -1


@compiled(_nrt=False)
def settle(c: Contexts, r: Rates, m: int, hashed: int) -> int:
    """Give the value the lightest of its rows, with the overall rates to begin with."""
    base = (hashed >> 20) & (c.rows[m] - 1)
    best = c.start[m] + base
    for way in range(1, WAYS):
        at = c.start[m] + (base ^ way)
        if r.events[at] < r.events[best]:
            best = at
    r.value[best], r.events[best] = hashed, 0.0
    for k in range(r.rate.shape[1]):
        for y in range(r.rate.shape[2]):
            r.rate[best, k, y] = r.overall[k, y]
    return best


@compiled(_nrt=False)
def answer(c: Contexts, r: Rates, s: Scratch, proba: Float64) -> None:
    """Write the weighted geometric mean of the rates; a value that is missing or new has no part in it."""
    n_rates, n_classes = r.overall.shape
    seen = r.seen.sum()
    if seen == 0.0:
        s.row[:] = -1
        s.log[:] = 0.0
        proba[:] = 1.0 / n_classes
        return
    floor, scale = FLOOR / seen, 1.0 / (1.0 + FLOOR)
    proba[:] = 0.0
    for m in range(c.kind.shape[0] + 1):
        at = -1
        if m < c.kind.shape[0]:
            at = find(c, r, m, s.hashed[m]) if s.hashed[m] >= 0 else -1
            s.row[m] = at
            if at < 0:
                continue
        for k in range(n_rates):
            i = m * n_rates + k
            for y in range(n_classes):
                rate = np.float64(r.rate[at, k, y]) if at >= 0 else r.overall[k, y]
                s.log[i, y] = math.log((rate + floor) * scale)
                proba[y] += r.weight[i] * s.log[i, y]
    top, total = -np.inf, 0.0
    for y in range(n_classes):
        if r.seen[y] > 0.0:
            top = max(top, proba[y])
    for y in range(n_classes):
        proba[y] = math.exp(proba[y] - top) if r.seen[y] > 0.0 else 0.0
        total += proba[y]
    for y in range(n_classes):
        proba[y] /= total


@compiled(_nrt=False)
def learn(c: Contexts, r: Rates, s: Scratch, proba: Float64, y: int, step: float, memory: float) -> None:
    """Move the weights down the gradient of the log-loss, then the rates of the row's values towards its class."""
    n_rates, n_classes = r.overall.shape
    for m in range(c.kind.shape[0] + 1):
        if m < c.kind.shape[0] and s.row[m] < 0:
            continue
        for i in range(m * n_rates, (m + 1) * n_rates):
            gradient = -s.log[i, y]
            for k in range(n_classes):
                gradient += proba[k] * s.log[i, k]
            r.square[i] = memory * r.square[i] + gradient * gradient
            r.weight[i] -= step * gradient / math.sqrt(r.square[i] + 1e-8)
    for m in range(c.kind.shape[0]):
        if s.hashed[m] < 0:
            continue
        at = s.row[m] if s.row[m] >= 0 else settle(c, r, m, s.hashed[m])
        r.events[at] += np.float32(1.0) if r.events[at] < FULL else np.float32(0.0)
        for k in range(n_rates):
            rate = np.float32(max(RATES[k], 1.0 / (r.events[at] + PRIOR_EVENTS)))
            for i in range(n_classes):
                r.rate[at, k, i] -= rate * r.rate[at, k, i]
            r.rate[at, k, y] += rate
    r.seen[y] = 1.0
    for k in range(n_rates):
        for i in range(n_classes):
            r.overall[k, i] += RATES[k] * ((1.0 if i == y else 0.0) - r.overall[k, i])


@compiled(_nrt=False)
def show(r: Rates, row: Float32) -> None:
    """Give each feature that shows its third value a place, while there are any."""
    if r.feature[-1] >= 0:
        return
    for j in range(row.shape[0]):
        if math.isnan(row[j]) or row[j] == r.shown[j, 0] or row[j] == r.shown[j, 1]:
            continue
        if math.isnan(r.shown[j, 0]):
            r.shown[j, 0] = row[j]
        elif math.isnan(r.shown[j, 1]):
            r.shown[j, 1] = row[j]
        else:
            for k in range(r.feature.shape[0]):
                if r.feature[k] == j:
                    break
                if r.feature[k] < 0:
                    r.feature[k] = j
                    break


@compiled(_nrt=False, no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then learn, row by row: the kernel of `CompiledExpert`."""
    c, r, moments, n_categories, rate, memory, s, bits = opened(state)  # bits [d]: those of s.x
    for t in range(x.shape[0]):
        for j in range(x.shape[1]):
            s.x[j] = x[t, j] + np.float32(0.0)
        hash_values(c, r, s.x, bits, moments, n_categories, s)
        answer(c, r, s, proba[t])
        if y[t] >= 0 and weight[t] > 0.0:
            learn(c, r, s, proba[t], y[t], rate, memory)
            show(r, s.x)
            take_in(moments, s.x, n_categories)
    return DONE


class TargetEncoding(ArrayState):
    """Recent class rates of every value, stretch and pair of values, mixed geometrically.

    Parameters
    ----------
    schema
        Features and classes.
    features
        K, for how many features: the first that show a third value.
    paired
        How many of those are combined in pairs.
    learning_rate, memory
        Of the weights, as of `SoftmaxRegression`.

    Notes
    -----
    A numeric feature's stretches are a quarter of a deviation, half of one in pairs, by the moments of the events
    learnt before. A value new to its table takes the lightest of four rows: an id that never returns takes the
    rows of other such ids. An event's weight decides only whether it is learnt.
    Source of the mixing: Mattern (2013), Linear and geometric mixtures; of mixing contexts: Mahoney (2005),
    Adaptive weighing of context models for lossless data compression.

    Examples
    --------
    >>> from stream_moe.types import Feature
    >>> rng = np.random.default_rng(1)
    >>> city = rng.integers(0, 1000, 20000)
    >>> y = (city * 7919 % 1000 > 500).astype(np.int32)  # each of the 1,000 has its class
    >>> schema = Schema((Feature("city", tuple(map(str, range(1000)))),), ("no", "yes"))
    >>> expert, proba = TargetEncoding(schema), np.empty((20000, 2))
    >>> expert.step(city.astype(np.float32)[:, None], y, np.ones(20000), proba)
    >>> bool((proba.argmax(1) == y)[10000:].mean() > 0.95)
    True
    """

    kind = "target-encoding"
    kernel = step

    def __init__(
        self,
        schema: Schema,
        *,
        features: int = 8,
        paired: int = 5,
        learning_rate: float = 0.1,
        memory: float = 0.9999,
    ) -> None:
        if not (1 <= features <= 64 and 0 <= paired <= features):
            raise ConfigError(f"{self.kind}: features {features} must lie in 1..64, paired {paired} in 0..features")
        if not (0 < learning_rate < math.inf and 0 < memory <= 1):
            raise ConfigError(
                f"{self.kind}: learning_rate {learning_rate} must be finite and above 0, memory {memory} in (0, 1]"
            )
        self._features, self._paired, self._rate, self._memory = features, paired, learning_rate, memory
        self._set_schema(schema)

    def _parts(self) -> dict[str, Any]:
        return {"rates": self._rates, "moments": self._moments}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        near_share = Range(0.0, 1.001)  # sums of rounded shares
        rates = named(
            Rates, value=Range(-1, HASHES - 1), events=Range(0.0, FULL), rate=near_share, overall=near_share,
            seen=SHARE, weight=ANY, square=ANY, feature=index(len(self._rates.shown), none=True), shown=INPUT,
        )  # fmt: skip
        return {"rates": rates, "moments": MOMENTS}

    def _state(self) -> tuple[Any, ...]:
        return (
            self._contexts, self._rates, self._moments, self._n_categories, self._rate, self._memory,
            self._scratch, self._scratch.x.view(np.int32),
        )  # fmt: skip

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`; where more classes leave room for fewer rows, the values with the most events stay."""
        contexts, rates, moments = self._contexts, self._rates, self._moments
        self._set_schema(schema)
        keep(self._moments, moments)
        if len(rates.value) == len(self._rates.value):
            keep(self._rates, rates)
            return
        keep(self._rates[3:], rates[3:])
        place = np.repeat(np.arange(len(contexts.start)), contexts.rows)
        for at in np.argsort(rates.events, kind="stable"):
            if rates.value[at] >= 0:
                row = settle(self._contexts, self._rates, place[at], rates.value[at])
                self._rates.events[row] = rates.events[at]
                self._rates.rate[row, :, : rates.rate.shape[2]] = rates.rate[at]
                self._rates.rate[row, :, rates.rate.shape[2] :] = 0.0

    def _set_schema(self, schema: Schema) -> None:
        k, r, c = self._features, len(RATES), schema.n_classes
        self.n_classes, self._n_categories = c, schema.n_categories
        found = [(EXACT, i, i) for i in range(k)] + [(BIN, i, i) for i in range(k)]
        found += [(PAIR, i, j) for j in range(self._paired) for i in range(j)]
        kind, first, second = np.array(found, np.int64).T.copy()
        rows = np.array([EXACT_ROWS, BIN_ROWS, PAIR_ROWS], np.int64)[kind]
        while rows.sum() * r * c * 4 > MOST_BYTES and rows.max() > WAYS:
            rows = np.maximum(rows // 2, WAYS)
        self._contexts = Contexts(kind, first, second, np.cumsum(rows) - rows, rows)
        t, m = int(rows.sum()), len(kind)
        self._rates = Rates(
            value=np.full(t, -1, np.int64), events=np.zeros(t, np.float32), rate=np.zeros((t, r, c), np.float32),
            overall=np.full((r, c), 1.0 / c), seen=np.zeros(c),
            weight=np.full((m + 1) * r, FIRST_WEIGHTS / ((m + 1) * r)),
            square=np.zeros((m + 1) * r), feature=np.full(k, -1, np.int64),
            shown=np.full((schema.n_features, 2), np.nan, np.float32),
        )  # fmt: skip
        self._moments = no_moments(schema.n_features)
        x = np.empty(schema.n_features, np.float32)
        self._scratch = Scratch(np.empty(m, np.int64), np.empty(m, np.int64), np.empty(((m + 1) * r, c)), x)
        self._unbind()
