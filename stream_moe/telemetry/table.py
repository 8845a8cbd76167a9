"""The one table of all metrics: name, kind, help, labels, and how to read the value from a report.

A number is added in one place, its row here: `stream_moe.telemetry.prometheus` renders it, the page shows what has
`page`, `docker/write.py` writes it into docs/metrics.md, and a dashboard that names it nowhere else gets a panel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import add
from typing import Any

import numpy.typing as npt

from stream_moe import __version__
from stream_moe.report import ExpertReport, InputReport, KeyReport, LearnerReport, PartitionReport
from stream_moe.telemetry.memory import memory_limit, resident_memory
from stream_moe.telemetry.spec import Durations, GroupReader, Labels, MetricSpec, Reader, Samples, Shown
from stream_moe.telemetry.text import count, number, percent, size

PREFIX = "stream_moe_"
STATES = ("starting", "recovering", "running", "draining", "stopped")
OUTCOMES = ("committed", "aborted", "fenced", "in_doubt")
FAILURES = ("space", "access", "memory", "other")  # why a checkpoint was not written

# Bounds that keep one process under 2,000 series whatever the model and the data are. What is beyond a bound
# is added up under "other" (classes, reasons) or left out (experts, phases). With many partitions the flow is shown
# for each; the rest, and then what goes by expert or class, for as many of the first ones as there is room for.
MAX_SERIES = 1_950
MAX_EXPERTS = 64
MAX_CLASSES = 32
MAX_AFFINITIES = 832  # experts x classes: 64 experts show 12 classes, 12 experts all 33
MAX_REASONS = 32
MAX_PHASES = 8
MAX_FEATURES = 32
MAX_NAMES = 12
OTHER = "other"

# From a tenth of a millisecond (one small block in memory) to a minute (a log that was behind).
SECONDS_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# From a label that is there at once to a day, after which by default it counts as expired.
DELAY_BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0)


def _bounded(
    values: Iterable[tuple[str, float]], limit: int, together: Callable[[float, float], float] = add
) -> Iterator[tuple[Labels, float]]:
    """Each of the first `limit` values by its name, and what comes after them taken together as "other"."""
    found: dict[str, float] = {}
    for index, (name, value) in enumerate(values):
        label = name if index < limit else OTHER
        found[label] = together(found.get(label, 0.0), value)  # one of the first may itself be called "other"
    return (((label,), value) for label, value in found.items())


def _per_class(values: Callable[[PartitionReport], npt.NDArray[Any]]) -> Reader:
    return lambda report: _bounded(zip(report.classes, values(report).tolist(), strict=True), MAX_CLASSES)


def _per_expert(value: Callable[[ExpertReport], float]) -> Reader:
    return lambda report: [((str(e),), value(x)) for e, x in enumerate(report.learner.experts[:MAX_EXPERTS])]


def _affinity(report: PartitionReport) -> Iterator[tuple[tuple[str, ...], float]]:
    """Share of each class in the labelled events routed to each expert; an expert without any has no row."""
    rows = report.learner.expert_class[:MAX_EXPERTS]
    limit = min(MAX_CLASSES, MAX_AFFINITIES // max(1, len(rows)) - 1)
    for e, row in enumerate(rows):
        total = row.sum()
        if total > 0:
            for labels, share in _bounded(zip(report.classes, (row / total).tolist(), strict=True), limit):
                yield (str(e), *labels), share


def _scored(read: Reader) -> Reader:
    """A quality is unknown, not zero, before the first labelled event."""
    return lambda report: read(report) if report.quality.events > 0 else None


def _costs(report: PartitionReport) -> Samples | None:
    quality = report.quality
    if quality.cost is None or quality.class_costs is None:
        return None
    n = quality.events
    return [(("answers",), quality.cost / n), (("one class",), float(quality.class_costs.min()) / n)]


def _routed(value: Callable[[LearnerReport], float]) -> Reader:
    """How a router spreads its load is unknown before it had any; a zero would look like a collapse."""
    return lambda report: value(report.learner) if any(x.routed for x in report.learner.experts) else None


def _saved(value: Callable[[PartitionReport], float]) -> Reader:
    return lambda report: None if report.checkpoint_time is None else value(report)


def _of_topic(value: Callable[[PartitionReport], float]) -> Reader:
    return lambda report: [((report.topic, str(report.partition)), value(report))]


def _warnings(report: PartitionReport) -> Samples:
    learner, counts = report.learner, report.drift.warnings
    return [
        *(((scope,), n) for scope, n in counts.items()),
        (("expert",), sum(x.warnings for x in learner.experts)),
        (("mixture",), learner.mixture_warnings),
    ]


def _drifts(report: PartitionReport) -> Samples:
    learner = report.learner
    return [
        *report.drift.detections.items(),
        (("expert", learner.expert_detector), sum(x.drifts for x in learner.experts)),
        (("mixture", learner.mixture_detector), learner.mixture_drifts),
    ]


def _inputs(value: Callable[[InputReport], Samples | float]) -> Reader:
    return lambda report: None if report.inputs is None else value(report.inputs)


def _unknown_names(found: InputReport) -> Samples:
    return _bounded([*found.names.items(), (OTHER, found.other_names)], MAX_NAMES)


def _unknown_categories(found: InputReport) -> Samples:
    """Of the features that had any; 0 together where none had."""
    counts = [(name, n) for name, n in zip(found.features, found.categories.tolist(), strict=True) if n]
    return _bounded(counts or [(OTHER, 0)], MAX_NAMES)


def _keys(value: Callable[[KeyReport], float]) -> Reader:
    return lambda report: None if report.keys is None else value(report.keys)


def _of_partition(
    kind: str, name: str, text: str, read: Reader, *labels: str, of_process: bool = False, page: Sequence[Shown] = ()
) -> MetricSpec:
    return MetricSpec(PREFIX + name, kind, text, labels, read, of_process, page=page)


def _of_group(name: str, kind: str, text: str, read: GroupReader, *labels: str) -> MetricSpec:
    return MetricSpec(PREFIX + name, kind, text, labels, of_process=True, read_group=read)


def _histogram(
    name: str, text: str, durations: Durations, *labels: str, bounds: tuple[float, ...] = SECONDS_BUCKETS
) -> MetricSpec:
    return MetricSpec(PREFIX + name, "histogram", text, labels, durations=durations, bounds=bounds)


_counter, _gauge = partial(_of_partition, "counter"), partial(_of_partition, "gauge")
_TENTHS, _HUNDREDTHS, _THOUSANDTHS = (partial(number, digits=digits) for digits in (1, 2, 3))

METRICS: tuple[MetricSpec, ...] = (
    # flow
    _counter("events_consumed_total", "Records with features read from the log.",
             lambda r: [((str(r.partition),), r.events_consumed)], "partition",
             page=[Shown("events read", count)]),
    _counter("labels_consumed_total", "Labels read from the log.", lambda r: r.labels.received),
    # What is read is predicted in the same transaction, so this equals events_consumed_total: read that one.
    _counter("predictions_committed_total", "Predictions published; always equal to events_consumed_total.",
             lambda r: r.events_consumed,
             page=[Shown("predictions committed", count, of_log=True)]),
    _counter("dead_letters_total", "Records that could not be used, by reason.",
             lambda r: _bounded(r.dead_letters.items(), MAX_REASONS), "reason",
             page=[Shown("dead letters", count, of_log=True)]),
    _counter("unknown_names_total", "Records that bring a name that is no feature, by name: it is ignored.",
             _inputs(_unknown_names), "feature"),
    _gauge("unknown_names", "Different names that are no feature, of at most 100 that are kept.",
           _inputs(lambda i: len(i.names)),
           page=[Shown("names that are no feature", count, of_log=True)]),
    _counter("unknown_categories_total", "Values that are none of their feature's categories: they are missing.",
             _inputs(_unknown_categories), "feature",
             page=[Shown("values that are no category", count, of_log=True)]),
    _counter("schema_grown_total", "What the schema took in since the log began: features, categories, classes.",
             _inputs(lambda i: _bounded(i.grown.items(), MAX_NAMES)), "kind",
             page=[Shown("taken into the schema", count, of_log=True)]),
    _gauge("feature_missing_ratio", "Share of missing values of a feature in the latest 1,000 events.",
           _inputs(lambda i: _bounded(zip(i.features, i.missing.tolist(), strict=True), MAX_FEATURES, max)),
           "feature"),
    _gauge("features_gone", "Features that are missing now and were there before.", _inputs(lambda i: len(i.gone)),
           page=[Shown("features gone", count, of_log=True)]),
    _gauge("consumer_lag_records", "Records in the log beyond the committed position.",
           _of_topic(lambda r: r.lag_records), "topic", "partition",
           page=[Shown("behind the log, records", count, of_log=True)]),
    _gauge("consumer_lag_seconds", "How far the committed position is behind the end of the log.",
           lambda r: r.lag_seconds,
           page=[Shown("behind the log, s", _TENTHS, of_log=True)]),
    _gauge("retention_headroom_records", "Records the log still holds before the committed position; at 0 the next "
           "ones it deletes were not read.", _of_topic(lambda r: r.retention_headroom), "topic", "partition",
           page=[Shown("kept in the log before here, records", count, of_log=True)]),
    _gauge("block_size_events", "Events in the latest block, 0 while the log is idle.",
           lambda r: r.block_size),
    # time
    _histogram("prediction_latency_seconds", "From a record's timestamp to the commit of its prediction.",
               lambda r: [((), r.prediction_latencies)]),
    _histogram("step_duration_seconds", "Time per block spent in each phase of the loop.",
               lambda r: [((phase,), [seconds]) for phase, seconds in r.step_seconds.items()], "phase"),
    _histogram("commit_duration_seconds", "Time per block to commit predictions and position.",
               lambda r: [((), [r.commit_seconds] if r.commit_seconds > 0 else [])]),
    _histogram("label_delay_seconds", "From an event's timestamp to that of its label, where the label has a record "
               "of its own.", lambda r: [((), r.label_delays)], bounds=DELAY_BUCKETS),
    # labels
    _gauge("pending_events", "Predicted events that wait for their label.", lambda r: r.pending_events,
           page=[Shown("waiting for a label", count, of_log=True)]),
    _gauge("early_labels", "Labels that wait for their event.", lambda r: r.early_labels),
    _counter("events_expired_total", "Events given up before a label came.", lambda r: r.labels.events_expired),
    _counter("labels_applied_total", "Labels learnt with their event.", lambda r: r.labels.applied),
    _counter("labels_expired_total", "Labels that came when their event had been given up.",
             lambda r: r.labels.expired,
             page=[Shown("labels too late", count, of_log=True)]),
    _counter("labels_duplicate_total", "Labels for an event that had the same one already.",
             lambda r: r.labels.duplicate,
             page=[Shown("labels twice", count, of_log=True)]),
    _counter("labels_conflicting_total", "Labels for an event that had another one already.",
             lambda r: r.labels.conflicting,
             page=[Shown("labels that contradict the first", count, of_log=True)]),
    _counter("labels_orphan_total", "Labels whose event did not come in time.", lambda r: r.labels.orphan,
             page=[Shown("labels without an event", count, of_log=True)]),
    # quality
    _gauge("accuracy_ratio", "Prequential accuracy, over all labelled events or the recent ones.",
           _scored(lambda r: [(("all",), r.quality.accuracy), (("recent",), r.quality.window_accuracy)]), "window",
           page=[Shown("accuracy, all", percent, ("all",)), Shown("accuracy, recent", percent, ("recent",))]),
    _gauge("kappa_ratio", "Cohen's kappa: accuracy beyond chance.", _scored(lambda r: r.quality.kappa),
           page=[Shown("kappa", _THOUSANDTHS)]),
    _gauge("kappa_majority_ratio", "kappa_M: accuracy beyond always naming the majority class.",
           _scored(lambda r: r.quality.kappa_majority),
           page=[Shown("kappa_M", _THOUSANDTHS)]),
    _gauge("kappa_temporal_ratio", "kappa_temporal: accuracy beyond repeating the previous label.",
           _scored(lambda r: r.quality.kappa_temporal),
           page=[Shown("kappa_temporal", _THOUSANDTHS)]),
    _gauge("log_loss", "Mean negative log probability of the true class.",
           _scored(lambda r: r.quality.log_loss),
           page=[Shown("log loss", _THOUSANDTHS)]),
    _counter("class_predictions_total", "Labelled events by predicted class.",
             _per_class(lambda r: r.quality.class_predictions), "class"),
    _counter("class_labels_total", "Labelled events by true class.",
             _per_class(lambda r: r.quality.class_labels), "class",
             page=[Shown("labels learnt", count)]),
    _counter("class_right_total", "Labelled events predicted right, by class: recall is this / class_labels_total, "
             "precision this / class_predictions_total.",
             _per_class(lambda r: r.quality.class_right), "class"),
    _gauge("mean_cost", "Where answers have costs: the mean of them, and of always naming the one class that is "
           "cheapest.", _scored(_costs), "of",
           page=[Shown("cost of an answer", partial(number, digits=4), ("answers",)),
                 Shown("cost of always naming one class", partial(number, digits=4), ("one class",))]),
    _gauge("answers_info", "How answers follow from the probabilities; always 1.",
           lambda r: [((r.answers or "most probable class",), 1.0)], "rule"),
    _gauge("balanced_accuracy_ratio", "Mean recall of the classes seen.",
           _scored(lambda r: r.quality.balanced_accuracy),
           page=[Shown("balanced accuracy", percent)]),
    # drift
    _counter("drift_warnings_total", "Drift warnings in features, experts' errors, the mixture's error or labels.",
             _warnings, "scope"),
    _counter("drift_detections_total", "Drifts detected in features, experts' errors, the mixture's error or labels.",
             _drifts, "scope", "detector",
             page=[Shown("drifts, experts", count, ("expert",)), Shown("drifts, mixture", count, ("mixture",))]),
    _gauge("last_drift_timestamp_seconds", "Event time at which the latest drift of a scope was detected.",
           lambda r: [((scope,), seconds) for scope, seconds in r.drift.last_seconds.items()], "scope"),
    _gauge("feature_drift_strength", "Distance of a feature's recent distribution from its reference, 0 to 1.",
           lambda r: _bounded(r.drift.strengths.items(), MAX_FEATURES, max), "feature"),
    _counter("expert_resets_total", "Times an expert was replaced or started anew.",
             _per_expert(lambda x: x.resets), "expert"),
    _counter("expert_returns_total", "Resets in which a tree that was replaced before came back.",
             _per_expert(lambda x: x.returns), "expert"),
    _gauge("last_drift_events", "Labelled events seen when the latest drift was detected.",
           lambda r: r.learner.last_drift_event if r.learner.last_drift_event >= 0 else None),
    # specialization
    _gauge("expert_info", "Kind of each expert; always 1.",
           lambda r: [((str(e), x.kind), 1.0) for e, x in enumerate(r.learner.experts[:MAX_EXPERTS])],
           "expert", "kind"),
    _counter("expert_routed_total", "Events an expert had the highest router weight for.",
             _per_expert(lambda x: x.routed), "expert"),
    _counter("expert_trained_total", "Events an expert learnt.", _per_expert(lambda x: x.trained), "expert"),
    _gauge("experts_asleep", "Experts that are asleep: active on a thin sample of the events only.",
           lambda r: sum(x.asleep for x in r.learner.experts)),
    _counter("expert_wakes_total", "Times a sleeping expert was woken, all experts together.",
             lambda r: sum(x.wakes for x in r.learner.experts)),
    _gauge("expert_accuracy_ratio", "Accuracy of an expert over about the last 1,000 labelled events.",
           _scored(_per_expert(lambda x: x.window_accuracy)), "expert"),
    _gauge("expert_class_affinity_ratio", "Share of a class in the labelled events routed to an expert.",
           _affinity, "expert", "class"),
    _gauge("expert_overlap_ratio", "How often two experts are right together, of when either is.",
           lambda r: None if len(r.learner.experts) < 2 else _routed(lambda x: x.overlap)(r),
           page=[Shown("experts right together", _HUNDREDTHS)]),
    _gauge("router_load_entropy_ratio", "0 = one expert is routed everything, 1 = uniform load.",
           _routed(lambda x: x.load_entropy),
           page=[Shown("router load (0 one expert, 1 even)", _HUNDREDTHS)]),
    _gauge("router_confidence_ratio", "Mean highest router weight.", _routed(lambda x: x.confidence),
           page=[Shown("router confidence", _HUNDREDTHS)]),
    _gauge("router_class_information_ratio", "Mutual information of routed expert and class / class entropy.",
           _routed(lambda x: x.class_information),
           page=[Shown("class known from the expert (0 not, 1 wholly)", _HUNDREDTHS)]),
    _gauge("router_loss", "Training loss of the router.", lambda r: r.learner.router_loss),
    # trees
    _gauge("expert_nodes", "Nodes of an expert's trees.", _per_expert(lambda x: x.nodes), "expert"),
    _gauge("expert_memory_bytes", "Memory an expert holds.", _per_expert(lambda x: x.memory_bytes), "expert"),
    _counter("expert_splits_total", "Leaves an expert has split.", _per_expert(lambda x: x.splits), "expert"),
    # durability
    _gauge("checkpoint_age_seconds", "Time since the newest checkpoint.",
           _saved(lambda r: max(0.0, time.time() - (r.checkpoint_time or 0.0)))),
    _gauge("checkpoint_duration_seconds", "Time the newest checkpoint took.",
           _saved(lambda r: r.checkpoint_seconds),
           page=[Shown("checkpoint, s to write", _HUNDREDTHS, of_log=True)]),
    _gauge("checkpoint_bytes", "Size of the newest checkpoint.", _saved(lambda r: r.checkpoint_bytes),
           page=[Shown("checkpoint, bytes", count, of_log=True)]),
    _counter("checkpoint_failures_total", "Checkpoints that could not be written, by reason.",
             lambda r: [((reason,), r.checkpoint_failures.get(reason, 0)) for reason in FAILURES], "reason",
             of_process=True,
             page=[Shown("checkpoints that failed", count, of_log=True)]),
    _gauge("replayed_events", "Events replayed from the log when the process started.",
           lambda r: r.replayed_events),
    _gauge("recovery_duration_seconds", "Time from start to the first new event.",
           lambda r: r.recovery_seconds),
    _counter("replay_divergence_total", "Times a replay gave other answers than the run that it repeats.",
             lambda r: r.replay_divergences, of_process=True),
    _of_group("transactions_total", "counter", "Transactions by outcome.",
              lambda g: [((outcome,), g.outcomes.get(outcome, 0)) for outcome in OUTCOMES], "outcome"),
    _of_group("rebalances_total", "counter", "Times the partitions of this process changed.",
              lambda g: g.rebalances),
    _of_group("watchdog_fired_total", "counter", "Calls to the log that outlasted their deadline; in a commit the "
              "process then ends with exit code 75.", lambda g: g.watchdog_fired),
    _of_group("assigned_partitions", "gauge", "Partitions that the group gave to this process.",
              lambda g: len(g.partitions)),
    # process
    _of_group("build_info", "gauge", "Version of stream_moe; always 1.",
              lambda g: [((__version__,), 1.0)], "version"),
    _of_group("config_info", "gauge", "Hash of model, schema and learning parameters; always 1.",
              lambda g: [((g.config_hash,), 1.0)] if g.config_hash else [], "hash"),
    _of_group("state", "gauge", "1 for the state the engine is in, 0 for the others.",
              lambda g: [((state,), float(g.state == state)) for state in STATES], "state"),
    _gauge("model_bytes", "Memory the model holds.", lambda r: r.learner.model_bytes,
           page=[Shown("model, memory", size)]),
    _of_group("process_memory_bytes", "gauge", "Resident memory of this process.", lambda g: resident_memory()),
    _of_group("process_memory_limit_bytes", "gauge", "Memory this process may have: the smaller of the machine's and "
              "its control group's.", lambda g: memory_limit()),
    # a model for each key
    _gauge("keys_known", "Keys that have a model.", _keys(lambda k: k.known)),
    _counter("keys_forgotten_total", "Keys whose model was given up for those of newer keys.",
             _keys(lambda k: k.forgotten)),
    _gauge("key_models_resident", "Models of keys in memory.", _keys(lambda k: k.resident)),
    _gauge("key_models_resident_bytes", "Memory that these take.", _keys(lambda k: k.resident_bytes)),
    _counter("key_models_evicted_total", "Models of keys that left memory for the checkpoint store.",
             _keys(lambda k: k.evicted), of_process=True),
    _counter("key_models_loaded_total", "Models of keys read back from the checkpoint store.",
             _keys(lambda k: k.loaded), of_process=True),
    _gauge("key_segments", "Files in the checkpoint store that hold models of keys.", _keys(lambda k: k.segments)),
    _gauge("key_segment_bytes", "What these files take.", _keys(lambda k: k.segment_bytes)),
)  # fmt: skip
