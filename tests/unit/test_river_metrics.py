"""River's metrics from blocks equal river's own, event by event."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_moe.errors import ConfigError
from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.river_metrics import RiverMetrics, river_metrics
from stream_moe.types import Schema
from tests.unit.test_prequential import case


@pytest.mark.parametrize("n_classes", [2, 3])
def test_each_metric_is_what_river_gets_event_by_event(n_classes: int) -> None:
    classes = ["no", "yes", "maybe"][:n_classes]
    proba, y = case(600, 0.3)
    proba = proba[:, :n_classes] / proba[:, :n_classes].sum(1, keepdims=True)
    y = np.where(y < n_classes, y, -1).astype(np.int32)
    kinds = river_metrics()
    names = [name for name, (_, binary) in kinds.items() if name != "ROCAUC" and (n_classes == 2 or not binary)]
    assert {"MacroF1", "GeometricMean", "CohenKappa", "CrossEntropy"} <= set(names)
    assert ("F1" in names) == (n_classes == 2)
    ours, theirs = RiverMetrics(names, Schema.numeric(1, classes)), {name: kinds[name][0]() for name in names}
    quality = Prequential(n_classes)
    for part in (slice(0, 250), slice(250, None)):
        ours.update(proba[part], y[part])
        quality.update(proba[part], y[part])
    for p, label in zip(proba, y.tolist(), strict=True):
        if label < 0:
            continue
        for name, metric in theirs.items():
            answer: Any
            if kinds[name][1]:
                answer = bool(p.argmax() == 1) if metric.requires_labels else float(p[1])
                metric.update(label == 1, answer)
            else:
                answer = (
                    classes[p.argmax()] if metric.requires_labels else dict(zip(classes, p.tolist(), strict=True))
                )
                metric.update(classes[label], answer)
    for name, value in ours.values(quality.confusion).items():
        assert value == pytest.approx(float(theirs[name].get()), nan_ok=True), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("F1", "F1 is for two classes, and the stream has 3"),
        ("MAE", "no 'MAE'"),
        ("Nope", "MacroF1"),
        ("MacroFBeta", r"write MacroFBeta\(beta=2\)"),
        ("MacroFBeta(beta='x')", "MacroFBeta"),
        ("MacroF1(depth=2)", "unexpected keyword argument 'depth'; write MacroF1: it has no options"),
        ("MacroFBeta(beta=2, gamma=2)", "its options are beta"),
        ("MacroF1(2)", "plain options by name"),
        ("MacroF1(**{})", "plain options by name"),
        ("MacroF1(cm=None)", "plain options by name"),
        ("MacroFBeta(beta=__import__('os').getpid())", "plain options by name"),
        ("MacroF1(", "plain options by name"),
    ],
)
def test_a_metric_that_does_not_fit_is_told(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RiverMetrics([name], Schema.numeric(1, "abc"))


def test_options_reach_rivers_metric_and_roc_auc_without_them_is_exact() -> None:
    from river import metrics

    rng = np.random.default_rng(1)
    y = (rng.random(4000) < 0.02).astype(np.int32)
    score = np.clip(rng.normal(0.02 + 0.012 * y, 0.01), 0, 1)  # all between two of river's ten thresholds
    proba = np.stack([1 - score, score], 1)
    names = ["ROCAUC", "ROCAUC(n_thresholds=10)", "ROCAUC(n_thresholds=2000)", "FBeta(beta=2)"]
    ours, theirs = RiverMetrics(names, Schema.numeric(1, ["no", "yes"])), metrics.ROCAUC(n_thresholds=10)
    for part in np.split(np.arange(4000), [7, 1000]):
        ours.update(proba[part], y[part])
    for label, p in zip(y.tolist(), score.tolist(), strict=True):
        theirs.update(label == 1, p)
    confusion = np.array([[3000, 5], [2, 80]])
    found = ours.values(confusion)
    above = score[y == 1][:, None] - score[y == 0]
    assert found["ROCAUC"] == pytest.approx(np.mean((above > 0) + (above == 0) / 2))
    assert found["ROCAUC(n_thresholds=10)"] == pytest.approx(theirs.get())
    assert abs((found["ROCAUC(n_thresholds=10)"] or 0.0) - (found["ROCAUC"] or 0.0)) > 0.1
    assert found["ROCAUC(n_thresholds=2000)"] == pytest.approx(found["ROCAUC"], abs=0.01)
    assert found["FBeta(beta=2)"] == pytest.approx(5 * 80 / (5 * 80 + 4 * 2 + 5))
