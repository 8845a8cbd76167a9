"""The learner's contract: river's names for one event, blocks for many, snapshots for keeping."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from river import base

from stream_moe.errors import ConfigError, DataError
from stream_moe.ports import CheckpointStore
from stream_moe.report import KeyReport, LearnerDrift, LearnerReport
from stream_moe.rows import RowEncoder, clean
from stream_moe.runtime.phases import Phases
from stream_moe.snapshot import Snapshot, digest_of
from stream_moe.types import UNLABELLED, Float32, Float64, Int32, Int64, Schema

Self = TypeVar("Self", bound="BlockClassifier")


class PendingSnapshot(Protocol):
    """A snapshot as of the moment it was begun, of which a part may have to be written still."""

    def advance(self, seconds: float) -> Snapshot | None:
        """Go on for about so long; give the snapshot, once, when it is whole."""


class Taken:
    """A snapshot that was whole at once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot: Snapshot | None = snapshot

    def advance(self, seconds: float) -> Snapshot | None:
        """As `PendingSnapshot.advance`."""
        whole, self._snapshot = self._snapshot, None
        return whole


class StateFiles(Protocol):
    """Files beside the checkpoints that hold a part of a learner's state."""

    def flush(self, named: Collection[str]) -> None:
        """Write those that a checkpoint names; called before the checkpoint is written."""

    def collect(self, named: Collection[str]) -> None:
        """Delete those that neither a checkpoint (`named`) nor the learner needs; called after it is written."""


