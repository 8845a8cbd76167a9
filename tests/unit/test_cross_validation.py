"""Folds against a plain loop over events, label delay, and the interval of a mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from stream_moe.engine.replay import replay
from stream_moe.errors import ConfigError, DataError
from stream_moe.evaluation.cross_validation import Fold, run_folds
from stream_moe.evaluation.intervals import mean_interval
from stream_moe.evaluation.metrics import Prequential
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import Schema
from tests.unit.test_cli import stream_moe

EVENTS = 1500


def make(schema: Schema) -> Any:
    return build_model("hoeffding-tree", schema, options={"delta": "0.01"})


@pytest.mark.parametrize("delay", [0, 1, 40, EVENTS + 1])
@pytest.mark.parametrize("fold", [None, Fold(1, 3, seed=5)], ids=["all", "fold"])
def test_each_event_is_predicted_first_and_learns_its_own_label_later(delay: int, fold: Fold | None) -> None:
    """The definition, event by event: x_t is predicted at t; y_t is learnt with x_t after x_{t+d} was predicted."""
    stream = open_stream("electricity")
    block = next(stream.blocks(EVENTS))
    x, y = block.x[:EVENTS], block.y[:EVENTS]
    tests = fold.start()(EVENTS) if fold else np.ones(EVENTS, bool)
    learns = ~tests if fold else np.ones(EVENTS, bool)
    model, quality, proba = make(stream.schema), Prequential(2), np.empty((EVENTS, 2))
    for t in range(EVENTS + delay):
        if t < EVENTS:
            proba[t] = model.predict_proba_many(x[t : t + 1])[0]
        due = t - delay
        if 0 <= due < EVENTS and learns[due]:
            model.learn_many(x[due : due + 1], y[due : due + 1])
    quality.update(proba[tests], y[tests])
    found = replay(stream, make, events=EVENTS, chunk=97, label_delay=delay, fold=fold)
    by_no_change = np.append(False, y[1:] == y[:-1])[tests].mean()  # the label before in the stream, not in the fold
    assert found.quality.kappa_temporal == pytest.approx(
        (quality.report().accuracy - by_no_change) / (1 - by_no_change)
    )
    for name in ("events", "accuracy", "kappa", "log_loss"):
        assert getattr(found.quality, name) == getattr(quality.report(), name), name
    learnt = int((learns & (y >= 0)).sum())
    assert found.learner.experts[0].trained == learnt


def test_every_event_tests_one_learner_and_any_blocks_draw_the_same() -> None:
    folds = [Fold(j, 4, seed=2) for j in range(4)]
    masks = np.array([fold.start()(10_000) for fold in folds])
    assert (masks.sum(0) == 1).all()
    assert (abs(masks.sum(1) - 2500) < 4 * np.sqrt(10_000 * 0.25 * 0.75)).all()
    draw = folds[2].start()
    assert np.array_equal(np.concatenate([draw(n) for n in (1, 7, 4096, 5896)]), masks[2])
    assert not np.array_equal(Fold(2, 4, seed=3).start()(10_000), masks[2])


def test_an_event_of_a_fold_is_never_learnt_there() -> None:
    """Flipping all labels that test learner 0 changes its scores, and not one of its predictions or its state."""
    stream, fold = open_stream("electricity"), Fold(0, 2)

    class Flipped:
        name, schema, n_events, bayes_accuracy = stream.name, stream.schema, stream.n_events, None

        def blocks(self, rows: int) -> Any:
            drawn = fold.start()
            for block in stream.blocks(rows):
                block.y = np.where(drawn(len(block)), 1 - block.y, block.y).astype(np.int32)
                yield block

    honest, flipped = (replay(s, make, events=EVENTS, fold=fold) for s in (stream, Flipped()))
    assert honest.state_digest == flipped.state_digest
    assert honest.quality.accuracy == pytest.approx(1 - flipped.quality.accuracy)


def test_processes_change_no_result_and_the_mean_is_that_of_the_folds(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        arguments = ["electricity", "--model", "naive-bayes", "--events", 2000, "--folds", 3, "--workers", workers]
        done = stream_moe("replay", *arguments, "--json", tmp_path / "out.json", "--quiet")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        found.append(json.loads((tmp_path / "out.json").read_text()))
    one, two = ([{k: v for k, v in fold.items() if "seconds" not in k} for fold in r["fold_results"]] for r in found)
    assert one == two
    assert found[0]["tested"] == sum(fold["tested"] for fold in one) == 2000
    accuracies = [fold["accuracy"] for fold in one]
    assert found[0]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found[0]["intervals"]["accuracy"]["standard_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert len({fold["state_digest"] for fold in one}) == 3


def test_the_interval_is_that_of_student() -> None:
    values = [0.71, 0.74, 0.69, 0.73]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert np.isnan(mean_interval([0.5]).high)
    with pytest.raises(ConfigError, match="interval of 0 values"):
        mean_interval([])


def test_a_fold_without_an_event_is_told_before_the_others_run() -> None:
    ran = []

    def run(fold: Fold) -> dict[str, Any]:
        ran.append(fold.index)
        return {"class_labels": [0, 0] if fold.index == 1 else [1, 2]}

    with pytest.raises(DataError, match="fold 2 of 9 was drawn no labelled event; give fewer --folds"):
        list(run_folds(run, 9))
    assert ran == [0, 1]
