"""Prequential scores of a predicted number: errors, the distribution, the interval; since the start and of late."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.evaluation.window import LARGEST, WINDOW
from stream_moe.experts.numbers.distribution import crps, log_density
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int64

RUN = 5000  # labels over which the least and the highest coverage are looked for
SAMPLES, LEAST_EVENTS = 200, 500  # of a timeline; as `stream_moe.evaluation.timeline`
ABSOLUTE, SQUARE, LAST, LAST_SQUARE, INSIDE, WIDTH, LOG, CRPS = range(8)
COLUMNS = 8
SCORES = ("mae", "rmse", "r2", "mase", "log_score", "crps", "coverage", "interval_width")


class Sums(NamedTuple):
    """Sums of the scores, and of the latest labels."""

    totals: Float64  # [COLUMNS]
    moments: Float64  # [2] mean of the targets, sum of squared distances from it
    first: Float64  # [2] absolute error at the first label, of the answer and of the last value
    last: Float64  # [1] the latest target seen
    ring: Float64  # [w, COLUMNS + 1] scores of the latest w labels, and the target
    run: np.ndarray[tuple[int], np.dtype[np.bool_]]  # [RUN] whether the latest targets were inside
    extreme: Float64  # [3] how many of the latest RUN are inside, the least and the most there were
    counts: Int64  # [1] labels


@compiled(_nrt=False)
def score(sums: Sums, answers: Float64, y: Float64, seen: Float64) -> None:
    """Score answers [n, 4] against targets [n], NaN = not scored; seen [n] are all targets that came."""
    counts, totals, extreme = sums.counts, sums.totals, sums.extreme
    for t in range(y.shape[0]):
        last = sums.last[0]
        if not math.isnan(seen[t]):
            sums.last[0] = seen[t]
        if math.isnan(y[t]):
            continue
        n = counts[0]
        row = sums.ring[n % sums.ring.shape[0]]
        answer, low, high, scale = answers[t, 0], answers[t, 1], answers[t, 2], max(answers[t, 3], 1e-300)
        row[ABSOLUTE], row[LAST] = abs(answer - y[t]), abs(last - y[t])
        row[SQUARE], row[LAST_SQUARE] = row[ABSOLUTE] ** 2, row[LAST] ** 2
        row[INSIDE], row[WIDTH] = 1.0 if low <= y[t] <= high else 0.0, high - low
        row[LOG], row[CRPS] = -log_density(y[t], answer, scale), crps(y[t], answer, scale)
        row[COLUMNS] = y[t]
        for c in range(COLUMNS):
            totals[c] += row[c]
        if n == 0:
            sums.first[0], sums.first[1] = row[ABSOLUTE], row[LAST]
        gap = y[t] - sums.moments[0]
        sums.moments[0] += gap / (n + 1)
        sums.moments[1] += gap * (y[t] - sums.moments[0])
        place = n % RUN
        if n >= RUN:
            extreme[0] -= sums.run[place]
        sums.run[place] = row[INSIDE] > 0.0
        extreme[0] += row[INSIDE]
        counts[0] = n + 1
        if n + 1 >= RUN:
            extreme[1], extreme[2] = min(extreme[1], extreme[0]), max(extreme[2], extreme[0])


@dataclass(slots=True)
class NumberQuality:
    """Scores of a predicted number; errors and widths in the target's units.

    Attributes
    ----------
    events
        Labels scored.
    mae, rmse, r2
        Mean absolute error, root of the mean squared error, share of the variance explained.
    mase
        Absolute error over that of the last value, both from the second label on.
    last_mae, last_rmse
        Of the last value.
    log_score, crps
        Mean negative log density (nats) and mean continuous ranked probability score of the distribution answered.
    coverage, interval_width
        Share of the targets inside the interval, and its mean width.
    """

    events: int
    mae: float
    rmse: float
    r2: float
    mase: float
    last_mae: float
    last_rmse: float
    log_score: float
    crps: float
    coverage: float
    interval_width: float
    window_mae: float = math.nan
    window_rmse: float = math.nan
    window_coverage: float = math.nan


def _quality(n: int, means: Float64, variance: float, mase: float) -> NumberQuality:
    square = float(means[SQUARE])
    r2 = 1.0 - square / variance if variance > 0.0 else math.nan
    return NumberQuality(
        n, float(means[ABSOLUTE]), math.sqrt(square), r2, mase, float(means[LAST]),
        math.sqrt(float(means[LAST_SQUARE])), float(means[LOG]), float(means[CRPS]), float(means[INSIDE]),
        float(means[WIDTH]),
    )  # fmt: skip


class NumberScores:
    """The scores of one replay of a number.

    Parameters
    ----------
    window
        Events of the sliding window.

    Examples
    --------
    >>> scores = NumberScores()
    >>> scores.update(np.array([[1.0, 0.0, 2.0, 0.5], [3.0, 2.0, 4.0, 0.5]]), np.array([2.0, 6.0]))
    >>> found = scores.to_dict()
    >>> found["mae"], found["coverage"], found["mase"]
    (2.0, 0.5, 0.75)
    """

    def __init__(self, window: int = WINDOW) -> None:
        if not 1 <= window <= LARGEST:
            raise ConfigError(f"window: {window} events; give 1 to {LARGEST:,}")
        self.sums = Sums(
            np.zeros(COLUMNS), np.zeros(2), np.zeros(2), np.zeros(1), np.zeros((window, COLUMNS + 1)),
            np.zeros(RUN, np.bool_), np.array([0.0, np.inf, 0.0]), np.zeros(1, np.int64),
        )  # fmt: skip

    @property
    def events(self) -> int:
        """Labels scored."""
        return int(self.sums.counts[0])

    @property
    def quality(self) -> NumberScores:
        """What a timeline takes."""
        return self

    def update(self, answers: Float64, y: Float64, seen: Float64 | None = None) -> None:
        """Score answers float64 [n, 4] against targets float64 [n] (NaN = none: not scored), in order.

        `seen` float64 [n] are all targets of the stream, where `y` has only some of them.
        """
        y = np.ascontiguousarray(y, np.float64)
        score(self.sums, np.ascontiguousarray(answers), y, y if seen is None else np.ascontiguousarray(seen))

    def report(self) -> NumberQuality:
        """Return the scores since the start, with those of the window."""
        n, sums = self.events, self.sums
        rest = sums.totals[LAST] - sums.first[1]
        mase = float((sums.totals[ABSOLUTE] - sums.first[0]) / rest) if rest > 0.0 else math.nan
        found = _quality(n, sums.totals / max(n, 1), float(sums.moments[1]) / max(n, 1), mase)
        recent = self.window_report()
        found.window_mae, found.window_rmse, found.window_coverage = recent.mae, recent.rmse, recent.coverage
        return found

    def window_report(self) -> NumberQuality:
        """Return the scores over the window."""
        rows = self.sums.ring[: min(self.events, len(self.sums.ring))]
        if not len(rows):
            return _quality(0, np.full(COLUMNS, np.nan), math.nan, math.nan)
        means = rows.mean(0)
        mase = float(means[ABSOLUTE] / means[LAST]) if means[LAST] > 0.0 else math.nan
        return _quality(len(rows), means[:COLUMNS], float(rows[:, COLUMNS].var()), mase)

    def summary(self) -> dict[str, float]:
        """Return all scores of one number each: the row of a table over time."""
        recent = self.window_report()
        found = asdict(self.report())
        found.pop("events")
        return found | {f"window_{name}": getattr(recent, name) for name in (*SCORES, "events")}

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain values for JSON; the least and the most coverage of 5,000 labels in a row."""
        found: dict[str, Any] = {name: None if math.isnan(v) else v for name, v in self.summary().items()}
        least, most = (self.sums.extreme[1:] / RUN).tolist()
        known = self.events >= RUN
        return found | {"coverage_least": least if known else None, "coverage_most": most if known else None}


