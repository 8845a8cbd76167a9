"""An adaptive tree with linear leaves, over what the base expert leaves.

As in FIMT-DD (Ikonomovska et al. 2011) a leaf predicts by a linear model and splits where that lowers the error;
unlike there its model is robust recursive least squares in scaled units, which cannot diverge. A split is judged by
an F test of two lines against one in the split's own column, over 16 bins, so it also finds a bend that two means
would not see. ADWIN watches the tree's standardised error: a warning begins a second tree, a drift puts it in the
place of the first.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.drift.adwin import DRIFT, STABLE, DriftMonitor, WindowArrays, take_group
from stream_moe.errors import CheckpointError
from stream_moe.experts.numbers.base import NumberExpert, View, width_of
from stream_moe.experts.numbers.distribution import pull
from stream_moe.experts.numbers.linear import learn_row
from stream_moe.experts.numbers.rows import EPOCHS, LATEST, UNIT
from stream_moe.ranges import COUNT, index
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.draws import uniform
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Bool, Float64, Int64

BINS, MOST_LEAVES = 16, 32
GRACE, LEAST_IN_HALF = 100, 20.0  # labels between two looks at a leaf; of weight on each side of a split
F_LIMIT = 14.0  # of (2, n - 4) degrees of freedom: chance passes it in about one of a million tries
INPUT_LIMIT, EDGE = 6.0, 3.0  # columns are cut there; bins of the root go so far
MEMORY, LEAF_RATE, SLOW_RATE = 1.0 - 1.0 / 2000.0, 0.005, 0.0005
DELTA, WARNING_DELTA, GROUP = 0.002, 0.02, 32
GIVEN_UP = 2000  # labels after which a second tree goes whose warning came to nothing
COUNT_, X, XX, R, RR, XR = range(6)  # weighted sums of a bin; r is the leaf's error
MAIN, SECOND, DRIFTS, LABELS, EPOCH = range(5)


class Trees(NamedTuple):
    """Two trees: the one that answers, and the one that may come after it."""

    column: Int64  # [2, N] of a split, -1 = a leaf
    threshold: Float64  # [2, N]
    child: Int64  # [2, N, 2]
    leaf: Int64  # [2, N] its place among the leaves
    used: Int64  # [2, 2] nodes, leaves
    weights: Float64  # [2, L, m] of the leaves' linear models
    inverse: Float64  # [2, L, m, m]
    square: Float64  # [2, L] squared scale of the error
    labels: Int64  # [2, L] since the leaf began
    bins: Float64  # [2, L, m, BINS, 6]
    low: Float64  # [2, L, m] the stretch that its bins cover
    high: Float64  # [2, L, m]
    counts: Int64  # [5] which tree answers, whether there is a second, drifts, labels, epoch
    slow: Float64  # [1] mean absolute error, in units


@compiled
def plant(trees: Trees, i: int) -> None:
    """Begin tree i anew."""
    trees.column[i, 0], trees.leaf[i, 0], trees.used[i, 0], trees.used[i, 1] = -1, 0, 1, 1
    trees.weights[i, 0], trees.inverse[i, 0], trees.bins[i, 0] = 0.0, 0.0, 0.0
    for j in range(trees.weights.shape[2]):
        trees.inverse[i, 0, j, j] = 1.0
    trees.square[i, 0], trees.labels[i, 0], trees.low[i, 0], trees.high[i, 0] = 1.0, 0, -EDGE, EDGE


@compiled
def node_of(trees: Trees, i: int, h: Float64) -> int:
    """Return the leaf's node of a row."""
    node = 0
    while trees.column[i, node] >= 0:
        node = trees.child[i, node, 0 if h[trees.column[i, node]] <= trees.threshold[i, node] else 1]
    return node


@compiled
def left_over(n: float, x: float, xx: float, r: float, rr: float, xr: float) -> float:
    """Sum of squares that a line through weighted points leaves."""
    if n <= 0.0:
        return 0.0
    found, spread = rr - r * r / n, xx - x * x / n
    if spread > 1e-9 * n:
        found -= (xr - x * r / n) ** 2 / spread
    return max(found, 0.0)


@compiled
def best_split(bins: Float64, open_columns: Bool) -> tuple[float, int, int]:
    """Return F of the best split of a leaf, its column, and the last bin on its left."""
    best, column, last = 0.0, -1, 0
    for j in range(1, bins.shape[0]):
        if not open_columns[j]:
            continue
        n, x, xx, r, rr, xr = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for b in range(BINS):
            s = bins[j, b]
            n, x, xx, r, rr, xr = n + s[COUNT_], x + s[X], xx + s[XX], r + s[R], rr + s[RR], xr + s[XR]
        one = left_over(n, x, xx, r, rr, xr)
        n0, x0, xx0, r0, rr0, xr0 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for b in range(BINS - 1):
            s = bins[j, b]
            n0, x0, xx0 = n0 + s[COUNT_], x0 + s[X], xx0 + s[XX]
            r0, rr0, xr0 = r0 + s[R], rr0 + s[RR], xr0 + s[XR]
            if n0 < LEAST_IN_HALF or n - n0 < LEAST_IN_HALF:
                continue
            two = left_over(n0, x0, xx0, r0, rr0, xr0)
            two += left_over(n - n0, x - x0, xx - xx0, r - r0, rr - rr0, xr - xr0)
            f = 0.5 * (one - two) / ((two + 1e-12) / (n - 4.0))
            if f > best:
                best, column, last = f, j, b
    return best, column, last


