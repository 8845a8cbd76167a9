"""The Hoeffding tree as an expert: owns the arrays that the kernel works on, and makes them grow."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.compiled import CompiledExpert
from stream_moe.experts.trees import arrays as tree_arrays
from stream_moe.experts.trees import kernel as tree_kernel
from stream_moe.experts.trees.moving import carry_over
from stream_moe.experts.trees.values import MOST_VALUES, Values, no_values
from stream_moe.ranges import ANY, COUNT, Range, expect, index, named
from stream_moe.snapshot import Arrays, Snapshot, fill
from stream_moe.types import Schema

_PREDICTIONS = {"majority": tree_arrays.MAJORITY, "naive-bayes": tree_arrays.BAYES, "adaptive": tree_arrays.ADAPTIVE}
ROOM_BYTES = 2**16
NODE = index(2**30)  # so that no sum of two overflows; `_leads_to_leaves` looks at each
_PER_NODE = ("feature", "threshold", "child", "default", "slot")
_PER_SLOT = ("mass", "seen", "constant", "numeric", "nominal", "leaf")


class HoeffdingTree(CompiledExpert):
    """A Hoeffding tree for streams of numeric and nominal features.

    Parameters
    ----------
    schema
        Features and classes. Nominal features get multiway splits.
    grace_period
        Weight a leaf must see between two attempts to split.
    delta
        Split confidence: the Hoeffding bound holds with probability 1 - delta.
    tie_threshold
        Split on the best feature anyway once the bound is below this.
    leaf_prediction
        "majority", "naive-bayes", or "adaptive": whichever was right more often in this leaf.
    max_nodes
        Cap on nodes; a leaf that would exceed it goes on learning unsplit.
    max_bytes
        Cap on the leaves' statistics, in bytes.
    values
        Numeric columns that are counted value by value, and the values that they have shown so far; None = all are
        taken for normally distributed in each class. A column that shows more than MOST_VALUES of
        `stream_moe.experts.trees.values` goes over to a normal law.

    room
        Leaves to have room for at first, within 64 KiB: whoever plants many trees that split soon saves moving them.

    Attributes
    ----------
    arrays, layout, scratch
        What compiled code works on: that of an adaptive tree, too.

    Notes
    -----
    A missing value (NaN) is no evidence for naive Bayes and follows the heaviest branch.
    Source: Domingos and Hulten (2000); parameters' names and defaults as in MOA, except the grace period of
    50 that DriftMoE uses. A counted column is split between two of its values, by a threshold as others are; in naive
    Bayes its counts are smoothed as those of categories. A value that it has not learnt yet is no evidence.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe.types import Schema
    >>> rng = np.random.default_rng(1)
    >>> x = rng.random((2000, 2), dtype=np.float32)
    >>> y = (x[:, 0] > 0.5).astype(np.int32)
    >>> tree = HoeffdingTree(Schema.numeric(2, ["low", "high"]))
    >>> proba = np.empty((2000, 2))
    >>> tree.step(x, y, np.ones(2000), proba)
    >>> bool((proba.argmax(1) == y)[1000:].mean() > 0.97)
    True
    """

    kind = "hoeffding-tree"
    kernel = tree_kernel.step

    def __init__(
        self,
        schema: Schema,
        *,
        grace_period: float = 50,
        delta: float = 1e-7,
        tie_threshold: float = 0.05,
        leaf_prediction: Literal["majority", "naive-bayes", "adaptive"] = "adaptive",
        max_nodes: int = 2**20,
        max_bytes: int = 2**28,
        values: Values | None = None,
        room: int = 1,
    ) -> None:
        if leaf_prediction not in _PREDICTIONS:
            raise ConfigError(f"leaf_prediction: {leaf_prediction!r}; choose one of {', '.join(_PREDICTIONS)}")
        if not (0 < delta < 1 and grace_period > 0 and tie_threshold >= 0):
            raise ConfigError(
                f"tree: delta {delta} must lie in (0, 1), grace_period {grace_period} above 0, "
                f"tie_threshold {tie_threshold} at 0 or above"
            )
        self._parameters = (grace_period, delta, tie_threshold, _PREDICTIONS[leaf_prediction])
        self._max_nodes, self._max_bytes = max_nodes, max_bytes
        self._done = np.zeros(1, np.int64)  # rows of the block, for when the kernel comes back
        self._set_layout(schema, values or no_values(schema.n_features))
        room = max(1, min(room, self.layout.max_slots, ROOM_BYTES * self.layout.max_slots // max_bytes))
        self._allocate(
            min(2 * room - 1, max_nodes), room
        )  # of thousands of models, one for each key, most never split
        self.arrays.feature[0], self.arrays.slot[0] = -1, 0
        self.arrays.numeric[:, :, tree_arrays.LOW] = np.inf
        self.arrays.numeric[:, :, tree_arrays.HIGH] = -np.inf
        self.arrays.head[:] = (1, 1, 0, -1, 0)

    @property
    def n_nodes(self) -> int:
        return int(self.arrays.head[tree_arrays.NODES])

    @property
    def n_splits(self) -> int:
        return int(self.arrays.head[tree_arrays.SPLITS])

    @property
    def values(self) -> Values:
        """What is counted of the numeric columns."""
        layout, found = self.layout, no_values(len(self.layout.position))
        found.width[layout.nominal[layout.named :]] = layout.cardinality[layout.named :]
        found.value[np.arange(MOST_VALUES) < found.width[:, None]] = layout.value[
            layout.cardinality[: layout.named].sum() :
        ]
        return found

    @property
    def memory_bytes(self) -> int:
        return sum(array.nbytes for array in self._in_use().values())

    def _state(self) -> tuple[Any, ...]:
        return self.arrays, self.layout, self.scratch, self._done

    def attend(self, reason: int) -> None:
        """As `CompiledExpert.attend`: a split, or a row's values, wait for room."""
        self.make_room()

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self._in_use().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        (arrays, _), ranges = snapshot, self._ranges()
        nodes = len(expect("tree", arrays, "feature", np.int32, (None,), ranges["feature"]))
        slots = len(expect("tree", arrays, "mass", np.float64, (None, self.n_classes), ranges["mass"]))
        if nodes > self._max_nodes or slots > self.layout.max_slots:
            raise CheckpointError(f"tree: {nodes} nodes and {slots} leaves, more than max_nodes and max_bytes allow")
        self._allocate(nodes, slots)
        fill(self.arrays._asdict(), arrays, "tree", ranges)
        at_rest = (*self.arrays.head.tolist(),) == (nodes, slots, self.n_splits, -1, 0)  # no split is half done
        if not (at_rest and self._leads_to_leaves()):
            raise CheckpointError("tree: a node leads to none, a leaf has no statistics, or a split is half done")

    def _ranges(self) -> dict[str, Range]:
        weight = Range(0.0, nan=True)  # which a count may be turned into an index by, unless it is below 0
        return named(
            tree_arrays.TreeArrays, feature=index(self._schema.n_features, none=True), threshold=ANY, child=NODE,
            default=NODE, slot=index(self.layout.max_slots, none=True), mass=weight, seen=weight, constant=ANY,
            numeric=ANY, nominal=weight, leaf=ANY, head=Range(-1, COUNT.high),
        )  # fmt: skip

    def _leads_to_leaves(self) -> bool:
        """Whether every walk ends in a leaf with a slot: compiled code checks no index."""
        tree, layout = self.arrays, self.layout
        nodes, d = len(tree.feature), len(layout.position)
        nominal = layout.is_nominal[np.clip(tree.feature, 0, d - 1)] == 1
        branches = np.where(nominal, tree.threshold, 2.0)
        inner = (tree.feature < d) & (tree.child > np.arange(nodes)) & (tree.child + branches <= nodes)
        inner &= (tree.default >= 0) & (tree.default < branches)
        leaf = (tree.slot >= 0) & (tree.slot < len(tree.mass))
        return nodes > 0 and bool(np.where(tree.feature >= 0, inner, leaf).all())

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`; a feature that comes late is not counted."""
        self._lay_out(schema, self.values.with_more(schema.n_features - len(self.layout.position)))

    def _lay_out(self, schema: Schema, values: Values) -> None:
        """Have this schema, and count these values, with all that was learnt."""
        old, old_layout = self.arrays, self.layout
        self._set_layout(schema, values)
        self._allocate(len(old.feature), len(old.mass))
        carry_over(old, old_layout, self.arrays, self.layout)
        if not np.array_equal(old_layout.cardinality, self.layout.cardinality):
            self._recompute_constants()

    def _recompute_constants(self) -> None:
        """Make the constants anew: they depend on the number of categories, which `grow` has changed."""
        tree, layout = self.arrays, self.layout
        constant = tree.numeric[:, :, tree_arrays.LOG_NORM].sum(-1)
        constant -= np.log(tree.nominal[:, tree_arrays.TOTAL, layout.offset] + layout.cardinality[:, None]).sum(1)
        # The first term is the logarithm of the class's prior, up to a constant.
        tree.constant[...] = np.where(tree.seen > 0, np.log(np.maximum(tree.mass, 1e-300)) + constant, 0.0)

    def _set_layout(self, schema: Schema, values: Values) -> None:
        cardinality = schema.n_categories.astype(np.int64)
        is_nominal, is_counted = cardinality > 0, values.width > 0
        named, counted = np.flatnonzero(is_nominal), np.flatnonzero(is_counted)
        numeric, nominal = np.flatnonzero(~(is_nominal | is_counted)), np.concatenate([named, counted])
        position = np.empty(schema.n_features, np.int64)
        position[numeric], position[nominal] = np.arange(len(numeric)), np.arange(len(nominal))
        widths = np.concatenate([cardinality[named], values.width[counted]])
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)[:-1]])[: len(widths)]
        self._schema, self.n_classes = schema, schema.n_classes
        self._shapes = (schema.n_classes, len(numeric), int(widths.sum()))
        slot_bytes = 8 * schema.n_classes * (7 * len(numeric) + 3 * int(widths.sum()) + 4)
        max_slots = self._max_bytes // slot_bytes
        if max_slots < 1 or self._max_nodes < 1:
            raise ConfigError(
                f"tree: one leaf of this schema takes {slot_bytes} bytes and one node; max_bytes "
                f"{self._max_bytes} or max_nodes {self._max_nodes} is below that, raise it"
            )
        self.layout = tree_arrays.TreeLayout(
            numeric, nominal, len(named), offset, widths,
            np.concatenate([np.zeros(cardinality.sum()), values.in_places]),
            position, is_nominal.astype(np.int64), is_counted.astype(np.int64),
            float(self._parameters[0]), float(self._parameters[1]), float(self._parameters[2]),
            self._parameters[3], self._max_nodes, max_slots,
        )  # fmt: skip
        self.scratch = tree_arrays.new_scratch(self.layout, schema.n_classes)

    def _allocate(self, nodes: int, slots: int) -> None:
        self._unbind()
        classes, numeric, categories = self._shapes
        self.arrays = tree_arrays.TreeArrays(
            feature=np.zeros(nodes, np.int32),
            threshold=np.zeros(nodes),
            child=np.zeros(nodes, np.int32),
            default=np.zeros(nodes, np.int32),
            slot=np.zeros(nodes, np.int32),
            mass=np.zeros((slots, classes)),
            seen=np.zeros((slots, classes)),
            constant=np.zeros((slots, classes)),
            numeric=np.zeros((slots, classes, 7, numeric)),
            nominal=np.zeros((slots, 3, categories, classes)),
            leaf=np.zeros((slots, 3)),
            head=np.zeros(5, np.int64),
        )

    def make_room(self) -> None:
        """Make room for what waits: for a row's values, or for a split and half as much again, so that it is rare."""
        if self.arrays.head[tree_arrays.NEEDED] == tree_arrays.FOR_VALUES:
            full = np.zeros(len(self.layout.position), np.bool_)
            full[self.layout.nominal] = self.scratch.full
            self._lay_out(self._schema, self.values.with_room(full))
            return
        old, width = self.arrays, int(self.arrays.head[tree_arrays.NEEDED])
        nodes = max(len(old.feature) * 3 // 2, self.n_nodes + width)
        slots = max(len(old.mass) * 3 // 2, int(old.head[tree_arrays.SLOTS]) + width)
        self._allocate(min(nodes, self.layout.max_nodes), min(slots, self.layout.max_slots))
        larger, self.arrays = self.arrays, old
        self.move_to(larger)

    def move_to(self, arrays: tree_arrays.TreeArrays) -> None:
        """Keep the state in these arrays, all zero and at least as long, from now on."""
        for name, array in self._in_use().items():
            getattr(arrays, name)[: len(array)] = array
        self.arrays = arrays
        self._unbind()

    def _in_use(self) -> Arrays:
        """The arrays without the room that is left in them."""
        nodes, slots = self.arrays.head[tree_arrays.NODES], self.arrays.head[tree_arrays.SLOTS]
        lengths = dict.fromkeys(_PER_NODE, nodes) | dict.fromkeys(_PER_SLOT, slots) | {"head": len(self.arrays.head)}
        return {name: getattr(self.arrays, name)[:length] for name, length in lengths.items()}
