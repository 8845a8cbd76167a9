"""One expert alone as a learner: the yardstick of every mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import ConfigError
from stream_moe.experts.base import Expert, facts_of
from stream_moe.experts.kinds import KINDS, current_kind, expert_class
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.parts import Part
from stream_moe.models.specialization import DriftsFound, Specialization, learner_report
from stream_moe.models.weights import checked_weights
from stream_moe.report import LearnerDrift, LearnerReport
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Int64, Schema


class SingleExpert(BlockClassifier):
    """One expert that is routed, and learns, every event.

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    expert
        What makes the expert: called with the schema, then `parameters` by keyword.
    parameters
        Keyword arguments of `expert`; None = its defaults.
    class_weight
        How much an event of a class counts in learning, by label; 1 for those not named. None = all count as one.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> from stream_moe.experts.neighbours.knn import WindowKNN
    >>> model = SingleExpert(expert=WindowKNN, parameters={"k": 5})
    >>> evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())
    Accuracy: 88.87%
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        expert: Callable[..., Expert] = HoeffdingTree,
        parameters: dict[str, Any] | None = None,
        class_weight: Mapping[Any, float] | None = None,
    ) -> None:
        self.expert, self.parameters = expert, parameters
        self.class_weight = checked_weights(class_weight)
        super().__init__(schema)

    def _start(self, schema: Schema) -> None:
        self._expert = self.expert(schema, **(self.parameters or {}))
        self.specialization = Specialization(1, schema.n_classes)
        self.monitor = DriftMonitor(1)  # the expert's error is the mixture's
        self._drifts = DriftsFound()

    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        return self._step_weighted(x, y, weights, tickets, np.ones(len(x)))

    def _step_weighted(self, x: Float32, y: Int32, weights: Float32, tickets: Int64, w: Float64) -> Float64:
        n = len(x)
        proba = np.empty((n, self._expert.n_classes))
        self.phases.begin()
        self._expert.step(x, y, w, proba)
        self.phases.end("experts")
        right = (proba.argmax(1) == y).astype(np.float32)[:, None]
        weights[...] = 1.0
        self.specialization.update(np.zeros(n, np.int64), weights, np.ones((1, n)), right, y)
        self.monitor.update(1 - right[y >= 0])
        self.phases.end("account")
        return proba

    def _predict(self, x: Float32) -> Float64:
        proba = np.empty((len(x), self._expert.n_classes))
        self._expert.step(x, np.full(len(x), -1, np.int32), np.zeros(len(x)), proba)
        return proba

    def _grow(self, schema: Schema) -> None:
        self._expert.grow(schema)
        self.specialization.grow(1, schema.n_classes)

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self._drifts.skip([facts_of(self._expert)])

    def _parts(self) -> Mapping[str, Part]:
        return {"expert": self._expert, "specialization": self.specialization, "monitor": self.monitor}

    def learning_parameters(self) -> dict[str, Any]:
        """As `BlockClassifier.learning_parameters`; the expert by its kind, wherever its class lies."""
        kind = getattr(self.expert, "kind", getattr(self.expert, "__name__", "expert"))
        return super().learning_parameters() | {"expert": kind}

    def to_kept(self) -> dict[str, Any]:
        """As `BlockClassifier.to_kept`; ConfigError unless the expert is one of stream_moe's kinds."""
        kept = super().to_kept()
        kind = kept["parameters"]["expert"]
        if kind not in KINDS or expert_class(kind) is not self.expert:
            raise ConfigError(
                f"SingleExpert: a model of {kind} cannot be made again from a file, as only experts of stream_moe "
                "can; learn its events again, or keep what it can of its state with stream_moe.state_to_bytes"
            )
        return kept

    @classmethod
    def from_kept(cls, schema: Schema, kept: Mapping[str, Any]) -> Self:
        """As `BlockClassifier.from_kept`."""
        parameters = kept["parameters"] | {"expert": expert_class(current_kind(kept["parameters"]["expert"]))}
        return super().from_kept(schema, {**kept, "parameters": parameters})

    def take_drifts(self) -> list[LearnerDrift]:
        return self._drifts.take([facts_of(self._expert)], self.monitor)

    def _report(self) -> LearnerReport:
        return learner_report([facts_of(self._expert)], self.specialization, self.monitor, router_loss=math.nan)
