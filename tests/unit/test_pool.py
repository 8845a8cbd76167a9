"""A pool of experts is those experts one by one, however they are stepped."""

# ruff: noqa: TID251, S301 - experts are pickled on their way to processes; that they can be is tested here.

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from stream_moe.experts.base import Expert
from stream_moe.experts.compiled import kernel_of
from stream_moe.experts.naive_bayes import NaiveBayes
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.experts.no_change import NoChange
from stream_moe.experts.pool import ExpertPool
from stream_moe.experts.trees.adaptive import AdaptiveTree
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.types import Feature, Float32, Float64, Int32, Schema

SCHEMA = Schema((Feature("a"), Feature("b", ("x", "y", "z")), Feature("c")), ("no", "maybe", "yes"))
WIDER = Schema((*SCHEMA.features, Feature("d")), (*SCHEMA.classes, "never"))
N, E = 6000, 5


def trees() -> list[HoeffdingTree]:
    return [HoeffdingTree(SCHEMA, delta=0.05) for _ in range(E)]


def events(schema: Schema = SCHEMA) -> tuple[Float32, Int32, Float64]:
    """Rows, every tree's own labels (some unknown), and weights that make the trees differ in size."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, schema.n_features)).astype(np.float32)
    x[:, 1] = rng.integers(0, 3, N)
    label = (np.abs(x[:, 0] * 3).astype(int) + x[:, 1].astype(int)) % 3
    y = np.stack([np.where(rng.random(N) < 0.05, -1, (label + e) % 3) for e in range(E)]).astype(np.int32)
    return x, y, (rng.random((E, N)) < np.linspace(0.05, 1.0, E)[:, None]).astype(float)


def same(some: Sequence[Expert], others: Sequence[Expert]) -> None:
    for a, b in zip(some, others, strict=True):
        for name, array in a.snapshot()[0].items():
            assert np.array_equal(array, b.snapshot()[0][name]), name


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [97, N])
def test_it_is_its_trees_one_by_one(threads: int, rows: int) -> None:
    together, alone = trees(), trees()
    pool = ExpertPool(together, workers=WorkerThreads(threads))
    x, y, weight = events()
    proba, expected = np.empty((E, N, 3)), np.empty((E, N, 3))
    for start in range(0, N, rows):
        block = slice(start, start + rows)
        part = np.empty((E, len(x[block]), 3))
        pool.step(x[block], y[:, block], weight[:, block], out=part)
        proba[:, block] = part
    for e, tree in enumerate(alone):
        tree.step(x, y[e], weight[e], expected[e])
    assert np.array_equal(proba, expected)
    same(together, alone)
    assert together[-1].n_nodes > 3 * together[0].n_nodes  # or nothing had to grow
    assert [a.memory_bytes for a in together] == [b.memory_bytes for b in alone]


def test_a_tree_that_grew_was_restored_or_stepped_alone_is_found_where_it_is_now() -> None:
    together, alone = trees(), trees()
    pool, (x, y, weight) = ExpertPool(together), events(WIDER)
    first, proba = x[:, :3].copy(), np.empty((E, N, 3))
    pool.step(first, y, weight, out=proba)
    for e, tree in enumerate(alone):
        tree.step(first, y[e], weight[e], proba[e])
    together[1].step(first, y[1], weight[1], proba[1])
    alone[1].step(first, y[1], weight[1], proba[1])
    together[2].restore(alone[3].snapshot())
    alone[2].restore(alone[3].snapshot())
    wider = np.empty((E, N, 4))
    for tree in (*together, *alone):
        tree.grow(WIDER)
    pool.step(x, y, weight, out=wider)
    expected = wider.copy()
    for e, tree in enumerate(alone):
        tree.step(x, y[e], weight[e], expected[e])
    assert np.array_equal(wider, expected)
    same(together, alone)


class Halved(NoChange):
    """An expert whose step is in Python, though its parent's is compiled."""

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
        super().step(x, y, weight, proba)
        proba[:] = 0.5 * proba + 0.5 / self.n_classes


def mixed() -> list[Expert]:
    return [
        AdaptiveTree(SCHEMA, group=2, drift_delta=0.05, warning_delta=0.2), NaiveBayes(SCHEMA), NoChange(SCHEMA),
        Halved(SCHEMA), WindowKNN(SCHEMA, window=50), AdaptiveTree(SCHEMA, member=1),
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3])
def test_experts_of_many_kinds_each_step_the_rows_on_which_they_are_active(threads: int) -> None:
    together, alone = mixed(), mixed()
    pool, (x, y, weight) = ExpertPool(together, workers=WorkerThreads(threads)), events()
    y, weight = y[[0, 1, 2, 3, 4, 0]], weight[[4, 4, 4, 4, 4, 4]]
    y[:, N // 2 :] = np.where(y[:, N // 2 :] < 0, -1, (y[:, N // 2 :] + 1) % 3)  # a drift
    rng = np.random.default_rng(2)
    active = rng.random((6, N)) < np.array([1.0, 0.5, 0.0, 0.7, 0.3, 0.9])[:, None]
    found = np.concatenate(
        [pool.step(x[s : s + 501], y[:, s : s + 501], weight[:, s : s + 501], active[:, s : s + 501])
         for s in range(0, N, 501)], 1
    )  # fmt: skip
    for e, expert in enumerate(alone):
        rows = active[e].nonzero()[0]
        proba = np.empty((len(rows), 3))
        expert.step(x[rows], y[e, rows], weight[e, rows], proba)
        assert np.array_equal(found[e, rows], proba)
        assert np.isnan(found[e, ~active[e]]).all()
    same(together, alone)
    assert together[0].drift_counts.resets > 0  # or no swap came in the middle of a block


def test_an_override_of_a_step_is_heard_and_a_bound_stays_in_its_process() -> None:
    assert kernel_of(NoChange(SCHEMA)) is not None
    assert kernel_of(Halved(SCHEMA)) is None
    tree, other = HoeffdingTree(SCHEMA), HoeffdingTree(SCHEMA)
    x, y, weight = events()
    tree.step(x, y[0], weight[4], np.empty((N, 3)))
    with pytest.raises(TypeError, match="addresses of its process"):
        pickle.dumps(tree.bound)
    copied = pickle.loads(pickle.dumps(tree))
    for one in (tree, copied):
        one.step(x, y[1], weight[4], np.empty((N, 3)))
    same([tree], [copied])
    other.step(x, y[0], weight[4], np.empty((N, 3)))
    other.step(x, y[1], weight[4], np.empty((N, 3)))
    same([tree], [other])
