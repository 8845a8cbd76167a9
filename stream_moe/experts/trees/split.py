"""Where a leaf of a Hoeffding tree splits: information gain, the Hoeffding bound, and the split itself.

Sources: Domingos and Hulten, Mining high-speed data streams (2000); Pfahringer et al., Handling numeric
attributes in Hoeffding trees (2008), Gaussian observers.
"""

from __future__ import annotations

import math

import numpy as np

from stream_moe.experts.trees.arrays import (
    HIGH,
    LAST_ATTEMPT,
    LOW,
    M2,
    MEAN,
    NEEDED,
    NODES,
    SLOTS,
    SPLITS,
    TOTAL,
    WEIGHT,
    N,
    Scratch,
    TreeArrays,
    TreeLayout,
)
from stream_moe.experts.trees.screen import MIN_BRANCH_FRACTION, N_CANDIDATES, count_sides, may_win, next_value
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.copies import copy
from stream_moe.types import Float64


@compiled
def entropy(weights: Float64) -> float:
    total = 0.0
    plogp = 0.0
    for w in weights:
        if w > 0.0:
            total += w
            plogp += w * math.log2(w)
    return math.log2(total) - plogp / total if total > 0.0 else 0.0


@compiled
def left_weights(tree: TreeArrays, slot: int, j: int, threshold: float, left: Float64, right: Float64) -> None:
    """Estimate each class's weight on both sides of a threshold on numeric feature j."""
    for c in range(left.shape[0]):
        stats = tree.numeric[slot, c]
        n = stats[N, j]
        if n <= 0.0 or threshold < stats[LOW, j]:
            share = 0.0
        elif threshold >= stats[HIGH, j]:
            share = 1.0
        else:
            deviation = math.sqrt(2.0 * stats[M2, j] / (n - 1.0)) if n > 1.0 else 0.0
            if deviation > 0.0:
                share = 0.5 * math.erfc((stats[MEAN, j] - threshold) / deviation)
            else:
                share = 1.0 if stats[MEAN, j] <= threshold else 0.0
        left[c] = share * n
        right[c] = n - left[c]


@compiled
def numeric_merit(
    tree: TreeArrays, slot: int, j: int, before: float, left: Float64, right: Float64
) -> tuple[float, float]:
    """Return the best information gain of numeric feature j, and its threshold."""
    low, high = np.inf, -np.inf
    for c in range(left.shape[0]):
        if tree.numeric[slot, c, N, j] > 0.0:
            low = min(low, tree.numeric[slot, c, LOW, j])
            high = max(high, tree.numeric[slot, c, HIGH, j])
    best, at = -np.inf, 0.0
    if not high > low:
        return best, at
    for k in range(N_CANDIDATES):
        threshold = low + (high - low) * (k + 1.0) / (N_CANDIDATES + 1.0)
        left_weights(tree, slot, j, threshold, left, right)
        n_left, n_right = left.sum(), right.sum()
        total = n_left + n_right
        if min(n_left, n_right) <= MIN_BRANCH_FRACTION * total:
            continue
        merit = before - (n_left * entropy(left) + n_right * entropy(right)) / total
        if merit > best:
            best, at = merit, threshold
    return best, at


@compiled
def nominal_merit(tree: TreeArrays, layout: TreeLayout, slot: int, j: int, before: float, part: Float64) -> float:
    """Return the information gain of a multiway split on nominal feature j."""
    total, after, branches = 0.0, 0.0, 0
    start = layout.offset[j]
    for c in range(part.shape[0]):
        total += tree.nominal[slot, TOTAL, start, c]
    for k in range(start, start + layout.cardinality[j]):
        weight = 0.0
        for c in range(part.shape[0]):
            part[c] = tree.nominal[slot, WEIGHT, k, c]
            weight += part[c]
        after += weight * entropy(part)
        if weight > MIN_BRANCH_FRACTION * total:
            branches += 1
    return before - after / total if branches >= 2 else -np.inf


@compiled
def counted_merit(
    tree: TreeArrays, layout: TreeLayout, slot: int, j: int, before: float, scratch: Scratch
) -> tuple[float, float]:
    """Return the best information gain of a threshold between two values of counted feature j, and that threshold."""
    best, at = -np.inf, 0.0
    value = next_value(tree, layout, slot, j, -np.inf)
    while True:
        following = next_value(tree, layout, slot, j, value)
        if following == np.inf:
            return best, at
        threshold = 0.5 * (value + following)
        count_sides(tree, layout, slot, j, threshold, scratch)
        n_left, n_right = scratch.left.sum(), scratch.right.sum()
        total = n_left + n_right
        if min(n_left, n_right) > MIN_BRANCH_FRACTION * total:
            merit = before - (n_left * entropy(scratch.left) + n_right * entropy(scratch.right)) / total
            if merit > best:
                best, at = merit, threshold
        value = following


