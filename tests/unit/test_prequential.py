"""Prequential scores against river's metrics and plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from river import metrics

from stream_moe.evaluation.calibration import Calibration
from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.window import SlidingWindow
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


def test_recall_and_g_mean_are_those_of_river() -> None:
    proba, y = case(3000, 0.5)
    quality, recall, g_mean = Prequential(3), metrics.MacroRecall(), metrics.GeometricMean()
    quality.update(proba, y)
    for p, label in zip(proba, y.tolist(), strict=True):
        if label >= 0:
            recall.update(label, int(p.argmax()))
            g_mean.update(label, int(p.argmax()))
    report = quality.report()
    assert report.class_recall.mean() == pytest.approx(recall.get())
    assert report.g_mean == pytest.approx(g_mean.get())
    assert 0.3 < report.g_mean < report.class_recall.mean()


def test_a_class_that_was_never_seen_has_no_recall_and_does_not_spoil_the_g_mean() -> None:
    quality = Prequential(3)
    quality.update(np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 0, 1], np.int32))
    report = quality.report()
    assert report.class_recall[:2].tolist() == [0.5, 0.5]
    assert np.isnan(report.class_recall[2])
    assert report.g_mean == pytest.approx(0.5)


@pytest.mark.parametrize("window", [1, 50, 10_000])
def test_a_window_has_the_scores_of_its_events_alone(window: int) -> None:
    proba, y = case(1000, 0.5)
    recent = SlidingWindow(3, window)
    for t in range(0, 1000, 17):
        recent.update(proba[t : t + 17], y[t : t + 17])
    labels, predicted = y[y >= 0], proba.argmax(1)[y >= 0]
    majority = [np.bincount(labels[:t], minlength=3).argmax() if t else -1 for t in range(len(labels))]
    before = np.concatenate([[-1], labels[:-1]])
    last = slice(-window, None)
    kappa, g_mean = metrics.CohenKappa(), metrics.MacroRecall()
    for label, answer in zip(labels[last].tolist(), predicted[last].tolist(), strict=True):
        kappa.update(label, answer)
        g_mean.update(label, answer)
    report, accuracy = recent.report(), (labels == predicted)[last].mean()
    assert report.events == min(window, len(labels))
    assert report.accuracy == pytest.approx(accuracy)
    if window > 1:
        assert report.kappa == pytest.approx(kappa.get())
        for found, reference in ((report.kappa_majority, majority), (report.kappa_temporal, before)):
            by_reference = (np.array(reference) == labels)[last].mean()
            assert found == pytest.approx((accuracy - by_reference) / (1 - by_reference))
        recalls = [(predicted[last] == c)[labels[last] == c].mean() for c in range(3)]
        assert report.g_mean == pytest.approx(np.prod(recalls) ** (1 / 3))


def test_calibration_by_its_definition() -> None:
    """Guo et al. 2017, equations 2 to 5; bins are closed on their right."""
    proba, y = case(3000, 0.0)
    proba[0], y[0] = [1 / 3, 1 / 3, 1 / 3], 0
    proba[1], y[1] = [1.0, 0.0, 0.0], 1
    proba[2], y[2] = [0.4, 0.3, 0.3], 0  # 6 / 15: the edge of a bin
    calibration = Calibration(15)
    calibration.update(proba[:700], y[:700])
    calibration.update(proba[700:], y[700:])
    scored = y >= 0
    confidence, right = proba.max(1)[scored], (proba.argmax(1) == y)[scored]
    error, n = 0.0, int(scored.sum())
    for m, found in enumerate(calibration.bins()):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        assert found.count == inside.sum()
        if found.count:
            assert found.confidence == pytest.approx(confidence[inside].mean())
            assert found.accuracy == pytest.approx(right[inside].mean())
            error += inside.sum() / n * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration.error == pytest.approx(error)
    assert error > 0.01
