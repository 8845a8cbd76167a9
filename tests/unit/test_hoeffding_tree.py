"""The compiled tree against independent computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stream_moe.errors import ConfigError
from stream_moe.experts.naive_bayes import NaiveBayes
from stream_moe.experts.trees import arrays as tree_arrays
from stream_moe.experts.trees import split as kernel
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.types import Feature, Float32, Float64, Int32, Schema

MIXED = Schema((Feature("a"), Feature("colour", ("red", "green", "blue")), Feature("b")), ("no", "maybe", "yes"))


def mixed(n: int, seed: int = 1) -> tuple[Float32, Int32]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n).astype(np.int32)
    colour = np.where(rng.random(n) < 0.6, y, rng.integers(0, 3, n))
    return np.column_stack([rng.normal(y, 1.5), colour, rng.normal(-y, 3.0)]).astype(np.float32), y


def learn(tree: HoeffdingTree, x: Any, y: Any) -> Float64:
    proba = np.empty((len(x), tree.n_classes))
    tree.step(np.asarray(x, np.float32), np.asarray(y, np.int32), np.ones(len(x)), proba)
    return proba


def predict(tree: HoeffdingTree, x: Any) -> Float64:
    proba = np.empty((len(x), tree.n_classes))
    tree.step(np.asarray(x, np.float32), np.full(len(x), -1, np.int32), np.zeros(len(x)), proba)
    return proba


def bayes_by_hand(x: Float32, y: Int32, query: Float32) -> Float64:
    """Gaussian and Laplace-smoothed naive Bayes; NaN is no evidence."""
    scores = np.empty(3)
    for c in range(3):
        rows = x[y == c].astype(float)
        scores[c] = math.log(len(rows))
        for j, value in enumerate(query.astype(float)):
            column = rows[~np.isnan(rows[:, j]), j]
            if math.isnan(value):
                continue
            if j == 1:
                scores[c] += math.log((np.sum(column == value) + 1) / (len(column) + 3))
            else:
                variance = column.var(ddof=1)
                scores[c] += -0.5 * math.log(2 * math.pi * variance) - (value - column.mean()) ** 2 / (2 * variance)
    p = np.exp(scores - scores.max())
    return np.asarray(p / p.sum())


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_leaf_is_naive_bayes(missing: float) -> None:
    x, y = mixed(400)
    x[np.random.default_rng(2).random(x.shape) < missing] = np.nan
    tree = NaiveBayes(MIXED)
    learn(tree, x, y)
    query = np.concatenate([mixed(50, seed=3)[0], np.array([[np.nan, 1, 0], [1, np.nan, np.nan]], np.float32)])
    for row, found in zip(query, predict(tree, query), strict=True):
        assert found == pytest.approx(bayes_by_hand(x, y, row), rel=1e-9, abs=1e-12)


def entropy(counts: Any) -> float:
    p = np.array([c for c in counts if c > 0]) / sum(counts)
    return float(-(p * np.log2(p)).sum())


def test_gain_of_a_nominal_split_by_hand() -> None:
    schema = Schema((Feature("colour", ("red", "green", "blue")),), ("no", "yes"))
    tree = HoeffdingTree(schema, grace_period=1000)
    table = np.array([[20, 3, 5], [2, 30, 4]])  # class by colour
    x = np.concatenate([np.repeat(np.arange(3), row) for row in table])
    learn(tree, x[:, None], np.repeat([0, 1], table.sum(1)))
    before = kernel.entropy(tree.arrays.mass[0])
    assert before == pytest.approx(entropy(table.sum(1)))
    gain = kernel.nominal_merit(tree.arrays, tree.layout, 0, 0, before, np.empty(2))
    after = sum(table[:, k].sum() * entropy(table[:, k]) for k in range(3)) / table.sum()
    assert gain == pytest.approx(before - after, abs=1e-12)


def test_gain_of_a_numeric_split_by_hand() -> None:
    """Ten thresholds between the extremes; a class's share below one is its Gaussian's."""
    rng = np.random.default_rng(1)
    columns = [rng.normal(0, 1, 200), rng.normal(2, 0.5, 100)]
    tree = HoeffdingTree(Schema.numeric(1, ["no", "yes"]), grace_period=1000)
    x = np.concatenate(columns).astype(np.float32)
    learn(tree, x[:, None], np.repeat([0, 1], [200, 100]))
    classes = [x[:200].astype(float), x[200:].astype(float)]
    before, gains = entropy([200, 100]), {}
    for threshold in np.linspace(x.min(), x.max(), 12)[1:-1]:
        left = []
        for values in classes:
            if threshold < values.min():
                share = 0.0
            elif threshold >= values.max():
                share = 1.0
            else:
                share = 0.5 * (1 + math.erf((threshold - values.mean()) / (values.std(ddof=1) * math.sqrt(2))))
            left.append(share * len(values))
        right = [200 - left[0], 100 - left[1]]
        gains[threshold] = before - (sum(left) * entropy(left) + sum(right) * entropy(right)) / 300
    best = max(gains, key=gains.__getitem__)
    gain, at = kernel.numeric_merit(tree.arrays, 0, 0, before, np.empty(2), np.empty(2))
    assert gain == pytest.approx(gains[best], rel=1e-6)
    assert at == pytest.approx(best, rel=1e-6)


def test_it_splits_when_the_hoeffding_bound_allows_and_not_before() -> None:
    """Gain 1 against 0: the bound sqrt(ln(1/delta) / 2n) falls below 1 at n = 8.06 for delta = 1e-7."""
    schema = Schema((Feature("tell", ("0", "1")), Feature("noise", ("0", "1"))), ("no", "yes"))
    tree = HoeffdingTree(schema, grace_period=1, tie_threshold=0.0)
    x = np.array([[t % 2, (t // 2) % 2] for t in range(12)])
    for t in range(8):
        learn(tree, x[t : t + 1], x[t : t + 1, 0])
        assert tree.n_splits == 0
    learn(tree, x[8:], x[8:, 0])
    assert tree.n_splits == 1
    assert tree.arrays.feature[0] == 0
    assert predict(tree, [[0, 1], [1, 0]]).argmax(1).tolist() == [0, 1]


def checkerboard(n: int) -> tuple[Float32, Int32]:
    x = np.random.default_rng(1).random((n, 4), np.float32)
    return x, ((x[:, 0] * 5).astype(int) % 3).astype(np.int32)


@pytest.mark.parametrize("cap", [1, 5, 9])
def test_the_cap_on_nodes_holds(cap: int) -> None:
    x, y = checkerboard(6000)
    schema = Schema.numeric(4, ["0", "1", "2"])
    free, capped = HoeffdingTree(schema), HoeffdingTree(schema, max_nodes=cap)
    for tree in (free, capped):
        learn(tree, x, y)
    assert free.n_nodes > 9
    assert capped.n_nodes == cap
    assert predict(capped, x).sum(1) == pytest.approx(1)


def test_the_cap_on_memory_holds() -> None:
    x, y = checkerboard(6000)
    schema, cap = Schema.numeric(4, ["0", "1", "2"]), 6000
    tree = HoeffdingTree(schema, max_bytes=cap)
    learn(tree, x, y)
    leaves = sum(getattr(tree.arrays, name).nbytes for name in ("mass", "seen", "constant", "numeric", "nominal"))
    assert 1 < tree.n_nodes < 20
    assert leaves <= cap
    with pytest.raises(ConfigError, match="max_bytes 100"):
        HoeffdingTree(schema, max_bytes=100)


def test_a_missing_value_follows_the_heaviest_branch() -> None:
    rng = np.random.default_rng(1)
    x = np.where(rng.random(2000) < 0.8, 1.0, 0.0)
    tree = HoeffdingTree(Schema.numeric(1, ["no", "yes"]), leaf_prediction="majority")
    learn(tree, x[:, None], x)
    assert tree.n_splits == 1
    assert predict(tree, [[np.nan]]).argmax(1).tolist() == [1]
    assert np.array_equal(predict(tree, [[np.nan]]), predict(tree, [[1.0]]))


def test_a_category_that_comes_after_the_split_follows_the_heaviest_branch() -> None:
    """Its index must not be taken for a branch: the split has none for it."""
    before, after = (
        Schema((Feature("colour", names),), ("no", "yes"))
        for names in (("red", "green"), ("red", "green", "blue", "grey"))
    )
    x = np.where(np.random.default_rng(1).random(2000) < 0.7, 1, 0)
    tree = HoeffdingTree(before, leaf_prediction="majority")
    learn(tree, x[:, None], x)
    assert tree.n_nodes == 3
    tree.grow(after)
    heaviest = predict(tree, [[1]])
    for late in (2, 3):
        assert np.array_equal(predict(tree, [[late]]), heaviest)
    learn(tree, np.full((500, 1), 3), np.ones(500))
    assert tree.arrays.mass[: tree.arrays.head[tree_arrays.SLOTS]].sum() == pytest.approx(2500, rel=0.1)
    assert predict(tree, [[3]])[0, 1] > 0.99


def test_constant_features_never_split_and_never_break() -> None:
    y = np.random.default_rng(1).integers(0, 2, 3000)
    x = np.column_stack([np.full(3000, 5.0), np.zeros(3000)])
    tree = HoeffdingTree(
        Schema((Feature("five"), Feature("zero", ("only", "never"))), ("no", "yes")), leaf_prediction="naive-bayes"
    )
    proba = learn(tree, x, y)
    assert tree.n_splits == 0
    assert np.isfinite(proba).all()
    counts = np.bincount(y[:-1])
    expected = counts * (counts + 1) / (counts + 2)  # five has density 1, zero is smoothed over two categories
    assert proba[-1] == pytest.approx(expected / expected.sum(), rel=1e-9)
    assert np.isfinite(predict(tree, [[6.0, 1]])).all()


def test_an_unseen_class_gets_nothing_and_nothing_seen_is_uniform() -> None:
    tree = HoeffdingTree(MIXED)
    assert predict(tree, [[0, 0, 0]])[0] == pytest.approx(1 / 3)
    x, y = mixed(200)
    learn(tree, x[y < 2], y[y < 2])
    assert (predict(tree, x)[:, 2] == 0).all()


def test_weight_two_equals_twice_the_event_in_the_counts() -> None:
    x, y = mixed(100)
    heavy, twice = (HoeffdingTree(MIXED, grace_period=1000) for _ in range(2))
    proba = np.empty((100, 3))
    heavy.step(x, y, np.full(100, 2.0), proba)
    learn(twice, np.repeat(x, 2, 0), np.repeat(y, 2))
    for name in ("mass", "seen", "numeric", "nominal"):
        assert getattr(heavy.arrays, name) == pytest.approx(getattr(twice.arrays, name)), name


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"delta": 0.0}, "delta 0.0"),
        ({"grace_period": 0}, "grace_period 0"),
        ({"tie_threshold": -1}, "tie_threshold -1"),
        ({"leaf_prediction": "bayes"}, r"'bayes'.*adaptive"),
        ({"max_nodes": 0}, "max_nodes 0"),
    ],
)
def test_a_wrong_parameter_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        HoeffdingTree(MIXED, **wrong)
