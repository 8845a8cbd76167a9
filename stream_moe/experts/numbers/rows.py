"""The row that experts see of an event whose target is a number: its features, their changes, the target's past.

What stands in a row is known before the event's own label: the latest targets that have arrived, what stood one
period before, features and how they changed. Numbers are shifted and scaled by a *frozen* table, not by moving
moments: a linear model over them stays exact, and moves to the next table by a change of coordinates (`move_linear`).
A new entry (an *epoch*) begins after 2, 8, 32, 128 and 512 labels, and later where the scale of something has become
another.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.experts.numbers.distribution import pull
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int64

WIDEST = 16  # features in a row: of more those that tell the target best
LAGS = 8  # columns of the target's past
STEP, STEP_BEFORE, OFF_FAST, LEVEL, SEASON_GAP, SEASON_STEP = 0, 1, 2, 3, 4, 5  # the last two for two periods
RING, LONGEST = 2048, 800  # targets kept; longest period looked for
EPOCHS = 64  # entries of the table that are kept
NONE = 1e300  # the scale of what has not varied: its column is 0
LINEAR_LIMIT, LAG_LIMIT = 20.0, 1000.0  # of a column, in scales
SUSPECT, BELIEVED = 1e6, 5  # a target so many units away is learnt when so many in a row are
CENTRE_RATE, FAST_RATE, UNIT_RATE, MOMENT_RATE, SEASON_RATE = 0.001, 0.1, 0.002, 0.0005, 0.002
# Behind the columns of a kept row: latest target, answers of the two seasons, fast mean, the event's number.
LATEST, SEASON, SECOND_SEASON, FAST, NUMBER = range(5)
EXTRA = 5
# Behind 3 k shifts, scales and scales of changes of a table's entry.
UNIT, CENTRE, SPREAD, FRESH, RESTART = range(5)
FACTS = 5


class Past(NamedTuple):
    """What is remembered of the stream: d features, k of them in a row."""

    mean: Float64  # [d]
    square: Float64  # [d] variance
    change: Float64  # [d] mean squared change
    seen: Int64  # [d] values
    previous: Float64  # [d] value of the latest event, NaN before any
    code_sum: Float64  # [C] sum of the targets of each category, all features' one after the other
    code_count: Float64  # [C]
    with_level: Float64  # [d] mean product with the target's level, and with its change, both standardised
    with_change: Float64  # [d]
    chosen: Int64  # [k] features in a row
    ring: Float64  # [RING] target of event number n at n % RING, NaN = not known
    latest: Float64  # [3] the newest targets that are known
    gap: Float64  # [LONGEST + 2] mean distance of targets so far apart
    gap_count: Float64  # [LONGEST + 2]
    numbers: Float64  # [4] unit, spread, fast mean, centre
    counts: Int64  # [6] events, labels, number of the newest known target, suspects in a row, first and second period
    table: Float64  # [EPOCHS, 3 k + FACTS]
    epoch: Int64  # [1]


U, V, F, C = range(4)
EVENTS, LABELS, NEWEST, SUSPECTS, PERIOD, SECOND = range(6)


@compiled
def category_value(past: Past, offset: int, category: float) -> float:
    """Mean target of a category so far, drawn to the centre while it is rare; NaN where it is missing."""
    if not category >= 0.0:
        return math.nan
    c = offset + int(category)
    return (past.code_sum[c] + 5.0 * past.numbers[C]) / (past.code_count[c] + 5.0)


@compiled
def value_of(past: Past, offsets: Int64, x: Float32, t: int, j: int) -> float:
    v = np.float64(x[t, j])
    if offsets[j] >= 0:
        return category_value(past, offsets[j], v)
    return v


@compiled
def describe(past: Past, offsets: Int64, x: Float32, t: int, row: Float64) -> None:
    """Write row [2 k + LAGS + EXTRA]: what is known now of event t, in its own units."""
    k = past.chosen.shape[0]
    for i in range(k):
        j = past.chosen[i]
        v = value_of(past, offsets, x, t, j)
        row[i], row[k + i] = v, v - past.previous[j]
    lags = row[2 * k :]
    now, newest, ring = past.counts[EVENTS], past.counts[NEWEST], past.ring
    last, before, third = past.latest[0], past.latest[1], past.latest[2]
    lags[STEP], lags[STEP_BEFORE] = last - before, before - third
    lags[OFF_FAST], lags[LEVEL] = last - past.numbers[F], last
    extra = row[2 * k + LAGS :]
    extra[LATEST], extra[FAST], extra[NUMBER] = last, past.numbers[F], now
    for q in range(2):
        p = past.counts[PERIOD + q]
        lags[SEASON_GAP + 2 * q], lags[SEASON_STEP + 2 * q], extra[SEASON + q] = 0.0, 0.0, last
        if p <= 0 or newest < 0:
            continue
        back = p
        while back <= now - newest - 1:  # what stood then has not arrived either
            back += p
        if back >= RING - 1 or newest - back < 0 or now - newest + back >= RING:
            continue
        then, base = ring[(now - back) % RING], ring[(newest - back) % RING]
        if not math.isnan(then):
            lags[SEASON_GAP + 2 * q] = then - last
            if not math.isnan(base):
                lags[SEASON_STEP + 2 * q], extra[SEASON + q] = then - base, last + (then - base)


@compiled
def observe(past: Past, offsets: Int64, x: Float32, t: int) -> None:
    """Take note of an event's features; its target is not known yet."""
    for j in range(x.shape[1]):
        v = value_of(past, offsets, x, t, j)
        if math.isnan(v):
            continue
        n = past.seen[j]
        if not math.isnan(past.previous[j]):
            d = (v - past.previous[j]) ** 2
            if n >= 20 and past.change[j] > 0.0:
                d = min(d, 36.0 * past.change[j])
            past.change[j] += max(1.0 / n, MOMENT_RATE) * (d - past.change[j])
        n += 1
        rate, d = max(1.0 / n, MOMENT_RATE), v - past.mean[j]
        if n > 20 and past.square[j] > 0.0:
            limit = 6.0 * math.sqrt(past.square[j])
            d = min(max(d, -limit), limit)
        past.mean[j] += rate * d
        past.square[j] = (1.0 - rate) * (past.square[j] + rate * d * d)
        past.seen[j], past.previous[j] = n, v
    past.ring[past.counts[EVENTS] % RING] = math.nan
    past.counts[EVENTS] += 1


