"""River's metrics by name, over the predictions of a replay."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.types import Float64, Int32, Int64, Schema

# Of partitions, as clusterings are compared: river counts them among those of classifiers, but they ask for integers.
_OF_CLUSTERS = {
    "AdjustedMutualInfo", "AdjustedRand", "Completeness", "FowlkesMallows", "Homogeneity", "MutualInfo",
    "NormalizedMutualInfo", "Rand", "VBeta",
}  # fmt: skip


class RiverMetrics:
    """Metrics of river by its class names; the second of two classes is the positive one, for metrics that have one.

    What asks for classes alone is counted from the confusion matrix at the end, and costs nothing on the way. What
    asks for probabilities (CrossEntropy, LogLoss, ROCAUC, ...) is updated event by event in Python. ConfigError if
    river has no such metric of a classifier, or it is for two classes and the schema has others.

    Examples
    --------
    >>> found = RiverMetrics(["MacroF1", "CrossEntropy"], Schema.numeric(1, ["no", "yes"]))
    >>> found.update(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.int32([0, 1, 1]))
    >>> {name: round(value, 3) for name, value in found.values(np.array([[1, 0], [1, 1]])).items()}
    {'MacroF1': 0.667, 'CrossEntropy': 0.415}
    """

    def __init__(self, names: Sequence[str], schema: Schema) -> None:
        self._classes = schema.classes
        kinds = river_metrics()
        for name in names:
            if name not in kinds:
                raise ConfigError(
                    f"metric: river has no {name!r} for a classifier; choose from {', '.join(sorted(kinds))}"
                )
            if kinds[name][1] and schema.n_classes != 2:
                raise ConfigError(
                    f"metric: {name} is for two classes, and the stream has {schema.n_classes}; its multi-class "
                    "kin begin with Macro, Micro or Weighted"
                )
        self._kinds = {name: kinds[name][0] for name in names}
        self._binary = {name for name in names if kinds[name][1]}
        self._by_event = {name: kind() for name, kind in self._kinds.items() if not kind().requires_labels}

    def update(self, proba: Float64, y: Int32) -> None:
        """Give predictions float64 [n, C] and labels int32 [n] (-1 = none) to the metrics that need each of them."""
        if not self._by_event:
            return
        for p, label in zip(proba.tolist(), y.tolist(), strict=True):
            if label >= 0:
                for name, metric in self._by_event.items():
                    if name in self._binary:
                        metric.update(label == 1, p[1])
                    else:
                        metric.update(self._classes[label], dict(zip(self._classes, p, strict=True)))

    def values(self, confusion: Int64) -> dict[str, float | None]:
        """Return each metric's value, None where it has none; `confusion` int64 [C, C], true by predicted class."""
        found = {}
        for name, kind in self._kinds.items():
            metric = self._by_event.get(name) or kind()
            if name not in self._by_event:
                for label, answer in np.argwhere(confusion).tolist():
                    pair = (label == 1, answer == 1) if name in self._binary else (label, answer)
                    metric.update(*pair, w=int(confusion[label, answer]))
            value = float(metric.get())
            found[name] = None if math.isnan(value) else value
        return found


def river_metrics() -> dict[str, tuple[type[Any], bool]]:
    """Return river's metrics of a classifier that are one number: the class, and whether it is for two classes."""
    from river import metrics

    several = (metrics.ClassificationReport, metrics.ConfusionMatrix)
    found = {}
    for name in set(metrics.__all__) - _OF_CLUSTERS:
        kind = getattr(metrics, name, None)  # river names some that it does not have
        if not isinstance(kind, type) or not issubclass(kind, metrics.base.ClassificationMetric):
            continue
        needed = [
            p for p in inspect.signature(kind).parameters.values()
            if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
        ]  # fmt: skip
        if not (needed or issubclass(kind, several)):
            found[name] = kind, issubclass(kind, metrics.base.BinaryMetric)
    return found
