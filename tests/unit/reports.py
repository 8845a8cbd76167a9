"""A synthetic engine report with every field known: the input of the telemetry tests."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from stream_moe.report import (
    DriftReport,
    ExpertReport,
    InputReport,
    KeyReport,
    LabelCounts,
    LearnerReport,
    PartitionReport,
    QualityReport,
)


def make_inputs(features: int = 2, **changes: Any) -> InputReport:
    """Say that all is well with the records, apart from the `changes`."""
    names = tuple(f"x{j}" for j in range(features))
    missing, none = np.arange(features) / 1000, np.zeros(features, np.int64)
    fields: dict[str, Any] = {"features": names, "names": {}, "other_names": 0, "missing": missing, "gone": (),
                              "categories": none}  # fmt: skip
    return InputReport(**{"grown": {"feature": 1, "category": 2, "class": 0}} | fields | changes)


def make_report(experts: int = 3, classes: int = 3, features: int = 2, **changes: Any) -> PartitionReport:
    """Make a report of a running engine; `changes` are fields of `PartitionReport`."""
    expert_class = np.arange(1, experts * classes + 1, dtype=np.int64).reshape(experts, classes)
    learner = LearnerReport(
        experts=[
            ExpertReport("tree", routed=100 + e, trained=300 + e, accuracy=0.7, window_accuracy=0.8,
                         nodes=7 + e, memory_bytes=4096, splits=3, resets=2, returns=1, warnings=2, drifts=1)
            for e in range(experts)
        ],
        expert_class=expert_class,
        overlap=0.6,
        load_entropy=0.9,
        confidence=0.55,
        class_information=0.3,
        router_loss=0.41,
        mixture_warnings=2,
        mixture_drifts=1,
        last_drift_event=850,
        model_bytes=123_456,
    )  # fmt: skip
    learner.experts[-1].asleep, learner.experts[-1].wakes = True, 2
    quality = QualityReport(
        events=int(expert_class.sum()),
        accuracy=0.875,
        window_accuracy=0.9,
        kappa=0.7,
        kappa_majority=0.6,
        kappa_temporal=0.5,
        log_loss=0.33,
        class_predictions=expert_class.sum(0),
        class_labels=expert_class.sum(0),
        class_right=expert_class[0],
        cost=30.0,
        class_costs=np.arange(40.0, 40.0 + classes),
    )
    names = tuple("abc") if classes == 3 else tuple(f"class-{c}" for c in range(classes))
    fields: dict[str, Any] = {
        "topic": "events",
        "partition": 3,
        "state": "running",
        "events_consumed": 1_000,
        "predictions_committed": 990,
        "dead_letters": {"bad-json": 2},
        "lag_records": 10,
        "lag_seconds": 0.5,
        "block_size": 256,
        "pending_events": 100,
        "labels": LabelCounts(received=900, applied=890, expired=1, duplicate=3, conflicting=2, orphan=4),
        "step_seconds": {"decode": 0.001, "route": 0.0005, "predict": 0.002, "train": 0.004, "send": 0.001},
        "commit_seconds": 0.03,
        "prediction_latencies": [0.04, 0.05],
        "label_delays": [12.0],
        "checkpoint_time": time.time(),
        "checkpoint_seconds": 0.2,
        "checkpoint_bytes": 40_000,
        "transactions_committed": 4,
        "retention_headroom": 700,
        "checkpoint_failures": {"space": 1},
        "drift": DriftReport(
            warnings={"feature": 5, "label": 0},
            detections={("feature", "ks"): 4, ("label", "rates"): 0},
            last_seconds={"feature": 1.7e9},
            strengths={f"x{j}": j / 100 for j in range(features)},
        ),
        "inputs": make_inputs(features),
    }
    fields["keys"] = KeyReport(120, 3, 20, 400_000, 131, 31, 4, 90_000)
    return PartitionReport(classes=names, learner=learner, quality=quality, **(fields | changes))
