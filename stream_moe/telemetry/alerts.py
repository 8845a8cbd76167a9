"""The alerts: what is watched, from which limit on it is a fault, and what to do about it.

The one list of limits. `docker/prometheus/rules.py` writes Prometheus's rules from it, and the page's verdict
(`stream_moe.telemetry.findings`) compares with the same numbers. The limits are starting points: those that depend on
the stream (accuracy, drift, labels) want your own.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template


@dataclass(frozen=True, slots=True)
class Alert:
    """One fault that somebody has to know of.

    Attributes
    ----------
    name, group
        Of the rule, and of the rules that are evaluated together.
    severity
        info, warning or critical.
    expr
        PromQL, with `$limit`, `$margin` and `$window` for the numbers below.
    summary, runbook
        What is the matter, in Prometheus's templates, and the first thing to look at; docs/runbooks.md has the rest.
    limit, margin
        The value from which on it is a fault; `margin` where an alert has a second one.
    window
        Seconds that it looks back.
    wait
        How long the condition holds before the alert fires; empty = at once.
    why
        Of what is not obvious in the condition.

    Examples
    --------
    >>> CHECKPOINT_FAILING.promql
    'increase(stream_moe_checkpoint_failures_total[15m]) > 0'
    """

    name: str
    group: str
    severity: str
    expr: str
    summary: str
    runbook: str
    limit: float = 0.0
    margin: float = 0.0
    window: float = 0.0
    wait: str = ""
    why: str = ""

    @property
    def promql(self) -> str:
        """The condition with its numbers."""
        window = f"{self.window / 3600:g}h" if self.window % 3600 == 0 else f"{self.window / 60:g}m"
        return Template(self.expr).substitute(limit=f"{self.limit:g}", margin=f"{self.margin:g}", window=window)


# What several queries share, evaluated once: by name.
RECORDED = {
    "stream_moe:events_consumed:rate5m": "sum by (job, instance) (rate(stream_moe_events_consumed_total[5m]))",
    "stream_moe:dead_letters:ratio_rate5m": """sum by (job, instance) (rate(stream_moe_dead_letters_total[5m]))
/ (sum by (job, instance) (rate(stream_moe_dead_letters_total[5m])) + stream_moe:events_consumed:rate5m)""",
    "stream_moe:events_expired:ratio_rate15m": """sum by (job, instance) (rate(stream_moe_events_expired_total[15m]))
/ sum by (job, instance) (rate(stream_moe_events_consumed_total[15m]))""",
    "stream_moe:accuracy_ratio:avg1d": """avg_over_time(stream_moe_accuracy_ratio{window="recent"}[1d])""",
    "stream_moe:expert_routed:share5m": """rate(stream_moe_expert_routed_total[5m])
/ on (job, instance, partition) group_left
sum by (job, instance, partition) (rate(stream_moe_expert_routed_total[5m]))""",
    "stream_moe:prediction_latency_seconds:p99_5m": """histogram_quantile(0.99,
sum by (job, instance, le) (rate(stream_moe_prediction_latency_seconds_bucket[5m])))""",
}  # fmt: skip

# Each partition has a model of its own, so what is asked of a model is asked for each partition: one that is idle, or
# drifts, is not judged by what its neighbours do.
ABSENT = Alert(
    "StreamMoeAbsent", "flow", "critical", wait="2m",
    expr='up{job="stream_moe"} == 0 or absent(up{job="stream_moe"})',
    summary="No metrics from stream_moe {{ $labels.instance }}.",
    runbook="Is the process up? Read the end of its log; exit code 3 is the log (Kafka), 2 a setting.",
)  # fmt: skip

LAG_GROWING = Alert(
    "StreamMoeLagGrowing", "flow", "warning", wait="5m", limit=60,
    expr="""deriv(stream_moe_consumer_lag_records[10m]) > 0
and on (job, instance, partition) stream_moe_consumer_lag_seconds > $limit""",
    summary="{{ $labels.instance }} falls behind {{ $labels.topic }}/{{ $labels.partition }}.",
    runbook="See step_duration_seconds by phase: more events than one core takes, or a slow broker?",
)  # fmt: skip

STALLED = Alert(
    "StreamMoeStalled", "flow", "critical", wait="5m", window=300,
    expr="""sum by (job, instance, partition) (increase(stream_moe_events_consumed_total[$window])) == 0