@compiled
def scaled(past: Past, row: Float64, out: Float64) -> None:
    """Write out [1 + 2 k + LAGS]: a row in the coordinates of the epoch, after a constant."""
    k = past.chosen.shape[0]
    entry = past.table[past.epoch[0] % EPOCHS]
    facts = entry[3 * k :]
    out[0] = 1.0
    for i in range(k):
        z = (row[i] - entry[i]) / entry[k + i]
        out[1 + i] = min(max(z, -LINEAR_LIMIT), LINEAR_LIMIT) if not math.isnan(z) else 0.0
        z = row[k + i] / entry[2 * k + i]
        out[1 + k + i] = min(max(z, -LINEAR_LIMIT), LINEAR_LIMIT) if not math.isnan(z) else 0.0
    for q in range(LAGS):
        z = row[2 * k + q] / facts[UNIT] if q != LEVEL else (row[2 * k + q] - facts[CENTRE]) / facts[SPREAD]
        out[1 + 2 * k + q] = min(max(z, -LAG_LIMIT), LAG_LIMIT) if not math.isnan(z) else 0.0


@compiled
def begin_epoch(past: Past, fresh: float, restart: float) -> None:
    """Freeze the moments as they are now."""
    k = past.chosen.shape[0]
    past.epoch[0] += 1
    entry = past.table[past.epoch[0] % EPOCHS]
    for i in range(k):
        j = past.chosen[i]
        entry[i] = past.mean[j]
        entry[k + i] = math.sqrt(past.square[j]) if past.square[j] > 0.0 else NONE
        entry[2 * k + i] = math.sqrt(past.change[j]) if past.change[j] > 0.0 else NONE
    facts = entry[3 * k :]
    facts[UNIT] = past.numbers[U] if past.numbers[U] > 0.0 else 1.0
    facts[CENTRE] = past.numbers[C]
    facts[SPREAD] = max(past.numbers[V], facts[UNIT])
    facts[FRESH], facts[RESTART] = fresh, restart


