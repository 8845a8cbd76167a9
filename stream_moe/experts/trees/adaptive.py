"""A Hoeffding tree that replaces itself when its error rises: the member of an adaptive forest."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.base import DriftCounts
from stream_moe.experts.compiled import CompiledExpert
from stream_moe.experts.trees import adaptive_kernel
from stream_moe.experts.trees import arrays as tree_arrays
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.experts.trees.values import Values, checked_values, joined, no_values, values_in
from stream_moe.ranges import COUNT, INPUT, SHARE, Range, expect, index, number, of
from stream_moe.runtime.draws import choose, poisson, poisson_steps, uniform
from stream_moe.snapshot import Arrays, Snapshot, pack, unpack
from stream_moe.types import UNLABELLED, Bool, Feature, Float32, Int32, Int64, Schema

MOST_BYTES = 2**26  # of one tree's leaves: a pool of two dozen stays below 2 GB
COUNTS = dict.fromkeys(("learnt", "retired_splits", "swaps", "returns", "n_features"), COUNT)
COUNTS["draws"] = Range(1, 2**32 - 1)  # a draw is the lower half of a key
ARCHIVE_BYTES = 2**24  # of the leaves of all the trees that one archive holds


class Planted(NamedTuple):
    """A tree, the columns it sees, and which draw gave them."""

    tree: HoeffdingTree
    columns: Int64  # [m]
    as_number: Bool  # [m] nominal, but too wide when the tree first saw it: its index is taken as a number
    draw: int
    tile: Float32  # [TILE, m] scratch

    def side(self) -> adaptive_kernel.Side:
        """Return what compiled code needs of it."""
        return adaptive_kernel.Side(self.tree.arrays, self.tree.layout, self.tree.scratch, self.columns, self.tile)

    def view(self, x: Float32) -> Float32:
        """Return the columns of x that the tree sees, float32 [n, m]."""
        return x if len(self.columns) == x.shape[1] else np.ascontiguousarray(x[:, self.columns])

    @property
    def bytes_used(self) -> int:
        """Of its leaves' two large arrays: by these an archive is full, so to count more would change results."""
        arrays = self.tree.arrays
        return int(arrays.head[tree_arrays.SLOTS]) * (arrays.numeric[0].nbytes + arrays.nominal[0].nbytes)

    def errors(self, x: Float32, y: Int32) -> int:
        """How many of the events it gets wrong; it learns nothing."""
        proba = np.empty((len(y), self.tree.n_classes))
        self.tree.step(self.view(x), np.full(len(y), UNLABELLED, np.int32), np.zeros(len(y)), proba)
        return int((proba.argmax(1) != y).sum())


def scratch_for(columns: Int64) -> Float32:
    return np.empty((adaptive_kernel.TILE, len(columns)), np.float32)


