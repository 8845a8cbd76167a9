"""Numeric columns of few values: counted exactly, and taken for normal once there are too many."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stream_moe.errors import CheckpointError
from stream_moe.experts.trees import screen, split
from stream_moe.experts.trees.adaptive import AdaptiveTree
from stream_moe.experts.trees.adaptive_kernel import FIRST
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.experts.trees.values import MOST_VALUES, Values, checked_values, joined, no_values, values_in
from stream_moe.snapshot import digest_of
from stream_moe.types import Feature, Float32, Float64, Int32, Schema

N = 6000


def stream(n: int = N, seed: int = 1) -> tuple[Float32, Int32]:
    """Columns of 2, 3 and 1 values and a smooth one, 5 % missing, and a concept that turns round."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    turned = np.where(np.arange(n) // 2000 % 2, 2 - y, y)
    x = np.column_stack(
        [
            np.where(rng.random(n) < 0.8, turned > 0, rng.random(n) < 0.5),
            np.where(rng.random(n) < 0.7, turned - 1, rng.integers(-1, 2, n)) / 2,
            np.full(n, 5.0),
            rng.normal(turned, 2.0),
        ]
    ).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    y[rng.random(n) < 0.1] = -1
    return x, y.astype(np.int32)


SCHEMA = Schema.numeric(4, ["a", "b", "c"])


def counted(x: Any, schema: Schema, **settings: Any) -> HoeffdingTree:
    return HoeffdingTree(schema, values=values_in(np.asarray(x, np.float32), schema.n_categories == 0), **settings)


def learn(tree: Any, x: Any, y: Any, rows: int = 10_000, weight: Float64 | None = None) -> Float64:
    x, y = np.asarray(x, np.float32), np.asarray(y, np.int32)
    weight, proba = np.ones(len(y)) if weight is None else weight, np.empty((len(y), tree.n_classes))
    for s in range(0, len(y), rows):
        tree.step(x[s : s + rows], y[s : s + rows], weight[s : s + rows], proba[s : s + rows])
    return proba


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_binary_numbers_give_what_nominal_features_of_two_categories_give(missing: float) -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, N).astype(np.int32)
    x = (rng.random((N, 9)) < 0.2 + 0.15 * y[:, None]).astype(np.float32)
    x[rng.random(x.shape) < missing] = np.nan
    classes = tuple("abcd")
    nominal = HoeffdingTree(Schema(tuple(Feature(f"x{j}", ("0", "1")) for j in range(9)), classes), delta=0.05)
    numbers = counted(x[:100], Schema.numeric(9, classes), delta=0.05)
    assert np.array_equal(learn(numbers, x, y), learn(nominal, x, y))
    assert nominal.n_splits > 1
    assert numbers.arrays.numeric.size == 0
    tree = numbers.arrays
    inner = tree.feature[: numbers.n_nodes] >= 0
    assert (tree.threshold[: numbers.n_nodes][inner] == 0.5).all()  # between the two values


def test_the_gain_of_a_threshold_between_counted_values_by_hand() -> None:
    table = np.array([[30, 4, 9, 1], [2, 25, 3, 14]])  # class by value
    values = np.array([2.0, -1.0, 7.0, 0.5])
    x, y = np.concatenate([np.repeat(values, row) for row in table]), np.repeat([0, 1], table.sum(1))
    tree = counted(values[:, None], Schema.numeric(1, ["no", "yes"]), grace_period=1e9)
    learn(tree, x[:, None], y)

    def entropy(counts: Any) -> float:
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log2(p)).sum())

    gains = {}
    for low, high in zip(np.sort(values), np.sort(values)[1:], strict=False):
        left, right = table[:, values <= low].sum(1), table[:, values > low].sum(1)
        after = (left.sum() * entropy(left) + right.sum() * entropy(right)) / table.sum()
        gains[(low + high) / 2] = entropy(table.sum(1)) - after
    best = max(gains, key=gains.__getitem__)
    before = split.entropy(tree.arrays.mass[0])
    found, at = split.counted_merit(tree.arrays, tree.layout, 0, 0, before, tree.scratch)
    assert (found, at) == (pytest.approx(gains[best], abs=1e-12), best)
    least, most = screen.near_counted(tree.arrays, tree.layout, 0, 0, before, tree.scratch)
    assert least <= found <= most <= least + 2.1 * screen.GAIN_ERROR


