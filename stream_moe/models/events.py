"""Learning and predicting as a user writes it: dicts and frames by name, as river has them, and arrays.

Threads may share a model: one call at a time, so that one may learn while others predict.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from threading import RLock
from typing import Any

import numpy as np
from river import base

from stream_moe.errors import DataError
from stream_moe.models.tickets import Ticket, Tickets
from stream_moe.models.weights import checked_importance
from stream_moe.rows import RowEncoder
from stream_moe.types import NO_TICKET, UNLABELLED, Float32, Float64, Int64, Schema
from stream_moe.values import is_missing

_log = logging.getLogger(__name__)


class EventClassifier(base.Classifier):  # type: ignore[misc]
    """River's interface, one event or many at a time, over the blocks of `BlockClassifier`."""

    _multiclass = True
    _rows: RowEncoder
    _tickets: Tickets
    _lock: RLock
    _said_unlabelled = False
    step: Callable[..., Float64]  # of `BlockClassifier`

    @abstractmethod
    def _start(self, schema: Schema) -> None: ...

    @abstractmethod
    def _grow(self, schema: Schema) -> None: ...

    @abstractmethod
    def _predict(self, x: Float32) -> Float64: ...

    @abstractmethod
    def _checked(self, x: Float32) -> Float32: ...

    # Many events.
    def learn_many(
        self,
        x: Any = None,
        y: Any = None,
        *,
        X: Any = None,  # river's name
        tickets: Int64 | None = None,
        keys: Sequence[bytes] | None = None,
        w: Float64 | None = None,
    ) -> None:
        """Learn a block; the same as `step`, without an answer.

        Parameters
        ----------
        x
            float32 [n, d] as in `step`; or a frame of pandas or polars, or a list of dicts, whose values are
            found by name: an absent one is missing, one that the schema does not have is left out (without a schema,
            learnt).
        y
            n labels. An array of integers has class indices, as in `step`, and so has a list of them; anything else
            (a Series, an array of bools, floats or texts) has labels, found among the classes by value
            (`stream_moe.values`).
        X
            River's name for x.
        tickets
            int64 [n], what `predict_tickets` gave for rows whose labels come later, -1 = of the others; None = -1
            throughout. `learn_one` says what happens to a ticket.
        keys, w
            As in `step`.

        Raises
        ------
        DataError
            If a label is none of the classes, or the shapes do not fit; nothing of the block is learnt then.
        """
        x = X if x is None else x
        with self._lock:
            if (columns := columns_of(x)) is not None:
                self._learn_columns(*columns, y, tickets, keys, w)
                return
            y = self._class_indices(y)
            if tickets is None:
                self.step(x, y, keys=keys, w=w)
                return
            tickets = np.asarray(tickets)
            if tickets.shape != np.shape(y) or tickets.dtype.kind not in "iu":
                raise DataError(
                    f"tickets: {tickets.dtype} {tickets.shape} for {np.shape(y)} labels; give int64, one per row"
                )
            tickets = np.where(np.asarray(y) == UNLABELLED, NO_TICKET, tickets)
            self._tickets.check(tickets)
            self.step(x, y, tickets=tickets, keys=keys, w=w)
            self._tickets.use(tickets)

    def _class_indices(self, y: Any) -> Any:
        """Return labels as class indices where they are not; see `learn_many`."""
        if isinstance(y, np.ndarray) and y.dtype.kind in "iu":
            return y
        if isinstance(y, (list, tuple)) and all(type(each) is int for each in y):
            return y
        return self._rows.classes_of(y)

    def _learn_columns(
        self,
        columns: dict[Any, Any],
        n: int,
        y: Any,
        tickets: Int64 | None,
        keys: Sequence[bytes] | None,
        w: Float64 | None,
    ) -> None:
        """Learn a frame: in one block what the vocabulary knows, and an event by itself that brings something new."""
        labels = y.tolist() if hasattr(y, "tolist") else list(y)
        if len(labels) != n:
            raise DataError(f"y: {len(labels)} labels for {n} rows; give one per row")
        if self._rows.fixed:
            indices = self._rows.classes_of(labels)
            self.learn_many(self._rows.encode_many(columns, n), indices, tickets=tickets, keys=keys, w=w)
            return
        if tickets is not None or keys is not None:
            raise DataError("tickets and keys go with a frame where the model was given a schema; give one")
        counts = None if w is None else checked_importance(w, n)
        start = 0
        for t in range(n):
            event = {name: column[t] for name, column in columns.items()}
            if not self._rows.brings_nothing_new(event, labels[t]):
                self._learn_known(columns, labels, counts, slice(start, t))
                self.learn_one(event, labels[t], 1.0 if counts is None else float(counts[t]))
                start = t + 1
        self._learn_known(columns, labels, counts, slice(start, n))

    def _learn_known(self, columns: dict[Any, Any], labels: list[Any], w: Float64 | None, rows: slice) -> None:
        if n := rows.stop - rows.start:
            part = {name: column[rows] for name, column in columns.items()}
            indices = self._rows.classes_of(labels[rows])
            self.step(self._rows.encode_many(part, n), indices, w=None if w is None else w[rows])

    def predict_tickets(self, x: Float32, *, keys: Sequence[bytes] | None = None) -> tuple[Int64, Float64]:
        """Predict a block whose labels come later.

        Parameters
        ----------
        x, keys
            As in `step`.

        Returns
        -------
        tickets
            int64 [n], for `learn_many`.
        proba
            float64 [n, C], class probabilities.

        Examples
        --------
        >>> from stream_moe import DriftMoE
        >>> model, x = DriftMoE(Schema.numeric(2, ["no", "yes"])), np.float32([[1, 0], [0, 1], [1, 1]])
        >>> tickets, proba = model.predict_tickets(x)
        >>> model.learn_many(x[1:], np.int32([0, 1]), tickets=tickets[1:])  # the first label is still on its way
        >>> tickets.tolist(), proba.shape
        ([0, 1, 2], (3, 2))
        """
        x = self._checked(x)
        tickets = self._tickets.new(len(x))
        return tickets, self.step(x, np.full(len(x), UNLABELLED, np.int32), tickets=tickets, keys=keys)

    def predict_proba_many(self, x: Any = None, *, X: Any = None) -> Any:
        """Class probabilities of many events; changes nothing.

        Parameters
        ----------
        x, X
            As in `learn_many`.

        Returns
        -------
        float64 [n, C]
            Of an array; of a pandas frame a frame of the same index, a column for each label; of another frame an
            array.
        """
        x = X if x is None else x
        with self._lock:
            proba, is_frame = self._proba_of(x)
            return like(x, proba, self._rows.labels) if is_frame else proba

    def predict_many(self, x: Any = None, *, X: Any = None) -> Any:
        """Predict many events; changes nothing.

        Parameters
        ----------
        x, X
            As in `learn_many`.

        Returns
        -------
        int32 [n]
            Class indices, of an array; of a pandas frame a Series of labels, of other events an array of labels.
        """
        x = X if x is None else x
        with self._lock:
            proba, is_frame = self._proba_of(x)
            if not is_frame:
                return proba.argmax(1).astype(np.int32)
            labels = self._rows.labels
            return like(x, [labels[best] for best in proba.argmax(1).tolist()] if labels else [], None)

    def _proba_of(self, x: Any) -> tuple[Float64, bool]:
        """Class probabilities float64 [n, C] of an array or a frame, and whether it is a frame."""
        if (columns := columns_of(x)) is None:
            return self._predict(self._checked(x)), False
        if not self._rows.started:
            return np.empty((columns[1], 0)), True
        return self._predict(self._rows.encode_many(*columns)), True

    # One event.
    def learn_one(
        self, x: dict[Any, Any], y: base.typing.ClfTarget, w: float = 1.0, *, ticket: Ticket | int | None = None
    ) -> None:
        """Learn an event and its label.

        Parameters
        ----------
        x, y
            Features by name, and the label.
        w
            How much the event counts in learning, 0 to 1,000,000: as river has it.
        ticket
            What `predict_ticket` gave, or its number, where the label comes later than the prediction. The model then
            learns from what it predicted at the time. None = label and event come together.

        Raises
        ------
        DataError
            If the ticket is another model's, was used before, or was never given.

        Notes
        -----
        `DriftMoE` keeps its latest 65,536 tickets (fewer with many experts or classes: 32 MB); the label of an
        older one is learnt as if it came with its event. So is every label in a model without gates.
        """
        number = NO_TICKET if ticket is None else self._tickets.number_of(ticket)
        counts = None if w == 1 else checked_importance(w, 1)
        with self._lock:
            if is_missing(y) and not self._rows.knows_label(y):
                if not self._said_unlabelled:
                    self._said_unlabelled = True
                    _log.warning("label %r is missing: nothing is learnt of its event, nor of others like it", y)
                return
            try:
                row, grown = self._rows.encode(x, y)
                if grown == "started":
                    self._start(self._rows.schema)
                elif grown == "grown":
                    self._grow(self._rows.schema)
            except Exception:  # of an event or a parameter that does not fit: the model is as it was
                self._rows.undo()
                raise
            tickets = None if number == NO_TICKET else np.array([number])
            self.learn_many(row, np.array([self._rows.class_of(y)], np.int32), tickets=tickets, w=counts)

    def predict_ticket(self, x: dict[Any, Any]) -> Ticket:
        """Predict an event whose label comes later.

        Parameters
        ----------
        x
            Features by name.

        Returns
        -------
        Ticket
            The prediction, and what to give to `learn_one` when the label is known.

        Examples
        --------
        >>> from stream_moe import DriftMoE
        >>> model = DriftMoE(seed=1)
        >>> model.learn_one({"load": 0.9}, "busy")
        >>> model.learn_one({"load": 0.1}, "calm")
        >>> ticket = model.predict_ticket({"load": 0.2})
        >>> ticket.number, ticket.prediction, sorted(ticket.probabilities)
        (0, 'calm', ['busy', 'calm'])
        >>> model.learn_one({"load": 0.2}, "calm", ticket=ticket)  # an hour later
        >>> model.learn_one({"load": 0.2}, "calm", ticket=ticket)
        Traceback (most recent call last):
        stream_moe.errors.DataError: ticket 0: its label was learnt before; a label is learnt once
        """
        with self._lock:
            if not self._rows.started:
                return Ticket(NO_TICKET, None, {}, self._tickets)
            tickets, proba = self.predict_tickets(self._rows.encode_known(x))
            probabilities = dict(zip(self._rows.labels, proba[0].tolist(), strict=True))
            best = self._rows.labels[int(proba[0].argmax())]
            return Ticket(int(tickets[0]), best, probabilities, self._tickets)

    def predict_one(self, x: dict[Any, Any], **_: Any) -> base.typing.ClfTarget | None:
        with self._lock:
            labels = self._rows.labels
            return labels[int(self._predict_row(x).argmax())] if labels else None

    def predict_proba_one(self, x: dict[Any, Any], **_: Any) -> dict[base.typing.ClfTarget, float]:
        with self._lock:
            if not self._rows.started:
                return {}
            return dict(zip(self._rows.labels, self._predict_row(x)[0].tolist(), strict=True))

    def _predict_row(self, x: dict[Any, Any]) -> Float64:
        return self._predict(self._rows.encode_known(x))


def columns_of(x: Any) -> tuple[dict[Any, Any], int] | None:
    """Return a frame's columns by name, as arrays of numbers or lists, and how many rows it has; None of an array."""
    if isinstance(x, (list, tuple)) and x and all(isinstance(event, Mapping) for event in x):
        return {name: [event.get(name) for event in x] for name in dict.fromkeys(chain(*x))}, len(x)
    if isinstance(x, np.ndarray) or not hasattr(x, "columns"):
        return None
    names = list(x.columns)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"x: {names.count(twice)} columns are called {twice!r}; rename all but one")
    found: dict[Any, Any] = {}
    for name in names:
        column = x[name]
        values = column.to_numpy()
        is_number = values.dtype.kind in "fiu"
        found[name] = values if is_number else column.to_list()
    return found, len(x)


def like(x: Any, values: Any, columns: Sequence[Any] | None) -> Any:
    """Return values as the frame that was given has them: of pandas with its index, else as an array."""
    if isinstance(x, (list, tuple)) or not hasattr(x, "index"):
        return np.asarray(values)
    import pandas as pd  # type: ignore[import-untyped]  # it is there: the frame is its

    return pd.Series(values, x.index) if columns is None else pd.DataFrame(values, x.index, columns)