@compiled
def begins_anew(table: Float64, k: int, before: int, epoch: int) -> bool:
    """Whether what was learnt in the epoch `before` is of no use in this one."""
    if not 0 <= epoch - before < EPOCHS:
        return True
    fresh = False
    for passed in range(before + 1, epoch + 1):
        fresh = fresh or table[passed % EPOCHS, 3 * k + FRESH] > 0.0
    return fresh


@compiled
def choose_features(past: Past) -> bool:
    """Take the k features that tell most of the target's level or change; whether they are others than before."""
    k, d = past.chosen.shape[0], past.mean.shape[0]
    if d <= k:
        return False
    changed, least = False, np.inf
    for i in range(k):
        best, which = -1.0, -1
        for j in range(d):  # the next in the order of their worth, then of their number
            worth = max(abs(past.with_level[j]), abs(past.with_change[j]))
            after = worth < least or (worth == least and i > 0 and j > past.chosen[i - 1])
            if after and worth > best:
                best, which = worth, j
        if which < 0:
            break
        changed = changed or past.chosen[i] != which
        past.chosen[i], least = which, best
    return changed


@compiled
def maybe_new_epoch(past: Past) -> None:
    """Begin an epoch after a label where one is due."""
    n, k = past.counts[LABELS], past.chosen.shape[0]
    if n in (2, 8, 32, 128, 512):
        begin_epoch(past, 1.0 if choose_features(past) or n <= 8 else 0.0, 0.0)
        return
    if n <= 8:
        return
    entry = past.table[past.epoch[0] % EPOCHS]
    facts = entry[3 * k :]
    unit, spread = past.numbers[U], past.numbers[V]
    other = unit > 6.0 * facts[UNIT] or 6.0 * unit < facts[UNIT]
    other = (other and unit > 0.0) or spread > 6.0 * facts[SPREAD]
    if not other and n % 64 == 0:
        for i in range(k):
            j, scale = past.chosen[i], entry[k + i]
            other = other or (past.square[j] > 0.0 and scale == NONE) or past.square[j] > 16.0 * scale * scale
            other = other or abs(past.mean[j] - entry[i]) > 4.0 * scale
            other = other or (past.change[j] > 0.0 and entry[2 * k + i] == NONE)
            other = other or past.change[j] > 16.0 * entry[2 * k + i] ** 2
    if other:
        begin_epoch(past, 0.0, 0.0)


@compiled
def is_suspect(past: Past, y: float, latest: float) -> bool:
    """Whether a target is so far away that it is not believed before others are there too."""
    unit = max(past.numbers[U], 1e-12 * abs(past.numbers[C]))
    return past.counts[LABELS] > 20 and unit > 0.0 and abs(y - latest) > SUSPECT * unit


@compiled
def restart(past: Past) -> None:
    """Begin the target's record anew: it has become another number."""
    past.ring[:], past.latest[:], past.numbers[:] = math.nan, 0.0, 0.0
    past.gap[:], past.gap_count[:], past.code_sum[:], past.code_count[:] = 0.0, 0.0, 0.0, 0.0
    past.with_level[:], past.with_change[:] = 0.0, 0.0
    past.counts[LABELS], past.counts[NEWEST], past.counts[PERIOD], past.counts[SECOND] = 0, -1, 0, 0


@compiled
def learn_target(past: Past, offsets: Int64, x: Float32, t: int, row: Float64, y: float) -> None:
    """Learn the target of a row as it was described."""
    k = past.chosen.shape[0]
    extra, numbers, counts = row[2 * k + LAGS :], past.numbers, past.counts
    number, n = int(extra[NUMBER]), counts[LABELS] + 1
    change = y - past.latest[0]
    if n == 1:
        numbers[F], numbers[C], past.latest[:] = y, y, y
    else:
        square, rate = change * change, max(1.0 / (n - 1), UNIT_RATE)
        unit = numbers[U] ** 2
        numbers[U] = math.sqrt(unit + rate * (pull(change, unit) * square - unit)) if unit > 0.0 else abs(change)
        off = y - numbers[C]
        spread, rate = numbers[V] ** 2, max(1.0 / (n - 1), UNIT_RATE)
        numbers[V] = math.sqrt(spread + rate * (pull(off, spread) * off * off - spread)) if spread > 0 else abs(off)
        numbers[F] += FAST_RATE * (y - numbers[F])
        numbers[C] += max(1.0 / n, CENTRE_RATE) * off
    for j in range(x.shape[1]):
        if offsets[j] >= 0 and x[t, j] >= 0.0:
            c = offsets[j] + int(x[t, j])
            past.code_sum[c] += y
            past.code_count[c] += 1.0
        if past.mean.shape[0] > k and past.square[j] > 0.0 and numbers[U] > 0.0:
            z = (value_of(past, offsets, x, t, j) - past.mean[j]) / math.sqrt(past.square[j])
            if n > 2 and not math.isnan(z):
                z, rate = min(max(z, -6.0), 6.0), max(1.0 / n, UNIT_RATE)
                level = min(max((y - numbers[C]) / max(numbers[V], numbers[U]), -6.0), 6.0)
                past.with_level[j] += rate * (z * level - past.with_level[j])
                past.with_change[j] += rate * (z * min(max(change / numbers[U], -6.0), 6.0) - past.with_change[j])
    learn_period(past, number, y)
    if counts[EVENTS] - number < RING:
        past.ring[number % RING] = y
    if number > counts[NEWEST]:
        past.latest[2], past.latest[1], past.latest[0] = past.latest[1], past.latest[0], y
        counts[NEWEST] = number
    counts[LABELS] = n
    maybe_new_epoch(past)


