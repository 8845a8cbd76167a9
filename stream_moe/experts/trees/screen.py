"""Whether a leaf might split: gains to three decimals, in a fraction of the time that exact ones take.

Nearly every attempt ends in waiting, and then nothing depends on how large the gains were. So they are first
estimated without a library's logarithm or error function, in loops that the compiler can make into vectors. Only
where the estimates, give or take their error, leave a split possible are they computed exactly: the splits are the
same.
"""

from __future__ import annotations

import math

import numpy as np

from stream_moe.experts.trees.arrays import (
    HIGH,
    LANES,
    LOW,
    M2,
    MEAN,
    WEIGHT,
    N,
    Scratch,
    TreeArrays,
    TreeLayout,
)
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64

N_CANDIDATES = 10  # split points tried per numeric feature, as MOA
MIN_BRANCH_FRACTION = 0.01  # a split must put at least this share of the weight on two branches, as MOA

# How far an estimated gain may lie from the exact one, in bits, and a branch's share of the weight from its own.
# Logarithms err by 7e-7; shares of a normal law by 3e-7, which moves no gain of 1,000 classes by more than 6e-5.
GAIN_ERROR, SHARE_ERROR = 5e-4, 1e-6
# Parts of `Scratch.sides`, each of one number per split point: the weight on both sides, the sum of w log2(w) over
# the classes on both, and the split point. One flat array, or the compiler makes no vectors of the loop over it.
LEFT, RIGHT, LEFT_SUM, RIGHT_SUM, POINT = range(0, 5 * LANES, LANES)

_FAST = {"reassoc", "contract", "nsz", "arcp"}
_FURTHEST = 6.0  # deviations, times the root of 2, from the mean to where nothing is left of a normal law
_ROOT_HALF = int(np.float64(math.sqrt(0.5)).view(np.int64))


@compiled(_nrt=False, fastmath=_FAST)
def near_log2(x: float) -> float:
    """log2(x) to 7e-7, of a positive number; of 0, a finite number.

    x = 2^e (1 + t) with 1 + t in [0.7, 1.4], by its bits; log2(1 + t) / t by interpolation at Chebyshev's nodes.
    """
    bits = np.float64(x).view(np.int64)
    e = (bits - _ROOT_HALF) >> 52
    t = np.int64(bits - (e << 52)).view(np.float64) - 1.0
    p = -0.35952445546337963 + t * (0.2961195572222765 + t * (-0.2679638705146533 + t * 0.16818659110374828))
    return np.float64(e) + t * (1.4426965230465456 + t * (-0.7213601785760256 + t * (0.48061312547289897 + t * p)))


@compiled(_nrt=False, fastmath=_FAST)
def near_half_erfc(u: float) -> float:
    """erfc(u) / 2 to 3e-7: Abramowitz and Stegun, Handbook of mathematical functions (1964), 7.1.28."""
    a = abs(u)
    a = _FURTHEST if a > _FURTHEST else a
    p = 0.0001520143 + a * (0.0002765672 + a * 0.0000430638)
    p = 1.0 + a * (0.0705230784 + a * (0.0422820123 + a * (0.0092705272 + a * p)))
    p *= p
    p *= p
    p *= p
    half = 0.5 / (p * p)
    return half if u >= 0.0 else 1.0 - half


@compiled(_nrt=False, fastmath=_FAST)
def near_nominal(tree: TreeArrays, layout: TreeLayout, slot: int, j: int, before: float) -> tuple[float, float]:
    """Return between which two values the gain of nominal feature j lies; 0 where there is no split."""
    start, stop = layout.offset[j], layout.offset[j] + layout.cardinality[j]
    total, inside, heaviest, second = 0.0, 0.0, 0.0, 0.0
    for k in range(start, stop):
        weight = 0.0
        for c in range(tree.nominal.shape[3]):
            weight += tree.nominal[slot, WEIGHT, k, c]
        total += weight
        inside += weight * near_log2(weight)
        second = max(second, min(heaviest, weight))
        heaviest = max(heaviest, weight)
    if second <= (MIN_BRANCH_FRACTION - SHARE_ERROR) * total:
        return 0.0, 0.0  # so it is with most columns of a one-hot code
    for k in range(start, stop):
        for c in range(tree.nominal.shape[3]):
            part = tree.nominal[slot, WEIGHT, k, c]
            inside -= part * near_log2(part)
    gain = before - inside / total
    return gain - GAIN_ERROR if second > (MIN_BRANCH_FRACTION + SHARE_ERROR) * total else 0.0, gain + GAIN_ERROR


@compiled(_nrt=False)
def next_value(tree: TreeArrays, layout: TreeLayout, slot: int, j: int, above: float) -> float:
    """Return the next greater value of counted feature j that this leaf has seen; infinity = there is none."""
    found = np.inf
    for k in range(layout.offset[j], layout.offset[j] + layout.cardinality[j]):
        if layout.value[k] > above and layout.value[k] < found:
            for c in range(tree.mass.shape[1]):
                if tree.nominal[slot, WEIGHT, k, c] > 0.0:
                    found = layout.value[k]
    return found


@compiled(_nrt=False)
def count_sides(tree: TreeArrays, layout: TreeLayout, slot: int, j: int, threshold: float, scratch: Scratch) -> None:
    """Count each class's weight on both sides of a threshold on counted feature j."""
    left, right = scratch.left, scratch.right
    left[:], right[:] = 0.0, 0.0
    for k in range(layout.offset[j], layout.offset[j] + layout.cardinality[j]):
        if layout.value[k] <= threshold:
            for c in range(left.shape[0]):
                left[c] += tree.nominal[slot, WEIGHT, k, c]
        elif layout.value[k] > threshold:
            for c in range(right.shape[0]):
                right[c] += tree.nominal[slot, WEIGHT, k, c]


