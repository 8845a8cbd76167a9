"""Sleep: an expert that carries no weight predicts and learns a thin sample of the events only.

The sample is one event in `THIN`, drawn by its number. On those every expert is active, so the gates go on judging
the sleepers, and these wake by their own share of the answer. A drift of the mixture wakes them all. Decisions
fall after every `PERIOD` labels and depend on nothing but labels and predictions, so any split of the stream
into blocks gives the same ones.

A sleeper abstains: its weights stand still and the others answer, as the specialists of Freund et al. (1997),
Using and combining predictors that specialize. The bound of the gates then holds against each part over the
events that it predicted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.ranges import COUNT, SHARE, Range, named
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.draws import uniform
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Bool, Float32, Float64, Int32, Int64

PERIOD = 1024  # labels between two decisions
THIN = 8  # a sleeper is active on one event in so many
RATE = 0.5  # of the moving share, a period
LEAST_SHARE = 0.01  # of the answer: below it an expert falls asleep; a quarter of an even share of 22 is 0.011
LATE = 2.0  # times that where labels come late: an expert predicts twice as often as it learns, and shares are evener
HYSTERESIS = 1.5  # times that share wakes it
AWAKE_PERIODS = 12  # at least so long from waking to sleep: trees that are still growing get their time
MEMBER = 2**31  # key of the sample among all random numbers


class SleepArrays(NamedTuple):
    """State of E experts."""

    total: Float64  # [E] sum of the shares over this period's events on which the expert was active
    asked: Int64  # [E] how many those are (checkpoints have this name)
    share: Float64  # [E] moving share of the answer
    awake: Int64  # [E] periods since it woke
    asleep: Bool  # [E]
    wakes: Int64  # [E] times it was woken
    missed: Int64  # [E] labelled events that it did not predict
    learnt: Int64  # [1] labels
    drifts: Int64  # [1] alarms of the mixture by the last decision


@compiled
def draw_sample(seed: int, learnt: int, y: Int32, sampled: Bool) -> None:
    """Mark the rows on which sleepers are active: a function of the number of labels learnt before the row."""
    now = uniform(seed, MEMBER, learnt) * THIN < 1.0
    for t in range(y.shape[0]):
        sampled[t] = now
        if y[t] >= 0:
            learnt += 1
            now = uniform(seed, MEMBER, learnt) * THIN < 1.0


@compiled
def count(a: SleepArrays, shares: Float32, right: Float32, sampled: Bool, y: Int32) -> None:
    for t in range(y.shape[0]):
        if y[t] < 0:
            continue
        a.learnt[0] += 1
        for e in range(a.share.shape[0]):
            a.missed[e] += math.isnan(right[t, e])
            if sampled[t] or not a.asleep[e]:
                a.total[e] += shares[t, e]
                a.asked[e] += 1


class SleepSchedule:
    """Decides which of E experts sleep.

    Parameters
    ----------
    may_sleep
        bool [E]; experts that must see every event, or that cost next to nothing, never do.
    least_share
        Of the answer; an expert below it falls asleep. 0 = nobody does.
    seed
        Of the sample of events on which sleepers are active.

    Examples
    --------
    >>> import numpy as np
    >>> schedule, y = SleepSchedule(np.array([True, True]), least_share=0.1, seed=1), np.zeros(PERIOD, np.int32)
    >>> shares = np.tile(np.float32([0.99, 0.01]), (PERIOD, 1))
    >>> for _ in range(AWAKE_PERIODS):
    ...     schedule.update(shares, shares, schedule.sample(y), y, 0)
    >>> schedule.asleep.tolist(), bool(0.1 < schedule.sample(y).mean() < 0.15)
    ([False, True], True)
    >>> for _ in range(2):  # its predictions of the sample count again
    ...     schedule.update(shares[:, ::-1].copy(), shares, schedule.sample(y), y, 0)
    >>> schedule.asleep.tolist(), schedule.wakes.tolist()
    ([False, False], [0, 1])
    """

    def __init__(self, may_sleep: Bool, *, least_share: float = LEAST_SHARE, seed: int = 1) -> None:
        self.may_sleep, self._least_share, self._seed = may_sleep, least_share, seed
        e = len(may_sleep)
        self._arrays = SleepArrays(
            np.zeros(e), np.zeros(e, np.int64), np.full(e, 1.0 / e), np.zeros(e, np.int64), np.zeros(e, np.bool_),
            np.zeros(e, np.int64), np.zeros(e, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64),
        )  # fmt: skip

    @property
    def asleep(self) -> Bool:
        return self._arrays.asleep

    @property
    def wakes(self) -> Int64:
        return self._arrays.wakes

    @property
    def missed(self) -> Int64:
        """Labelled events that each expert did not answer, [E]."""
        return self._arrays.missed

    def before_decision(self, y: Int32) -> int:
        """Return how many of the next events, labels int32 [n], come before the next decision, which may be all."""
        due = PERIOD - int(self._arrays.learnt[0]) % PERIOD
        if len(y) < due:
            return len(y)
        return min(int(np.searchsorted(np.cumsum(y >= 0), due)) + 1, len(y))

    def sample(self, y: Int32) -> Bool:
        """Return bool [n]: on which of the next events, labels int32 [n], sleepers are active."""
        sampled = np.empty(len(y), np.bool_)
        draw_sample(self._seed, int(self._arrays.learnt[0]), y, sampled)
        return sampled

    def update(
        self, shares: Float32, right: Float32, sampled: Bool, y: Int32, drifts: int, *, late: bool = False
    ) -> None:
        """Take events up to at most the next decision, and make it if it is due.

        Parameters
        ----------
        shares
            float32 [n, E] of the answer.
        right
            float32 [n, E], whether the expert named y; NaN = it had no answer.
        sampled
            bool [n] of `sample`.
        y
            int32 [n], -1 = no label.
        drifts
            Alarms of the mixture so far; a new one wakes everybody.
        late
            Whether labels come late.
        """
        before = int(self._arrays.learnt[0])
        count(self._arrays, shares, right, sampled, y)
        if int(self._arrays.learnt[0]) // PERIOD > before // PERIOD:
            self._decide(drifts, self._least_share * (LATE if late else 1.0))

    def _decide(self, drifts: int, least_share: float) -> None:
        a = self._arrays
        active = a.asked > 0
        a.share[active] += RATE * (a.total[active] / a.asked[active] - a.share[active])
        a.total[:], a.asked[:] = 0.0, 0
        a.awake[:] += 1
        rising = a.asleep & (a.share > HYSTERESIS * least_share)
        woken = a.asleep.copy() if drifts > a.drifts[0] else rising
        a.drifts[0] = drifts
        tired = self.may_sleep & ~a.asleep & (a.share < least_share) & (a.awake >= AWAKE_PERIODS)
        tired[a.share.argmax()] = False  # one expert must answer
        a.wakes[:] += woken
        a.awake[woken] = 0
        a.asleep[:] = (a.asleep & ~woken) | tired

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self._arrays._asdict().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        shares = Range(0.0, nan=True)
        ranges = named(
            SleepArrays, total=shares, asked=COUNT, share=shares, awake=COUNT, asleep=SHARE, wakes=COUNT,
            missed=COUNT, learnt=COUNT, drifts=COUNT,
        )  # fmt: skip
        fill(self._arrays._asdict(), snapshot[0], "sleep", ranges)
