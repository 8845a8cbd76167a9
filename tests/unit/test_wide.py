"""Streams of thousands of features or hundreds of classes: they start at once, and take memory for what they use."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe import DriftMoE, build_model
from stream_moe.engine.replay import replay
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.linear.history import FREQUENCY, PRODUCT, HistorySoftmax
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.runtime import draws
from stream_moe.runtime.slow import said_if_slow
from stream_moe.streams.files import FileStream
from stream_moe.types import Feature, Schema

CHILD = """
import resource, time, numpy as np
from stream_moe import DriftMoE
from stream_moe.types import Schema
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
DriftMoE(Schema.numeric(2, ["a", "b"])).step(np.zeros((4, 2), np.float32), np.int32([0, 1, 0, 1]))
before, began = peak(), time.process_time()
model = DriftMoE(Schema.numeric({d}, [str(k) for k in range({c})]))
x = np.random.default_rng(1).normal(size=(8, {d})).astype(np.float32)
model.step(x, np.arange(8, dtype=np.int32) % {c})
print(time.process_time() - began, peak() - before)
"""


@pytest.mark.parametrize(("d", "c", "megabytes"), [(5000, 2, 350), (10, 900, 350)])
def test_a_wide_model_starts_at_once_in_little_memory(d: int, c: int, megabytes: int) -> None:
    """Before, 5,000 features took 21 s and 2.2 GB, nearly all of it for a list of all pairs of features."""
    ran = subprocess.run([sys.executable, "-c", CHILD.format(d=d, c=c)], capture_output=True, text=True, check=True)
    seconds, used = map(float, ran.stdout.split())
    assert seconds < 3.0
    assert used < megabytes


def test_many_classes_are_learnt_at_a_fair_rate() -> None:
    """Frequencies of 900 classes as inputs, with 900 weights each, took 80 ms an event."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 900, 200).astype(np.int32)
    x = np.column_stack([y, rng.random(200)]).astype(np.float32)
    model = DriftMoE(Schema.numeric(2, [str(k) for k in range(900)]))
    model.step(x[:2], y[:2])
    began = time.process_time()
    model.step(x[2:], y[2:])
    assert (time.process_time() - began) / 198 < 0.015


def test_drawn_numbers_are_those_of_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for n, share in ((1, 1.0), (10, 0.7), (1000, 0.013), (1000, 1.0)):
        rank = np.argsort([draws.uniform(5, 2**40 + 3, j) for j in range(n)], kind="stable")
        expected = np.sort(rank[: math.ceil(share * n - 1e-9)])
        assert draws.choose(5, 2**40 + 3, n, share).tolist() == expected.tolist()
        with monkeypatch.context() as patch:
            patch.setattr(draws, "PART", 64)
            assert draws.choose(5, 2**40 + 3, n, share).tolist() == expected.tolist()
    assert draws.uniforms(2**64 - 1, 2, 0, 3).tolist() == [draws.uniform(-1, 2, j) for j in range(3)]


def test_products_are_of_pairs_that_are_never_listed() -> None:
    """They are the pairs that a list of all of them would give, also of features that come later."""
    schema = Schema((Feature("a"), Feature("n", ("x", "y")), Feature("b"), Feature("c")), ("no", "yes"))
    expert = HistorySoftmax(schema, products=66)
    kept = expert._past.source == PRODUCT
    pairs = list(zip(expert._past.which[kept].tolist(), expert._past.other[kept].tolist(), strict=True))
    assert pairs == [(i, j) for j in (0, 2, 3) for i in (0, 2, 3) if i <= j]
    expert.grow(Schema((*schema.features, Feature("d")), schema.classes))
    kept = expert._past.source == PRODUCT
    assert expert._past.which[kept].tolist()[6:] == [0, 2, 3, 4]
    wide = HistorySoftmax(Schema.numeric(9000, ["no", "yes"]), products=66)._past
    assert (wide.source == PRODUCT).sum() == 66
    assert wide.which.max() == 8999  # all features are inputs, though products are of the first ones


def test_frequencies_of_very_many_classes_are_bounded() -> None:
    for n, expected in ((24, 24), (90, 90), (91, 90), (900, 9)):
        expert = HistorySoftmax(Schema.numeric(1, [str(k) for k in range(n)]))
        assert (expert._past.source == FREQUENCY).sum() == 3 * expected


def test_a_window_that_grows_keeps_its_rows_and_later_features_are_missing_in_them() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((30, 3), dtype=np.float32), rng.integers(0, 2, 30).astype(np.int32)
    grown, padded = (WindowKNN(Schema.numeric(d, ["no", "yes"]), window=20) for d in (2, 3))
    early = np.column_stack([x[:15, :2], np.full(15, np.nan, np.float32)])
    proba = np.empty((15, 2)), np.empty((15, 2))
    grown.step(x[:15, :2], y[:15], np.ones(15), proba[0])
    grown.grow(Schema.numeric(3, ["no", "yes"]))
    padded.step(early, y[:15], np.ones(15), proba[1])
    for expert, out in zip((grown, padded), proba, strict=True):
        expert.step(x[15:], y[15:], np.ones(15), out)
    assert np.array_equal(*proba)
    (one, _), (other, _) = grown.snapshot(), padded.snapshot()
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def test_rows_in_the_order_of_their_columns_are_taken() -> None:
    x, y = np.random.default_rng(1).random((40, 3), dtype=np.float32), (np.arange(40) % 2).astype(np.int32)
    models = [build_model("driftmoe", Schema.numeric(3, ["no", "yes"])) for _ in range(2)]
    assert np.array_equal(models[0].step(x, y), models[1].step(np.asfortranarray(x), y))


