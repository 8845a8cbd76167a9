"""The other kinds of experts against plain computations in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import linear_model, naive_bayes

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.foreign.river import RiverExpert
from stream_moe.experts.linear.averaged import LEAST_NOISE, AveragedSoftmax
from stream_moe.experts.linear.history import HistorySoftmax
from stream_moe.experts.linear.softmax import LIMIT, SoftmaxRegression
from stream_moe.experts.linear.target_encoding import TargetEncoding
from stream_moe.experts.naive_bayes import NaiveBayes
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.experts.no_change import NoChange
from stream_moe.types import Feature, Float32, Float64, Int32, Schema

MIXED = Schema(
    (Feature("a"), Feature("colour", ("red", "green", "blue")), *(Feature(f"n{j}") for j in range(10))),
    ("x", "y", "z"),
)


def mixed(n: int, missing: float = 0.1) -> tuple[Float32, Int32]:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n)
    x = rng.normal(y[:, None], np.linspace(0.5, 50, 12), (n, 12))
    x[:, 1] = np.where(rng.random(n) < 0.6, y, rng.integers(0, 3, n))
    x[:, 11] = 5.0
    x[rng.random(x.shape) < missing] = np.nan
    return x.astype(np.float32), y.astype(np.int32)


def learn(expert: Any, x: Float32, y: Int32) -> Float64:
    proba = np.empty((len(x), expert.n_classes))
    expert.step(x, y, np.ones(len(x)), proba)
    return proba


@pytest.mark.parametrize(("k", "window"), [(1, 1), (1, 50), (3, 170), (5, 10_000)])
def test_knn_is_brute_force_over_the_window(k: int, window: int) -> None:
    x, y = mixed(450)
    proba = learn(WindowKNN(MIXED, k=k, window=window), x, y)
    numeric, compared = np.arange(12) != 1, 0
    for t in range(2, 450):
        past, labels = x[max(0, t - window) : t].astype(float), y[max(0, t - window) : t]
        deviation = np.array(
            [np.std(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in x[:t].astype(float).T]
        )
        query = x[t].astype(float)
        gaps = np.zeros_like(past)
        used = ~np.isnan(query)
        varied = numeric & used & (deviation > 0)
        gaps[:, varied] = ((past - query)[:, varied] / deviation[varied]) ** 2
        if used[1]:
            gaps[:, 1] = past[:, 1] != query[1]
        gaps[:, varied] = np.where(np.isnan(past[:, varied]), 1.0, gaps[:, varied])
        distance = gaps.sum(1)
        nearest = np.lexsort((-np.arange(len(past)), distance.round(3)))[:k]
        if len(past) > k and np.diff(np.sort(distance))[k - 1] < 1e-2:
            continue  # a tie up to float32: either neighbour is right
        votes = np.bincount(labels[nearest], minlength=3) + 0.1
        assert proba[t] == pytest.approx(votes / votes.sum()), t
        compared += 1
    assert compared > 350


def test_knn_prefers_the_later_of_equally_near_rows() -> None:
    expert = WindowKNN(Schema.numeric(1, ["a", "b"]), k=1, window=300)
    x = np.ones((400, 1), np.float32)
    x[:2] = [[0], [2]]
    y = (np.arange(400) // 7 % 2).astype(np.int32)
    assert learn(expert, x, y)[3:].argmax(1).tolist() == y[2:-1].tolist()


def test_knn_forgets_what_left_the_window() -> None:
    expert = WindowKNN(Schema.numeric(1, ["old", "new"]), k=3, window=20)
    x = np.random.default_rng(1).random((60, 1), np.float32)
    proba = learn(expert, x, np.repeat(np.array([0, 1], np.int32), 30))
    assert proba[29].argmax() == 0
    assert proba[50:, 1] == pytest.approx(3.15 / 3.3)


def test_softmax_is_the_update_written_in_numpy() -> None:
    x, y = mixed(300)
    schema = MIXED
    proba = learn(SoftmaxRegression(schema, learning_rate=0.3, memory=0.99), x, y)
    weight, square, seen = np.zeros((15, 3)), np.zeros((15, 3)), np.zeros(3, bool)
    for t in range(300):
        past = x[:t].astype(float)
        inputs = np.zeros(15)
        inputs[0] = 1.0
        for j, value in enumerate(x[t].astype(float)):
            known = past[~np.isnan(past[:, j]), j] if t else past[:0, 0]
            if np.isnan(value):
                continue
            if j == 1:
                inputs[2 + int(value)] = 1.0
            elif len(known) and known.std() > 0:
                inputs[1 if j == 0 else j + 3] = np.clip((value - known.mean()) / known.std(), -LIMIT, LIMIT)
        if not seen.any():
            assert proba[t] == pytest.approx(1 / 3)
            seen[y[t]] = True
            continue
        scores = np.where(seen, inputs @ weight, -np.inf)
        p = np.exp(scores - scores.max())
        p /= p.sum()
        assert proba[t] == pytest.approx(p, rel=1e-6, abs=1e-9), t
        seen[y[t]] = True
        gradient = np.outer(inputs, np.where(seen, p - (np.arange(3) == y[t]), 0.0))
        active = (inputs != 0)[:, None] & seen
        square = np.where(active, 0.99 * square + gradient**2, square)
        weight -= 0.3 * gradient / np.sqrt(square + 1e-8)


def test_softmax_bears_a_wild_value() -> None:
    x, y = mixed(600, missing=0.0)
    calm, wild = SoftmaxRegression(MIXED), SoftmaxRegression(MIXED)
    learn(calm, x, y)
    x[300, 0] = 3e38
    proba = learn(wild, x, y)
    assert np.isfinite(proba).all()
    assert (proba.argmax(1) == y)[400:].mean() > 0.5


def test_no_change_takes_the_last_label_that_it_learnt() -> None:
    expert = NoChange(MIXED)
    y, weight = np.array([2, -1, 0, 1, 1], np.int32), np.array([1.0, 1.0, 0.0, 0.5, 1.0])
    proba = np.empty((5, 3))
    expert.step(np.zeros((5, 12), np.float32), y, weight, proba)
    assert proba[0] == pytest.approx(1 / 3)
    assert proba[1:].argmax(1).tolist() == [2, 2, 2, 1]
    assert proba[4] == pytest.approx([0.05, 0.9, 0.05])
    single = NoChange(Schema.numeric(1, ["only"]))
    assert learn(single, np.zeros((2, 1), np.float32), np.zeros(2, np.int32)).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("model", [naive_bayes.GaussianNB(), linear_model.SoftmaxRegression()])
def test_river_expert_is_the_river_model(model: Any) -> None:
    schema = Schema.numeric(3, ["x", "y", "z"])
    x, y = mixed(200, missing=0.0)
    x = np.ascontiguousarray(x[:, 2:5])
    proba = learn(RiverExpert(schema, model), x, y)
    alone = model.clone()
    for t in range(200):
        event = {f"x{j}": float(x[t, j]) for j in range(3)}
        found = alone.predict_proba_one(event)
        total = sum(found.values())
        for c, name in enumerate("xyz"):
            assert proba[t, c] == pytest.approx(found.get(name, 0) / total if total else 1 / 3)
        alone.learn_one(event, "xyz"[y[t]])
    assert not model.predict_proba_one({"x0": 0.0})  # the one given stays untouched


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: WindowKNN(MIXED, k=0), "k 0"),
        (lambda: WindowKNN(MIXED, k=5, window=4), "window 4"),
        (lambda: SoftmaxRegression(MIXED, learning_rate=0), "learning_rate 0"),
        (lambda: SoftmaxRegression(MIXED, memory=1.5), "memory 1.5"),
        (lambda: TargetEncoding(MIXED, features=0), "features 0"),
        (lambda: TargetEncoding(MIXED, memory=1.5), "memory 1.5"),
    ],
)
def test_a_wrong_parameter_is_named(make: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make()


def test_a_window_of_another_size_is_refused() -> None:
    x, y = mixed(100)
    large = WindowKNN(MIXED, window=80)
    learn(large, x, y)
    with pytest.raises(CheckpointError, match="at most 50 rows"):
        WindowKNN(MIXED, window=50).restore(large.snapshot())


def cities(n: int, ids: int) -> tuple[Float32, Int32, Schema]:
    """A nominal of 3,000 categories, each with its class, and an identifier of `ids` (0 = none) with none."""
    rng = np.random.default_rng(5)
    city = rng.integers(0, 3000, n)
    y = (city * 7919 % 3001 % 2).astype(np.int32)
    y[rng.random(n) < 0.1] ^= 1
    columns = [city] if ids == 0 else [city, np.arange(n) % ids]
    names = [Feature("city", tuple(map(str, range(3000)))), Feature("id", tuple(map(str, range(ids))))]
    return np.column_stack(columns).astype(np.float32), y, Schema(tuple(names[: len(columns)]), ("no", "yes"))


def test_value_rates_learn_a_nominal_of_thousands_whatever_identifiers_stand_beside_it() -> None:
    x, y, schema = cities(60_000, 0)
    alone = (learn(TargetEncoding(schema), x, y).argmax(1) == y)[30_000:].mean()
    x, y, schema = cities(60_000, 50_000)
    expert = TargetEncoding(schema)
    beside = (learn(expert, x, y).argmax(1) == y)[30_000:].mean()
    assert alone > 0.85  # of 0.9
    assert beside > alone - 0.01
    assert expert.memory_bytes == TargetEncoding(Schema.numeric(2, ["no", "yes"])).memory_bytes


def test_value_rates_that_nothing_can_be_learnt_from_are_uniform_in_the_end() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 20_000).astype(np.int32)
    proba = learn(TargetEncoding(Schema.numeric(1, ["no", "yes"])), np.arange(20_000, dtype=np.float32)[:, None], y)
    assert -np.log(proba[np.arange(20_000), y][10_000:]).mean() < np.log(2) + 0.01


def test_value_rates_see_what_a_value_meant_lately() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 20, (8000, 1)).astype(np.float32)
    y = (x[:, 0] % 2).astype(np.int32)
    y[4000:] ^= 1
    right = learn(TargetEncoding(Schema.numeric(1, ["no", "yes"])), x, y).argmax(1) == y
    assert right[2000:4000].mean() > 0.99
    assert right[4100:].mean() > 0.97


def test_value_rates_keep_what_they_know_when_many_classes_leave_fewer_rows() -> None:
    x = np.random.default_rng(1).integers(0, 50, (20_000, 1)).astype(np.float32)
    y = (x[:, 0] % 2).astype(np.int32)
    before = Schema(Schema.numeric(1, ["no"]).features, ("no", "yes"))
    after = Schema((*before.features, Feature("new")), tuple(map(str, range(300))))
    expert = TargetEncoding(before)
    kept = learn(expert, x, y).argmax(1)[10_000:]
    expert.grow(after)
    assert expert.memory_bytes < 2**26
    wider = np.column_stack([x[10_000:], np.full(10_000, np.nan, np.float32)])
    proba = np.empty((10_000, 300))
    expert.step(wider, np.full(10_000, -1, np.int32), np.zeros(10_000), proba)
    assert (proba.argmax(1) == kept).mean() > 0.9


@pytest.mark.parametrize("kind", [NaiveBayes, SoftmaxRegression, HistorySoftmax, TargetEncoding])
def test_an_identifier_of_many_categories_costs_bounded_memory_and_hides_nothing(kind: Any) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 20_000).astype(np.int32)
    colour = np.where(rng.random(20_000) < 0.9, y, 2)
    schema = Schema((Feature("colour", ("r", "g", "b")), Feature("id", tuple(map(str, range(20_000))))), ("n", "y"))
    expert = kind(schema)
    proba = learn(expert, np.column_stack([colour, np.arange(20_000)]).astype(np.float32), y)
    assert (proba.argmax(1) == y)[10_000:].mean() > 0.93  # of 0.95
    assert expert.memory_bytes < 2_000_000


def noisy(n: int, seed: int = 1) -> tuple[Float32, Int32, Int32]:
    """A linear border that turns round halfway, the label it gives, and the label with one in ten drawn wrong."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3)).astype(np.float32)
    true = ((x[:, 0] + x[:, 1] > 0.8) ^ (np.arange(n) >= n // 2)).astype(np.int32)
    return x, true, np.where(rng.random(n) < 0.1, 1 - true, true).astype(np.int32)


def test_averaged_softmax_finds_a_sharp_border_the_noise_and_the_change() -> None:
    x, true, y = noisy(40_000)
    schema = Schema.numeric(3, ["no", "yes"])
    expert, plain = AveragedSoftmax(schema), SoftmaxRegression(schema)
    wrong, wrong_plain = (learn(e, x, y).argmax(1) != true for e in (expert, plain))
    settled = slice(10_000, 20_000)
    assert wrong[settled].mean() < 0.005
    assert wrong_plain[settled].mean() > 0.015
    assert wrong[25_000:].mean() < 0.005  # though every label looked like noise at first
    assert expert._regression.noise[0] == pytest.approx(0.2, abs=0.05)  # a random label is right every second time
    assert 1 <= expert.drift_counts.drifts < 40
    clean = AveragedSoftmax(schema)
    learn(clean, x[:20_000], true[:20_000])
    assert clean._regression.noise[0] < 0.02 + LEAST_NOISE


def test_averaged_softmax_grows_without_forgetting() -> None:
    x, y = mixed(600)
    expert = AveragedSoftmax(MIXED)
    learn(expert, x, y)
    unlabelled = np.full(600, -1, np.int32)
    before = learn(expert, x, unlabelled)
    colours = Feature("colour", ("red", "green", "blue", "pink"))
    expert.grow(Schema((MIXED.features[0], colours, *MIXED.features[2:], Feature("late")), (*MIXED.classes, "new")))
    late = np.column_stack([x, np.full(600, np.nan)]).astype(np.float32)
    after = learn(expert, late, unlabelled)
    assert np.allclose(after[:, :3], before)
    assert (after[:, 3] == 0).all()
    learn(expert, late, np.full(600, 3, np.int32))
    assert (learn(expert, late, unlabelled).argmax(1) == 3).mean() > 0.5
    with pytest.raises(ConfigError, match="patience 0"):
        AveragedSoftmax(MIXED, patience=0)
