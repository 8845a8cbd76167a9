"""A forest of Hoeffding trees is those trees one by one."""

from __future__ import annotations

import numpy as np
import pytest

from stream_moe.experts.trees.forest import Forest
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


def same(some: list[HoeffdingTree], others: list[HoeffdingTree]) -> None:
    for a, b in zip(some, others, strict=True):
        for name, array in a.snapshot()[0].items():
            assert np.array_equal(array, b.snapshot()[0][name]), name


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [97, N])
def test_it_is_its_trees_one_by_one(threads: int, rows: int) -> None:
    together, alone = trees(), trees()
    forest, workers = Forest(together), WorkerThreads(threads)
    x, y, weight = events()
    proba, expected = np.empty((E, N, 3)), np.empty((E, N, 3))
    for start in range(0, N, rows):
        block = slice(start, start + rows)
        part = np.empty((E, len(x[block]), 3))
        forest.step(x[block], y[:, block], weight[:, block], part, workers)
        proba[:, block] = part
    for e, tree in enumerate(alone):
        tree.step(x, y[e], weight[e], expected[e])
    assert np.array_equal(proba, expected)
    same(together, alone)
    assert together[-1].n_nodes > 3 * together[0].n_nodes  # or nothing had to grow
    assert [a.memory_bytes for a in together] == [b.memory_bytes for b in alone]


def test_a_tree_that_grew_was_restored_or_stepped_alone_stays_in_it() -> None:
    together, alone = trees(), trees()
    forest, (x, y, weight) = Forest(together), events(WIDER)
    first, proba = x[:, :3].copy(), np.empty((E, N, 3))
    forest.step(first, y, weight, proba, WorkerThreads(1))
    for e, tree in enumerate(alone):
        tree.step(first, y[e], weight[e], proba[e])
    together[1].step(first, y[1], weight[1], proba[1])
    alone[1].step(first, y[1], weight[1], proba[1])
    together[2].restore(alone[3].snapshot())
    alone[2].restore(alone[3].snapshot())
    wider = np.empty((E, N, 4))
    for tree in (*together, *alone):
        tree.grow(WIDER)
    forest.step(x, y, weight, wider, WorkerThreads(2))
    expected = wider.copy()
    for e, tree in enumerate(alone):
        tree.step(x, y[e], weight[e], expected[e])
    assert np.array_equal(wider, expected)
    same(together, alone)


def test_it_holds_only_trees_that_are_alike() -> None:
    assert Forest.can_hold(trees())
    assert not Forest.can_hold([*trees(), HoeffdingTree(SCHEMA, delta=0.01)])
    assert not Forest.can_hold([*trees(), HoeffdingTree(WIDER, delta=0.05)])
