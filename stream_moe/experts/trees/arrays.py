"""How a Hoeffding tree is laid out in arrays, and the names of their rows and columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Bool, Float64, Int32, Int64

# Rows of `TreeArrays.numeric`: per slot, class and numeric feature.
N, MEAN, M2, LOW, HIGH, HALF_PRECISION, LOG_NORM = range(7)
# Rows of `TreeArrays.nominal`: observed weight of a category; log(weight + 1), kept so that predicting needs no
# logarithm; and, at the place of a feature's first category, the weight over all of them.
WEIGHT, LOG_COUNT, TOTAL = range(3)
# Columns of `TreeArrays.leaf`.
MAJORITY_RIGHT, BAYES_RIGHT, LAST_ATTEMPT = range(3)
# Entries of `TreeArrays.head`.
NODES, SLOTS, SPLITS, PENDING, NEEDED = range(5)
FOR_VALUES = -1  # in NEEDED: the pending leaf has predicted its row, and needs places for values to learn it
LANES = 12  # split points of a numeric feature in one loop: whole vectors; the last two are not used
# What a leaf answers with.
MAJORITY, BAYES, ADAPTIVE = range(3)


class TreeArrays(NamedTuple):
    """One tree: M nodes, S leaf slots, C classes, dn numeric features, V categories over all nominal ones."""

    feature: Int32  # [M] column split on, -1 = leaf
    threshold: Float64  # [M] numeric split: left is x <= threshold; nominal split: number of branches
    child: Int32  # [M] index of the first child; children are consecutive
    default: Int32  # [M] offset of the heaviest child, taken where the value is missing or has no branch
    slot: Int32  # [M] leaf slot, -1 = inner node
    mass: Float64  # [S, C] class weight, with what the split that made the leaf handed down
    seen: Float64  # [S, C] class weight learnt in this leaf itself
    constant: Float64  # [S, C] the part of the naive Bayes log score that no feature value enters
    numeric: Float64  # [S, C, 7, dn]
    nominal: Float64  # [S, 3, V, C]
    leaf: Float64  # [S, 3]
    head: Int64  # [5]


class TreeLayout(NamedTuple):
    """Which columns are of which kind, and the tree's parameters.

    A numeric column that has shown few values is counted: its values have places among the categories of V.
    """

    numeric: Int64  # [dn] columns under a normal law
    nominal: Int64  # [dm] columns of categories, then numeric ones that are counted
    named: int  # how many of those have categories
    offset: Int64  # [dm] where a nominal feature's categories, or a counted one's values, start in V
    cardinality: Int64  # [dm]
    value: Float64  # [V] what is counted there, NaN = free, which compiled code fills; 0 = a category
    position: Int64  # [d] index of a column within `numeric` or `nominal`
    is_nominal: Int64  # [d] 0 or 1
    is_counted: Int64  # [d] 0 or 1
    grace_period: float
    delta: float
    tie_threshold: float
    prediction: int
    max_nodes: int
    max_slots: int


class Scratch(NamedTuple):
    """Work space of one thread in trees of one layout."""

    left: Float64  # [C] class weight on one side of a split
    right: Float64  # [C] and on the other
    sides: Float64  # [5 LANES] the same at all split points of a numeric feature (`stream_moe.experts.trees.screen`)
    value: Float64  # [dn] numeric values of the row
    place: Int64  # [dm] where its nominal values stand in V, -1 = missing, or not counted yet
    full: Bool  # [dm] a counted feature without a place for its value


@compiled
def new_scratch(layout: TreeLayout, n_classes: int) -> Scratch:
    """Allocate the work space."""
    numeric, nominal = layout.numeric.shape[0], layout.nominal.shape[0]
    left, right, sides = np.empty(n_classes), np.empty(n_classes), np.empty(5 * LANES)
    return Scratch(left, right, sides, np.empty(numeric), np.empty(nominal, np.int64), np.zeros(nominal, np.bool_))
