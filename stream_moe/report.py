"""What a learner and an engine say of themselves, once per block: the input of metrics, pages and summaries."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from stream_moe.types import Float64, Int64

# How the reports of several partitions are taken together, field by field; those not marked are counts: their sum.
MEAN, LATEST, SAME, ALL = ({"total": name} for name in ("mean", "latest", "same", "all"))
MOST_CONFUSED = 64  # classes up to which a report holds who was taken for whom: 32 KiB
ENOUGH_LABELS = 1000  # from which on a model that is no better than naming the majority class is told of


@dataclass(slots=True)
class ExpertReport:
    """One expert since the start (counts) and over the recent window (ratios)."""

    kind: str = field(metadata=SAME)
    routed: int  # events it had the highest router weight for
    trained: int  # events it learnt
    accuracy: float = field(metadata=MEAN)  # 0-1, all labelled events it answered
    window_accuracy: float = field(metadata=MEAN)  # 0-1, weighted over about the last 1,000 labelled events
    nodes: int = 0
    memory_bytes: int = 0
    splits: int = 0
    resets: int = 0
    warnings: int = 0
    drifts: int = 0
    returns: int = 0  # resets in which one that was replaced before came back
    asleep: bool = field(default=False, metadata=ALL)  # active on a thin sample of events only
    wakes: int = 0  # times it was woken


@dataclass(slots=True)
class LearnerReport:
    """The model's inner life."""

    experts: list[ExpertReport] = field(metadata=SAME)  # taken together one by one: `total_learner`
    expert_class: Int64  # [E, C] labelled events by routed expert and true class
    overlap: float = field(metadata=MEAN)  # 0-1: how often two experts are right together, of when either is
    load_entropy: float = field(metadata=MEAN)  # 0 = one expert is routed everything, 1 = uniform load
    confidence: float = field(metadata=MEAN)  # 0-1: mean highest router weight
    class_information: float = field(metadata=MEAN)  # 0-1: mutual information of routed expert and class / entropy
    router_loss: float = field(metadata=MEAN)
    mixture_warnings: int = 0
    mixture_drifts: int = 0
    last_drift_event: int = field(default=-1, metadata=LATEST)  # labelled events seen when it was detected
    last_mixture_drift: int = field(default=-1, metadata=LATEST)  # the same, of the mixture alone
    model_bytes: int = 0
    expert_detector: str = field(default="adwin", metadata=SAME)  # which counted each expert's warnings and drifts
    mixture_detector: str = field(default="adwin", metadata=SAME)


@dataclass(slots=True)
class QualityReport:
    """Prequential quality: every event scored before it was learnt."""

    events: int
    accuracy: float = field(metadata=MEAN)
    window_accuracy: float = field(metadata=MEAN)  # 0-1, over about the last 1,000 labelled events
    kappa: float = field(metadata=MEAN)
    kappa_majority: float = field(metadata=MEAN)
    kappa_temporal: float = field(metadata=MEAN)
    log_loss: float = field(metadata=MEAN)
    class_predictions: Int64  # [C]
    class_labels: Int64  # [C]
    class_right: Int64  # [C] of class_labels, those predicted right
    majority_right: int = 0  # events that naming the majority class so far gets right
    no_change_right: int = 0  # events that repeating the previous label gets right
    confusion: Int64 | None = None  # [C, C] true by predicted class; None = more than 64 classes
    cost: float | None = None  # of all answers; None = all errors are alike
    class_costs: Float64 | None = None  # [C] of having named each class always

    @property
    def class_recall(self) -> Float64:
        """float64 [C]: share of each class's events that were predicted right; NaN for a class not seen yet."""
        return shares(self.class_right, self.class_labels)

    @property
    def class_precision(self) -> Float64:
        """float64 [C]: share of the answers of each class that were right; NaN for a class never answered."""
        return shares(self.class_right, self.class_predictions)

    @property
    def class_f1(self) -> Float64:
        """float64 [C]: harmonic mean of precision and recall, 0 where none was right; NaN where neither is known."""
        return shares(2 * self.class_right, self.class_labels + self.class_predictions)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes seen (Brodersen et al. 2010); 0 before any."""
        return mean_known(self.class_recall)

    @property
    def g_mean(self) -> float:
        """Geometric mean of the recall of the classes seen (Kubat & Matwin 1997; Sun et al. 2006); 0 before any."""
        return geometric_mean(self.class_recall)


@dataclass(slots=True)
class LabelCounts:
    """What became of the labels: received = applied + expired + duplicate + conflicting + orphan + waiting ones."""

    received: int = 0
    applied: int = 0
    expired: int = 0  # their event had given up waiting
    duplicate: int = 0
    conflicting: int = 0  # again, with another class
    orphan: int = 0  # their event never came
    events_expired: int = 0  # events that gave up waiting


class LearnerDrift(NamedTuple):
    """A drift that a learner found in its own errors."""

    scope: str  # expert or mixture
    detector: str
    which: str  # number and kind of the expert
    event: int | None  # labelled events learnt when it was found; None = some time in the latest block
    strength: float | None  # 0-1: by how much the error rate had risen; None = its detector does not say


@dataclass(frozen=True, slots=True)
class Drift:
    """One drift, as an event log has it.

    Attributes
    ----------
    event
        Number (from 1) of the latest event read when it was found.
    offset, timestamp
        Of that event: position in the log (in a replay: in the stream), ms since 1970 or None = unknown.
    scope, detector
        feature, expert, mixture or label; ks, rates, adwin or cusum.
    which
        Names of features, the strongest first; number and kind of an expert; a class.
    strength
        0-1, None = not known. feature: the distance of Kolmogorov and Smirnov, of a nominal one the largest change of
        a category's rate. label: the change of the class's rate. expert, mixture: the rise of the error rate.
    within
        It was found some time in the last so many labelled events; 0 = exactly there.

    Examples
    --------
    >>> Drift(2048, 2047, None, "feature", "ks", "x1", 0.25, 0).to_json()[:60]
    b'{"event": 2048, "offset": 2047, "timestamp": null, "scope": '
    """

    event: int
    offset: int
    timestamp: int | None
    scope: str
    detector: str
    which: str
    strength: float | None
    within: int

    def to_json(self) -> bytes:
        """Write one line of a drift log, without its line end."""
        return json.dumps(asdict(self)).encode()


@dataclass(slots=True)
class DriftReport:
    """What the detectors beside the learner have found, by scope; the learner's own are in `LearnerReport`."""

    warnings: dict[str, int] = field(default_factory=dict)  # by scope: feature, label
    detections: dict[tuple[str, str], int] = field(default_factory=dict)  # by scope and detector
    last_seconds: dict[str, float] = field(default_factory=dict)  # by scope: event time, seconds since 1970
    strengths: dict[str, float] = field(default_factory=dict)  # by feature, 0-1: distance of its recent distribution
    found: list[Drift] = field(default_factory=list)  # in the latest block


