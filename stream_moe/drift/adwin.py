"""Drift detection over many error streams at once: ADWIN, compiled.

Source: Bifet and Gavalda, Learning from time-changing data with adaptive windowing (2007), ADWIN2. Each
stream is averaged over 32 events before it enters its window: ADWIN tests every 32 events anyway, and this
makes inserting 32 times cheaper. The bound still counts events: the variance of a mean of 32 is 1/32 of an
event's, and the range term of the bound is divided by 32.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import ANY, COUNT, MOST, Range, named
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Float32, Float64, Int64

GROUP = 32  # events averaged into one entry of the window
LEVELS, BUCKETS = 28, 5  # as ADWIN: at most 5 buckets of each size 2^level, one more while merging
MIN_ENTRIES = 5  # on each side of a cut
STABLE, WARNING, DRIFT = range(3)
MOST_FOUND = 1024  # drifts that wait to be taken


class WindowArrays(NamedTuple):
    """K windows."""

    total: Float64  # [K, LEVELS, BUCKETS + 1] sum of a bucket's entries, oldest first within a level
    square: Float64  # the same, sum of squared deviations inside the bucket
    filled: Int64  # [K, LEVELS] buckets in use
    width: Int64  # [K] entries
    partial: Float64  # [K] sum over the events of the group that is being filled
    waiting: Int64  # [K] how many those are
    level: Int64  # [K] STABLE or WARNING: where the stream stands now
    warnings: Int64  # [K] counts since the start
    drifts: Int64
    last_drift: Int64  # [K] event at which the latest drift was seen, -1 = never
    events: Int64  # [1]


@compiled(_nrt=False)
def insert(w: WindowArrays, k: int, value: float) -> None:
    """Append one entry to window k, merging the two oldest buckets of a level that is full."""
    w.total[k, 0, w.filled[k, 0]] = value
    w.square[k, 0, w.filled[k, 0]] = 0.0
    w.filled[k, 0] += 1
    w.width[k] += 1
    level = 0
    while level < LEVELS - 1 and w.filled[k, level] == BUCKETS + 1:
        size = 2.0**level
        gap = (w.total[k, level, 0] - w.total[k, level, 1]) / size
        to = w.filled[k, level + 1]
        w.total[k, level + 1, to] = w.total[k, level, 0] + w.total[k, level, 1]
        w.square[k, level + 1, to] = w.square[k, level, 0] + w.square[k, level, 1] + gap * gap * size / 2.0
        w.filled[k, level + 1] += 1
        for b in range(BUCKETS - 1):
            w.total[k, level, b] = w.total[k, level, b + 2]
            w.square[k, level, b] = w.square[k, level, b + 2]
        w.filled[k, level] -= 2
        level += 1


@compiled(_nrt=False)
def drop_oldest(w: WindowArrays, k: int, level: int) -> None:
    for b in range(w.filled[k, level] - 1):
        w.total[k, level, b] = w.total[k, level, b + 1]
        w.square[k, level, b] = w.square[k, level, b + 1]
    w.filled[k, level] -= 1
    w.width[k] -= 2**level


@compiled(_nrt=False)
def bound(harmonic: float, variance: float, log_term: float, group: int) -> float:
    """How far two means may lie apart by chance; theorem 3.1 of the paper, over entries of `group` events."""
    return math.sqrt(2.0 * harmonic * variance * log_term) + 2.0 / 3.0 * harmonic / group * log_term


@compiled(_nrt=False)
def cut_evidence(w: WindowArrays, k: int, delta: float, warning_delta: float, group: int) -> tuple[int, float, float]:
    """Return the evidence of the window's clearest cut, how many entries before it are stale, and the mean's rise.

    Only a RISING mean is drift; a falling one (an expert that learns) shortens the window just the same.
    The paper drops the oldest bucket and tests again; dropping all that lies before the clearest cut makes one
    change one alarm instead of several.
    """
    n = np.float64(w.width[k])
    oldest = LEVELS - 1
    while oldest > 0 and w.filled[k, oldest] == 0:
        oldest -= 1
    total, square, seen = 0.0, 0.0, 0.0
    for level in range(oldest, -1, -1):  # the window's variance, from the buckets' own and their means
        size = 2.0**level
        for b in range(w.filled[k, level]):
            entry = w.total[k, level, b]
            square += w.square[k, level, b]
            if seen > 0.0:
                gap = entry / size - total / seen
                square += gap * gap * seen * size / (seen + size)
            total += entry
            seen += size
    variance = square / n
    sure = math.log(2.0 * math.log(n) / delta)
    likely = math.log(2.0 * math.log(n) / warning_delta)
    n0, s0 = 0.0, 0.0
    evidence, stale, strongest, risen = STABLE, 0.0, 0.0, 0.0
    for level in range(oldest, -1, -1):
        for b in range(w.filled[k, level]):
            n0 += 2.0**level
            s0 += w.total[k, level, b]
            n1 = n - n0
            if n1 < MIN_ENTRIES:
                return evidence, stale, risen
            if n0 < MIN_ENTRIES:
                continue
            rise = (total - s0) / n1 - s0 / n0
            harmonic = 1.0 / (n0 - MIN_ENTRIES + 1.0) + 1.0 / (n1 - MIN_ENTRIES + 1.0)
            excess = abs(rise) - bound(harmonic, variance, sure, group)
            if excess > strongest:
                strongest, stale, risen = excess, n0, rise
                evidence = DRIFT if rise > 0.0 else STABLE
            if stale == 0.0 and rise > bound(harmonic, variance, likely, group):
                evidence = WARNING
    return evidence, stale, risen


@compiled(_nrt=False)
def take_group(w: WindowArrays, k: int, group: int, delta: float, warning_delta: float) -> tuple[int, float]:
    """Take the full group into window k, test, and forget what lies before the clearest cut; return its evidence.

    Any change of the mean forgets, but only a rising one is a drift. The second value is how far the mean has risen.
    """
    insert(w, k, w.partial[k] / group)
    w.partial[k], w.waiting[k] = 0.0, 0
    if w.width[k] <= 2 * MIN_ENTRIES:
        return STABLE, 0.0
    evidence, stale, rise = cut_evidence(w, k, delta, warning_delta, group)
    level = LEVELS - 1
    while stale > 0.0:
        while w.filled[k, level] == 0:
            level -= 1
        drop_oldest(w, k, level)
        stale -= 2.0**level
    return evidence, rise


@compiled(_nrt=False)
def watch(w: WindowArrays, errors: Float32, delta: float, warning_delta: float, found: Float64) -> int:
    """Take errors [n, K] in order: insert, test, count. Return how many drifts `found` [m, 3] now holds."""
    n_found = 0
    for t in range(errors.shape[0]):
        w.events[0] += 1
        for k in range(errors.shape[1]):
            if math.isnan(errors[t, k]):
                continue
            w.partial[k] += errors[t, k]
            w.waiting[k] += 1
            if w.waiting[k] < GROUP:
                continue
            evidence, rise = take_group(w, k, GROUP, delta, warning_delta)
            if evidence == DRIFT:
                w.drifts[k] += 1
                w.last_drift[k] = w.events[0]
                found[n_found, 0], found[n_found, 1], found[n_found, 2] = k, w.events[0], rise
                n_found += 1
            elif evidence == WARNING and w.level[k] == STABLE:
                w.warnings[k] += 1
            w.level[k] = WARNING if evidence == WARNING else STABLE
    return n_found


class Rise(NamedTuple):
    """A drift of one stream: at which of the monitor's events it was seen, and how far its mean error had risen."""

    stream: int
    event: int
    rise: float  # 0-1


