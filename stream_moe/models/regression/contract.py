"""The contract of a learner whose target is a number: river's names for one event, blocks for many."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
from river import base

from stream_moe.errors import ConfigError, DataError
from stream_moe.models.events import columns_of, like
from stream_moe.models.kept import KeptModel
from stream_moe.models.parts import PendingSnapshot, StateFiles, Taken
from stream_moe.models.regression.report import NumberLearnerReport
from stream_moe.models.regression.rows import NumberRows
from stream_moe.models.tickets import Tickets, no_tickets
from stream_moe.models.weights import checked_importance
from stream_moe.report import KeyReport, LearnerDrift
from stream_moe.rows import clean
from stream_moe.runtime.phases import Phases
from stream_moe.types import NO_TICKET, UNLABELLED, Float32, Float64, Int64, Schema
from stream_moe.values import is_missing, number_of

LARGEST = 1e100  # of a target: the square of a larger one is none
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was predicted of an event.

    Attributes
    ----------
    answer
        The median of the distribution; None = nothing was learnt yet.
    low, high
        The interval.
    scale
        Of Student's t with four degrees of freedom around the answer whose interval is as wide.
    ticket
        To be given to `learn_one` when the target is known; -1 = none.
    """

    answer: float | None
    low: float = math.nan
    high: float = math.nan
    scale: float = math.nan
    ticket: int = NO_TICKET