@dataclass(slots=True)
class KeyReport:
    """The keys of a partition that has a model for each."""

    known: int = 0
    forgotten: int = 0  # keys that had to make room for others
    resident: int = 0  # models in memory
    resident_bytes: int = 0
    evicted: int = 0  # models that left memory since the process started
    loaded: int = 0  # models read back
    segments: int = 0  # files that hold models
    segment_bytes: int = 0


@dataclass(slots=True)
class InputReport:
    """What the records of a partition bring beside, and instead of, what the schema has."""

    features: tuple[str, ...]  # d names
    names: dict[str, int]  # records by name that is no feature, of the first 100 such names
    other_names: int  # how often further ones came
    missing: Float64  # [d] share of missing values in the latest 1,000 events, NaN before there were so many
    gone: tuple[str, ...]  # features that are missing now and were there before
    categories: Int64  # [d] values that are none of the feature's categories
    grown: dict[str, int] = field(default_factory=dict)  # by kind, what the schema took in since it began


@dataclass(slots=True)
class PartitionReport:
    """One partition and its model at the end of a block."""

    state: str  # recovering, running, draining, stopped
    topic: str
    partition: int
    classes: tuple[str, ...]
    learner: LearnerReport
    quality: QualityReport
    events_consumed: int = 0  # records with features
    predictions_committed: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)  # by reason
    lag_records: int = 0
    lag_seconds: float = 0.0
    retention_headroom: int = 0  # committed position minus the first one that the log still holds
    block_size: int = 0
    pending_events: int = 0
    early_labels: int = 0
    labels: LabelCounts = field(default_factory=LabelCounts)
    step_seconds: dict[str, float] = field(default_factory=dict)  # of the latest block, by phase
    commit_seconds: float = 0.0  # of the latest block
    prediction_latencies: Sequence[float] | Float64 = ()  # seconds, of the latest block
    label_delays: Sequence[float] | Float64 = ()  # seconds, of labels with a record of their own
    checkpoint_time: float | None = None  # seconds since 1970 of the newest checkpoint
    checkpoint_seconds: float = 0.0
    checkpoint_bytes: int = 0
    checkpoint_failures: dict[str, int] = field(default_factory=dict)  # by reason
    transactions_committed: int = 0
    replayed_events: int = 0
    recovery_seconds: float = 0.0
    replay_divergences: int = 0
    drift: DriftReport = field(default_factory=DriftReport)
    keys: KeyReport | None = None  # with a model for each key
    inputs: InputReport | None = None  # of a log
    answers: str = ""  # how they follow from the probabilities; empty = the most probable class