@compiled
def hoeffding_bound(count: Float64, layout: TreeLayout) -> float:
    """Return by how much a gain must exceed the next best, after these class weights."""
    classes = 2
    for c in range(count.shape[0]):
        if count[c] > 0.0:
            classes = max(classes, c + 1)
    merit_range = math.log2(classes)
    return math.sqrt(merit_range * merit_range * math.log(1.0 / layout.delta) / (2.0 * count.sum()))


@compiled
def best_split(tree: TreeArrays, layout: TreeLayout, slot: int, scratch: Scratch) -> tuple[int, float]:
    """Return the column and threshold to split on, column -1 where the Hoeffding bound says wait.

    Not splitting competes with merit 0. MOA gives it minus infinity, which differs only where fewer than two
    features have a positive gain: there MOA splits at the first attempt.
    """
    count, left, right = tree.mass[slot], scratch.left, scratch.right
    before, bound = entropy(count), hoeffding_bound(count, layout)
    tie = bound < layout.tie_threshold
    first, second, column, threshold = 0.0, 0.0, -1, 0.0
    if not tie and not may_win(tree, layout, slot, before, bound, scratch):
        return column, threshold
    for feature in range(layout.position.shape[0]):
        j, at = layout.position[feature], 0.0
        if layout.is_nominal[feature]:
            merit = nominal_merit(tree, layout, slot, j, before, left)
        elif layout.is_counted[feature]:
            merit, at = counted_merit(tree, layout, slot, j, before, scratch)
        else:
            merit, at = numeric_merit(tree, slot, j, before, left, right)
        if merit > first:
            first, second, column, threshold = merit, first, feature, at
        elif merit > second:
            second = merit
    if column >= 0 and (first - second > bound or tie):
        return column, threshold
    return -1, threshold


@compiled
def clear_slot(tree: TreeArrays, slot: int) -> None:
    tree.mass[slot] = 0.0
    tree.seen[slot] = 0.0
    tree.constant[slot] = 0.0
    tree.numeric[slot] = 0.0
    tree.numeric[slot, :, LOW] = np.inf
    tree.numeric[slot, :, HIGH] = -np.inf
    tree.nominal[slot] = 0.0
    tree.leaf[slot] = 0.0


@compiled
def attempt_split(tree: TreeArrays, layout: TreeLayout, node: int, scratch: Scratch) -> bool:
    """Split a leaf if the bound allows; False if it should but the arrays must grow first."""
    if tree.head[NODES] + 2 > layout.max_nodes or tree.head[SLOTS] + 1 > layout.max_slots:
        return True  # at the cap: the leaf goes on learning as it is
    slot, left, right = tree.slot[node], scratch.left, scratch.right
    column, threshold = best_split(tree, layout, slot, scratch)
    if column < 0:
        return True
    j = layout.position[column]
    width = layout.cardinality[j] if layout.is_nominal[column] else 2
    if tree.head[NODES] + width > layout.max_nodes or tree.head[SLOTS] + width - 1 > layout.max_slots:
        return True
    if tree.head[NODES] + width > tree.feature.shape[0] or tree.head[SLOTS] + width - 1 > tree.mass.shape[0]:
        tree.head[NEEDED] = width
        return False
    first_child = tree.head[NODES]
    tree.head[NODES] += width
    tree.head[SPLITS] += 1
    tree.feature[node] = column
    tree.threshold[node] = width if layout.is_nominal[column] else threshold
    tree.child[node], tree.slot[node] = first_child, -1
    heaviest, default = -1.0, 0
    for k in range(width - 1, -1, -1):  # the first child last: it takes the parent's slot, read until then
        if layout.is_nominal[column]:
            for c in range(left.shape[0]):
                left[c] = tree.nominal[slot, WEIGHT, layout.offset[j] + k, c]
        else:
            if layout.is_counted[column]:
                count_sides(tree, layout, slot, j, threshold, scratch)
            else:
                left_weights(tree, slot, j, threshold, left, right)
            if k == 1:
                copy(right, left)
        weight = left.sum()
        if weight >= heaviest:
            heaviest, default = weight, k
        target = slot
        if k > 0:
            target = tree.head[SLOTS]
            tree.head[SLOTS] += 1
        tree.feature[first_child + k], tree.slot[first_child + k] = -1, target
        clear_slot(tree, target)
        copy(left, tree.mass[target])
        tree.leaf[target, LAST_ATTEMPT] = weight
    tree.default[node] = default
    return True