class DriftMonitor:
    """ADWIN on the error of each of K streams; only a rising error is drift.

    Parameters
    ----------
    n_streams
        K.
    delta, warning_delta
        Probability of a false alarm, and of a false warning, at each test.

    Attributes
    ----------
    windows
        The arrays that compiled code works on; an adaptive tree's kernel feeds them itself.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> errors = (rng.random((4000, 1)) < np.repeat([0.1, 0.5], 2000)[:, None]).astype(np.float32)
    >>> monitor = DriftMonitor(1)
    >>> monitor.update(errors)
    >>> int(monitor.drifts[0]), 2000 < monitor.last_drift[0] < 2500
    (1, np.True_)
    """

    def __init__(self, n_streams: int, *, delta: float = 0.002, warning_delta: float = 0.02) -> None:
        self.delta, self.warning_delta = delta, warning_delta
        self.windows = self._allocate(n_streams)
        self._found: deque[Rise] = deque(maxlen=MOST_FOUND)  # not of the state: the oldest are dropped

    @property
    def warnings(self) -> Int64:
        """int64 [K], warnings since the start."""
        return self.windows.warnings

    @property
    def drifts(self) -> Int64:
        """int64 [K], drifts since the start."""
        return self.windows.drifts

    @property
    def last_drift(self) -> Int64:
        """int64 [K], the event at which the latest drift was seen; -1 = never."""
        return self.windows.last_drift

    def update(self, errors: Float32) -> None:
        """Take the next errors, float32 [n, K] in [0, 1] or NaN = this stream has none, in order."""
        n, k = errors.shape
        found = np.empty((k * (n // GROUP + 1), 3))  # a stream is tested once in a group
        n_found = watch(self.windows, errors, self.delta, self.warning_delta, found)
        self._found.extend(Rise(int(stream), int(event), rise) for stream, event, rise in found[:n_found].tolist())

    def take_found(self) -> list[Rise]:
        """Return the drifts found since the last call, oldest first; at most the latest 1,024."""
        found = list(self._found)
        self._found.clear()
        return found

    def forget(self) -> None:
        """Empty the windows, as if every stream began anew; counts stay."""
        for array in (self.windows.filled, self.windows.width, self.windows.partial, self.windows.waiting):
            array[:] = 0
        self.windows.level[:] = STABLE

    def grow(self, n_streams: int) -> None:
        """Make room for more streams; the LAST stream (the mixture) stays the last."""
        old, self.windows = self.windows, self._allocate(n_streams)
        for new, kept in zip(self.windows[:-1], old[:-1], strict=True):
            new[: len(kept) - 1], new[-1] = kept[:-1], kept[-1]
        self.windows.events[:] = old.events

    def snapshot(self) -> Snapshot:
        # Buckets beyond `filled` hold what was there before: cleared, so that equal states give equal bytes.
        arrays: dict[str, np.ndarray[Any, Any]] = {n: a.copy() for n, a in self.windows._asdict().items()}
        unused = np.arange(BUCKETS + 1) >= arrays["filled"][..., None]
        arrays["total"][unused] = arrays["square"][unused] = 0.0
        return arrays, {}

    def restore(self, snapshot: Snapshot, group: int = GROUP) -> None:
        """Go on from a snapshot, of windows that take so many events as one entry.

        A full group may wait: a tree that looks at its first events at the end of a block takes it in with the next.
        """
        ranges = named(
            WindowArrays, total=ANY, square=ANY, filled=Range(0, BUCKETS), width=COUNT, partial=Range(0.0, group),
            waiting=Range(0, group), level=Range(STABLE, WARNING), warnings=COUNT, drifts=COUNT,
            last_drift=Range(-1, MOST), events=COUNT,
        )  # fmt: skip
        fill(self.windows._asdict(), snapshot[0], "drift monitor", ranges)
        entries = self.windows.filled @ 2 ** np.arange(LEVELS)
        if (wrong := np.flatnonzero(entries != self.windows.width)).size:
            k = wrong[0]
            raise CheckpointError(
                f"drift monitor: array 'width' holds {self.windows.width[k]:,}, and the buckets of stream {k} hold "
                f"{entries[k]:,} entries"
            )

    @staticmethod
    def _allocate(k: int) -> WindowArrays:
        def integers() -> Int64:
            return np.zeros(k, np.int64)

        shape = (k, LEVELS, BUCKETS + 1)
        return WindowArrays(
            total=np.zeros(shape), square=np.zeros(shape), filled=np.zeros((k, LEVELS), np.int64),
            width=integers(), partial=np.zeros(k), waiting=integers(), level=integers(), warnings=integers(),
            drifts=integers(), last_drift=np.full(k, -1, np.int64), events=np.zeros(1, np.int64),
        )  # fmt: skip
