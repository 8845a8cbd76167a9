"""Prequential scores against river's metrics and plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from river import metrics

from stream_moe.evaluation.metrics import Prequential
from stream_moe.types import Float64, Int32


def case(n: int, sticky: float, seed: int = 1) -> tuple[Float64, Int32]:
    """Predictions that are somewhat right, labels that come in runs, some of them missing."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    for t in range(1, n):
        if rng.random() < sticky:
            y[t] = y[t - 1]
    proba = rng.dirichlet(np.ones(3), n)
    proba[np.arange(n), y] += 0.4
    y[rng.random(n) < 0.1] = -1
    return proba / proba.sum(1, keepdims=True), y.astype(np.int32)


@pytest.mark.parametrize("sticky", [0.0, 0.8])
def test_scores_are_those_of_river(sticky: float) -> None:
    proba, y = case(3000, sticky)
    quality = Prequential(3)
    quality.update(proba, y)
    report = quality.report()
    accuracy, kappa, log_loss = metrics.Accuracy(), metrics.CohenKappa(), metrics.CrossEntropy()
    for p, label in zip(proba, y.tolist(), strict=True):
        if label >= 0:
            accuracy.update(label, int(p.argmax()))
            kappa.update(label, int(p.argmax()))
            log_loss.update(label, dict(enumerate(p.tolist())))
    assert report.events == (y >= 0).sum()
    assert report.accuracy == pytest.approx(accuracy.get())
    assert report.kappa == pytest.approx(kappa.get())
    assert report.log_loss == pytest.approx(log_loss.get())
    assert report.class_labels.tolist() == np.bincount(y[y >= 0], minlength=3).tolist()
    assert report.class_predictions.tolist() == np.bincount(proba.argmax(1)[y >= 0], minlength=3).tolist()


@pytest.mark.parametrize("sticky", [0.0, 0.8])
def test_kappas_against_majority_and_no_change(sticky: float) -> None:
    proba, y = case(3000, sticky)
    quality = Prequential(3)
    quality.update(proba, y)
    report = quality.report()
    labels, counts, by_majority, by_no_change = y[y >= 0], np.zeros(3), 0, 0
    for t, label in enumerate(labels):
        by_majority += t > 0 and counts.argmax() == label
        by_no_change += t > 0 and labels[t - 1] == label
        counts[label] += 1
    n = len(labels)
    for found, reference in ((report.kappa_majority, by_majority / n), (report.kappa_temporal, by_no_change / n)):
        assert found == pytest.approx((report.accuracy - reference) / (1 - reference))
    assert (report.kappa_temporal < report.kappa_majority) == (sticky > 0.5)


def test_any_blocks_give_the_same_scores() -> None:
    proba, y = case(1000, 0.5)
    whole, parts = Prequential(3), Prequential(3)
    whole.update(proba, y)
    for t in range(0, 1000, 13):
        parts.update(proba[t : t + 13], y[t : t + 13])
        copy = Prequential(3)
        copy.restore(parts.snapshot())
        parts = copy
    for name, array in whole.snapshot()[0].items():
        assert np.array_equal(array, parts.snapshot()[0][name]), name


def test_the_window_is_a_mean_at_first_and_follows_a_change_later() -> None:
    sure, wrong, y = np.tile([0.9, 0.1], (5000, 1)), np.tile([0.1, 0.9], (5000, 1)), np.zeros(5000, np.int32)
    quality = Prequential(2)
    quality.update(sure[:3], y[:3])
    quality.update(wrong[:1], y[:1])
    assert quality.report().window_accuracy == pytest.approx(0.75)
    quality.update(sure, y)
    quality.update(wrong, y)
    assert quality.report().window_accuracy < 0.01
    assert quality.report().accuracy == pytest.approx(0.5, abs=0.001)


def test_nothing_scored_and_certain_mistakes_are_finite() -> None:
    quality = Prequential(2)
    assert quality.report().accuracy == 0.0
    quality.update(np.array([[1.0, 0.0]]), np.array([1], np.int32))
    assert quality.report().log_loss == pytest.approx(-np.log(1e-15))
    assert quality.report().kappa == 0.0