@compiled(_nrt=False, fastmath=_FAST)
def near_entropy(weights: Float64) -> tuple[float, float]:
    """Return the sum of the weights, and that times their entropy."""
    total, inside = 0.0, 0.0
    for c in range(weights.shape[0]):
        total += weights[c]
        inside -= weights[c] * near_log2(weights[c])
    return total, inside + total * near_log2(total)


@compiled(_nrt=False)
def near_counted(
    tree: TreeArrays, layout: TreeLayout, slot: int, j: int, before: float, scratch: Scratch
) -> tuple[float, float]:
    """Return between which two values the best gain of counted feature j lies; 0 where there is no split."""
    if layout.cardinality[j] == 2:
        return near_nominal(tree, layout, slot, j, before)  # one threshold: the two values are its sides
    least, most = 0.0, 0.0
    value = next_value(tree, layout, slot, j, -np.inf)
    while True:
        following = next_value(tree, layout, slot, j, value)
        if following == np.inf:
            return least, most
        count_sides(tree, layout, slot, j, value, scratch)
        left, inside_left = near_entropy(scratch.left)
        right, inside_right = near_entropy(scratch.right)
        total, smaller = left + right, min(left, right)
        gain = before - (inside_left + inside_right) / total
        if smaller > (MIN_BRANCH_FRACTION - SHARE_ERROR) * total:
            most = max(most, gain + GAIN_ERROR)
        if smaller > (MIN_BRANCH_FRACTION + SHARE_ERROR) * total:
            least = max(least, gain - GAIN_ERROR)
        value = following


@compiled(_nrt=False, fastmath=_FAST)
def add_class(sides: Float64, n: float, mean: float, inverse: float, low: float, high: float) -> None:
    """Add what a class of weight n has on both sides of each split point."""
    for k in range(LANES):
        point = sides[POINT + k]
        share = near_half_erfc((mean - point) * inverse)
        share = 0.0 if point < low else share
        share = 1.0 if point >= high else share
        left = share * n
        right = n - left
        sides[LEFT + k] += left
        sides[RIGHT + k] += right
        sides[LEFT_SUM + k] += left * near_log2(left)
        sides[RIGHT_SUM + k] += right * near_log2(right)


@compiled(_nrt=False)
def near_numeric(tree: TreeArrays, slot: int, j: int, before: float, sides: Float64) -> tuple[float, float]:
    """Return between which two values the best gain of numeric feature j lies; 0 where there is no split."""
    least, most, low, high = 0.0, 0.0, np.inf, -np.inf
    for c in range(tree.mass.shape[1]):
        if tree.numeric[slot, c, N, j] > 0.0:
            low = min(low, tree.numeric[slot, c, LOW, j])
            high = max(high, tree.numeric[slot, c, HIGH, j])
    if not high > low:
        return least, most
    for k in range(LANES):
        sides[POINT + k] = low + (high - low) * (k + 1.0) / (N_CANDIDATES + 1.0)
    sides[:POINT] = 0.0
    for c in range(tree.mass.shape[1]):
        stats, inverse = tree.numeric[slot, c], 0.0
        n, low, high = stats[N, j], stats[LOW, j], stats[HIGH, j]
        if n > 0.0:
            if high > low:
                variance = stats[M2, j] / (n - 1.0) if n > 1.0 else 0.0
                if not (1e-280 < variance < 1e280 and abs(stats[MEAN, j]) < 1e280):
                    return least, np.inf  # no normal law: exactly, then
                inverse = 1.0 / math.sqrt(2.0 * variance)
            add_class(sides, n, stats[MEAN, j], inverse, low, high)
    for k in range(N_CANDIDATES):
        left, right = sides[LEFT + k], sides[RIGHT + k]
        total, smaller = left + right, min(left, right)
        inside = left * near_log2(left) - sides[LEFT_SUM + k] + right * near_log2(right) - sides[RIGHT_SUM + k]
        gain = before - inside / total
        if smaller > (MIN_BRANCH_FRACTION - SHARE_ERROR) * total:
            most = max(most, gain + GAIN_ERROR)
        if smaller > (MIN_BRANCH_FRACTION + SHARE_ERROR) * total:
            least = max(least, gain - GAIN_ERROR)
    return least, most


@compiled(_nrt=False)
def may_win(tree: TreeArrays, layout: TreeLayout, slot: int, before: float, bound: float, scratch: Scratch) -> bool:
    """Whether the best gain might exceed the next best, or 0, by more than the bound."""
    if before + GAIN_ERROR <= bound:  # no gain exceeds the entropy of the classes
        return False
    best, first, second = 0.0, 0.0, 0.0
    for feature in range(layout.position.shape[0]):
        j = layout.position[feature]
        if layout.is_nominal[feature]:
            least, most = near_nominal(tree, layout, slot, j, before)
        elif layout.is_counted[feature]:
            least, most = near_counted(tree, layout, slot, j, before, scratch)
        else:
            least, most = near_numeric(tree, slot, j, before, scratch.sides)
        best = max(best, most)
        if least > first:
            first, second = least, first
        elif least > second:
            second = least
    return not best - second <= bound
