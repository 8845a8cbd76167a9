"""One expert alone as a learner: the yardstick of every mixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.experts.base import Expert, facts_of
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.specialization import DriftsFound, Specialization, learner_report
from stream_moe.report import LearnerDrift, LearnerReport
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Float32, Float64, Int32, Schema


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
    ) -> None:
        self.expert, self.parameters = expert, parameters
        super().__init__(schema)

    def _start(self, schema: Schema) -> None:
        self._expert = self.expert(schema, **(self.parameters or {}))
        self.specialization = Specialization(1, schema.n_classes)
        self.monitor = DriftMonitor(1)  # the expert's error is the mixture's
        self._drifts = DriftsFound()

    def _step(self, x: Float32, y: Int32, weights: Float32 | None) -> Float64:
        n = len(x)
        proba = np.empty((n, self._expert.n_classes))
        self.phases.begin()
        self._expert.step(x, y, np.ones(n), proba)
        self.phases.end("experts")
        right = (proba.argmax(1) == y).astype(np.float32)[:, None]
        ones = np.ones((n, 1), np.float32)
        if weights is not None:
            weights[...] = ones
        self.specialization.update(np.zeros(n, np.int64), ones, np.ones((1, n)), right, y)
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

    def snapshot(self) -> Snapshot:
        return pack({name: part.snapshot() for name, part in self._parts().items()})

    def restore(self, snapshot: Snapshot) -> None:
        found = unpack(snapshot)
        for name, part in self._parts().items():
            part.restore(found[name])
        self._drifts.skip([facts_of(self._expert)])

    def _parts(self) -> dict[str, Expert | Specialization | DriftMonitor]:
        return {"expert": self._expert, "specialization": self.specialization, "monitor": self.monitor}

    def learning_parameters(self) -> dict[str, Any]:
        """As `BlockClassifier.learning_parameters`; the expert by its kind, wherever its class lies."""
        kind = getattr(self.expert, "kind", getattr(self.expert, "__name__", "expert"))
        return super().learning_parameters() | {"expert": kind}

    def take_drifts(self) -> list[LearnerDrift]:
        return self._drifts.take([facts_of(self._expert)], self.monitor)

    def report(self) -> LearnerReport:
        return learner_report([facts_of(self._expert)], self.specialization, self.monitor, router_loss=math.nan)
