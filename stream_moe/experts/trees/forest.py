"""Several Hoeffding trees over one set of arrays, so that one compiled call steps them all.

A call of compiled code unwraps every array under the interpreter's lock, and threads that meet there send each other
to sleep. For the short runs between two steps of a router that would cost a quarter of the trees' own time.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

import numpy as np

from stream_moe.experts.trees.arrays import PENDING, TreeArrays, TreeLayout, new_scratch
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.experts.trees.kernel import step
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.threads import WorkerThreads, take_number
from stream_moe.types import Bool, Float32, Float64, Int32, Int64


class Forest:
    """E trees of one layout, each of which goes on working by itself.

    Parameters
    ----------
    trees
        Alike (`HoeffdingTree.is_like`). Their arrays become views of the forest's; a tree that has taken others since
        (it grew, or was restored) is taken in again at the next step.

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> trees = [HoeffdingTree(Schema.numeric(2, ["no", "yes"])) for _ in range(3)]
    >>> forest, rng = Forest(trees), np.random.default_rng(1)
    >>> x = rng.random((2000, 2), dtype=np.float32)
    >>> y = np.tile((x[:, 0] > 0.5).astype(np.int32), (3, 1))
    >>> proba = np.empty((3, 2000, 2))
    >>> forest.step(x, y, np.ones((3, 2000)), proba, WorkerThreads(2))
    >>> bool((proba.argmax(2) == y)[:, 1000:].mean() > 0.97)
    True
    """

    def __init__(self, trees: list[HoeffdingTree]) -> None:
        self._trees = trees  # the caller's own list, which may grow
        self._views: list[TreeArrays] = []

    @staticmethod
    def can_hold(experts: list[Any]) -> TypeGuard[list[HoeffdingTree]]:
        return all(isinstance(expert, HoeffdingTree) and expert.is_like(experts[0]) for expert in experts)

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64, workers: WorkerThreads) -> None:
        """Test then train, tree by tree; arrays as for `ExpertPool.step`."""
        y, weight = np.ascontiguousarray(y), np.ascontiguousarray(weight)
        done, waiting = np.zeros(len(self._trees), np.int64), np.ones(len(self._trees), np.bool_)
        while waiting.any():
            if [id(tree.arrays) for tree in self._trees] != [id(view) for view in self._views]:
                self._gather()
            number = np.zeros(1, np.int64)
            work = partial(
                step_trees, number, waiting, self._arrays, self._trees[0].layout, x, y, weight, done, proba
            )
            workers.each([work] * min(workers.threads, len(self._trees)))
            waiting = self._arrays.head[:, PENDING] >= 0  # of the rest, those that must grow first
            for e in waiting.nonzero()[0]:
                self._trees[e].make_room()

    def _gather(self) -> None:
        """Lay all trees out anew, with as much room for each as the largest has.

        Memory that a smaller tree never writes to is not taken from the system.
        """
        own = [tree.arrays for tree in self._trees]
        self._arrays = TreeArrays(
            *(
                np.zeros((len(own), max(len(a) for a in same), *same[0].shape[1:]), same[0].dtype)
                for same in zip(*own, strict=True)
            )
        )
        self._views = [TreeArrays(*(array[e] for array in self._arrays)) for e in range(len(own))]
        for tree, view in zip(self._trees, self._views, strict=True):
            tree.move_to(view)


@compiled
def step_trees(
    number: Int64,
    waiting: Bool,
    forest: TreeArrays,
    layout: TreeLayout,
    x: Float32,
    y: Int32,
    weight: Float64,
    done: Int64,
    proba: Float64,
) -> None:
    """Step tree after tree, from row `done[e]` on, by the numbers drawn from `number`, which all threads share."""
    scratch = new_scratch(layout, proba.shape[2])
    while True:
        e = take_number(number)
        if e >= len(waiting):
            return
        if waiting[e]:
            tree = TreeArrays(
                forest.feature[e], forest.threshold[e], forest.child[e], forest.default[e], forest.slot[e],
                forest.mass[e], forest.seen[e], forest.constant[e], forest.numeric[e], forest.nominal[e],
                forest.leaf[e], forest.head[e],
            )  # fmt: skip
            done[e] = step(tree, layout, x, y[e], weight[e], done[e], proba[e], scratch)
