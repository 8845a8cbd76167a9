"""Prequential scores over a sliding window: the last events alone, each with the weight one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.evaluation.metrics import above, highest
from stream_moe.report import geometric_mean
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int32, Int64

WINDOW = 1000  # events, as in MOA
LARGEST = 10_000_000  # events; the ring takes ten bytes each
LABEL, PREDICTED = range(2)
BY_MAJORITY, BY_NO_CHANGE = range(2)
EVENTS, LAST_LABEL, MAJORITY = range(3)


class Ring(NamedTuple):
    """The last w events, event number n in place n modulo w."""

    classes: Int32  # [w, 2] label, predicted
    reference: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]  # [w, 2] right by majority class, right by no-change
    labels: Int64  # [C] of all events so far
    counts: Int64  # [3] events, last label, majority class


@compiled(_nrt=False)
def remember(ring: Ring, proba: Float64, y: Int32, seen: Int32) -> None:
    counts, labels = ring.counts, ring.labels
    for t in range(y.shape[0]):
        label, previous = y[t], counts[LAST_LABEL]
        if seen[t] >= 0:
            counts[LAST_LABEL] = seen[t]
        if label < 0:
            continue
        best, _ = highest(proba, t)
        place = counts[EVENTS] % ring.classes.shape[0]
        ring.classes[place, LABEL], ring.classes[place, PREDICTED] = label, best
        ring.reference[place, BY_MAJORITY] = counts[MAJORITY] == label
        ring.reference[place, BY_NO_CHANGE] = previous == label
        labels[label] += 1
        major = counts[MAJORITY]
        if major < 0 or labels[label] > labels[major] or (labels[label] == labels[major] and label < major):
            counts[MAJORITY] = label
        counts[EVENTS] += 1


@dataclass(slots=True)
class WindowReport:
    """Scores over the last `events` labelled events; the kappas' references predict when the label arrives."""

    events: int
    accuracy: float
    kappa: float
    kappa_majority: float
    kappa_temporal: float
    g_mean: float


class SlidingWindow:
    """Accuracy, three kappas and G-mean over the last w labelled events; until so many came, over all of them.

    ConfigError if the window is not in 1..10,000,000.

    Examples
    --------
    >>> recent = SlidingWindow(2, window=2)
    >>> recent.update(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.int32([0, 1, 1]))
    >>> recent.report().events, recent.report().accuracy
    (2, 0.5)
    """

    def __init__(self, n_classes: int, window: int = WINDOW) -> None:
        if not 1 <= window <= LARGEST:
            raise ConfigError(f"window: {window} events; give 1 to {LARGEST:,}")
        self._ring = Ring(
            np.zeros((window, 2), np.int32),
            np.zeros((window, 2), np.bool_),
            np.zeros(n_classes, np.int64),
            np.array([0, -1, -1], np.int64),
        )

    def update(self, proba: Float64, y: Int32, seen: Int32 | None = None) -> None:
        """Take in predictions float64 [n, C] with labels int32 [n] (-1 = none: not counted), in order.

        `seen` int32 [n] are all labels of the stream, for the no-change reference, where `y` has only some of them.
        """
        remember(self._ring, proba, y, y if seen is None else seen)

    def report(self) -> WindowReport:
        n = min(int(self._ring.counts[EVENTS]), len(self._ring.classes))
        label, predicted = self._ring.classes[:n].T
        n_classes = len(self._ring.labels)
        labels, predictions, right = (
            np.bincount(of, minlength=n_classes) for of in (label, predicted, label[label == predicted])
        )
        events = max(n, 1)
        accuracy = int(right.sum()) / events
        majority, no_change = (int(count) / events for count in self._ring.reference[:n].sum(0))
        recall = np.divide(right, labels, out=np.full(n_classes, math.nan), where=labels > 0)
        return WindowReport(
            events=n,
            accuracy=accuracy,
            kappa=above(accuracy, float((labels / events) @ (predictions / events))),
            kappa_majority=above(accuracy, majority),
            kappa_temporal=above(accuracy, no_change),
            g_mean=geometric_mean(recall),
        )
