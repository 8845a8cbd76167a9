"""Everything that a replay keeps of its predictions: since the start, over the window, by confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from stream_moe.answers import Answers
from stream_moe.evaluation.calibration import Calibration
from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.river_metrics import RiverMetrics
from stream_moe.evaluation.window import WINDOW, SlidingWindow
from stream_moe.report import QualityReport
from stream_moe.types import Float64, Int32, Schema

SCORES = (
    "accuracy", "window_accuracy", "kappa", "kappa_majority", "kappa_temporal", "log_loss", "g_mean",
    "balanced_accuracy",
)  # fmt: skip


class Scoreboard:
    """The scores of one replay.

    Parameters
    ----------
    schema
        Of the stream.
    window
        Events of the sliding window.
    metrics
        Names of river's metrics to keep as well.
    answers
        How an answer follows from the probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> scores = Scoreboard(Schema.numeric(1, ["no", "yes"]))
    >>> scores.update(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.int32([0, 1, 1]))
    >>> found = scores.to_dict()
    >>> found["class_recall"], round(found["g_mean"], 3), found["window_events"]
    ([1.0, 0.5], 0.707, 3)
    """

    def __init__(
        self,
        schema: Schema,
        window: int = WINDOW,
        metrics: Sequence[str] = (),
        answers: Answers | None = None,
    ) -> None:
        self.quality = Prequential(schema.n_classes, answers)
        self.window = SlidingWindow(schema.n_classes, window, answers)
        self.calibration = Calibration()
        self.metrics = RiverMetrics(metrics, schema) if metrics else None

    @property
    def events(self) -> int:
        """Labelled events scored."""
        return self.quality.events

    def update(self, proba: Float64, y: Int32, seen: Int32 | None = None) -> None:
        """Score predictions float64 [n, C] against labels int32 [n] (-1 = none: not scored), in order.

        `seen` int32 [n] are all labels of the stream, where `y` has only some of them.
        """
        self.quality.update(proba, y, seen)
        self.window.update(proba, y, seen)
        self.calibration.update(proba, y)
        if self.metrics is not None:
            self.metrics.update(proba, y)

    def report(self) -> QualityReport:
        """Return the scores since the start; the recent accuracy is that of the sliding window."""
        return replace(self.quality.report(), window_accuracy=self.window.accuracy)

    def extra(self) -> dict[str, float]:
        """Return the scores of one number each that no `QualityReport` has: calibration, and over the window."""
        recent = {f"window_{name}": value for name, value in asdict(self.window.report()).items()}
        return {"calibration_error": self.calibration.error, **recent}

    def summary(self) -> dict[str, float]:
        """Return all scores of one number each: the row of a table over time."""
        return numbers(self.quality.report()) | self.extra()

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain values for JSON: of one number each, by class and by confidence."""
        bins = [{name: _or_none(value) for name, value in asdict(each).items()} for each in self.calibration.bins()]
        metrics = {} if self.metrics is None else {"metrics": self.metrics.values(self.quality.confusion)}
        extra = {name: _or_none(value) for name, value in self.extra().items()}
        return quality_dict(self.report()) | extra | {"calibration": bins} | metrics


def numbers(quality: QualityReport) -> dict[str, float]:
    """Return the scores of one number each."""
    return {name: getattr(quality, name) for name in SCORES}


def quality_dict(quality: QualityReport) -> dict[str, Any]:
    """Return a report as plain values for JSON."""
    return numbers(quality) | {
        "class_labels": quality.class_labels.tolist(),
        "class_predictions": quality.class_predictions.tolist(),
        **{
            name: [_or_none(value) for value in getattr(quality, name).tolist()]
            for name in ("class_recall", "class_precision", "class_f1")
        },
        **({} if quality.confusion is None else {"confusion": quality.confusion.tolist()}),
        **_costs(quality),
    }


def _costs(quality: QualityReport) -> dict[str, Any]:
    """Cost of the answers, and of naming each class always; nothing where all errors are alike."""
    if quality.cost is None or quality.class_costs is None:
        return {}
    n = max(quality.events, 1)
    return {"cost": quality.cost, "mean_cost": quality.cost / n, "class_costs": (quality.class_costs / n).tolist()}


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