class NumberTimeline:
    """Samples of the scores and of the experts' shares at even distances.

    Parameters
    ----------
    events
        How many there will be.
    """

    def __init__(self, events: int) -> None:
        self._step = max(-(-events // SAMPLES), LEAST_EVENTS)
        self._before, self._labels = np.zeros(COLUMNS), 0
        names = ("events", "labels", "mae", "last_mae", "coverage", "interval_width", "drift_count")
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        self._shares: list[list[float]] = []
        self._drifts = 0

    def marks(self) -> Iterator[int]:
        """Yield the numbers of events at which a sample is due, ascending."""
        yield from itertools.count(self._step, self._step)

    def sample(self, events: int, quality: NumberScores, learner: Any) -> None:
        """Add a sample: scores of the labels since the one before, and each expert's share of the answers so far."""
        n = quality.events - self._labels
        if self._columns["events"] and events == self._columns["events"][-1] and not n:
            return
        means = (quality.sums.totals - self._before) / max(n, 1)
        known = [None if n == 0 else float(means[c]) for c in (ABSOLUTE, LAST, INSIDE, WIDTH)]
        row = [events, n, *known, learner.mixture_drifts - self._drifts]
        for name, value in zip(self._columns, row, strict=True):
            self._columns[name].append(value)
        self._shares.append([round(expert.share, 5) for expert in learner.experts])
        self._before, self._labels = quality.sums.totals.copy(), quality.events
        self._drifts = learner.mixture_drifts

    def to_dict(self) -> dict[str, Any]:
        """Return one list per quantity, one entry per sample; `experts` has the shares of all experts for each."""
        return {**self._columns, "experts": {"share": self._shares}}
