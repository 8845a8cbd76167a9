"""River's metrics by name, over the predictions of a replay."""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.evaluation.window import LARGEST, SlidingWindow
from stream_moe.types import Float64, Int32, Int64, Schema

# Of partitions, as clusterings are compared: river counts them among those of classifiers, but they ask for integers.
_OF_CLUSTERS = {
    "AdjustedMutualInfo", "AdjustedRand", "Completeness", "FowlkesMallows", "Homogeneity", "MutualInfo",
    "NormalizedMutualInfo", "Rand", "VBeta",
}  # fmt: skip


# Which class is the positive one is said for all metrics alike, and a matrix cannot be written as an option.
_NOT_OPTIONS = {"cm", "pos_val"}
_EXACT = "ROCAUC"  # river's has ten thresholds where none are asked for


class RiverMetrics:
    """Metrics of river by its class names; the second of two classes is the positive one, for metrics that have one.

    What asks for classes alone is counted from the confusion matrix at the end, and costs nothing on the way. What
    asks for probabilities (CrossEntropy, LogLoss, ...) is updated event by event in Python. A name may have options:
    `FBeta(beta=2)`, `ROCAUC(n_thresholds=50)`. ROCAUC without options is exact, over the last 10,000,000 labelled
    events. ConfigError if river has no such metric of a classifier, it does not take these options, or it is for two
    classes and the schema has others.

    Examples
    --------
    >>> found = RiverMetrics(["MacroF1", "CrossEntropy", "ROCAUC"], Schema.numeric(1, ["no", "yes"]))
    >>> found.update(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.int32([0, 1, 1]))
    >>> {name: round(value, 3) for name, value in found.values(np.array([[1, 0], [1, 1]])).items()}
    {'MacroF1': 0.667, 'CrossEntropy': 0.415, 'ROCAUC': 1.0}
    """

    def __init__(self, names: Sequence[str], schema: Schema) -> None:
        self._classes = schema.classes
        self._make: dict[str, partial[Any]] = {}
        self._binary: set[str] = set()
        self._exact = SlidingWindow(2, LARGEST) if _EXACT in names and schema.n_classes == 2 else None
        for text in names:
            name, options = parse_metric(text)
            kinds = river_metrics(options)
            if name not in kinds and name in river_metrics({"beta"}):
                raise ConfigError(f"metric: {text}: it needs the option beta; write {name}(beta=2)")
            if name not in kinds:
                raise ConfigError(
                    f"metric: river has no {text!r} for a classifier; choose from {', '.join(sorted(kinds))}"
                )
            kind: Callable[..., Any] = kinds[name][0]
            is_binary = kinds[name][1]
            if is_binary and schema.n_classes != 2:
                raise ConfigError(
                    f"metric: {name} is for two classes, and the stream has {schema.n_classes}; its multi-class "
                    "kin begin with Macro, Micro or Weighted"
                )
            self._make[text] = partial(kind, **options)
            if is_binary:
                self._binary.add(text)
            self._try(text)
        by_event = [name for name in self._make if self._exact is None or name != _EXACT]
        made = {name: self._make[name]() for name in by_event}
        self._by_event = {name: metric for name, metric in made.items() if not metric.requires_labels}

    def _try(self, text: str) -> None:
        """Fail before the work, not in its middle, where an option is none of this metric."""
        try:
            metric = self._make[text]()
            if text in self._binary:
                metric.update(True, True if metric.requires_labels else 0.5)
            elif metric.requires_labels:
                metric.update(0, 0)
            else:
                metric.update(self._classes[0], dict.fromkeys(self._classes, 1 / len(self._classes)))
            metric.get()
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            name = text.partition("(")[0]
            known = inspect.signature(self._make[text].func).parameters.keys() - _NOT_OPTIONS
            way_out = f"its options are {', '.join(sorted(known))}" if known else f"write {name}: it has no options"
            raise ConfigError(f"metric: {text}: {' '.join(str(error).split())}; {way_out}") from None

    def update(self, proba: Float64, y: Int32) -> None:
        """Give predictions float64 [n, C] and labels int32 [n] (-1 = none) to the metrics that need each of them."""
        if self._exact is not None:
            self._exact.update(proba, y)
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
        for name, make in self._make.items():
            if self._exact is not None and name == _EXACT:
                found[name] = _or_none(self._exact.ranking()[0])
                continue
            metric = self._by_event.get(name) or make()
            if name not in self._by_event:
                for label, answer in np.argwhere(confusion).tolist():
                    pair = (label == 1, answer == 1) if name in self._binary else (label, answer)
                    metric.update(*pair, w=int(confusion[label, answer]))
            found[name] = _or_none(float(metric.get()))
        return found


def split_metrics(text: str) -> list[str]:
    """Split a list at its commas, those between options left alone.

    Examples
    --------
    >>> split_metrics("MacroF1, FBeta(beta=2), RollingROCAUC(window_size=9)")
    ['MacroF1', 'FBeta(beta=2)', 'RollingROCAUC(window_size=9)']
    """
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def parse_metric(text: str) -> tuple[str, dict[str, Any]]:
    """Read a name with its options, which are plain values; ConfigError where it is anything else.

    Examples
    --------
    >>> parse_metric("ROCAUC(n_thresholds=50)"), parse_metric("MacroF1")
    (('ROCAUC', {'n_thresholds': 50}), ('MacroF1', {}))
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            options = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
            if "None" not in options and not options.keys() & _NOT_OPTIONS:
                return node.func.id, options
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    raise ConfigError(
        f"metric: {text!r} is no name with plain options by name; write MacroF1, or ROCAUC(n_thresholds=50)"
    )


def river_metrics(given: Collection[str] = ()) -> dict[str, tuple[type[Any], bool]]:
    """Return river's metrics of a classifier that are one number: the class, and whether it is for two classes.

    Those that need options are among them where these are `given`.
    """
    from river import metrics

    several = (metrics.ClassificationReport, metrics.ConfusionMatrix, metrics.MultiFBeta)
    found = {}
    for name in set(metrics.__all__) - _OF_CLUSTERS:
        kind = getattr(metrics, name, None)  # river names some that it does not have
        if not isinstance(kind, type) or not issubclass(kind, metrics.base.ClassificationMetric):
            continue
        needed = [
            p for p in inspect.signature(kind).parameters.values()
            if p.default is p.empty and p.name not in given and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
        ]  # fmt: skip
        if not (needed or issubclass(kind, several)):
            found[name] = kind, issubclass(kind, metrics.base.BinaryMetric)
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
