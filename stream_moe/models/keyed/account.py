"""What a learner of many models says of itself: their answers, taken together as one model's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.models.specialization import Specialization, accuracies
from stream_moe.report import LearnerReport
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Float32, Float64, Int32


class Account:
    """Routing, rightness and drift over the events of all keys, in the order of the log.

    Of a mixture only the answer is seen, so it counts for the expert with the highest weight.

    Parameters
    ----------
    n_experts, n_classes
        Of each model.
    """

    def __init__(self, n_experts: int, n_classes: int) -> None:
        self._routing = Specialization(n_experts, n_classes)
        self._monitor = DriftMonitor(1)

    def update(self, proba: Float64, y: Int32, weights: Float32) -> None:
        """Take n answers [n, C], their labels [n], and the routers' weights [n, E]."""
        top = weights.argmax(1)
        right = np.where(np.arange(weights.shape[1]) == top[:, None], (proba.argmax(1) == y)[:, None], np.nan)
        chosen = np.ascontiguousarray((~np.isnan(right)).T, np.float64)
        self._routing.update(top, weights, chosen, right.astype(np.float32), y)
        labelled = np.flatnonzero(y >= 0)
        self._monitor.update(1 - right[labelled, top[labelled]].astype(np.float32)[:, None])

    def report(self, one: LearnerReport, model_bytes: int) -> LearnerReport:
        """Report all models; `one` tells what experts each has. What goes on inside them is not added up."""
        counts, monitor = self._routing.counts, self._monitor
        labelled = int(counts.events[0])
        accuracy = accuracies(counts.right, labelled, labelled - counts.routed)
        experts = [
            replace(
                expert,
                routed=int(counts.routed[e]),
                trained=int(counts.trained[e]),
                accuracy=float(accuracy[e]),
                window_accuracy=float(counts.moving[e]),
                nodes=0,
                memory_bytes=0,
            )
            for e, expert in enumerate(one.experts)
        ]
        return replace(
            one,
            experts=experts,
            expert_class=counts.by_class.copy(),
            load_entropy=self._routing.load_entropy,
            confidence=self._routing.confidence,
            class_information=self._routing.class_information,
            mixture_warnings=int(monitor.warnings[0]),
            mixture_drifts=int(monitor.drifts[0]),
            last_drift_event=int(monitor.last_drift[0]),
            last_mixture_drift=int(monitor.last_drift[0]),
            model_bytes=model_bytes,
            mixture_detector="adwin",
        )

    def snapshot(self) -> Snapshot:
        return pack({"routing": self._routing.snapshot(), "monitor": self._monitor.snapshot()})

    def restore(self, snapshot: Snapshot) -> None:
        found = unpack(snapshot)
        self._routing.restore(found["routing"])
        self._monitor.restore(found["monitor"])
