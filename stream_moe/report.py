"""What a learner and an engine say of themselves, once per block: the input of metrics, pages and summaries."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_moe.types import Int64


@dataclass(slots=True)
class ExpertReport:
    """One expert since the start (counts) and over the recent window (ratios)."""

    kind: str
    routed: int  # events it had the highest router weight for
    trained: int  # events it learnt
    accuracy: float  # 0-1, all labelled events it answered
    window_accuracy: float  # 0-1, exponentially weighted over about the last 1,000 labelled events
    nodes: int = 0
    memory_bytes: int = 0
    splits: int = 0
    resets: int = 0
    warnings: int = 0
    drifts: int = 0
    asleep: bool = False  # asked and trained on a thin sample of events only
    wakes: int = 0  # times it was woken


@dataclass(slots=True)
class LearnerReport:
    """The model's inner life."""

    experts: list[ExpertReport]
    expert_class: Int64  # [E, C] labelled events by routed expert and true class
    overlap: float  # 0-1: how often two experts of the pool are right together, of when either is
    load_entropy: float  # 0 = one expert is routed everything, 1 = uniform load
    confidence: float  # 0-1: mean highest router weight
    class_information: float  # 0-1: mutual information of routed expert and class / class entropy
    router_loss: float
    mixture_warnings: int = 0
    mixture_drifts: int = 0
    last_drift_event: int = -1  # labelled events seen when the latest drift was detected
    model_bytes: int = 0
    expert_detector: str = "adwin"  # which detector counted each expert's warnings and drifts
    mixture_detector: str = "adwin"


@dataclass(slots=True)
class QualityReport:
    """Prequential quality: every event scored before it was learnt."""

    events: int
    accuracy: float
    window_accuracy: float
    kappa: float
    kappa_majority: float
    kappa_temporal: float
    log_loss: float
    class_predictions: Int64  # [C]
    class_labels: Int64  # [C]


@dataclass(slots=True)
class EngineReport:
    """One engine (one partition) at the end of a block."""

    state: str  # starting, recovering, running, draining, stopped
    topic: str
    partition: int
    classes: tuple[str, ...]
    learner: LearnerReport
    quality: QualityReport
    events_consumed: int = 0  # records with features
    labels_consumed: int = 0
    predictions_committed: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)  # by reason
    lag_records: int = 0
    lag_seconds: float = 0.0
    block_size: int = 0
    pending_events: int = 0
    labels_expired: int = 0
    labels_duplicate: int = 0
    labels_orphan: int = 0
    step_seconds: dict[str, float] = field(default_factory=dict)  # of the latest block, by phase
    commit_seconds: float = 0.0  # of the latest block
    prediction_latencies: list[float] = field(default_factory=list)  # seconds, of the latest block
    checkpoint_time: float | None = None  # seconds since 1970 of the newest checkpoint
    checkpoint_seconds: float = 0.0
    checkpoint_bytes: int = 0
    checkpoint_failures: int = 0
    transactions_committed: int = 0
    replayed_events: int = 0
    recovery_seconds: float = 0.0