@compiled
def split(trees: Trees, i: int, node: int, column: int, last: int) -> None:
    """Make a leaf a split whose halves both begin with its linear model."""
    leaf = trees.leaf[i, node]
    other = trees.used[i, 1]
    low, high = trees.low[i, leaf, column], trees.high[i, leaf, column]
    at = low + (last + 1) * (high - low) / BINS
    trees.column[i, node], trees.threshold[i, node] = column, at
    for side in range(2):
        new = trees.used[i, 0] + side
        trees.child[i, node, side], trees.column[i, new] = new, -1
        trees.leaf[i, new] = leaf if side == 0 else other
    trees.used[i, 0] += 2
    trees.used[i, 1] += 1
    trees.inverse[i, leaf] *= 3.0
    for part in (trees.weights, trees.low, trees.high):
        part[i, other] = part[i, leaf]
    trees.inverse[i, other], trees.square[i, other] = trees.inverse[i, leaf], trees.square[i, leaf]
    trees.high[i, leaf, column], trees.low[i, other, column] = at, at
    for each in (leaf, other):
        trees.labels[i, each], trees.bins[i, each] = 0, 0.0


@compiled
def expected_by(trees: Trees, i: int, node: int, h: Float64) -> float:
    leaf = trees.leaf[i, node]
    found = 0.0
    for j in range(h.shape[0]):
        found += trees.weights[i, leaf, j] * h[j]
    return found


@compiled
def learn_tree(
    trees: Trees, i: int, h: Float64, target: float, weight: float, open_columns: Bool, gain: Float64
) -> None:
    """Learn a row in tree i."""
    node = node_of(trees, i, h)
    leaf = trees.leaf[i, node]
    error = target - expected_by(trees, i, node, h)
    trees.labels[i, leaf] += 1
    n, square = trees.labels[i, leaf], trees.square[i, leaf]
    scale = math.sqrt(square)
    cut = min(max(error, -4.0 * scale), 4.0 * scale)
    capped = min(pull(error, square) * error * error, 1e9)
    trees.square[i, leaf] = max(square + max(1.0 / (n + 3), LEAF_RATE) * (capped - square), 1e-9)
    if n > 10:
        for j in range(1, h.shape[0]):
            if open_columns[j]:
                low, high = trees.low[i, leaf, j], trees.high[i, leaf, j]
                b = int(min(max((h[j] - low) / (high - low) * BINS, 0.0), BINS - 1.0))
                s, x = trees.bins[i, leaf, j, b], h[j]
                s[COUNT_] += weight
                s[X] += weight * x
                s[XX] += weight * x * x
                s[R] += weight * cut
                s[RR] += weight * cut * cut
                s[XR] += weight * x * cut
    steady = weight * min(1.0, 3.0 * scale / max(abs(error), 1e-300))
    learn_row(trees.weights[i, leaf], trees.inverse[i, leaf], h, gain, error, max(steady, 1e-9), MEMORY, 1.0, n)
    if n % GRACE == 0 and trees.used[i, 1] < MOST_LEAVES:
        f, column, last = best_split(trees.bins[i, leaf], open_columns)
        if f > F_LIMIT:
            split(trees, i, node, column, last)


@compiled
def watch_error(trees: Trees, windows: WindowArrays, error: float) -> None:
    """Take the answering tree's error: a warning begins a second tree, a drift puts it in the first one's place."""
    counts = trees.counts
    slow = trees.slow[0]
    trees.slow[0] = slow + max(1.0 / (counts[LABELS] + 1), SLOW_RATE) * (min(error, 5.0 * slow) - slow)
    windows.partial[0] += min(error / (4.0 * trees.slow[0] + 1e-12), 1.0)
    windows.waiting[0] += 1
    if windows.waiting[0] < GROUP:
        return
    evidence, _ = take_group(windows, 0, GROUP, DELTA, WARNING_DELTA)
    if evidence == STABLE:
        if counts[SECOND] and trees.labels[1 - counts[MAIN], 0] > GIVEN_UP:
            counts[SECOND] = 0
        return
    if not counts[SECOND]:
        plant(trees, 1 - counts[MAIN])
    counts[SECOND] = 1
    if evidence == DRIFT:
        counts[MAIN], counts[SECOND] = 1 - counts[MAIN], 0
        counts[DRIFTS] += 1
        windows.filled[0], windows.width[0] = 0, 0