class BlockClassifier(base.Classifier):  # type: ignore[misc]
    """A classifier that learns one event (river's way, dicts) or a block of them (arrays), with equal results.

    Features may be missing, NaN, new or of the wrong type. A missing one, a NaN, an infinite value, or text
    where a number was is treated as missing. A new feature or a new class makes the model grow, unless a
    schema was given: then a new feature is ignored and a new class is an error.

    A subclass builds its parts in `_start`, and steps, grows and snapshots them. It keeps its parameters as
    attributes of the same names, except those it hands to this constructor: their attributes tell what
    has become of them (`schema` grows).
    """

    def __init__(self, schema: Schema | None, **given: Any) -> None:
        self._given = {"schema": schema, **given}
        self._rows = RowEncoder(schema)
        self.phases = Phases()
        if schema is not None:
            self._start(schema)

    # What a subclass provides.
    @abstractmethod
    def _start(self, schema: Schema) -> None: ...

    @abstractmethod
    def _grow(self, schema: Schema) -> None: ...

    @abstractmethod
    def _step(self, x: Float32, y: Int32, weights: Float32 | None) -> Float64: ...

    @abstractmethod
    def _predict(self, x: Float32) -> Float64: ...

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return the whole state as named arrays and plain JSON values; both are copies."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a learner with the same parameters, of whatever schema that one had grown to."""

    @abstractmethod
    def report(self) -> LearnerReport:
        """Return what the learner tells of itself: its experts, routing and drifts."""

    # What only some learners have more of.
    def attach(self, store: CheckpointStore) -> None:
        """Take the store of checkpoints, before anything is learnt: a learner may keep a part of its state there."""

    def begin_snapshot(self) -> PendingSnapshot:
        """Begin a snapshot of the state as it is now, to be written while the stream goes on."""
        return Taken(self.snapshot())

    @property
    def files(self) -> StateFiles | None:
        """The files in the store that hold a part of the state; None = all of it is in `snapshot`."""
        return None

    @property
    def keys(self) -> KeyReport | None:
        """How many keys there are, where each has a model."""
        return None

    def take_drifts(self) -> list[LearnerDrift]:
        """Return the drifts that the learner found in its own errors since this was last asked."""
        return []

    # Blocks.
    @property
    def schema(self) -> Schema:
        """Features and classes as known by now."""
        return self._rows.schema

    @property
    def n_experts(self) -> int:
        """Width of the weights that `step` gives."""
        return 1

    def step(
        self,
        x: Float32,
        y: Int32,
        weights: Float32 | None = None,
        *,
        tickets: Int64 | None = None,
        keys: Sequence[bytes] | None = None,
    ) -> Float64:
        """Test then train, event by event inside the block.

        Parameters
        ----------
        x
            float32 [n, d], nominal features as category index, NaN = missing.
        y
            int32 [n], class index; -1 = no label: the event is predicted only.
        weights
            float32 [n, E], out, optional: the router's weights.
        tickets
            int64 [n]. Of an event without a label: the number under which what was predicted is kept until the label
            comes, above every number given before; -1 = no label will come. Of an event with a label: the ticket that
            it was predicted under, -1 = it is predicted now. None = -1 throughout.
        keys
            n record keys, for a learner with a model for each key; others ignore them.

        Returns
        -------
        float64 [n, C]
            Class probabilities of each event, made BEFORE it was learnt.
        """
        x = self._checked(x)
        return self._step(x, self._checked_labels(x, y), weights)

    def learn_many(self, x: Float32, y: Int32) -> None:
        """Learn a block; the same as `step`, without an answer."""
        self.step(x, y)

    def predict_proba_many(self, x: Float32) -> Float64:
        """Class probabilities float64 [n, C] of features float32 [n, d]; changes nothing."""
        return self._predict(self._checked(x))

    def predict_many(self, x: Float32) -> Int32:
        """Class index int32 [n] of features float32 [n, d]; changes nothing."""
        return self.predict_proba_many(x).argmax(1).astype(np.int32)

    @property
    def digest(self) -> str:
        """Hex sha256 of the whole state: equal if and only if two learners are in the same state."""
        return digest_of(self.snapshot())

    def _checked(self, x: Float32) -> Float32:
        if not self._rows.started:
            raise ConfigError("the model has no schema yet; give schema=Schema(...), or learn one event first")
        x = np.array(x, np.float32, ndmin=2)
        if x.ndim != 2 or x.shape[1] != self.schema.n_features:
            raise DataError(f"x: shape {x.shape}, expected [n, {self.schema.n_features}] as in the schema")
        clean(x, self.schema.n_categories)
        return x

    def _checked_labels(self, x: Float32, y: Int32) -> Int32:
        y = np.ascontiguousarray(y, np.int32)
        if len(y) != len(x) or (len(y) and not (y.min() >= UNLABELLED and y.max() < self.schema.n_classes)):
            raise DataError(
                f"y: {len(y)} labels up to {y.max(initial=-1)} for {len(x)} rows and {self.schema.n_classes} "
                "classes; give one class index (or -1) per row"
            )
        return y

    # One event, river's way.
    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: base.typing.ClfTarget) -> None:
        row, grown = self._rows.encode(x, y)
        if grown == "started":
            self._start(self._rows.schema)
        elif grown:
            self._grow(self._rows.schema)
        self.step(row, np.array([self._rows.class_of(y)], np.int32))

    def predict_proba_one(self, x: dict[Any, Any], **_: Any) -> dict[base.typing.ClfTarget, float]:
        if not self._rows.started:
            return {}
        proba = self.predict_proba_many(self._rows.encode_known(x))[0]
        return dict(zip(self._rows.labels, proba.tolist(), strict=True))

    # Copies (river clones, deep-copies and stores its models): parameters, vocabulary and state.
    def _get_params(self) -> dict[str, Any]:
        names = inspect.signature(type(self)).parameters
        return {name: self._given[name] if name in self._given else getattr(self, name) for name in names}

    def learning_parameters(self) -> dict[str, Any]:
        """Return the parameters that change what is learnt, by name: not where and how fast it runs."""
        elsewhere = {"schema", "threads", "device", "executor", "shards"}
        return {k: v for k, v in self._get_params().items() if k not in elsewhere}

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        changed = {name: value for name, value in self._get_params().items() if value != defaults[name]}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __getstate__(self) -> dict[str, Any]:
        started = self._rows.started
        return {
            "parameters": self._get_params(),
            "rows": self._rows,
            "state": self.snapshot() if started else None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["parameters"])  # type: ignore[misc]
        self._rows = state["rows"]
        if state["state"] is not None:
            self._start(self._rows.schema)
            self.restore(state["state"])