def test_too_many_values_become_the_moments_that_a_normal_law_would_have() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.integers(0, 3, (500, 2)).astype(np.float32), rng.normal(size=(300, 2)).astype(np.float32)
    many[:, 1] = rng.integers(0, 3, 300)  # this one stays
    x, y = np.concatenate([few, many]), rng.integers(0, 3, 800).astype(np.int32)
    schema = Schema.numeric(2, ["a", "b", "c"])
    weight = rng.poisson(6.0, 800).astype(np.float64)
    tree, normal = counted(few, schema, grace_period=1e9), HoeffdingTree(schema, grace_period=1e9)
    assert tree.values.width.tolist() == [MOST_VALUES, MOST_VALUES]
    found, expected = learn(tree, x, y, weight=weight), learn(normal, x, y, weight=weight)
    assert tree.values.width.tolist() == [0, MOST_VALUES]
    assert (
        tree.values.value[1, :3].tolist() == few[:, 1][np.sort(np.unique(few[:, 1], return_index=True)[1])].tolist()
    )
    assert tree.arrays.numeric[0, :, :, 0] == pytest.approx(normal.arrays.numeric[0, :, :, 0], rel=1e-9)
    assert tree.arrays.constant[0] != pytest.approx(normal.arrays.constant[0])  # the other is counted
    assert np.isfinite(found).all()
    assert found.shape == expected.shape


def test_a_value_is_no_evidence_until_it_is_learnt_and_predicting_takes_none_in() -> None:
    schema = Schema.numeric(1, ["no", "yes"])
    tree = counted([[0.0]], schema)
    learn(tree, np.zeros((20, 1)), np.arange(20) % 2)
    state = digest_of(tree.snapshot()), tree.values.value.tobytes()
    unknown = np.full(50, -1, np.int32)
    assert learn(tree, np.arange(50)[:, None], unknown)[1:] == pytest.approx(0.5)
    assert (digest_of(tree.snapshot()), tree.values.value.tobytes()) == state
    assert learn(tree, [[1.0], [1.0]], [1, 1])[:, 1] == pytest.approx([0.5, 22 / 33 / (22 / 33 + 10 / 22)], rel=0.2)
    assert tree.values.value[0, :2].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_blocks_and_checkpoints_change_nothing(rows: int) -> None:
    x, y = stream()
    x[3000:, 2] += np.arange(3000) // 400  # six values more: one too many, late
    whole, parts = AdaptiveTree(SCHEMA, share=1.0), AdaptiveTree(SCHEMA, share=1.0)
    expected = learn(whole, x, y)
    found = learn(parts, x[:4000], y[:4000], rows)
    arrays, plain = parts.snapshot()
    other = AdaptiveTree(SCHEMA, share=1.0)
    other.restore(({name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(plain))))
    for tree in (parts, other):
        assert np.array_equal(np.concatenate([found, learn(tree, x[4000:], y[4000:], rows)]), expected)
        assert digest_of(tree.snapshot()) == digest_of(whole.snapshot())
    assert whole._fore.tree.values.width.tolist() == [2, MOST_VALUES, 0, 0]
    assert whole.n_swaps > 0


def test_it_counts_from_the_first_hundred_events_on_and_they_are_not_lost() -> None:
    x, y = stream()
    tree = AdaptiveTree(SCHEMA, share=1.0)
    at = int(np.flatnonzero(y >= 0)[FIRST - 1])
    learn(tree, x[:at], y[:at])
    assert not tree._fore.tree.values.width.any()
    weight = tree._fore.tree.arrays.mass.sum()
    learn(tree, x[at : at + 1], y[at : at + 1])
    assert tree._fore.tree.values.width.tolist() == [2, MOST_VALUES, 2, 0]
    assert tree._fore.tree.arrays.mass.sum() > 0.8 * weight


