"""Which expert does what: routing, training and accuracy of each, and how far the experts specialize."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.experts.base import DriftCounts, ExpertFacts
from stream_moe.ranges import COUNT, SHARE, Range, named
from stream_moe.report import ExpertReport, LearnerDrift, LearnerReport
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Bool, Float32, Float64, Int32, Int64

HALVING = 2048  # recent counts are halved every so many labelled events: a window of about 4,096
RECENT = 1e-3  # rate of the moving accuracy: a window of about 1,000 labelled events
BOTH, EITHER, CONFIDENCE, EVENTS = range(4)


class Counts(NamedTuple):
    routed: Int64  # [E] labelled events the expert had the highest weight for
    trained: Int64  # [E] events it learnt
    right: Int64  # [E] labelled events it was right on, whether routed to it or not
    moving: Float64  # [E] moving accuracy
    by_class: Int64  # [E, C] routed events by true class
    recent: Float64  # [E, C] the same, recent
    sums: Float64  # [4] recent: pairs right together, pairs of which one is right, top weights, events
    events: Int64  # [1] labelled events


@compiled
def tally(counts: Counts, top: Int64, weight: Float32, chosen: Float64 | Bool, right: Float32, y: Int32) -> None:
    n_experts = right.shape[1]
    for t in range(y.shape[0]):
        if y[t] < 0:
            continue
        counts.events[0] += 1
        counts.routed[top[t]] += 1
        counts.by_class[top[t], y[t]] += 1
        counts.recent[top[t], y[t]] += 1.0
        n_right, n_judged = 0, 0
        for e in range(n_experts):
            if chosen[e, t]:
                counts.trained[e] += 1
            if math.isnan(right[t, e]):
                continue
            n_judged += 1
            if right[t, e] > 0.0:
                n_right += 1
                counts.right[e] += 1
            counts.moving[e] += RECENT * (right[t, e] - counts.moving[e])
        n_wrong = n_judged - n_right
        counts.sums[BOTH] += n_right * (n_right - 1) / 2
        counts.sums[EITHER] += n_judged * (n_judged - 1) / 2 - n_wrong * (n_wrong - 1) / 2
        counts.sums[CONFIDENCE] += weight[t, top[t]]
        counts.sums[EVENTS] += 1.0
        if counts.events[0] % HALVING == 0:
            for e in range(n_experts):
                for c in range(counts.recent.shape[1]):
                    counts.recent[e, c] *= 0.5
            for i in range(counts.sums.shape[0]):
                counts.sums[i] *= 0.5


@compiled
def _labelled_errors(right: Float32, scored: Int32, y: Int32, errors: Float32) -> int:
    n = 0
    for t in range(y.shape[0]):
        if y[t] >= 0:
            for e in range(right.shape[1]):
                errors[n, e] = np.float32(1.0) - right[t, e]
            errors[n, -1] = scored[t] != y[t]
            n += 1
    return n


def labelled_errors(right: Float32, scored: Int32, y: Int32) -> Float32:
    """Return the errors of the E experts, and last the mixture's, on the m labelled of n events, float32 [m, E + 1].

    Parameters
    ----------
    right
        float32 [n, E], NaN = it had no answer, and so no error.
    scored
        int32 [n], the class that the mixture named.
    y
        int32 [n].

    Examples
    --------
    >>> labelled_errors(np.float32([[1, np.nan], [0, 0]]), np.int32([0, 1]), np.int32([0, -1])).tolist()
    [[0.0, nan, 0.0]]
    """
    errors = np.empty((len(y), right.shape[1] + 1), np.float32)
    return errors[: _labelled_errors(right, scored, y, errors)]


class Specialization:
    """Running account of a pool of E experts over C classes.

    Examples
    --------
    >>> import numpy as np
    >>> account = Specialization(2, 2)
    >>> y = np.int32([0, 1, 0, 1])
    >>> weights = np.float32([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.2, 0.8]])
    >>> right = np.float32([[1, 0], [0, 1], [1, 0], [0, 1]])
    >>> account.update(weights.argmax(1), weights, np.ones((2, 4)), right, y)
    >>> account.class_information, account.load_entropy, account.overlap  # each class has its own expert
    (1.0, 1.0, 0.0)
    """

    def __init__(self, n_experts: int, n_classes: int) -> None:
        self.counts = self._allocate(n_experts, n_classes)

    def update(self, top: Int64, weights: Float32, chosen: Float64 | Bool, right: Float32, y: Int32) -> None:
        """Take n events: routed expert [n], weights [n, E], who learns [E, n], who was right [n, E], y [n].

        NaN in `right`: the expert gave no answer.
        """
        tally(self.counts, top, weights, chosen, right, y)

    @property
    def load_entropy(self) -> float:
        """0 = the router sends everything to one expert (collapse), 1 = every expert gets the same share."""
        load = self.counts.recent.sum(1)
        return _entropy(load) / math.log(len(load)) if len(load) > 1 else 1.0

    @property
    def confidence(self) -> float:
        """Mean of the highest router weight: 1/E = undecided, 1 = certain."""
        return float(self.counts.sums[CONFIDENCE] / max(self.counts.sums[EVENTS], 1.0))

    @property
    def overlap(self) -> float:
        """Over pairs of experts: how often both are right, of when at least one is (Jaccard)."""
        return float(self.counts.sums[BOTH] / self.counts.sums[EITHER]) if self.counts.sums[EITHER] else 0.0

    @property
    def class_information(self) -> float:
        """Share of the class entropy that knowing the routed expert removes: 0 = none, 1 = all of it.

        Each entropy is corrected for the number of events (Miller 1955): from counts alone, a router that knows
        nothing would seem to remove about (E - 1) (C - 1) / 2n nats. With fewer events than cells too much is left.
        With one class there is nothing to remove: 0.
        """
        recent = self.counts.recent
        classes = _corrected_entropy(recent.sum(0))
        if classes <= 0.0:
            return 0.0
        removed = _corrected_entropy(recent.sum(1)) + classes - _corrected_entropy(recent.ravel())
        return float(np.clip(removed / classes, 0.0, 1.0))

    def grow(self, n_experts: int, n_classes: int) -> None:
        old, self.counts = self.counts, self._allocate(n_experts, n_classes)
        for new, kept in zip(self.counts, old, strict=True):
            new[tuple(slice(n) for n in kept.shape)] = kept

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self.counts._asdict().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        faded = Range(0.0, nan=True)  # the weights of a router that ran off are among them
        ranges = named(
            Counts, routed=COUNT, trained=COUNT, right=COUNT, moving=SHARE, by_class=COUNT, recent=faded, sums=faded,
            events=COUNT,
        )  # fmt: skip
        fill(self.counts._asdict(), snapshot[0], "specialization", ranges)

    @staticmethod
    def _allocate(e: int, c: int) -> Counts:
        return Counts(
            routed=np.zeros(e, np.int64), trained=np.zeros(e, np.int64), right=np.zeros(e, np.int64),
            moving=np.zeros(e), by_class=np.zeros((e, c), np.int64), recent=np.zeros((e, c)), sums=np.zeros(4),
            events=np.zeros(1, np.int64),
        )  # fmt: skip


def _entropy(weights: Float64) -> float:
    p = weights[weights > 0] / max(weights.sum(), 1.0)
    return abs(float((p * np.log(p)).sum()))


def _corrected_entropy(weights: Float64) -> float:
    occupied = int((weights >= 0.5).sum())  # what has faded below half an event is as good as empty
    return _entropy(weights) + (occupied - 1) / (2 * weights.sum()) if occupied else 0.0


def accuracies(right: Int64, labelled: int, missed: Int64 | int = 0) -> Float64:
    """Accuracy of each expert over the events that it answered, float64 [E].

    Parameters
    ----------
    right
        int64 [E], labelled events that the expert was right on.
    labelled
        How many labelled events there were.
    missed
        int64 [E], those of them that the expert did not answer: it slept, or they were not routed to it.

    Examples
    --------
    >>> accuracies(np.array([60, 15]), 100, np.array([0, 80])).tolist()
    [0.6, 0.75]
    """
    return right / np.maximum(labelled - missed, 1)


def learner_report(
    experts: Sequence[ExpertFacts],
    account: Specialization,
    monitor: DriftMonitor,
    router_loss: float,
    missed: Int64 | int = 0,
) -> LearnerReport:
    """Put together what a learner reports.

    Parameters
    ----------
    experts
        E of them.
    account
        Of the E experts.
    monitor
        Of the error of each expert, and last of the learner itself.
    router_loss
        Log-loss of the router or the gates.
    missed
        int64 [E], as of `accuracies`.
    """
    counts = account.counts
    accuracy = accuracies(counts.right, int(counts.events[0]), missed)
    drifts = [
        expert.drift_counts if expert.detector else DriftCounts(int(monitor.warnings[e]), int(monitor.drifts[e]))
        for e, expert in enumerate(experts)
    ]
    return LearnerReport(
        experts=[
            ExpertReport(
                kind=expert.kind,
                routed=int(counts.routed[e]),
                trained=int(counts.trained[e]),
                accuracy=float(accuracy[e]),
                window_accuracy=float(counts.moving[e]),
                nodes=expert.n_nodes,
                memory_bytes=expert.memory_bytes,
                splits=expert.n_splits,
                **drifts[e]._asdict(),
            )
            for e, expert in enumerate(experts)
        ],
        expert_class=counts.by_class.copy(),
        overlap=account.overlap,
        load_entropy=account.load_entropy,
        confidence=account.confidence,
        class_information=account.class_information,
        router_loss=router_loss,
        mixture_warnings=int(monitor.warnings[-1]),
        mixture_drifts=int(monitor.drifts[-1]),
        last_drift_event=int(monitor.last_drift.max()),
        last_mixture_drift=int(monitor.last_drift[-1]),
        model_bytes=sum(expert.memory_bytes for expert in experts),
    )


def drifts_found(kinds: Sequence[str | None], monitor: DriftMonitor) -> list[LearnerDrift]:
    """Return what the monitor has found since the last call; its last stream is the learner's own error.

    A kind of None leaves out an expert that watches itself.
    """
    found, mixture = [], len(monitor.drifts) - 1
    for stream, event, rise in monitor.take_found():
        if stream < len(kinds) and kinds[stream] is not None:
            found.append(LearnerDrift("expert", "adwin", f"{stream} {kinds[stream]}", event, rise))
        if stream == mixture:
            found.append(LearnerDrift("mixture", "adwin", "mixture", event, rise))
    return found


class DriftsFound:
    """Gives each drift once, of a monitor and of the experts that have a detector of their own. No part of the state.

    Of the latter only the count is known: they lie somewhere in the latest block.
    """

    def __init__(self) -> None:
        self._given: Counter[int] = Counter()  # by expert, of its own detector's

    def skip(self, experts: Sequence[ExpertFacts]) -> None:
        """Leave out what the experts have found by now: it comes from a checkpoint."""
        self._given = Counter({e: expert.drift_counts.drifts for e, expert in enumerate(experts)})

    def take(self, experts: Sequence[ExpertFacts], monitor: DriftMonitor) -> list[LearnerDrift]:
        """Return what was found since the last call."""
        found = drifts_found([None if expert.detector else expert.kind for expert in experts], monitor)
        for e, expert in enumerate(experts):
            if expert.detector is not None:
                drift = LearnerDrift("expert", expert.detector, f"{e} {expert.kind}", None, None)
                found += [drift] * (expert.drift_counts.drifts - self._given[e])
                self._given[e] = expert.drift_counts.drifts
        return found