class AdaptiveTree(CompiledExpert):
    """A bagged Hoeffding tree on a random subset of the features, with a drift detector and a successor.

    Parameters
    ----------
    schema
        Features and classes.
    bagging
        Mean of the Poisson law each event's weight is drawn from; 0 = no bagging.
    share
        Of the features each tree sees; a successor draws its own.
    grace_period, delta, tie_threshold
        Of the trees, in units of drawn weight.
    drift_delta, warning_delta
        How sure the detector must be that the error has RISEN: a warning starts a successor beside the tree,
        a drift puts it in the tree's place (or a new tree, if there is none).
    group
        Events averaged into one entry of the detector's window; it also tests once per group.
    wide
        Nominal features with more categories than this are split by thresholds on the category index: one
        branch per category would leave too few events in each.
    archive
        How many of the trees that were replaced are kept, those with the most nodes. At a drift one of them comes
        back if, on the events after the change, it errs less than both the leaving tree and its successor.
    seed, member
        Key of everything random here: equal keys, equal trees.

    Notes
    -----
    A tree sees only its columns, so that it costs their share of the time, as in Gomes et al., Streaming
    random patches (2019); bagging by weight: Bifet et al., Leveraging bagging (2010); warning, successor and
    swap: Gomes et al., Adaptive random forests (2017), whose detectors are far calmer (1e-5, 1e-4); trees that
    come back: Gonçalves and de Barros, RCD: a recurring concept drift framework (2013). The detector says where
    the change lies; the trees are compared on what came after it, at most the last 100 events. The successor has
    learnt those, an archived tree has not: it must be better on unseen events than the other on seen ones.
    After the first 100 events the numeric columns that have shown few values are counted, as in `HoeffdingTree`; the
    tree learns those events again, with the same weights. A feature that comes later is not counted.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> x = rng.random((6000, 2), dtype=np.float32)
    >>> y = (x[:, 0] > 0.5).astype(np.int32)
    >>> y[3000:] = 1 - y[3000:]  # the concept turns round
    >>> tree, proba = AdaptiveTree(Schema.numeric(2, ["no", "yes"]), share=1.0), np.empty((6000, 2))
    >>> tree.step(x, y, np.ones(6000), proba)
    >>> bool((proba.argmax(1) == y)[4000:].mean() > 0.97), tree.n_swaps
    (True, 1)
    """

    kind = "adaptive-tree"
    kernel = adaptive_kernel.step
    detector = "adwin"
    expensive = True
    in_committee = True

    def __init__(
        self,
        schema: Schema,
        *,
        bagging: float = 6.0,
        share: float = 0.7,
        grace_period: float = 50,
        delta: float = 0.01,
        tie_threshold: float = 0.05,
        drift_delta: float = 0.01,
        warning_delta: float = 0.05,
        group: int = 8,
        wide: int = 16,
        archive: int = 3,
        seed: int = 1,
        member: int = 0,
    ) -> None:
        if not (0 <= bagging <= 100 and 0 < share <= 1 and 1 <= group <= 1024 and wide >= 0 and 0 <= archive <= 100):
            raise ConfigError(
                f"adaptive-tree: bagging {bagging} must lie in 0..100, share {share} in (0, 1], group {group} in "
                f"1..1024, wide {wide} at 0 or above, archive {archive} in 0..100"
            )
        if not 0 < drift_delta <= warning_delta < 1:
            raise ConfigError(
                f"adaptive-tree: drift_delta {drift_delta} and warning_delta {warning_delta} must ascend in (0, 1)"
            )
        steps = poisson_steps(bagging) if bagging else np.ones(1)
        self._bag = adaptive_kernel.Bag(seed, member, steps, np.zeros(1, np.int64))
        self._parameters = grace_period, delta, tie_threshold
        self._share, self._wide, self._group, self._room = share, wide, group, archive
        self._seed, self._member = seed, member
        self._schema, self.n_classes = schema, schema.n_classes
        self._monitor = DriftMonitor(1, delta=drift_delta, warning_delta=warning_delta)
        self._draws = self._retired_splits = self.n_swaps = self.n_returns = 0
        self._known = no_values(schema.n_features)
        self._back: Planted | None = None
        self._fore = self._plant()
        self._archive: list[Planted] = []
        self._remember(np.empty((0, schema.n_features), np.float32), np.empty(0, np.int32))

    @property
    def n_nodes(self) -> int:
        return self._fore.tree.n_nodes

    @property
    def n_splits(self) -> int:
        """Splits of this tree and of those it has replaced."""
        return self._retired_splits + self._fore.tree.n_splits

    @property
    def drift_counts(self) -> DriftCounts:
        """Warnings of its detector, swaps (one for each drift), and the swaps that brought an old tree back."""
        return DriftCounts(int(self._monitor.warnings[0]), self.n_swaps, self.n_swaps, self.n_returns)

    @property
    def memory_bytes(self) -> int:
        trees = sum(planted.tree.memory_bytes for planted in self._all().values())
        return trees + sum(array.nbytes for array in self._latest(adaptive_kernel.RECENT))

    def _state(self) -> tuple[Any, ...]:
        back, monitor = self._back or self._fore, self._monitor
        look_at = adaptive_kernel.FIRST if monitor.windows.events[0] < adaptive_kernel.FIRST else -1
        return (
            self._fore.side(), back.side(), self._back is not None, self._bag,
            adaptive_kernel.Detector(monitor.windows, self._group, monitor.delta, monitor.warning_delta, look_at),
            self._recent, self._work,
        )  # fmt: skip

    def attend(self, reason: int) -> None:
        """As `CompiledExpert.attend`: a tree must grow, the detector speaks, or there are values to look at."""
        done = self._work.progress
        if reason == adaptive_kernel.GROW_FORE:
            self._fore.tree.make_room()
        elif reason == adaptive_kernel.GROW_BACK:
            assert self._back is not None
            self._back.tree.make_room()
        elif reason == adaptive_kernel.WARNED:
            self._back = self._plant()
            done[adaptive_kernel.BACK] = done[adaptive_kernel.WATCHED]
        elif reason == adaptive_kernel.LOOK:
            self._count_values(*self._latest(adaptive_kernel.FIRST))
            done[adaptive_kernel.BACK] = done[adaptive_kernel.WATCHED]
        else:
            since = int(self._monitor.windows.width[0]) * self._group
            self._swap(*self._latest(min(since, adaptive_kernel.RECENT)))
        self._unbind()

    def grow(self, schema: Schema) -> None:
        """Take a wider schema; a living tree takes up each new feature with probability `share`."""
        before, self._schema, self.n_classes = self._schema.n_features, schema, schema.n_classes
        self._fore = self._widened(self._fore, before)
        if self._back is not None:
            self._back = self._widened(self._back, before)
        self._archive = [self._widened(planted, before) for planted in self._archive]
        self._known = self._known.with_more(schema.n_features - before)
        x, y = self._latest(adaptive_kernel.RECENT)
        self._remember(np.pad(x, ((0, 0), (0, schema.n_features - before)), constant_values=np.nan), y)

    def snapshot(self) -> Snapshot:
        """As `Expert.snapshot`."""
        plain = {
            "learnt": int(self._bag.learnt[0]),
            "draws": self._draws,
            "retired_splits": self._retired_splits,
            "swaps": self.n_swaps,
            "returns": self.n_returns,
            "n_features": self._schema.n_features,
        }
        parts: dict[str, Snapshot] = {"monitor": self._monitor.snapshot(), "counts": ({}, plain)}
        latest = zip("xy", self._latest(adaptive_kernel.RECENT), strict=True)
        parts["recent"] = {name: array.copy() for name, array in latest}, {}
        for name, planted in self._all().items():
            arrays, _ = planted.tree.snapshot()
            which = {"columns": planted.columns.copy(), "as_number": planted.as_number.copy()}
            parts[name] = arrays | which | _counted(planted.tree.values), {"draw": planted.draw}
        if self._known.width.any():
            parts["known"] = _counted(self._known), {}
        return pack(parts)

    def restore(self, snapshot: Snapshot) -> None:
        parts = unpack(snapshot)
        plain = {name: number(self.kind, parts["counts"][1], name, allowed) for name, allowed in COUNTS.items()}
        if plain["n_features"] != self._schema.n_features:
            raise CheckpointError(
                f"adaptive-tree: {plain['n_features']} features in the checkpoint, {self._schema.n_features} here"
            )
        self._bag.learnt[0], self._draws = plain["learnt"], plain["draws"]
        self._retired_splits, self.n_swaps = plain["retired_splits"], plain["swaps"]
        self.n_returns = plain["returns"]
        with of(self.kind):
            self._monitor.restore(parts["monitor"], self._group)
        numeric = self._schema.n_categories == 0
        self._known = _values_in(parts["known"][0] if "known" in parts else {}, numeric)
        self._fore = self._restored("fore", parts)
        self._back = self._restored("back", parts) if "back" in parts else None
        archived = [name for k in range(self._room) if (name := f"archive{k}") in parts]
        self._archive = [self._restored(name, parts) for name in archived]
        self._remember(*self._checked(*(parts["recent"][0][name] for name in "xy")))

    def _plant(self) -> Planted:
        for planted in (self._fore, self._back) if self._known.width.any() else ():
            if planted is not None:
                self._known = joined(self._known, planted.tree.values, planted.columns)
        self._draws += 1
        columns = choose(self._seed, self._key(self._draws), self._schema.n_features, self._share)
        return self._on(columns, self._wide_among(columns), self._draws, self._known.of(columns))

    def _count_values(self, x: Float32, y: Int32) -> None:
        """Count the numeric columns of few values from here on; x [n, d] and y [n] are all events so far."""
        self._known = values_in(x, self._schema.n_categories == 0) if len(y) == adaptive_kernel.FIRST else self._known
        if not self._known.width.any():
            return
        fore, steps = self._fore, self._bag.steps
        drawn = [
            poisson(steps, uniform(self._seed, self._member, i)) if len(steps) > 1 else 1.0
            for i in range(adaptive_kernel.FIRST)
        ]
        self._fore = self._on(fore.columns, fore.as_number, fore.draw, self._known.of(fore.columns))
        self._fore.tree.step(self._fore.view(x), y, np.array(drawn, np.float64), np.empty((len(y), self.n_classes)))
        if self._back is not None:
            self._back = None  # it counts nothing, and would have its successor count as little
            self._back = self._plant()

    def _all(self) -> dict[str, Planted]:
        """Return the trees there are, by name."""
        back = {} if self._back is None else {"back": self._back}
        return {"fore": self._fore} | back | {f"archive{k}": planted for k, planted in enumerate(self._archive)}

    def _latest(self, n: int) -> tuple[Float32, Int32]:
        """Return up to the latest n events learnt."""
        end = int(self._recent.end[0])
        return self._recent.x[max(0, end - n) : end], self._recent.y[max(0, end - n) : end]

    def _remember(self, x: Float32, y: Int32) -> None:
        """Begin with these as the latest events, at most RECENT; with scratch for the schema as it is."""
        d, length = self._schema.n_features, 2 * adaptive_kernel.RECENT
        self._recent = adaptive_kernel.Recent(
            np.empty((length, d), np.float32), np.empty(length, np.int32), np.full(1, len(y), np.int64)
        )
        self._recent.x[: len(y)], self._recent.y[: len(y)] = x, y
        self._work = adaptive_kernel.Work(
            np.empty(adaptive_kernel.TILE), np.empty((adaptive_kernel.TILE, self.n_classes)), np.zeros(5, np.int64)
        )
        self._unbind()

    def _swap(self, x: Float32, y: Int32) -> None:
        """Put the best for the events after the change, x [n, d] and y [n], in the tree's place."""
        self._retired_splits += self._fore.tree.n_splits
        self.n_swaps += 1
        leaver, successor = self._fore, self._back or self._plant()
        if self._archive:
            errors = [planted.errors(x, y) for planted in self._archive]
            if min(errors) < min(leaver.errors(x, y), successor.errors(x, y)):
                successor = self._archive.pop(errors.index(min(errors)))
                self._retired_splits -= successor.tree.n_splits
                self.n_returns += 1
        if leaver.bytes_used <= ARCHIVE_BYTES:
            self._archive.append(leaver)
        while len(self._archive) > self._room or sum(p.bytes_used for p in self._archive) > ARCHIVE_BYTES:
            nodes = [planted.tree.n_nodes for planted in self._archive]
            self._archive.pop(nodes.index(min(nodes)))
        self._fore, self._back = successor, None
        self._monitor.forget()

    def _widened(self, old: Planted, before: int) -> Planted:
        new = [
            j
            for j in range(before, self._schema.n_features)
            if uniform(self._seed, self._key(old.draw), j) < self._share
        ]
        more = np.array(new, np.int64)
        columns = np.concatenate([old.columns, more])
        as_number = np.concatenate([old.as_number, self._wide_among(more)])
        old.tree.grow(self._seen(columns, as_number))
        return Planted(old.tree, columns, as_number, old.draw, scratch_for(columns))

    def _checked(self, x: Float32, y: Int32) -> tuple[Float32, Int32]:
        """Return recent events found in a checkpoint."""
        if len(y) == 0:
            return np.empty((0, self._schema.n_features), np.float32), y
        found, part, d = {"x": x, "y": y}, f"{self.kind}: recent events", self._schema.n_features
        if len(y) > adaptive_kernel.RECENT:
            raise CheckpointError(
                f"{self.kind}: {len(y)} recent events, and at most {adaptive_kernel.RECENT} are kept"
            )
        expect(part, found, "x", np.float32, (len(y), d), INPUT)
        expect(part, found, "y", np.int32, (len(x),), index(self.n_classes))
        return x, y

    def _restored(self, name: str, parts: dict[str, Snapshot]) -> Planted:
        with of(f"{self.kind}, {name}"):
            arrays, d = dict(parts[name][0]), self._schema.n_features
            columns = expect("tree", arrays, "columns", np.int64, (None,), index(d))
            as_number = expect("tree", arrays, "as_number", np.bool_, columns.shape, SHARE)
            if not len(columns) or (np.diff(columns) <= 0).any():
                raise CheckpointError(f"tree: array 'columns' does not ascend through some of 0 to {d - 1}")
            del arrays["columns"], arrays["as_number"]
            numeric = (self._schema.n_categories[columns] == 0) | as_number
            draw = number("tree", parts[name][1], "draw", Range(1, self._draws))
            planted = self._on(columns, as_number, draw, _values_in(arrays, numeric))
            planted.tree.restore((arrays, {}))
            return planted

    def _key(self, draw: int) -> int:
        """Where this draw of columns lies among all random numbers: apart from the bagging weights."""
        return (self._member + 1) * 2**32 + draw

    def _on(self, columns: Int64, as_number: Bool, draw: int, values: Values) -> Planted:
        grace, delta, tie = self._parameters
        schema = self._seen(columns, as_number)
        return Planted(
            HoeffdingTree(
                schema,
                grace_period=grace,
                delta=delta,
                tie_threshold=tie,
                max_bytes=MOST_BYTES,
                values=values,
                room=16,
            ),
            columns,
            as_number,
            draw,
            scratch_for(columns),
        )

    def _wide_among(self, columns: Int64) -> Bool:
        return self._schema.n_categories[columns] > self._wide

    def _seen(self, columns: Int64, as_number: Bool) -> Schema:
        """Return the schema of those columns."""
        features = [self._schema.features[j] for j in columns]
        narrowed = (Feature(f.name) if wide else f for f, wide in zip(features, as_number, strict=True))
        return Schema(tuple(narrowed), self._schema.classes)


def _counted(values: Values) -> Arrays:
    """Return what a checkpoint keeps of them: nothing where no column is counted."""
    return {"width": values.width.copy(), "value": values.value.copy()} if values.width.any() else {}


def _values_in(arrays: Arrays, numeric: Bool) -> Values:
    """Take them out of the arrays of a checkpoint, of columns of which some are numeric."""
    none = no_values(len(numeric))
    return checked_values(arrays.pop("width", none.width), arrays.pop("value", none.value), numeric)
