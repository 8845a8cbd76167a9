"""The compiled Hoeffding tree: routing, leaf statistics, naive Bayes and split search over flat arrays.

A tree is a table of nodes and a table of leaf slots. Inner nodes own no statistics: when a leaf splits,
its slot passes to its first child. Everything here runs without the interpreter and without allocating,
so experts can run in threads.

Sources: Domingos and Hulten, Mining high-speed data streams (2000), the Hoeffding tree; Gama et al.,
Accurate decision trees for mining high-speed data streams (2003), naive Bayes in the leaves; Pfahringer
et al., Handling numeric attributes in Hoeffding trees (2008), Gaussian observers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stream_moe.experts.compiled import DONE
from stream_moe.experts.trees.arrays import (
    ADAPTIVE,
    BAYES_RIGHT,
    FOR_VALUES,
    HALF_PRECISION,
    HIGH,
    LAST_ATTEMPT,
    LOG_COUNT,
    LOG_NORM,
    LOW,
    M2,
    MAJORITY,
    MAJORITY_RIGHT,
    MEAN,
    NEEDED,
    PENDING,
    TOTAL,
    WEIGHT,
    N,
    Scratch,
    TreeArrays,
    TreeLayout,
)
from stream_moe.experts.trees.split import attempt_split
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32

ZERO_VARIANCE_PRECISION = 1e300  # density 1 at the mean, 0 elsewhere, without a branch in the inner loop
GROW = DONE + 1  # why `step` comes back
LOG_1P = np.log1p(np.arange(4096.0))  # most weights are whole and small: no logarithm per value learnt
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# No `nnan` and no `ninf`: minus infinity is how a class that a leaf never saw is excluded.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@compiled(_nrt=False)
def find_leaf(tree: TreeArrays, layout: TreeLayout, x: Float32, t: int) -> int:
    """Return the leaf that row t falls into."""
    node = 0
    while tree.feature[node] >= 0:
        value = x[t, tree.feature[node]]
        if layout.is_nominal[tree.feature[node]]:
            # A category that came after the split has no branch here.
            known = value >= 0.0 and value < tree.threshold[node]
            node = tree.child[node] + (np.int32(value) if known else tree.default[node])
        elif value <= tree.threshold[node]:
            node = tree.child[node]
        elif value > tree.threshold[node]:
            node = tree.child[node] + 1
        else:
            node = tree.child[node] + tree.default[node]
    return node


@compiled(_nrt=False)
def gather(layout: TreeLayout, x: Float32, t: int, scratch: Scratch) -> bool:
    """Write the values and places of row t; return whether nothing is missing."""
    value, place = scratch.value, scratch.place
    complete = True
    for j in range(value.shape[0]):
        value[j] = x[t, layout.numeric[j]]
        if math.isnan(value[j]):
            complete = False
    for j in range(layout.named):
        category = x[t, layout.nominal[j]]
        if category >= 0.0 and category < layout.cardinality[j]:
            place[j] = layout.offset[j] + np.int64(category)
        else:
            place[j], complete = -1, False
    for j in range(layout.named, place.shape[0]):
        start = layout.offset[j]
        place[j] = find_value(layout.value, start, start + layout.cardinality[j], x[t, layout.nominal[j]])
        if place[j] < 0:
            complete = False
    return complete


@compiled(_nrt=False)
def find_value(values: Float64, start: int, stop: int, value: float) -> int:
    """Return the place of a value from `start` on; -1 = it has none, or is missing.

    Without a branch for each: which value comes is what a processor cannot foretell.
    """
    found = start
    for k in range(start + 1, stop):
        found = k if values[k] == value else found
    return found if values[found] == value else -1


@compiled(_nrt=False)
def take_places(layout: TreeLayout, x: Float32, t: int, scratch: Scratch) -> bool:
    """Give each value of row t that is not counted yet a free place; False if one needs more room."""
    room = True
    for j in range(layout.named, scratch.place.shape[0]):
        value = x[t, layout.nominal[j]]
        scratch.full[j] = False
        if scratch.place[j] < 0 and not math.isnan(value):
            for k in range(layout.offset[j], layout.offset[j] + layout.cardinality[j]):
                if math.isnan(layout.value[k]):
                    layout.value[k], scratch.place[j] = value, k
                    break
            if scratch.place[j] < 0:
                scratch.full[j], room = True, False
    return room


@compiled(_nrt=False, fastmath=_FAST)
def bayes_scores(
    tree: TreeArrays, layout: TreeLayout, slot: int, scratch: Scratch, complete: bool, score: Float64, t: int
) -> bool:
    """Write log p(c) p(x | c) into `score[t]`; False if no class of this leaf has any density at x."""
    seen, constant, numeric, nominal = tree.seen, tree.constant, tree.numeric, tree.nominal
    offset, cardinality, value, place = layout.offset, layout.cardinality, scratch.value, scratch.place
    for c in range(score.shape[1]):
        if seen[slot, c] <= 0.0:
            score[t, c] = -np.inf
            continue
        s = constant[slot, c]
        if complete:
            for j in range(value.shape[0]):
                gap = value[j] - numeric[slot, c, MEAN, j]
                s -= gap * gap * numeric[slot, c, HALF_PRECISION, j]
        else:  # a missing value takes its share of the constant back out
            for j in range(value.shape[0]):
                if math.isnan(value[j]):
                    s -= numeric[slot, c, LOG_NORM, j]
                else:
                    gap = value[j] - numeric[slot, c, MEAN, j]
                    s -= gap * gap * numeric[slot, c, HALF_PRECISION, j]
            for j in range(place.shape[0]):
                if place[j] < 0:
                    s += math.log(nominal[slot, TOTAL, offset[j], c] + cardinality[j])
        score[t, c] = s
    start = 0
    if complete:  # four features in one pass over the classes
        start = place.shape[0] - place.shape[0] % 4
        for j in range(0, start, 4):
            k0, k1, k2, k3 = place[j], place[j + 1], place[j + 2], place[j + 3]
            for c in range(score.shape[1]):
                score[t, c] += (nominal[slot, LOG_COUNT, k0, c] + nominal[slot, LOG_COUNT, k1, c]) + (
                    nominal[slot, LOG_COUNT, k2, c] + nominal[slot, LOG_COUNT, k3, c]
                )
    for j in range(start, place.shape[0]):
        if place[j] >= 0:
            for c in range(score.shape[1]):
                score[t, c] += nominal[slot, LOG_COUNT, place[j], c]
    possible = False
    for c in range(score.shape[1]):
        if score[t, c] > -1e250:
            possible = True
    return possible


@compiled(_nrt=False, fastmath=_FAST)
def observe(tree: TreeArrays, layout: TreeLayout, slot: int, scratch: Scratch, y: int, weight: float) -> None:
    """Learn one event into the statistics of a leaf."""
    mass, seen, constant, numeric, nominal = tree.mass, tree.seen, tree.constant, tree.numeric, tree.nominal
    offset, cardinality, value, place = layout.offset, layout.cardinality, scratch.value, scratch.place
    mass[slot, y] += weight
    seen[slot, y] += weight
    total_constant = math.log(mass[slot, y])
    for j in range(value.shape[0]):
        if not math.isnan(value[j]):
            n = numeric[slot, y, N, j] + weight
            gap = value[j] - numeric[slot, y, MEAN, j]
            mean = numeric[slot, y, MEAN, j] + gap * weight / n
            m2 = numeric[slot, y, M2, j] + weight * gap * (value[j] - mean)
            numeric[slot, y, N, j] = n
            numeric[slot, y, MEAN, j] = mean
            numeric[slot, y, M2, j] = m2
            numeric[slot, y, LOW, j] = min(numeric[slot, y, LOW, j], value[j])
            numeric[slot, y, HIGH, j] = max(numeric[slot, y, HIGH, j], value[j])
            if n > 1.0 and m2 > 0.0:
                variance = m2 / (n - 1.0)
                numeric[slot, y, HALF_PRECISION, j] = 0.5 / variance
                numeric[slot, y, LOG_NORM, j] = -HALF_LOG_2PI - 0.5 * math.log(variance)
            else:
                numeric[slot, y, HALF_PRECISION, j] = ZERO_VARIANCE_PRECISION
        total_constant += numeric[slot, y, LOG_NORM, j]
    last, log_last = 0.0, 0.0
    for j in range(place.shape[0]):
        k = place[j]
        if k >= 0:
            nominal[slot, TOTAL, offset[j], y] += weight
            nominal[slot, WEIGHT, k, y] += weight
            count = nominal[slot, WEIGHT, k, y]
            whole = np.int64(count)
            known = whole == count and whole < len(LOG_1P)
            nominal[slot, LOG_COUNT, k, y] = LOG_1P[whole] if known else math.log(count + 1.0)
        total = nominal[slot, TOTAL, offset[j], y] + cardinality[j]
        if total != last:  # features of equal width without missing values share their logarithm
            last, log_last = total, math.log(total)
        total_constant -= log_last
    constant[slot, y] = total_constant


@compiled(_nrt=False, fastmath=_FAST)
def softmax_in_place(score: Float64, t: int, top: float) -> None:
    """score[t] = softmax(score[t]); `top` is its maximum."""
    total = 0.0
    for c in range(score.shape[1]):
        score[t, c] = math.exp(score[t, c] - top)
        total += score[t, c]
    for c in range(score.shape[1]):
        score[t, c] /= total


@compiled(_nrt=False)
def answer(
    tree: TreeArrays,
    layout: TreeLayout,
    slot: int,
    scratch: Scratch,
    complete: bool,
    learns: bool,
    proba: Float64,
    t: int,
) -> tuple[int, int]:
    """Write class probabilities of a leaf; return the majority class and the naive Bayes class (-1: not made)."""
    mass, leaf, prediction = tree.mass, tree.leaf, layout.prediction
    majority, bayes, total = 0, -1, 0.0
    for c in range(proba.shape[1]):
        total += mass[slot, c]
        if mass[slot, c] > mass[slot, majority]:
            majority = c
    by_majority = prediction == MAJORITY or (
        prediction == ADAPTIVE and leaf[slot, MAJORITY_RIGHT] > leaf[slot, BAYES_RIGHT]
    )
    if not by_majority or (learns and prediction == ADAPTIVE):
        if bayes_scores(tree, layout, slot, scratch, complete, proba, t):
            bayes = 0
            for c in range(1, proba.shape[1]):
                if proba[t, c] > proba[t, bayes]:
                    bayes = c
            if not by_majority:
                softmax_in_place(proba, t, proba[t, bayes])
                return majority, bayes
        elif not by_majority:
            bayes = majority
    for c in range(proba.shape[1]):
        proba[t, c] = mass[slot, c] / total if total > 0.0 else 1.0 / proba.shape[1]
    return majority, bayes


@compiled(_nrt=False)
def step_rows(
    tree: TreeArrays,
    layout: TreeLayout,
    x: Float32,
    y: Int32,
    weight: Float64,
    start: int,
    stop: int,
    proba: Float64,
    scratch: Scratch,
) -> int:
    """Test, then train, row by row from `start` to `stop`; return the first row not done.

    That is `stop`, or fewer where the tree must grow first, for a split or for values: make room, `resume`, and go on
    from there. The rest is as for `step`.
    """
    mass, leaf = tree.mass, tree.leaf
    for t in range(start, stop):
        node = find_leaf(tree, layout, x, t)
        slot = tree.slot[node]
        complete = gather(layout, x, t, scratch)
        learns = y[t] >= 0 and weight[t] > 0.0
        if tree.head[NEEDED] == FOR_VALUES:  # all but learning is done
            tree.head[NEEDED] = 0
        else:
            majority, bayes = answer(tree, layout, slot, scratch, complete, learns, proba, t)
            if not learns:
                continue
            if majority == y[t]:
                leaf[slot, MAJORITY_RIGHT] += weight[t]
            if bayes == y[t]:
                leaf[slot, BAYES_RIGHT] += weight[t]
        if not complete and not take_places(layout, x, t, scratch):
            tree.head[PENDING], tree.head[NEEDED] = node, FOR_VALUES
            return t
        observe(tree, layout, slot, scratch, y[t], weight[t])
        total, heaviest = 0.0, 0.0
        for c in range(proba.shape[1]):
            total += mass[slot, c]
            heaviest = max(heaviest, mass[slot, c])
        if total - leaf[slot, LAST_ATTEMPT] >= layout.grace_period:
            leaf[slot, LAST_ATTEMPT] = total
            if total > heaviest and not attempt_split(tree, layout, node, scratch):
                tree.head[PENDING] = node
                return t + 1
    return stop


@compiled
def resume(tree: TreeArrays, layout: TreeLayout, scratch: Scratch) -> bool:
    """Make the split that waited for room, if there is one; False if there still is no room."""
    if tree.head[NEEDED] == FOR_VALUES:
        tree.head[PENDING] = -1
    elif tree.head[PENDING] >= 0:
        if not attempt_split(tree, layout, tree.head[PENDING], scratch):
            return False
        tree.head[PENDING], tree.head[NEEDED] = -1, 0  # when the arrays grew is no state
    return True


@compiled(no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then train, row by row: the kernel of `CompiledExpert`; GROW where a split waits for room."""
    tree, layout, scratch, done = opened(state)
    if not again:
        done[0] = 0
    if resume(tree, layout, scratch):
        done[0] = step_rows(tree, layout, x, y, weight, done[0], x.shape[0], proba, scratch)
    return GROW if tree.head[PENDING] >= 0 else DONE
