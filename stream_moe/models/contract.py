"""The learner's contract: river's names for one event, blocks for many, snapshots for keeping."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from threading import RLock
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError, DataError, one_line
from stream_moe.models.events import EventClassifier
from stream_moe.models.kept import KeptModel
from stream_moe.models.parts import PendingSnapshot, StateFiles, Taken
from stream_moe.models.tickets import Tickets, no_tickets
from stream_moe.models.weights import checked_importance
from stream_moe.ports import CheckpointStore
from stream_moe.report import KeyReport, LearnerDrift, LearnerReport
from stream_moe.rows import are_labels, clean
from stream_moe.runtime.phases import Phases
from stream_moe.types import NO_TICKET, UNLABELLED, Float32, Float64, Int32, Int64, Schema
from stream_moe.values import Names


class BlockClassifier(KeptModel, EventClassifier):
    """A classifier that learns one event (river's way, dicts) or a block of them (arrays), with equal results.

    Features may be missing, NaN, new or of the wrong type. A missing one, a NaN, an infinite value, or text
    where a number was is treated as missing. A new feature or a new class makes the model grow, unless a
    schema was given: then a new feature is ignored and a new class is an error.

    A subclass builds its parts in `_start`, steps and grows them, and names those that hold state in `_parts`: the
    snapshot, the digest and copies are made here. It keeps its parameters as attributes of the same names, except
    those that it hands to this constructor: their attributes may change (`schema` grows).

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    given
        Parameters of the subclass that its attributes do not keep as they were given.

    Examples
    --------
    >>> from stream_moe import DriftMoE
    >>> isinstance(DriftMoE(seed=1), BlockClassifier)
    True
    """

    def __init__(self, schema: Schema | None, **given: Any) -> None:
        self._given = {"schema": schema, **given}
        self._rows = self._encoder(schema)
        self._tickets = Tickets()
        self._weights: Float64 = np.empty(0)  # of the classes, as long as there are so many
        self._lock = RLock()  # one thread at a time: growth gives arrays away that a prediction may be reading
        self.phases = Phases()
        if schema is not None:
            self._class_weights()  # one of another class is an error now, not at the first event
            self._start(schema)

    # What a subclass provides, beside `_start`, `_grow` and `_predict` of `EventClassifier`.
    @abstractmethod
    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64: ...

    @abstractmethod
    def _report(self) -> LearnerReport: ...

    # What only some learners have more of.
    keeps_tickets = False
    """Whether what was predicted is kept for the label, under the event's ticket."""

    files: StateFiles | None = None
    """The files in the store that hold a part of the state; None = all of it is in `snapshot`."""

    def attach(self, store: CheckpointStore) -> None:
        """Take the store of checkpoints, before anything is learnt: a learner may keep a part of its state there."""

    def begin_snapshot(self) -> PendingSnapshot:
        """Begin a snapshot of the state as it is now, to be written while the stream goes on."""
        return Taken(self.snapshot())

    @property
    def keys(self) -> KeyReport | None:
        """How many keys there are, where each has a model."""
        return None

    def grow(self, schema: Schema) -> None:
        """Go on under a schema that has more features, categories or classes than the one before, behind its own.

        Examples
        --------
        >>> from stream_moe import DriftMoE
        >>> model = DriftMoE(seed=1)
        >>> model.learn_one({"load": 0.9}, "busy")
        >>> model.grow(Schema.numeric(2, ["busy", "calm"], ["load", "wind"]))
        >>> model.learn_one({"load": 0.1, "wind": 3.5}, "calm")
        >>> model.predict_one({"load": 0.1, "wind": 3.5})
        'calm'
        """
        with self._lock:
            vocabulary = self._rows.to_dict()
            vocabulary["names"] += [feature.name for feature in schema.features[len(vocabulary["names"]) :]]
            vocabulary["labels"] += schema.classes[len(vocabulary["labels"]) :]
            self._rows = self._encoder.from_dict(schema, vocabulary)
            self._grow(schema)

    def report(self) -> LearnerReport:
        """Return what the learner reports of its experts, routing and drifts; ConfigError without a schema."""
        self._require_schema()
        return self._report()

    def take_drifts(self) -> list[LearnerDrift]:
        """Return the drifts that the learner found in its own errors since this was last asked."""
        return []

    # Blocks.
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
        w: Float64 | None = None,
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
        w
            float64 [n], how much each event counts in learning, beside the weight of its class; 0 = its label is not
            learnt. None = 1 each.

        Returns
        -------
        float64 [n, C]
            Class probabilities of each event, made BEFORE it was learnt.
        """
        with self._lock:
            return self._step_rows(*self._checked_rows(x, y, weights, tickets), w)

    def _step_rows(self, x: Float32, y: Int32, weights: Float32, tickets: Int64, w: Float64 | None = None) -> Float64:
        """Step through checked rows, each with its weight and that of its class."""
        if w is None and not self.class_weight:
            return self._step(x, y, weights, tickets)
        counts = np.ones(len(y)) if w is None else checked_importance(w, len(y))
        if self.class_weight:
            counts = np.where(y == UNLABELLED, 1.0, counts * self._class_weights()[y])
        if (idle := (counts == 0) & (y != UNLABELLED)).any():
            y, tickets = np.where(idle, UNLABELLED, y).astype(np.int32), np.where(idle, NO_TICKET, tickets)
        return self._step_weighted(x, y, weights, tickets, counts)

    def _step_weighted(self, x: Float32, y: Int32, weights: Float32, tickets: Int64, w: Float64) -> Float64:
        """As `_step`, where events count differently: float64 [n]."""
        raise ConfigError(f"{type(self).__name__}: its events all count the same; leave w and class weights out")

    def _class_weights(self) -> Float64:
        """float64 [C], of `class_weight`; ConfigError where a schema was given that lacks a class of it."""
        if len(self._weights) == self.schema.n_classes:
            return self._weights
        names, found = Names(self.schema.classes), np.ones(self.schema.n_classes)
        for label, weight in (self.class_weight or {}).items():
            if (c := names.find(label)) is not None:
                found[c] = weight
            elif self._rows.fixed:
                known = ", ".join(self.schema.classes[:8])
                raise ConfigError(f"class weight: {label[:60]!r} is no class; the classes are {known}")
        self._weights = found
        return found

    def _checked(self, x: Float32) -> Float32:
        self._require_schema()
        try:
            x = np.array(x, np.float32, ndmin=2, order="C")
        except (TypeError, ValueError) as error:
            raise DataError(
                f"x: a {type(x).__name__} that is no table of numbers ({one_line(error)}); give numbers and category "
                f"indices [n, {self.schema.n_features}], or events by name: a frame or a list of dicts"
            ) from None
        if x.ndim != 2 or x.shape[1] != self.schema.n_features:
            raise DataError(f"x: shape {x.shape}, expected [n, {self.schema.n_features}] as in the schema")
        clean(x, self.schema.n_categories)
        return x

    def _checked_rows(
        self, x: Float32, y: Int32, weights: Float32 | None, tickets: Int64 | None
    ) -> tuple[Float32, Int32, Float32, Int64]:
        """Return rows as `_step` takes them; DataError where they do not fit."""
        x, y = self._checked(x), np.ascontiguousarray(y, np.int32)
        if len(y) != len(x) or not are_labels(y, self.schema.n_classes):
            raise DataError(
                f"y: {len(y)} labels up to {y.max(initial=-1)} for {len(x)} rows and {self.schema.n_classes} "
                "classes; give one class index (or -1) per row"
            )
        weights = np.empty((len(x), self.n_experts), np.float32) if weights is None else weights
        if tickets is None:
            return x, y, weights, no_tickets(len(x))
        tickets = np.ascontiguousarray(tickets, np.int64)
        if len(tickets) != len(x):
            raise DataError(f"tickets: {len(tickets)} for {len(x)} rows; give one (or -1) per row")
        self._tickets.give(y, tickets)
        return x, y, weights, tickets