and on (job, instance, partition) increase(stream_moe_labels_consumed_total[$window]) == 0
and on (job, instance, partition) sum by (job, instance, partition) (stream_moe_consumer_lag_records) > 0""",
    summary="{{ $labels.instance }} reads nothing of partition {{ $labels.partition }}, which has records.",
    runbook="Ask /healthz. If the loop stands still, restart the process: it replays from its checkpoint.",
)  # fmt: skip

DEAD_LETTERS_GROWING = Alert(
    "StreamMoeDeadLettersGrowing", "flow", "warning", wait="10m", limit=0.01, window=300,
    expr="stream_moe:dead_letters:ratio_rate5m > $limit",
    summary="{{ $value | humanizePercentage }} of the records of {{ $labels.instance }} cannot be used.",
    runbook="dead_letters_total by reason says why; the record headers in the dead-letter topic say which.",
)  # fmt: skip

CHECKPOINT_STALE = Alert(
    "StreamMoeCheckpointStale", "durability", "warning", wait="5m", limit=900, window=900,
    why="On an idle log there is nothing new to save.",
    expr="""stream_moe_checkpoint_age_seconds > $limit
and on (job, instance, partition) increase(stream_moe_events_consumed_total[$window]) > 0""",
    summary="{{ $labels.instance }}: newest checkpoint of partition {{ $labels.partition }} is {{ $value | "
            "humanizeDuration }} old.",
    runbook="A restart now replays all since then. See checkpoint_failures_total and the state directory.",
)  # fmt: skip

CHECKPOINT_FAILING = Alert(
    "StreamMoeCheckpointFailing", "durability", "warning", window=900,
    expr="increase(stream_moe_checkpoint_failures_total[$window]) > 0",
    summary="{{ $labels.instance }} cannot write checkpoints of partition {{ $labels.partition }} ({{ "
            "$labels.reason }}).",
    runbook="Disk full, read-only, or not owned by the process? The log names the error. No data is lost yet.",
)  # fmt: skip

RETENTION_RISK = Alert(
    "StreamMoeRetentionRisk", "durability", "critical", wait="5m", limit=60,
    why="Who keeps up loses nothing when retention deletes what was read: only one that lags is at risk.",
    expr="""predict_linear(stream_moe_retention_headroom_records[30m], 3600) < 0
and on (job, instance, partition) stream_moe_consumer_lag_seconds > $limit""",
    summary="Retention reaches the committed position of {{ $labels.topic }}/{{ $labels.partition }} within the "
            "hour.",
    runbook="Raise the topic's retention first (retention.ms, retention.bytes), then see why it lags.",
)  # fmt: skip

WATCHDOG_FIRED = Alert(
    "StreamMoeWatchdogFired", "durability", "warning", window=900,
    expr="increase(stream_moe_watchdog_fired_total[$window]) > 0",
    summary="A call of {{ $labels.instance }} to the log outlasted its deadline.",
    runbook="Look at the broker and the network first; a process that does not come back ends with exit code 75.",
)  # fmt: skip

FENCED_OR_IN_DOUBT = Alert(
    "StreamMoeFencedOrInDoubt", "durability", "warning", window=900,
    expr='sum by (job, instance) (increase(stream_moe_transactions_total{outcome=~"fenced|in_doubt"}[$window])) > 0',
    summary="{{ $labels.instance }} lost a partition to another writer, or a commit's answer never came.",
    runbook="Nothing is lost. Is a process paused for long, started twice, or a broker restarting?",
)  # fmt: skip

REBALANCE_STORM = Alert(
    "StreamMoeRebalanceStorm", "durability", "warning", limit=6, window=900,
    expr="increase(stream_moe_rebalances_total[$window]) > $limit",
    summary="The partitions of {{ $labels.instance }} changed {{ $value | humanize }} times in 15 minutes.",
    runbook="Which member comes and goes? Read its log: exit codes, memory, blocks that take minutes.",
)  # fmt: skip

DRIFT_BURST = Alert(
    "StreamMoeDriftBurst", "model", "warning", limit=5, window=900,
    expr="""\
