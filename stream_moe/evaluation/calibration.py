"""Calibration of the most probable class: how often it is right, by how sure the model was of it.

Source: Guo, Pleiss, Sun & Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stream_moe.answers import highest
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int32

BINS = 15  # M of the paper's experiments
COUNT, CONFIDENCE, RIGHT = range(3)


@compiled(_nrt=False)
def sort_in(bins: Float64, proba: Float64, y: Int32) -> None:
    for t in range(y.shape[0]):
        if y[t] < 0:
            continue
        best, confidence = highest(proba, t)
        place = min(max(math.ceil(confidence * bins.shape[0]) - 1, 0), bins.shape[0] - 1)
        bins[place, COUNT] += 1.0
        bins[place, CONFIDENCE] += confidence
        bins[place, RIGHT] += 1.0 if best == y[t] else 0.0


@dataclass(slots=True)
class CalibrationBin:
    """Events whose highest probability lay in (low, high]; the means are NaN where there are none."""

    low: float
    high: float
    count: int
    confidence: float  # mean highest probability
    accuracy: float  # share of them that were right


class Calibration:
    """Reliability of the highest probability, in M bins of equal width.

    Examples
    --------
    >>> calibration = Calibration()
    >>> calibration.update(np.array([[0.9, 0.1], [0.1, 0.9]]), np.int32([0, 0]))
    >>> round(calibration.error, 3)  # sure to 0.9, right in half of the cases
    0.4
    """

    def __init__(self, bins: int = BINS) -> None:
        self._bins = np.zeros((bins, 3))

    def update(self, proba: Float64, y: Int32) -> None:
        """Sort in predictions float64 [n, C] with labels int32 [n] (-1 = none: not counted)."""
        sort_in(self._bins, proba, y)

    @property
    def error(self) -> float:
        """Expected calibration error, 0-1: mean |accuracy - confidence| of the bins, weighted by their counts."""
        count, confidence, right = self._bins.T
        return float(np.abs(right - confidence).sum() / max(count.sum(), 1.0))

    def bins(self) -> list[CalibrationBin]:
        """Return all bins, the least confident first."""
        width = 1 / len(self._bins)
        return [
            CalibrationBin(
                m * width, (m + 1) * width, int(count), *((total / count if count else math.nan) for total in sums)
            )
            for m, (count, *sums) in enumerate(self._bins.tolist())
        ]