@compiled
def learn_period(past: Past, number: int, y: float) -> None:
    """Take note how far targets lie apart that are 1, 2, ... events apart; the clearest dips are the periods."""
    counts, gap, most = past.counts, past.gap, 20.0 * past.numbers[U]
    for p in range(1, min(number, LONGEST + 1) + 1):
        other = past.ring[(number - p) % RING]
        if not math.isnan(other):
            past.gap_count[p] += 1.0
            gap[p] += max(1.0 / past.gap_count[p], SEASON_RATE) * (min(abs(y - other), most) - gap[p])
    if counts[LABELS] % 16 != 15:
        return
    end = min(LONGEST, counts[LABELS] // 2)
    first, second, best = 0, 0, 3.0 * gap[1]
    for p in range(4, end):
        if gap[p] < gap[p - 1] and gap[p] <= gap[p + 1] and gap[p] < best:
            first, best = p, gap[p]
    best = np.inf
    for p in range(max(4, first + 3), end):
        if gap[p] < gap[p - 1] and gap[p] <= gap[p + 1] and gap[p] < best:
            second, best = p, gap[p]
    counts[PERIOD], counts[SECOND] = first, second


@compiled
def follow(
    past: Past, offsets: Int64, x: Float32, y: Float64, source: Int64, rows: Float64,
    columns: Float64, facts: Float64, epochs: Int64, learnt: Float64,
) -> None:  # fmt: skip
    """Go through n events: describe each, take note of it, learn its target.

    y [n], NaN = none; source [n], -1, or of a row that comes back with its target the row of `rows` that has how it
    was described; rows [n, 2 k + LAGS + EXTRA] is written for the others. Written are columns [n, 1 + 2 k + LAGS] and
    facts [n, EXTRA], the row as experts take it, epochs [n], where they are to be, and learnt [n], what they learn.
    """
    k = past.chosen.shape[0]
    for t in range(x.shape[0]):
        row = rows[t]
        if source[t] < 0:
            describe(past, offsets, x, t, row)
        else:
            row[:] = rows[source[t]]
        scaled(past, row, columns[t])
        facts[t] = row[2 * k + LAGS :]
        epochs[t], learnt[t] = past.epoch[0], math.nan
        if source[t] < 0:
            observe(past, offsets, x, t)
        if math.isnan(y[t]):
            continue
        if is_suspect(past, y[t], facts[t, LATEST]):
            past.counts[SUSPECTS] += 1
            if past.counts[SUSPECTS] < BELIEVED:
                continue
            restart(past)
            begin_epoch(past, 1.0, 1.0)
        past.counts[SUSPECTS] = 0
        learnt[t] = y[t]
        learn_target(past, offsets, x, t, row, y[t])


@compiled
def foresee(past: Past, offsets: Int64, x: Float32, rows: Float64, columns: Float64, facts: Float64) -> None:
    """Describe n events as if each came next; nothing changes."""
    k = past.chosen.shape[0]
    for t in range(x.shape[0]):
        describe(past, offsets, x, t, rows[t])
        scaled(past, rows[t], columns[t])
        facts[t] = rows[t, 2 * k + LAGS :]