def test_a_successor_planted_before_is_planted_anew_and_counts_too() -> None:
    x, y = stream(FIRST)
    y = np.abs(y)
    tree = AdaptiveTree(SCHEMA, share=1.0, group=1000)
    learn(tree, x[:-1], y[:-1])
    tree._back = tree._plant()
    tree._unbind()
    learn(tree, x[-1:], y[-1:])
    assert tree._fore.tree.values.width.tolist() == [2, MOST_VALUES, 2, 0]
    assert tree._back.tree.values.width.tolist() == [2, MOST_VALUES, 2, 0]
    assert tree._known.width.tolist() == [2, MOST_VALUES, 2, 0]


def test_smooth_columns_leave_a_tree_as_it_is() -> None:
    x = np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32)
    tree = AdaptiveTree(SCHEMA)
    learn(tree, x, (x[:, 0] > 0).astype(np.int32))
    arrays, _ = tree.snapshot()
    assert not {"fore/width", "fore/value", "known/width"} & arrays.keys()


def test_growth_keeps_what_is_counted() -> None:
    x, y = stream(2000)
    tree = AdaptiveTree(SCHEMA, share=1.0)
    learn(tree, x, y)
    unknown = np.full(len(y), -1, np.int32)
    before = learn(tree, x, unknown)
    wide = Schema((*SCHEMA.features, Feature("late"), Feature("kind", ("u", "v"))), (*SCHEMA.classes, "d"))
    tree.grow(wide)
    late = np.column_stack([x, np.full((len(x), 2), np.nan)]).astype(np.float32)
    after = learn(tree, late, unknown)
    assert after[:, :3] == pytest.approx(before, abs=1e-6)
    learn(tree, np.nan_to_num(late), y)
    width = dict(zip(tree._fore.columns.tolist(), tree._fore.tree.values.width.tolist(), strict=True))
    assert [width[j] for j in range(4)] == [2, MOST_VALUES, 2, 0]
    assert not any(width[j] for j in width if j >= 4)
    other = AdaptiveTree(wide, share=1.0)
    other.restore(tree.snapshot())
    assert digest_of(other.snapshot()) == digest_of(tree.snapshot())


def test_what_trees_have_seen_is_joined() -> None:
    known = values_in(np.array([[0, 1, 9], [1, 2, 9]], np.float32), np.ones(3, np.bool_))
    assert known.width.tolist() == [2, 2, 2]
    seen = Values(np.array([2, 4]), np.array([[9, 8, np.nan, np.nan], [1, 2, 3, np.nan]]))
    found = joined(known, seen, np.array([2, 1]))
    assert found.width.tolist() == [2, 4, 2]
    assert found.value[1, :3].tolist() == [1, 2, 3]
    assert found.value[2, :2].tolist() == [9, 8]
    gone = joined(found, no_values(1), np.array([1]))
    assert gone.width.tolist() == [2, 0, 2]
    assert np.isnan(gone.value[1]).all()
    for value in (7.0, 6.0):
        more = Values(np.array([2]), np.array([[9, value, np.nan, np.nan]]))
        found = joined(found, more, np.array([2]))
    assert found.width.tolist() == [2, 4, 0]  # 9, 8, 7 in places for two: trees will say themselves


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": np.array([2, 2, 2, 3])},
        {"width": np.array([2, 2, 2])},
        {"value": np.full((4, MOST_VALUES), 1.0)},
        {"value": np.array([[np.nan, 1.0, np.nan, np.nan]] * 4)},
        {"value": np.zeros((4, 2))},
    ],
)
def test_wrong_values_in_a_checkpoint_are_refused(wrong: dict[str, Any]) -> None:
    value = np.array([[0.0, 1.0, np.nan, np.nan]] * 4)
    right = {"width": np.full(4, 2), "value": value}
    assert checked_values(**right, numeric=np.ones(4, np.bool_)).width.sum() == 8
    with pytest.raises(CheckpointError, match=f"values|array '{next(iter(wrong))}' is"):
        checked_values(**(right | wrong), numeric=np.ones(4, np.bool_))
    with pytest.raises(CheckpointError, match="values"):
        checked_values(**right, numeric=np.array([True, True, True, False]))
