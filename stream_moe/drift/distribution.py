"""Drift of distributions without labels: each column's recent values against a reference window, compiled.

A two-window test per column on a thin sample, as KSWIN (Raab, Heusinger and Schleif, Reactive soft prototype
computing for concept drift streams, 2020) with the statistic of Kolmogorov and Smirnov: the largest distance
between two distribution functions, here at 32 quantiles of the reference, so that one event costs a look-up. Of a
nominal column it is the largest change of one category's rate. A missing value is one below all others, or a category
of its own, so a changed rate of missing values counts.

The level holds for any distribution and for ever. For two windows of n >= 458 independent values each,
P(distance > e) <= 2 exp(-n e^2) (Wei and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities, 2012; for one
category's rate, Hoeffding, 1963), and the k-th test of a column after its reference gets alpha / (d m k (k + 1)):
summed over all tests, the d columns and the m rates of a nominal one, that is alpha. Values that depend on each other
(a day's course, sorted data) are not covered: there the reference differs from the present, and that is reported.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_moe.ranges import ANY, COUNT, INPUT, SHARE, Range, named
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Float32, Float64, Int32, Int64

WINDOW = 512  # sampled values in the reference, and in the recent window
EVERY = 32  # samples from one test to the next
CUTS = 32  # quantiles of the reference at which the distributions are compared
MOST = 64  # categories told apart; the others are one
LEAST_THIN, MOST_THIN = 8, 32
SEEN, SAMPLES, SILENT, WARNED, WARNINGS, DRIFTS = range(6)


class Windows(NamedTuple):
    """Reference and recent window of d columns."""

    values: Float32  # [WINDOW, d] the reference while it is collected
    filled: Int64  # [d] how many of them there are
    cuts: Float32  # [d, CUTS] where the distribution functions are compared
    before: Int32  # [d, B] values of the reference by bin: missing, then up to the first cut, ...
    ring: npt.NDArray[np.uint8]  # [WINDOW, d] bins of the recent window
    since: Int64  # [d] samples since the reference is whole
    now: Int32  # [d, B] values of the recent window by bin
    tests: Int64  # [d] since the reference is whole
    strength: Float64  # [d] distance at the latest test
    head: Int64  # [6] events seen, samples, no test before this sample, whether the last test warned, counts


@compiled(_nrt=False)
def scrambled(number: int) -> int:
    """Hash a number (the finalizer of SplitMix64, Steele et al. 2014): where in its run a sample is taken."""
    z = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(1))  # type: ignore[return-value]


@compiled(_nrt=False)
def bin_of(value: float, cuts: Float32, n_categories: int) -> int:
    if math.isnan(value):
        return 0
    if n_categories > 0:
        return 1 + int(min(value, MOST - 1.0)) if 0.0 <= value < n_categories else 0
    below = 1
    for k in range(CUTS):  # all of them, without a branch: a search by halves guesses wrong half of the time
        below += cuts[k] < value
    return below


@compiled
def make_reference(w: Windows, j: int, n_categories: int) -> None:
    """Cut the collected values of column j at their quantiles and count them by bin."""
    known = w.values[:, j][~np.isnan(w.values[:, j])]
    known.sort()
    w.cuts[j, :] = 0.0
    if n_categories == 0 and len(known) > 0:
        w.cuts[j, 0] = np.nextafter(known[0], np.float32(-np.inf))  # below all of them
        for q in range(1, CUTS):
            w.cuts[j, q] = known[q * (len(known) - 1) // (CUTS - 1)]
    w.before[j, :] = 0
    w.now[j, :] = 0
    for i in range(WINDOW):
        w.before[j, bin_of(w.values[i, j], w.cuts[j], n_categories)] += 1
    w.since[j], w.tests[j] = 0, 0


@compiled(_nrt=False)
def distance(before: Int32, now: Int32, n_categories: int) -> tuple[float, int]:
    """Return the largest distance of the distribution functions, or change of a rate, and in which bin."""
    largest, at, total = 0, 0, 0
    for b in range(before.shape[0]):
        gap = now[b] - before[b]
        total = gap if n_categories > 0 else total + gap
        if abs(total) > largest:
            largest, at = abs(total), b
    return largest / WINDOW, at


@compiled(_nrt=False)
def threshold(columns: int, rates: int, tests: int, alpha: float) -> float:
    """Distance that two windows of one distribution exceed with the probability that this test may spend."""
    k = float(tests)
    return math.sqrt(math.log(2.0 * columns * rates * k * (k + 1.0) / alpha) / WINDOW)


@compiled(_nrt=False)
def compare_columns(
    w: Windows, n_categories: Int32, alpha: float, warning_alpha: float, found: Float64, n_found: int
) -> int:  # fmt: skip
    """Test every column whose windows are full; those beyond the threshold start a new reference."""
    d, first, warned = len(n_categories), n_found, 0
    for j in range(d):
        if w.filled[j] < WINDOW or w.since[j] < WINDOW:
            continue
        w.tests[j] += 1
        rates = min(n_categories[j], MOST) + 1 if n_categories[j] > 0 else 1
        w.strength[j], at = distance(w.before[j], w.now[j], n_categories[j])
        if w.strength[j] > threshold(d, rates, w.tests[j], alpha):
            found[n_found, 0], found[n_found, 1] = w.head[SEEN], j
            found[n_found, 2], found[n_found, 3] = w.strength[j], at
            n_found += 1
            w.filled[j] = 0
        elif w.strength[j] > threshold(d, rates, w.tests[j], warning_alpha):
            warned = 1
    if n_found > first:
        w.head[DRIFTS] += 1
        w.head[SILENT] = w.head[SAMPLES] + WINDOW
        warned = 0
    elif warned and not w.head[WARNED]:
        w.head[WARNINGS] += 1
    w.head[WARNED] = warned
    return n_found


@compiled
def take_samples(
    w: Windows, x: Float32, n_categories: Int32, thin: int, alpha: float, warning_alpha: float, found: Float64
) -> int:
    """Sample one event of every `thin` and test; what is found goes into `found`, and how much is returned."""
    begin, n_found, d = w.head[SEEN], 0, len(n_categories)
    end = begin + len(x)
    for run in range(begin // thin, (end + thin - 1) // thin):
        at = run * thin + scrambled(run) % thin
        if not begin <= at < end:
            continue
        row, place = x[at - begin], w.head[SAMPLES] % WINDOW
        w.head[SEEN] = at + 1
        w.head[SAMPLES] += 1
        for j in range(d):
            if w.filled[j] < WINDOW:
                w.values[w.filled[j], j] = row[j]
                w.filled[j] += 1
                if w.filled[j] == WINDOW:
                    make_reference(w, j, n_categories[j])
                continue
            if w.since[j] >= WINDOW:
                w.now[j, w.ring[place, j]] -= 1
            b = bin_of(row[j], w.cuts[j], n_categories[j])
            w.ring[place, j] = b
            w.now[j, b] += 1
            w.since[j] += 1
        if w.head[SAMPLES] % EVERY == 0 and w.head[SAMPLES] >= w.head[SILENT]:
            n_found = compare_columns(w, n_categories, alpha, warning_alpha, found, n_found)
    w.head[SEEN] = end
    return n_found


class Shift(NamedTuple):
    """One detection: `event` is the number (from 1) of the event at which it was made."""

    event: int
    columns: list[int]  # the strongest first
    strength: float  # of the strongest, 0-1
    bin: int  # of the strongest: for a nominal column 0 = missing, 1 + category


class DistributionMonitor:
    """Watches d columns for a change of their distributions; needs no labels.

    After a detection it is silent for a window, so that one change is one alarm; what changes meanwhile it reports
    afterwards.

    Parameters
    ----------
    n_categories
        int32 [d]: categories of each column, 0 for a numeric one.
    alpha, warning_alpha
        Probability of any false alarm (warning) over all columns and all tests, from one reference on.
    thin
        One event of so many is looked at; None = as many as there are columns, 8 to 32.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x = rng.normal(size=(40_000, 3)).astype(np.float32)
    >>> x[20_000:, 1] *= 10  # a change of unit
    >>> monitor = DistributionMonitor(np.zeros(3, np.int32))
    >>> [(20_000 < shift.event < 22_000, shift.columns, shift.strength > 0.1) for shift in monitor.update(x)]
    [(True, [1], True)]
    """

    def __init__(
        self, n_categories: Int32, *, alpha: float = 0.01, warning_alpha: float = 0.1, thin: int | None = None
    ) -> None:
        d = len(n_categories)
        self.n_categories = np.ascontiguousarray(n_categories, np.int32)
        self.alpha, self.warning_alpha = alpha, warning_alpha
        self.thin = thin or min(max(d, LEAST_THIN), MOST_THIN)
        bins = 1 + max(CUTS + 1, min(int(self.n_categories.max(initial=0)), MOST))
        self._windows = Windows(
            np.zeros((WINDOW, d), np.float32), np.zeros(d, np.int64), np.zeros((d, CUTS), np.float32),
            np.zeros((d, bins), np.int32), np.zeros((WINDOW, d), np.uint8), np.zeros(d, np.int64),
            np.zeros((d, bins), np.int32), np.zeros(d, np.int64), np.zeros(d), np.zeros(6, np.int64),
        )  # fmt: skip

    @property
    def warnings(self) -> int:
        return int(self._windows.head[WARNINGS])

    @property
    def drifts(self) -> int:
        return int(self._windows.head[DRIFTS])

    @property
    def strengths(self) -> Float64:
        """float64 [d], 0-1: distance of each column's recent window from its reference at the latest test."""
        return self._windows.strength

    @property
    def seen(self) -> int:
        """Events seen, of which `thin` - 1 in `thin` were not looked at."""
        return int(self._windows.head[SEEN])

    def grow(self, n_categories: Int32, *, thin: int | None = None) -> None:
        """Watch more columns, or more categories of those there are; a new column begins with its reference."""
        old, grown = self._windows, DistributionMonitor(n_categories, thin=thin)
        wide = grown._windows._asdict()
        for name, mine in old._asdict().items():
            wide[name][tuple(slice(length) for length in mine.shape)] = mine
        self.n_categories, self.thin, self._windows = grown.n_categories, grown.thin, grown._windows

    def begin_at(self, seen: int) -> None:
        """Count events from here on."""
        self._windows.head[SEEN] = seen

    def update(self, x: Float32) -> list[Shift]:
        """Take the next events float32 [n, d], in order; return the changes found."""
        x, d = np.ascontiguousarray(x, np.float32), len(self.n_categories)
        found = np.empty((d * (1 + len(x) // (self.thin * EVERY) + 1), 4))
        n_found = take_samples(self._windows, x, self.n_categories, self.thin, self.alpha, self.warning_alpha, found)
        shifts: list[Shift] = []
        for event in dict.fromkeys(found[:n_found, 0].tolist()):
            rows = found[:n_found][found[:n_found, 0] == event]
            rows = rows[np.argsort(-rows[:, 2], kind="stable")]
            shifts.append(Shift(int(event), rows[:, 1].astype(int).tolist(), float(rows[0, 2]), int(rows[0, 3])))
        return shifts

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self._windows._asdict().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        n = self.n_categories
        last_bin = np.where(n > 0, np.minimum(n, MOST), CUTS + 1)  # of each column
        count = Range(0, np.where(np.arange(self._windows.now.shape[1]) > last_bin[:, None], 0, WINDOW))
        ranges = named(
            Windows, values=INPUT, filled=Range(0, WINDOW), cuts=ANY, before=count, ring=Range(0, last_bin),
            since=COUNT, now=count, tests=COUNT, strength=SHARE, head=COUNT,
        )  # fmt: skip
        fill(self._windows._asdict(), snapshot[0], "distribution monitor", ranges)