@dataclass(slots=True)
class GroupReport:
    """This process as a member of its group."""

    state: str  # starting, recovering, running, draining, stopped
    partitions: tuple[int, ...] = ()  # assigned to this process now
    rebalances: int = 0  # changes of the partitions
    outcomes: dict[str, int] = field(default_factory=dict)  # transactions: committed, aborted, fenced, in_doubt
    watchdog_fired: int = 0  # calls of the log's client that outlasted their deadline
    config_hash: str = ""  # of model, schema and learning parameters; the first 8 hex digits


def drifts_by_scope(learner: LearnerReport, drift: DriftReport) -> dict[str, int]:
    """Count the drifts of each scope."""
    counts = {scope: n for (scope, _), n in drift.detections.items()}
    counts |= {"expert": sum(expert.drifts for expert in learner.experts), "mixture": learner.mixture_drifts}
    return dict(sorted(counts.items()))


def shares(part: Int64, whole: Int64) -> Float64:
    """Return part / whole, NaN where the whole is 0.

    Examples
    --------
    >>> shares(np.array([1, 0]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    return np.divide(part, whole, out=np.full(len(whole), math.nan), where=whole > 0)


def mean_known(values: Float64) -> float:
    """Mean of the values that are not NaN; 0 where none is.

    Examples
    --------
    >>> mean_known(np.array([1.0, 0.5, np.nan]))
    0.75
    """
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def majority_only(accuracy: float, kappa_majority: float, class_labels: Sequence[int] | Int64) -> int | None:
    """Return the largest class where a model is no better than always naming it, else None.

    It is told once there are 1,000 labels, and kappa over the majority class so far is not above 0, or no more was
    right than the largest class has labels: the two differ by the first events, when nobody knew the majority.

    Examples
    --------
    >>> majority_only(0.993, 0.001, [993, 7]), majority_only(0.994, 0.14, [993, 7]), majority_only(0.9, 0.0, [99, 1])
    (0, None, None)
    """
    events, largest = int(sum(class_labels)), int(np.argmax(class_labels))
    is_no_better = kappa_majority <= 0 or round(accuracy * events) <= class_labels[largest]
    return largest if is_no_better and events >= ENOUGH_LABELS else None


def no_better(
    accuracy: float,
    kappa_majority: float,
    class_labels: Sequence[int] | Int64,
    cost: float | None = None,
    class_costs: Sequence[float] | Float64 | None = None,
) -> int | None:
    """Return the class that, always named, does as well as the answers, else None.

    Where answers have costs (total, and of always naming each class) it is the cheapest class, once there are 1,000
    labels; else as `majority_only` says.

    Examples
    --------
    >>> no_better(0.99, 0.0, [993, 7], 30.0, [70.0, 993.0]), no_better(0.99, 0.0, [993, 7], 70.0, [70.0, 993.0])
    (None, 0)
    """
    if cost is None or class_costs is None:
        return majority_only(accuracy, kappa_majority, class_labels)
    best = int(np.argmin(class_costs))
    return best if cost >= class_costs[best] and int(sum(class_labels)) >= ENOUGH_LABELS else None


def geometric_mean(recall: Float64) -> float:
    """Geometric mean of the recalls [C] that are not NaN; 0 where none is.

    Examples
    --------
    >>> round(geometric_mean(np.array([0.9, 0.4, np.nan])), 3)
    0.6
    """
    seen = recall[~np.isnan(recall)]
    return float(np.prod(seen) ** (1 / len(seen))) if len(seen) else 0.0


def total_quality(parts: Sequence[QualityReport]) -> QualityReport:
    """Take the scores of several partitions together: counts as sums, ratios weighted by their labelled events."""
    return QualityReport(**_total(parts, [part.events for part in parts]))


def total_learner(parts: Sequence[LearnerReport], events: Sequence[int]) -> LearnerReport:
    """Take the models of several partitions together, expert by expert; ratios are weighted by `events`."""
    columns = zip(*(part.experts for part in parts), strict=True)
    experts = [ExpertReport(**_total(column, events)) for column in columns]
    return LearnerReport(**_total(parts, events) | {"experts": experts})


def _total(parts: Sequence[Any], weights: Sequence[int]) -> dict[str, Any]:
    """Take reports of one kind together, each field as it is marked."""
    whole, total = sum(weights), dict[str, Any]()
    for each in fields(parts[0]):
        values = [getattr(part, each.name) for part in parts]
        rule = each.metadata.get("total") if len(parts) > 1 else "same"
        if rule == "mean":
            weighted = sum(v * w for v, w in zip(values, weights, strict=True) if w)
            total[each.name] = weighted / whole if whole else values[0]
        elif rule == "same":
            total[each.name] = values[0]
        elif rule in ("latest", "all"):
            total[each.name] = max(values) if rule == "latest" else all(values)
        else:
            total[each.name] = None if values[0] is None else sum(values)
    return total