class BlockRegressor(KeptModel, base.Regressor):  # type: ignore[misc]
    """A regressor that learns one event (river's way, dicts) or a block of them (arrays), with equal results.

    Features may be missing, NaN, new or of the wrong type, as in `stream_moe.BlockClassifier`. Of a target that is
    missing, infinite or beyond 1e100 nothing is learnt. A feature that is new makes the model begin anew, unless a
    schema was given: then it is ignored.

    Parameters
    ----------
    schema
        Features and target; None = learn the features from the dicts given to `learn_one`.
    given
        Parameters of the subclass that its attributes do not keep as they were given.

    Examples
    --------
    >>> from stream_moe import DriftMoERegressor
    >>> model = DriftMoERegressor(seed=1)
    >>> for t in range(100):
    ...     model.learn_one({"hour": t % 24}, 10.0 + t % 24)
    >>> abs(model.predict_one({"hour": 100 % 24}) - 14.0) < 0.5, isinstance(model, BlockRegressor)
    (True, True)
    """

    _encoder = NumberRows
    _rows: NumberRows
    keeps_tickets = True
    files: StateFiles | None = None

    def __init__(self, schema: Schema | None, **given: Any) -> None:
        if schema is not None and schema.target is None:
            raise ConfigError(
                f"{type(self).__name__}: predicts a number, and the schema has classes {schema.classes[:4]}; give "
                "Schema(features, target=Target(name)), or take DriftMoE"
            )
        self._given = {"schema": schema, **given}
        self._rows = NumberRows(schema)
        self._tickets = Tickets()
        self._lock = RLock()
        self._told = False
        self.phases = Phases()
        if schema is not None:
            self._start(schema)

    @abstractmethod
    def _grow(self, schema: Schema) -> None: ...

    @abstractmethod
    def _step(self, x: Float32, y: Float64, tickets: Int64, w: Float64) -> Float64: ...

    @abstractmethod
    def _predict(self, x: Float32) -> Float64: ...

    @abstractmethod
    def report(self) -> NumberLearnerReport:
        """Return what the learner reports of its experts."""

    @property
    def n_experts(self) -> int:
        """Width of the weights that `step` would give."""
        return 1

    @property
    def keys(self) -> KeyReport | None:
        """None: there is one model."""
        return None

    def begin_snapshot(self) -> PendingSnapshot:
        """Begin a snapshot of the state as it is now."""
        return Taken(self.snapshot())

    def take_drifts(self) -> list[LearnerDrift]:
        """Return the drifts that the learner found in its own errors since this was last asked."""
        return []

    # Blocks.
    def step(
        self,
        x: Float32,
        y: Float64,
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
            float64 [n]; NaN = no target: the event is predicted only.
        weights, keys
            Not used.
        tickets
            int64 [n], as `stream_moe.BlockClassifier.step` has them.
        w
            float64 [n], how much each event counts in learning; 0 = its target is not learnt. None = 1 each.

        Returns
        -------
        float64 [n, 4]
            Of each event, made BEFORE it was learnt: the answer, the interval's ends, the scale.
        """
        with self._lock:
            x, y = self._checked(x), self._checked_targets(y)
            if len(x) != len(y):
                raise DataError(f"y: {len(y)} targets for {len(x)} rows; give one (or NaN) per row")
            counts = np.ones(len(y)) if w is None else checked_importance(w, len(y))
            if tickets is None:
                tickets = no_tickets(len(x))
            else:
                tickets = np.ascontiguousarray(tickets, np.int64)
                if len(tickets) != len(x):
                    raise DataError(f"tickets: {len(tickets)} for {len(x)} rows; give one (or -1) per row")
                self._tickets.give(np.where(np.isnan(y), UNLABELLED, 0).astype(np.int32), tickets)
            if (idle := (counts == 0) & ~np.isnan(y)).any():
                y, tickets = np.where(idle, np.nan, y), np.where(idle, NO_TICKET, tickets)
            return self._bounded(self._step(x, y, tickets, counts))

    def _bounded(self, answers: Float64) -> Float64:
        """Keep answers [n, 4] inside the target's bounds."""
        target = self.schema.target
        if target is not None and not (target.low is None and target.high is None):
            np.clip(answers[:, :3], target.low, target.high, out=answers[:, :3])
        return answers

    def learn_many(
        self, x: Any = None, y: Any = None, *, X: Any = None, tickets: Int64 | None = None, w: Float64 | None = None
    ) -> None:
        """Learn a block; the same as `step`, without an answer.

        Parameters
        ----------
        x, X
            float32 [n, d] as in `step`, or a frame whose columns are found by name; `X` is river's name for it.
        y
            n numbers.
        tickets, w
            As in `step`.
        """
        x = X if x is None else x
        with self._lock:
            if (columns := columns_of(x)) is None:
                self._learn_rows(x, y, tickets, w)
                return
            found, n = columns
            targets = y.tolist() if hasattr(y, "tolist") else list(y)
            if len(targets) != n:
                raise DataError(f"y: {len(targets)} targets for {n} rows; give one per row")
            if n and not self._rows.fixed:  # what the first row brings is what the model begins with
                for t in range(n):
                    event = {name: column[t] for name, column in found.items()}
                    if not self._rows.brings_nothing_new(event, None):
                        self._take_features(event)
            self._learn_rows(self._rows.encode_many(found, n), targets, tickets, w)

    def _learn_rows(self, x: Float32, y: Any, tickets: Int64 | None, w: Float64 | None) -> None:
        if tickets is None:
            self.step(x, y, w=w)
            return
        tickets = np.where(np.isnan(self._checked_targets(y)), NO_TICKET, np.asarray(tickets))
        self._tickets.check(tickets)
        self.step(x, y, tickets=tickets, w=w)
        self._tickets.use(tickets)

    def predict_many(self, x: Any = None, *, X: Any = None) -> Any:
        """Predict many events; changes nothing. Return float64 [n], of a pandas frame a Series."""
        x = X if x is None else x
        with self._lock:
            if (columns := columns_of(x)) is None:
                return self._bounded(self._predict(self._checked(x)))[:, 0]
            if not self._rows.started:
                return like(x, np.zeros(columns[1]), None)
            return like(x, self._bounded(self._predict(self._rows.encode_many(*columns)))[:, 0], None)

    def predict_interval_many(self, x: Float32) -> Float64:
        """Answer, interval and scale of many events, float64 [n, 4]; changes nothing."""
        with self._lock:
            return self._bounded(self._predict(self._checked(x)))

    # One event.
    def learn_one(self, x: dict[Any, Any], y: float, w: float = 1.0, *, ticket: int | None = None) -> None:
        """Learn an event and its target.

        Parameters
        ----------
        x, y
            Features by name, and the number.
        w
            How much the event counts in learning, 0 to 1,000,000.
        ticket
            What `forecast_one` gave, where the target comes later than the prediction.

        Raises
        ------
        DataError
            If the target is no number, or the ticket was never given or was used before.
        """
        number = NO_TICKET if ticket is None else self._tickets.number_of(ticket)
        with self._lock:
            target = self._number(y)
            if math.isnan(target):
                return
            row = self._take_features(x)
            tickets = None if number == NO_TICKET else np.array([number])
            self._learn_rows(row, np.array([target]), tickets, None if w == 1 else checked_importance(w, 1))

    def _take_features(self, x: dict[Any, Any]) -> Float32:
        """Return the row of an event, growing for what it brings."""
        try:
            row, grown = self._rows.encode_features(x)
            if grown == "started":
                self._start(self._rows.schema)
            elif grown == "grown":
                self._grow(self._rows.schema)
        except Exception:  # of an event that does not fit: the model is as it was
            self._rows.undo()
            raise
        if not self._rows.started:
            raise DataError("an event without any feature begins no model; give one with features")
        return row

    def predict_one(self, x: dict[Any, Any]) -> float:
        """Predict the number; changes nothing. 0 before anything was learnt."""
        answer = self.predict_interval_one(x).answer
        return 0.0 if answer is None else answer

    def predict_interval_one(self, x: dict[Any, Any]) -> Forecast:
        """Predict the number with its interval; changes nothing."""
        with self._lock:
            if not self._rows.started:
                return Forecast(None)
            found = self._bounded(self._predict(self._rows.encode_known(x)))
            return Forecast(*found[0].tolist())

    def forecast_one(self, x: dict[Any, Any]) -> Forecast:
        """Predict an event whose target comes later; its ticket goes to `learn_one` then."""
        with self._lock:
            if not self._rows.started:
                return Forecast(None)
            tickets = self._tickets.new(1)
            found = self.step(self._rows.encode_known(x), np.array([np.nan]), tickets=tickets)
            answer, low, high, scale = found[0].tolist()
            return Forecast(answer, low, high, scale, int(tickets[0]))

    # What comes in.
    def _number(self, y: Any) -> float:
        """Return a target as a float, NaN where it is missing; DataError where it is no number."""
        if is_missing(y):
            return math.nan
        number = number_of(y)
        if number is None:
            raise DataError(f"target: {y!r:.60} is no number; give one, or take DriftMoE for classes")
        return float(self._checked_targets(np.array([float(number)]))[0])

    def _checked_targets(self, y: Any) -> Float64:
        """Return targets float64 [n], those that are infinite or too large as missing."""
        try:
            found = np.array(y, np.float64, ndmin=1)
        except (TypeError, ValueError):
            raise DataError("y: holds what is no number; give float64 [n], NaN where there is none") from None
        if (beyond := np.abs(found) > LARGEST).any():
            if not self._told:
                self._told = True
                _log.warning(
                    "target %g is infinite or beyond 1e100: taken as missing, and so are others", found[beyond][0]
                )
            found[beyond] = np.nan
        return found

    def _checked(self, x: Float32) -> Float32:
        self._require_schema()
        x = np.array(x, np.float32, ndmin=2, order="C")
        if x.ndim != 2 or x.shape[1] != self.schema.n_features:
            raise DataError(f"x: shape {x.shape}, expected [n, {self.schema.n_features}] as in the schema")
        clean(x, self.schema.n_categories)
        return x
