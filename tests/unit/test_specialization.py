"""The account of who does what, against plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stream_moe.models.specialization import HALVING, Specialization
from stream_moe.types import Float32, Float64, Int32, Int64

E, C = 4, 3


def case(n: int, seed: int = 1) -> tuple[Int64, Float32, Float64, Float32, Int32]:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(E), n).astype(np.float32)
    y = rng.integers(-1, C, n).astype(np.int32)
    right = (rng.random((n, E)) < [0.9, 0.5, 0.5, 0.1]).astype(np.float32)
    right[y < 0] = 0
    return weights.argmax(1), weights, (rng.random((E, n)) < 0.5).astype(float), right, y


def test_counts_are_counts() -> None:
    top, weights, chosen, right, y = case(1500)
    account = Specialization(E, C)
    account.update(top, weights, chosen, right, y)
    known, counts = y >= 0, account.counts
    assert counts.events[0] == known.sum()
    assert counts.routed.tolist() == np.bincount(top[known], minlength=E).tolist()
    assert counts.trained.tolist() == (chosen[:, known] > 0).sum(1).tolist()
    assert counts.right.tolist() == right[known].sum(0).tolist()
    table = np.zeros((E, C), int)
    np.add.at(table, (top[known], y[known]), 1)
    assert counts.by_class.tolist() == table.tolist()
    assert account.confidence == pytest.approx(weights[known].max(1).mean(), rel=1e-5)
    load = table.sum(1) / table.sum()
    assert account.load_entropy == pytest.approx(-(load * np.log(load)).sum() / math.log(E))
    joint = table / table.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    classes = joint.sum(0)
    n = table.sum()  # of all E x C cells none is empty; Miller (1955)
    removed = (joint * np.log(joint / independent)).sum() - (E - 1) * (C - 1) / (2 * n)
    information = removed / (-(classes * np.log(classes)).sum() + (C - 1) / (2 * n))
    assert account.class_information == pytest.approx(max(information, 0.0))


def test_a_router_that_knows_nothing_seems_to_know_little_after_few_events_either() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(50):
        account, n = Specialization(12, 10), 600
        top, y = rng.integers(0, 12, n), rng.integers(0, 10, n).astype(np.int32)
        account.update(top, np.ones((n, 12), np.float32), np.ones((12, n)), np.ones((n, 12), np.float32), y)
        found.append(account.class_information)
    assert np.mean(found) < 0.015  # from counts alone it would be 0.04


def test_overlap_is_jaccard_over_pairs() -> None:
    top, weights, chosen, right, y = case(1000)
    account = Specialization(E, C)
    account.update(top, weights, chosen, right, y)
    both = either = 0
    for row in right[y >= 0] > 0:
        for one in range(E):
            for other in range(one):
                both += row[one] and row[other]
                either += row[one] or row[other]
    assert account.overlap == pytest.approx(both / either)


def test_collapse_and_even_load_are_the_two_ends() -> None:
    _, weights, chosen, right, y = case(1000)
    collapsed, even = Specialization(E, C), Specialization(E, C)
    assert collapsed.load_entropy == collapsed.overlap == collapsed.confidence == collapsed.class_information == 0.0
    collapsed.update(np.full(1000, 2), weights, chosen, right, y)
    y = np.tile(np.array([0, 1, 2], np.int32), 400)[:1000]
    even.update(np.arange(1000) % E, weights, chosen, right, y)
    assert collapsed.load_entropy == 0.0
    assert collapsed.class_information == 0.0
    assert even.load_entropy == pytest.approx(1.0, abs=1e-3)


def test_recent_figures_forget() -> None:
    """After a few halvings only the new regime counts, while the totals remember all."""
    n = 4 * HALVING
    weights, chosen, y = np.full((n, E), 0.25, np.float32), np.ones((E, n)), np.zeros(n, np.int32)
    account, right = Specialization(E, C), np.ones((n, E), np.float32)
    account.update(np.zeros(n, np.int64), weights, chosen, right, y)
    assert account.overlap == 1.0
    account.update(np.arange(n) % E, weights, chosen, np.eye(E, dtype=np.float32)[np.arange(n) % E], y)
    assert account.overlap < 0.15
    assert account.load_entropy > 0.9
    assert account.counts.routed[0] == n + n // E
    assert account.counts.moving[0] == pytest.approx(0.25, abs=0.02)


def test_growth_keeps_the_counts() -> None:
    account = Specialization(E, C)
    account.update(*case(500))
    before = account.snapshot()[0]
    account.grow(E + 1, C + 2)
    for name, array in account.snapshot()[0].items():
        assert array.sum() == pytest.approx(before[name].sum()), name
    assert account.counts.by_class.shape == (E + 1, C + 2)
    account.update(np.array([E]), np.ones((1, E + 1), np.float32), np.ones((E + 1, 1)),
                   np.ones((1, E + 1), np.float32), np.array([C + 1], np.int32))  # fmt: skip
    assert account.counts.by_class[E, C + 1] == 1
