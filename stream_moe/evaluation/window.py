"""Prequential scores over a sliding window: the last events alone, each with the weight one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_moe.answers import Answers
from stream_moe.errors import ConfigError
from stream_moe.evaluation.metrics import above
from stream_moe.evaluation.ranking import ranked
from stream_moe.report import geometric_mean, mean_known, shares
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int32, Int64

WINDOW = 1000  # events, as in MOA
LARGEST = 10_000_000  # events; the ring takes ten bytes each, and those of the probabilities
RANKED_CLASSES = 32  # at most, whose probabilities are kept to rank events by: 8 bytes each, of two classes one
RANKED = 32_000_000  # probabilities at most: 256 MB
LABEL, PREDICTED = range(2)
BY_MAJORITY, BY_NO_CHANGE = range(2)
EVENTS, LAST_LABEL, MAJORITY = range(3)


class Ring(NamedTuple):
    """The last w events, event number n in place n modulo w."""

    classes: Int32  # [w, 2] label, predicted
    reference: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]  # [w, 2] right by majority class, right by no-change
    proba: Float64  # [w, K] of the last K classes: 1 of two classes, all of up to 32, else 0
    labels: Int64  # [C] of all events so far
    counts: Int64  # [3] events, last label, majority class


@compiled(_nrt=False)
def remember(ring: Ring, proba: Float64, answers: Int32, y: Int32, seen: Int32) -> None:
    counts, labels = ring.counts, ring.labels
    first = proba.shape[1] - ring.proba.shape[1]
    for t in range(y.shape[0]):
        label, previous = y[t], counts[LAST_LABEL]
        if seen[t] >= 0:
            counts[LAST_LABEL] = seen[t]
        if label < 0:
            continue
        place = counts[EVENTS] % ring.classes.shape[0]
        ring.classes[place, LABEL], ring.classes[place, PREDICTED] = label, answers[t]
        ring.reference[place, BY_MAJORITY] = counts[MAJORITY] == label
        ring.reference[place, BY_NO_CHANGE] = previous == label
        for c in range(ring.proba.shape[1]):
            ring.proba[place, c] = proba[t, first + c]
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
    balanced_accuracy: float
    roc_auc: float  # exact; of more than two classes the mean of one against the rest; NaN = not known
    average_precision: float  # the same


def is_ranked(n_classes: int, window: int) -> bool:
    """Whether a window keeps the probabilities that ROC AUC and average precision need.

    Examples
    --------
    >>> is_ranked(2, 10_000_000), is_ranked(32, 1_000_000), is_ranked(33, 1000)
    (True, True, False)
    """
    return n_classes <= RANKED_CLASSES and _kept(n_classes) * window <= RANKED


def _kept(n_classes: int) -> int:
    return 1 if n_classes == 2 else n_classes


class SlidingWindow:
    """Scores over the last w labelled events; until so many came, over all of them.

    Accuracy, three kappas, G-mean, balanced accuracy, and how well the probabilities rank: ROC AUC and average
    precision over all thresholds. Of two classes the second is the positive one; of 3 to 32 the mean is taken of each
    class in the window against the rest. Where w events have more than 32,000,000 probabilities, these are not kept,
    and both are NaN.

    ConfigError if the window is not in 1..10,000,000.

    Examples
    --------
    >>> recent = SlidingWindow(2, window=3)
    >>> recent.update(np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.int32([0, 0, 1, 1]))
    >>> recent.report().events, round(recent.report().accuracy, 3), recent.report().roc_auc
    (3, 0.667, 1.0)
    """

    def __init__(self, n_classes: int, window: int = WINDOW, answers: Answers | None = None) -> None:
        self._answers = answers or Answers()
        if not 1 <= window <= LARGEST:
            raise ConfigError(f"window: {window} events; give 1 to {LARGEST:,}")
        self._ring = Ring(
            np.zeros((window, 2), np.int32),
            np.zeros((window, 2), np.bool_),
            np.zeros((window, _kept(n_classes) if is_ranked(n_classes, window) else 0)),
            np.zeros(n_classes, np.int64),
            np.array([0, -1, -1], np.int64),
        )

    def update(self, proba: Float64, y: Int32, seen: Int32 | None = None) -> None:
        """Take in predictions float64 [n, C] with labels int32 [n] (-1 = none: not counted), in order.

        `seen` int32 [n] are all labels of the stream, for the no-change reference, where `y` has only some of them.
        """
        remember(self._ring, proba, self._answers.of(proba), y, y if seen is None else seen)

    @property
    def accuracy(self) -> float:
        """Accuracy alone, which costs less than a report."""
        label, predicted = self._ring.classes[: self._events].T
        return int(np.count_nonzero(label == predicted)) / max(len(label), 1)

    @property
    def _events(self) -> int:
        return min(int(self._ring.counts[EVENTS]), len(self._ring.classes))

    def ranking(self) -> tuple[float, float]:
        """Return ROC AUC and average precision, NaN where they are not known."""
        return ranked(self._ring.classes[: self._events, LABEL], self._ring.proba[: self._events])

    def report(self) -> WindowReport:
        """Return all scores of the window."""
        n = self._events
        label, predicted = self._ring.classes[:n].T
        n_classes = len(self._ring.labels)
        labels, predictions, right = (
            np.bincount(of, minlength=n_classes) for of in (label, predicted, label[label == predicted])
        )
        events = max(n, 1)
        accuracy = int(right.sum()) / events
        majority, no_change = (int(count) / events for count in self._ring.reference[:n].sum(0))
        recall = shares(right, labels)
        roc_auc, average_precision = self.ranking()
        return WindowReport(
            events=n,
            accuracy=accuracy,
            kappa=above(accuracy, float((labels / events) @ (predictions / events))),
            kappa_majority=above(accuracy, majority),
            kappa_temporal=above(accuracy, no_change),
            g_mean=geometric_mean(recall),
            balanced_accuracy=mean_known(recall),
            roc_auc=roc_auc,
            average_precision=average_precision,
        )
