"""Estimated gains lie as near the exact ones as they say, so that no split is missed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_moe.experts.trees import screen, split
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.types import Feature, Schema


def test_logarithms_and_shares_err_by_no_more_than_they_say() -> None:
    rng = np.random.default_rng(1)
    numbers = np.concatenate([np.exp(rng.uniform(-50, 40, 20_000)), np.arange(1.0, 5000.0), [0.5, math.sqrt(0.5)]])
    assert max(abs(screen.near_log2(x) - math.log2(x)) for x in numbers) < 7e-7
    assert 0.0 * screen.near_log2(0.0) == 0.0
    points = np.concatenate([rng.uniform(-7, 7, 20_000), [0.0, 1e9, -1e9]])
    assert max(abs(screen.near_half_erfc(u) - 0.5 * math.erfc(u)) for u in points) < 3e-7


def a_leaf(seed: int, n: int, classes: int, weights: bool) -> HoeffdingTree:
    """One leaf over columns of all sorts: smooth, skewed, constant, of few values, huge, tiny, missing, nominal."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n).astype(np.int32) if seed % 3 else (rng.random(n) < 0.03).astype(np.int32)
    columns = [
        rng.normal(y, 1.0),
        rng.exponential(1.0 + 50.0 * (y > 0)),
        np.full(n, 7.0),
        rng.integers(0, 2, n) + (y == 1),
        1e30 * rng.normal(y, 0.01),
        1e-30 * rng.normal(0.2 * y, 1.0),
        np.where(rng.random(n) < 0.6, np.nan, y + rng.normal(0, 0.2, n)),
        1e6 + 1e-3 * rng.random(n),
        rng.integers(0, 3, n),
        np.where(rng.random(n) < 0.5, y % 4, 3),
    ]
    schema = Schema(
        (
            *(Feature(f"x{j}") for j in range(8)),
            Feature("colour", ("red", "green", "blue")),
            Feature("shape", tuple("abcd")),
        ),
        tuple(map(str, range(classes))),
    )
    tree = HoeffdingTree(schema, grace_period=math.inf)
    weight = rng.poisson(6.0, n) * (rng.random(n) if weights else 1.0)
    tree.step(np.column_stack(columns).astype(np.float32), y, weight.astype(np.float64), np.empty((n, classes)))
    return tree


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000), n=st.integers(2, 400), classes=st.sampled_from([2, 3, 7, 20]), weights=st.booleans()
)
def test_the_exact_gain_lies_between_the_estimates(seed: int, n: int, classes: int, weights: bool) -> None:
    tree = a_leaf(seed, n, classes, weights)
    arrays, layout, scratch = tree.arrays, tree.layout, tree.scratch
    before, gains = split.entropy(arrays.mass[0]), []
    for feature in range(10):
        j = layout.position[feature]
        if layout.is_nominal[feature]:
            gain = split.nominal_merit(arrays, layout, 0, j, before, scratch.left)
            least, most = screen.near_nominal(arrays, layout, 0, j, before)
        else:
            gain, _ = split.numeric_merit(arrays, 0, j, before, scratch.left, scratch.right)
            least, most = screen.near_numeric(arrays, 0, j, before, scratch.sides)
        gains.append(max(gain, 0.0))
        assert least <= gains[-1] <= most, feature
        assert most - least <= 2.1 * screen.GAIN_ERROR or least == 0.0 or most == math.inf, feature
    second, first = sorted(gains)[-2:]
    for bound in (first - second - 1e-9, 0.9 * (first - second)):
        assert screen.may_win(arrays, layout, 0, before, bound, scratch)
    if np.isfinite([screen.near_numeric(arrays, 0, j, before, scratch.sides)[1] for j in range(8)]).all():
        assert not screen.may_win(arrays, layout, 0, before, first - second + 3 * screen.GAIN_ERROR, scratch)


@pytest.mark.parametrize("classes", [2, 1000])
def test_no_split_is_possible_below_the_entropy_of_the_classes(classes: int) -> None:
    tree = a_leaf(2, 300, classes, False)
    before = split.entropy(tree.arrays.mass[0])
    assert not screen.may_win(tree.arrays, tree.layout, 0, before, before + 0.01, tree.scratch)