def test_a_wide_schema_with_a_name_twice_is_refused() -> None:
    names = [f"x{j}" for j in range(3000)] + ["x7"]
    with pytest.raises(ConfigError, match="'x7' appears twice"):
        Schema.numeric(3001, ["no", "yes"], names)


def test_the_model_that_warms_up_is_narrow() -> None:
    """It compiles all the same, and the model of all features is made once."""
    made: list[tuple[int, int]] = []

    def make(schema: Schema) -> DriftMoE:
        made.append((schema.n_features, schema.n_classes))
        return DriftMoE(schema, without="adaptive-tree,knn,prototypes,target-encoding,averaged-softmax")

    rng = np.random.default_rng(1)
    schema = Schema.numeric(300, [str(k) for k in range(100)])
    x, y = rng.random((50, 300), dtype=np.float32), rng.integers(-1, 100, 50).astype(np.int32)
    found = replay(FileStream("wide", schema, x, y), make)
    assert (found.events, made) == (50, [(300, 100), (64, 64)])


def test_what_takes_long_is_said_once_and_what_does_not_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="stream_moe.runtime.slow"):  # whatever the level above it was left at
        with said_if_slow("being quick", 0.5):
            pass
        with said_if_slow("being slow", 0.05):
            time.sleep(0.3)
    assert [record.getMessage() for record in caplog.records] == ["being slow: this takes longer than 0.05 s"]


# ---- more than 512 features: the dear experts see the most useful ones


D = 600
WIDE = Schema.numeric(D, ["no", "yes"])


def wide_events(n: int) -> tuple[Any, Any]:
    """Normal features, of which twenty tell the class; some are missing, and one is far from 0."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, D)).astype(np.float32)
    y = (x[:, 100:120].sum(1) > 0).astype(np.int32)
    x[:, 7] += 1e6
    x[rng.random(x.shape) < 0.02] = np.nan
    return x, y


X, Y = wide_events(1200)


def wide_model(**more: Any) -> DriftMoE:
    return DriftMoE(WIDE, trees=2, window=100, prototypes=16, seed=3, **more)


@pytest.fixture(scope="module")
def wide_answers() -> tuple[str, Any]:
    model = wide_model()
    proba = model.step(X, Y)
    return model.digest, proba


@pytest.mark.parametrize(("cut", "threads"), [(1, 1), (37, 1), (256, 2)])
def test_a_wide_model_keeps_the_laws_of_chunks_and_threads(
    wide_answers: tuple[str, Any], cut: int, threads: int
) -> None:
    model = wide_model(threads=threads)
    parts = [model.step(X[i : i + cut], Y[i : i + cut]) for i in range(0, len(Y), cut)]
    assert np.array_equal(np.concatenate(parts), wide_answers[1])
    assert model.digest == wide_answers[0]


@pytest.mark.parametrize("at", [98, 150, 700])
def test_a_wide_model_knows_no_label_ahead(wide_answers: tuple[str, Any], at: int) -> None:
    changed = Y.copy()
    changed[at:] = 1 - changed[at:]
    assert np.array_equal(wide_model().step(X, changed)[: at + 1], wide_answers[1][: at + 1])


def test_a_wide_model_goes_on_from_its_snapshot(wide_answers: tuple[str, Any], tmp_path: Path) -> None:
    model = wide_model()
    model.step(X[:500], Y[:500])
    model.save(tmp_path / "wide.model")
    again = DriftMoE.load(tmp_path / "wide.model")
    assert again.digest == model.digest
    asked = again.predict_proba_many(X[500:501])
    assert again.digest == model.digest
    assert np.array_equal(again.step(X[500:], Y[500:]), wide_answers[1][500:])
    assert np.array_equal(asked[0], wide_answers[1][500])
    assert again.digest == wide_answers[0]
    snapshot = model.snapshot()
    wrong = {name: array.copy() for name, array in snapshot[0].items()}
    wrong["experts/columns/column"][0] = D
    with pytest.raises(CheckpointError, match="column"):
        wide_model().restore((wrong, snapshot[1]))


def test_the_columns_are_those_that_tell_the_classes(wide_answers: tuple[str, Any]) -> None:
    model = wide_model()
    model.step(X, Y)
    columns: Any = model.pool.columns  # type: ignore[attr-defined]
    given = columns._column[columns._column >= 0]
    assert len(given) == len(set(given.tolist())) == 64  # 50, 100, 200 and 400 labels of the rarer class
    assert len(set(given.tolist()) & set(range(100, 120))) >= 18
    assert (wide_answers[1].argmax(1) == Y)[600:].mean() > 0.75
    kinds = [expert.kind for expert in model.report().experts]
    assert kinds[:2] == ["adaptive-tree"] * 2
    assert kinds[-1] == "no-change"


def test_up_to_512_features_and_what_is_learnt_from_dicts_are_seen_whole() -> None:
    for model in (DriftMoE(Schema.numeric(512, ["no", "yes"])), DriftMoE()):
        if model._given["schema"] is None:
            model.learn_one({f"x{j}": 1.0 for j in range(513)}, "no")
        assert type(model.pool).__name__ == "ExpertPool"
    with pytest.raises(ConfigError, match="at most 512 features"):
        DriftMoE(WIDE, executor="processes", shards=1)
