"""What a replay looked like on the way: a bounded list of samples, for plots."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from stream_moe.evaluation.metrics import EVENTS, MAJORITY_RIGHT, NO_CHANGE_RIGHT, Prequential, above
from stream_moe.report import LearnerReport
from stream_moe.types import Int64

SAMPLES = 200  # at most: one for every two pixels of a plot at the width of a phone
LEAST_EVENTS = 500  # between two samples: the accuracy of so many scatters by at most 2.2 points
SCORES = ("accuracy", "kappa", "kappa_majority", "kappa_temporal")
_TOTALS = ("nodes", "resets", "drifts")  # of an expert, since the start


class Timeline:
    """Samples of scores and experts at even distances; which events they fall on depends on the length alone.

    Examples
    --------
    >>> timeline = Timeline(1_000_000)
    >>> marks = timeline.marks()
    >>> next(marks), next(marks)
    (5000, 10000)
    """

    def __init__(self, events: int) -> None:
        self._step = max(-(-events // SAMPLES), LEAST_EVENTS)
        self._scored = np.zeros(4, np.int64)  # labels, right, right by majority, right by no-change
        self._classes: Int64 = np.zeros((2, 0), np.int64)  # true, predicted
        self._routed: Int64 = np.zeros(0, np.int64)
        self._drifts = 0
        self._columns: dict[str, list[Any]] = {
            name: [] for name in ("events", "labels", *SCORES, "accuracy_since_start", "drift_event", "drift_count")
        }
        self._experts: dict[str, list[Any]] = {name: [] for name in ("share", "accuracy", *_TOTALS, "asleep")}

    def marks(self) -> Iterator[int]:
        """Yield the numbers of events at which a sample is due, ascending."""
        yield from itertools.count(self._step, self._step)

    def sample(self, events: int, quality: Prequential, learner: LearnerReport) -> None:
        """Add a sample: scores of the labels that came since the sample before, and the experts as they are now."""
        arrays = quality.snapshot()[0]
        confusion, counts = arrays["confusion"], arrays["counts"]
        scored = np.array([counts[EVENTS], np.trace(confusion), counts[MAJORITY_RIGHT], counts[NO_CHANGE_RIGHT]])
        classes = np.stack([confusion.sum(1), confusion.sum(0)])
        if self._columns["events"] and events == self._columns["events"][-1] and scored[0] == self._scored[0]:
            return
        known = self._classes if self._classes.shape == classes.shape else np.zeros_like(classes)
        scores = window_scores(scored - self._scored, classes - known)
        row = {
            "events": events,
            "labels": int(scored[0] - self._scored[0]),
            **dict(zip(SCORES, scores, strict=True)),
            "accuracy_since_start": _rounded(int(scored[1]) / int(scored[0])) if scored[0] else None,
            "drift_event": learner.last_mixture_drift if learner.mixture_drifts > self._drifts else None,
            "drift_count": learner.mixture_drifts - self._drifts,
        }
        for name, value in row.items():
            self._columns[name].append(value)
        self._sample_experts(learner)
        self._scored, self._classes, self._drifts = scored, classes, learner.mixture_drifts

    def _sample_experts(self, learner: LearnerReport) -> None:
        experts = learner.experts
        routed = np.array([expert.routed for expert in experts], np.int64)
        before = np.zeros_like(routed)  # a learner may have got more experts since
        before[: len(self._routed)] = self._routed[: len(routed)]
        fresh, self._routed = routed - before, routed
        self._experts["share"].append([_rounded(n) for n in (fresh / max(int(fresh.sum()), 1)).tolist()])
        self._experts["accuracy"].append([_rounded(expert.window_accuracy) for expert in experts])
        self._experts["asleep"].append([int(expert.asleep) for expert in experts])
        for name in _TOTALS:
            self._experts[name].append([getattr(expert, name) for expert in experts])

    def to_dict(self) -> dict[str, Any]:
        """Return one list per quantity, one entry per sample; those of the experts hold a list of E each.

        `drift_event` is where the latest alarm of the mixture between two samples was, None where there was none;
        `drift_count` says how many there were.
        """
        return {**self._columns, "experts": self._experts}


def window_scores(scored: Int64, classes: Int64) -> list[float | None]:
    """Accuracy, kappa, kappa over the majority class and kappa over no-change of a window of labels; None = no label.

    scored int64 [4] counts labels, and of them right, right by majority class, right by no-change; classes int64
    [2, C] those of each class, true and predicted.

    Examples
    --------
    >>> import numpy as np
    >>> window_scores(np.array([10, 8, 5, 6]), np.array([[5, 5], [5, 5]]))
    [0.8, 0.6, 0.6, 0.5]
    """
    n = int(scored[0])
    if n == 0:
        return [None] * len(SCORES)
    accuracy, majority, no_change = (int(count) / n for count in scored[1:])
    chance = float((classes[0] / n) @ (classes[1] / n))
    kappas = (above(accuracy, reference) for reference in (chance, majority, no_change))
    return [_rounded(accuracy), *map(_rounded, kappas)]


def _rounded(value: float) -> float:
    return round(value, 5)  # no plot shows more, and the file is half as long
