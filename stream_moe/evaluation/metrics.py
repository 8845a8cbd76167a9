"""Prequential scores: every event counts with the prediction made before it was learnt."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.answers import Answers
from stream_moe.ranges import ANY, COUNT, MOST, Range, named
from stream_moe.report import MOST_CONFUSED, QualityReport
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Float64, Int32, Int64

RECENT = 1e-3  # rate of the windowed accuracy: about the last 1,000 labelled events
MIN_PROBABILITY = 1e-15  # the log-loss of a label that was given probability 0
LOG_LOSS, MOVING = range(2)
EVENTS, MAJORITY_RIGHT, NO_CHANGE_RIGHT, LAST_LABEL = range(4)


class Scores(NamedTuple):
    """What the kernel counts."""

    confusion: Int64  # [C, C] true class by predicted class
    sums: Float64  # [2] log-loss, moving accuracy
    counts: Int64  # [4] events, right by majority class, right by no-change, last label


@compiled(_nrt=False)
def score(scores: Scores, labels: Int64, proba: Float64, answers: Int32, y: Int32, seen: Int32) -> None:
    """`labels` int64 [C] counts the labels so far; scratch."""
    majority = -1
    for c in range(labels.shape[0]):
        if labels[c] > 0 and (majority < 0 or labels[c] > labels[majority]):  # the first of several
            majority = c
    for t in range(y.shape[0]):
        previous = scores.counts[LAST_LABEL]
        if seen[t] >= 0:
            scores.counts[LAST_LABEL] = seen[t]
        if y[t] < 0:
            continue
        predicted = answers[t]
        scores.confusion[y[t], predicted] += 1
        scores.counts[EVENTS] += 1
        if majority == y[t]:
            scores.counts[MAJORITY_RIGHT] += 1
        if previous == y[t]:
            scores.counts[NO_CHANGE_RIGHT] += 1
        labels[y[t]] += 1
        most = labels[majority] if majority >= 0 else 0
        if labels[y[t]] > most or (labels[y[t]] == most and y[t] < majority):
            majority = y[t]
        scores.sums[LOG_LOSS] -= math.log(max(proba[t, y[t]], MIN_PROBABILITY))
        right = 1.0 if predicted == y[t] else 0.0
        n = min(np.float64(scores.counts[EVENTS]), 1.0 / RECENT)  # a plain mean until the window is full
        scores.sums[MOVING] += (right - scores.sums[MOVING]) / n


class Prequential:
    """Accuracy, three kappas, log-loss, and recall, precision and F1 by class of a stream of predictions.

    Kappa compares with chance (Cohen 1960), kappa_majority with the majority class so far, kappa_temporal with
    the previous label (Bifet et al., Efficient online evaluation of big data stream classifiers, 2015). Both
    references predict when the label arrives.

    Parameters
    ----------
    n_classes
        C.
    answers
        How an answer follows from the probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> quality = Prequential(2)
    >>> quality.update(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.int32([0, 1, 1]))
    >>> report = quality.report()
    >>> report.events, round(report.accuracy, 3), round(report.kappa, 3), round(report.log_loss, 3)
    (3, 0.667, 0.4, 0.415)
    >>> report.class_recall.tolist(), round(report.g_mean, 3)
    ([1.0, 0.5], 0.707)
    >>> report.balanced_accuracy, report.class_precision.tolist(), report.confusion.tolist()
    (0.75, [0.5, 1.0], [[1, 0], [1, 1]])
    """

    def __init__(self, n_classes: int, answers: Answers | None = None) -> None:
        self._answers = answers or Answers()
        counts = np.zeros(4, np.int64)
        counts[LAST_LABEL] = -1
        self._scores = Scores(np.zeros((n_classes, n_classes), np.int64), np.zeros(2), counts)

    def grow(self, n_classes: int, answers: Answers | None = None) -> None:
        """Go on with more classes; `answers` as for a new one."""
        old = self._scores
        grown = np.zeros((n_classes, n_classes), np.int64)
        grown[: len(old.confusion), : len(old.confusion)] = old.confusion
        self._answers, self._scores = answers or Answers(), old._replace(confusion=grown)

    @property
    def events(self) -> int:
        """Labelled events scored."""
        return int(self._scores.counts[EVENTS])

    @property
    def confusion(self) -> Int64:
        """int64 [C, C]: events by true class and predicted class."""
        return self._scores.confusion.copy()

    def update(self, proba: Float64, y: Int32, seen: Int32 | None = None) -> None:
        """Score predictions float64 [n, C] against labels int32 [n] (-1 = none: not scored), in order.

        `seen` int32 [n] are all labels of the stream, for the no-change reference, where `y` has only some of them.
        """
        answers = self._answers.of(proba)
        score(self._scores, self._scores.confusion.sum(1), proba, answers, y, y if seen is None else seen)

    def report(self) -> QualityReport:
        """Return all scores of the events so far."""
        confusion, sums, counts = self._scores
        n = max(int(counts[EVENTS]), 1)
        accuracy = int(np.trace(confusion)) / n
        chance = float((confusion.sum(0) / n) @ (confusion.sum(1) / n))
        return QualityReport(
            events=int(counts[EVENTS]),
            accuracy=accuracy,
            window_accuracy=float(sums[MOVING]),
            kappa=above(accuracy, chance),
            kappa_majority=above(accuracy, int(counts[MAJORITY_RIGHT]) / n),
            kappa_temporal=above(accuracy, int(counts[NO_CHANGE_RIGHT]) / n),
            log_loss=float(sums[LOG_LOSS]) / n,
            class_predictions=confusion.sum(0),
            class_labels=confusion.sum(1),
            class_right=confusion.diagonal().copy(),
            cost=self._answers.total(confusion),
            class_costs=self._answers.fixed(confusion.sum(1)),
            majority_right=int(counts[MAJORITY_RIGHT]),
            no_change_right=int(counts[NO_CHANGE_RIGHT]),
            confusion=confusion.copy() if len(confusion) <= MOST_CONFUSED else None,
        )

    def snapshot(self) -> Snapshot:
        """Return the counts, from which all scores are computed."""
        return {name: array.copy() for name, array in self._scores._asdict().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot."""
        counts = np.full(4, MOST)
        counts[LAST_LABEL] = len(self._scores.confusion) - 1
        ranges = named(Scores, confusion=COUNT, sums=ANY, counts=Range(-1, counts))
        fill(self._scores._asdict(), snapshot[0], "quality", ranges)


def above(accuracy: float, reference: float) -> float:
    """Share of the reference's errors that are avoided; 0 where the reference makes none.

    Examples
    --------
    >>> round(above(0.9, 0.8), 3), above(0.5, 0.5), above(1.0, 1.0)
    (0.5, 0.0, 0.0)
    """
    return (accuracy - reference) / (1.0 - reference) if reference < 1.0 else 0.0
