"""How well probabilities rank events, over all thresholds: exact, and right where several are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stream_moe.types import Bool, Float64, Int32


def ranked(y: Int32, proba: Float64) -> tuple[float, float]:
    """Return ROC AUC and average precision, NaN where they are not defined.

    Parameters
    ----------
    y
        int32 [n], the classes.
    proba
        float64 [n, K]: K = 1 of class 1 of two, else of all K classes; K = 0 = not kept. Of several classes the mean
        is taken of each one against the rest, of those that came.

    Examples
    --------
    >>> ranked(np.int32([0, 0, 1, 1]), np.array([[0.1], [0.4], [0.35], [0.8]]))
    (0.75, 0.8333333333333333)
    """
    n_columns = proba.shape[1]
    positive = [1] if n_columns == 1 else range(n_columns)
    found = [_one_class(y == c, column) for c, column in zip(positive, proba.T, strict=True)]
    return _mean([area for area, _ in found]), _mean([precision for _, precision in found])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _one_class(positive: Bool, score: Float64) -> tuple[float, float]:
    """Rank bool [n] by float64 [n].

    ROC AUC is the chance that a positive event has a higher score than a negative one, an equal one counted by half
    (Hanley & McNeil 1982). Average precision is the sum of precision times the gain in recall over the thresholds.
    """
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)) if len(order) else order  # of equal scores
    hits = np.cumsum(positive[order])[last]
    misses = last + 1 - hits
    if not len(last) or not hits[-1]:
        return math.nan, math.nan
    gained = np.diff(hits, prepend=0)
    precision = float(gained @ (hits / (last + 1))) / int(hits[-1])
    if not misses[-1]:
        return math.nan, precision
    area = float(np.diff(misses, prepend=0) @ (hits - gained / 2))
    return area / (int(hits[-1]) * int(misses[-1])), precision