@compiled
def step_trees(
    trees: Trees, windows: WindowArrays, which: Int64, open_columns: Bool, seed: int, scratch: Float64, k: int,
    view: View, out: Float64,
) -> None:  # fmt: skip
    """Predict and learn rows."""
    h, gain, counts = scratch[0], scratch[1], trees.counts
    for t in range(out.shape[0] + 1):
        epoch = view.now if t == out.shape[0] else view.epochs[t]
        if counts[EPOCH] != epoch:  # the columns are others, and so would be every threshold
            plant(trees, counts[MAIN])
            counts[SECOND], counts[LABELS], counts[EPOCH], trees.slow[0] = 0, 0, epoch, 1.0
            windows.filled[0], windows.width[0], windows.partial[0], windows.waiting[0] = 0, 0, 0.0, 0
        if t == out.shape[0]:
            break
        if epoch == 0:
            out[t] = view.facts[t, LATEST]
            continue
        for j in range(which.shape[0]):
            h[j] = min(max(view.columns[t, which[j]], -INPUT_LIMIT), INPUT_LIMIT)
        unit = view.table[epoch % EPOCHS, 3 * k + UNIT]
        expected = expected_by(trees, counts[MAIN], node_of(trees, counts[MAIN], h), h)
        out[t] = view.guess[t] + expected * unit
        if math.isnan(view.y[t]):
            continue
        target = (view.y[t] - view.guess[t]) / unit
        watch_error(trees, windows, abs(target - expected))
        weight = -math.log(1.0 - uniform(seed, 0, counts[LABELS])) * view.weight[t]  # online bagging, smoothly
        counts[LABELS] += 1
        learn_tree(trees, counts[MAIN], h, target, weight, open_columns, gain)
        if counts[SECOND]:
            learn_tree(trees, 1 - counts[MAIN], h, target, weight, open_columns, gain)


class TreeExpert(NumberExpert):
    """An adaptive tree with linear leaves.

    Parameters
    ----------
    k
        Features in a row.
    form
        Its columns: "features", or "history" with the target's past besides.
    seed
        Of the weights of online bagging.
    """

    kind = "tree"
    ranges = {  # noqa: RUF012
        "leaf": index(MOST_LEAVES), "child": index(2 * MOST_LEAVES), "labels": COUNT, "counts": COUNT,
    }  # fmt: skip

    def __init__(self, k: int, *, form: str = "features", seed: int = 1) -> None:
        super().__init__(k)
        self.kind = f"tree-{form}"  # type: ignore[misc]
        past = range(1 + 2 * k, width_of(k)) if form == "history" else ()
        self._which = np.array([*range(1 + k), *past], np.int64)
        self._seed, m = seed, len(self._which)
        self._open = np.ones(m, np.bool_)
        n, leaves = 2 * MOST_LEAVES, MOST_LEAVES
        whole = np.int64
        self._trees = Trees(
            np.full((2, n), -1, whole), np.zeros((2, n)), np.zeros((2, n, 2), whole), np.zeros((2, n), whole),
            np.ones((2, 2), whole), np.zeros((2, leaves, m)), np.zeros((2, leaves, m, m)), np.ones((2, leaves)),
            np.zeros((2, leaves), whole), np.zeros((2, leaves, m, BINS, 6)), np.zeros((2, leaves, m)),
            np.ones((2, leaves, m)), np.zeros(5, whole), np.ones(1),
        )  # fmt: skip
        self._monitor = DriftMonitor(1, delta=DELTA, warning_delta=WARNING_DELTA)
        self._scratch = np.empty((2, m))
        for i in range(2):
            plant(self._trees, i)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return dict(self._trees._asdict())

    @property
    def nodes(self) -> int:
        return int(self._trees.used[self._trees.counts[MAIN], 0])

    @property
    def drifts(self) -> int:
        return int(self._trees.counts[DRIFTS])

    def step(self, view: View, out: Float64) -> None:
        windows = self._monitor.windows
        step_trees(self._trees, windows, self._which, self._open, self._seed, self._scratch, self.k, view, out)

    def snapshot(self) -> Snapshot:
        return pack({"trees": super().snapshot(), "monitor": self._monitor.snapshot()})

    def restore(self, snapshot: Snapshot) -> None:
        parts = unpack(snapshot)
        super().restore(parts["trees"])
        self._monitor.restore(parts["monitor"], GROUP)
        trees, inner = self._trees, self._trees.column >= 0
        after = trees.child > np.arange(2 * MOST_LEAVES)[:, None]
        bad = [
            trees.column >= len(self._which), trees.column < -1, ~after[inner], trees.counts[:2] > 1, trees.used < 1,
            trees.used > [2 * MOST_LEAVES - 1, MOST_LEAVES],
        ]  # fmt: skip
        if any(each.any() for each in bad):
            raise CheckpointError(f"{self.kind}: nodes that make no tree")