sum by (job, instance, partition) (increase(stream_moe_drift_detections_total{scope="mixture"}[$window])) > $limit""",
    summary="{{ $labels.instance }}: {{ $value | humanize }} drifts of the mixture of partition {{ "
            "$labels.partition }} in 15 minutes.",
    runbook="Did the producer change a feature's unit or meaning? Compare class_labels_total before and after.",
)  # fmt: skip

ROUTER_COLLAPSE = Alert(
    "StreamMoeRouterCollapse", "model", "warning", wait="10m", limit=0.3, margin=0.05,
    why="Where one expert is simply best, as on most streams, nearly all goes to it and that is right: what "
        "is wrong is that another one would have been better.",
    expr="""stream_moe_router_load_entropy_ratio < $limit
and on (job, instance, partition)
max by (job, instance, partition) (stream_moe_expert_accuracy_ratio)
- on (job, instance, partition) stream_moe_accuracy_ratio{window="recent"} > $margin""",
    summary="{{ $labels.instance }}: the router of partition {{ $labels.partition }} keeps to few experts, and "
            "others are better.",
    runbook="See expert_accuracy_ratio: for how long is another expert better? For long it is worth reporting.",
)  # fmt: skip

DEAD_EXPERT = Alert(
    "StreamMoeDeadExpert", "model", "info", wait="30m", limit=1000, window=3600,
    expr="""increase(stream_moe_expert_trained_total[$window]) == 0
and on (job, instance, partition)
sum by (job, instance, partition) (increase(stream_moe_class_labels_total[$window])) > $limit""",
    summary="{{ $labels.instance }}: expert {{ $labels.expert }} of partition {{ $labels.partition }} learnt "
            "nothing for an hour.",
    runbook="It costs time and memory and gives nothing: fewer experts, or a higher top-k.",
)  # fmt: skip

ACCURACY_DROP = Alert(
    "StreamMoeAccuracyDrop", "model", "warning", wait="10m", limit=0.1, window=86400,
    expr='stream_moe:accuracy_ratio:avg1d - stream_moe_accuracy_ratio{window="recent"} > $limit',
    summary="{{ $labels.instance }}: accuracy of partition {{ $labels.partition }} is 10 points or more below "
            "its own day.",
    runbook="A drift (see drift_detections_total), bad labels (class_labels_total), or a broken feature?",
)  # fmt: skip

LABELS_MISSING = Alert(
    "StreamMoeLabelsMissing", "model", "warning", wait="5m", window=1800,
    expr="""sum by (job, instance) (increase(stream_moe_labels_consumed_total[$window])) == 0
and on (job, instance) sum by (job, instance) (stream_moe_labels_consumed_total) > 0
and on (job, instance) sum by (job, instance) (increase(stream_moe_events_consumed_total[$window])) > 0""",
    summary="{{ $labels.instance }} reads events, but no label for half an hour.",
    runbook="Nothing is learnt meanwhile. Does anybody write the labels, and to the topic this one reads?",
)  # fmt: skip

LABELS_EXPIRING = Alert(
    "StreamMoeLabelsExpiring", "model", "warning", wait="15m", limit=0.05, window=900,
    expr="stream_moe:events_expired:ratio_rate15m > $limit",
    summary="{{ $value | humanizePercentage }} of the events of {{ $labels.instance }} never get a label.",
    runbook="Labels late or missing upstream, or the waiting room too small for their delay?",
)  # fmt: skip

MEMORY_NEAR_LIMIT = Alert(
    "StreamMoeMemoryNearLimit", "process", "warning", wait="5m", limit=0.9,
    expr="stream_moe_process_memory_bytes / stream_moe_process_memory_limit_bytes > $limit",
    summary="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the memory that it may.",
    runbook="At the limit it is killed. See model_bytes: fewer experts, fewer waiting events, or more memory?",
)  # fmt: skip

ALERTS = tuple(each for each in list(globals().values()) if isinstance(each, Alert))
