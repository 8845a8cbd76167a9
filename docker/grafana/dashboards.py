"""Write the dashboards: `python docker/grafana/dashboards.py [DIRECTORY]`; again after a change of docs/runbooks.md.

In a query a metric stands by its name alone: `panels.selected` adds what the variables select, and `[I]` becomes
Grafana's rate interval, so that no query can forget them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from panels import (
    GREEN,
    RED,
    RUNBOOKS,
    YELLOW,
    Panel,
    annotation,
    dashboard,
    graph,
    linked,
    stat,
    steps,
    table,
    variables,
    words,
)

from stream_moe.telemetry.alerts import ALERT, RECORDED
from stream_moe.telemetry.table import METRICS, PREFIX

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
LIMIT = {name: alert.limit for name, alert in ALERT.items()}

RECENT = 'stream_moe_accuracy_ratio{window="recent"}'
TRUTH, PREDICTED = "stream_moe_class_labels_total", "stream_moe_class_predictions_total"
RIGHT = "stream_moe_class_right_total"
ROUTED = "sum by (expert) (stream_moe:expert_routed:share5m)"
DRIFTS = [
    annotation(f"drift: {scope}", f'sum by (partition, detector) (increase(stream_moe_drift_detections_total'
               f'{{scope="{scope}"}}[I]))', color, "partition,detector", shown=shown)
    for scope, color, shown in (("mixture", "red", True), ("label", "orange", True), ("feature", "blue", True),
                                ("expert", "gray", False))
]  # fmt: skip
RESTARTS = [annotation("replay", 'max by (instance) (stream_moe_state{state="recovering"})', "purple", "instance")]


def quantiles(name: str, *by: str) -> list[tuple[str, str]]:
    return [
        (f"histogram_quantile({q}, sum by (le) (rate(stream_moe_{name}_bucket[I])))", f"p{round(100 * float(q))}")
        for q in ("0.5", "0.9", "0.99")
    ]


def operations_now() -> list[Panel]:
    return [
        stat("State", "What each process does: starting, recovering (replaying the log), running, draining.",
             "max by (state) (stream_moe_state) == 1", legend="{{state}}"),
        linked(
            stat("Alerts", "Alerts of rules.yml that fire now, of all processes; the runbooks say what to do.",
                 'count(ALERTS{alertstate="firing",alertname=~"StreamMoe.+"}) or vector(0)',
                 thresholds=steps((1, RED)), bounds=(0,)), "Runbooks", RUNBOOKS),
        stat("Behind", "How old the oldest record is that no committed prediction covers, of the slowest partition.",
             "max(stream_moe_consumer_lag_seconds)", "s", steps((10, YELLOW), (LIMIT["LagGrowing"], RED)),
             bounds=(0,)),
        stat("Events/s", "Events read, all chosen partitions together.",
             "sum(rate(stream_moe_events_consumed_total[I]))", "cps", bounds=(0,)),
        stat("Latency p99", "From a record's timestamp to the commit of its prediction, over five minutes.",
             "max(stream_moe:prediction_latency_seconds:p99_5m)", "s", steps((1, YELLOW), (10, RED)), bounds=(0,)),
        stat("Checkpoint age", "Of the oldest among the newest checkpoints; a restart replays what came since.",
             "max(stream_moe_checkpoint_age_seconds)", "s", steps((300, YELLOW), (LIMIT["CheckpointStale"], RED)),
             bounds=(0,)),
        stat("Partitions", "Held by the chosen processes.", "sum(stream_moe_assigned_partitions)", bounds=(0,)),
        stat("Memory", "Resident memory of the fullest process, of what the machine or its cgroup allows.",
             "max(stream_moe_process_memory_bytes / stream_moe_process_memory_limit_bytes)", "percentunit",
             steps((0.8, YELLOW), (LIMIT["MemoryNearLimit"], RED)), bounds=(0, 1)),
    ]  # fmt: skip


def operations_flow() -> list[Panel]:
    return [
        graph("Throughput", "Predictions fall behind events only while a block is worked on.",
              [("sum(rate(stream_moe_events_consumed_total[I]))", "events"),
               ("sum(rate(stream_moe_predictions_committed_total[I]))", "predictions"),
               ("sum(rate(stream_moe_labels_consumed_total[I]))", "labels")], "cps"),
        graph("Lag in records", "Records in the log beyond the committed position.",
              [("max by (topic, partition) (stream_moe_consumer_lag_records)", "{{topic}}/{{partition}}")]),
        graph("Lag in seconds", "Age of the oldest record without a committed prediction; the line is the alert's.",
              [("max by (partition) (stream_moe_consumer_lag_seconds)", "partition {{partition}}")], "s",
              limits=steps((LIMIT["LagGrowing"], RED))),
        graph("Prediction latency", "From a record's timestamp to the commit of its prediction.",
              quantiles("prediction_latency_seconds"), "s"),
        graph("Where the time goes", "Seconds a second that each phase takes; in all at most the number of cores.",
              [("sum by (phase) (rate(stream_moe_step_duration_seconds_sum[I]))", "{{phase}}"),
               ("sum(rate(stream_moe_commit_duration_seconds_sum[I]))", "commit")], "percentunit", stack="normal"),
        graph("Block size", "Events in the latest block; at its bound (--block-rows) the daemon is catching up.",
              [("max by (partition) (stream_moe_block_size_events)", "partition {{partition}}")]),
        graph("Dead letters", "Records that could not be used, by reason.",
              [("sum(rate(stream_moe_dead_letters_total[I])) or vector(0)", "all"),
               ("sum by (reason) (rate(stream_moe_dead_letters_total[I]))", "{{reason}}")], "cps"),
        graph("Rebalances", "Times the partitions of a process changed; more than six in 15 minutes is a storm.",
              [("sum by (instance) (increase(stream_moe_rebalances_total[I]))", "{{instance}}")], bars=True),
        graph("Watchdog and divergence", "Calls to the log that outlasted their deadline, and replays that gave "
              "other answers than the run they repeat: both stay at 0.",
              [("sum by (instance) (stream_moe_watchdog_fired_total)", "watchdog {{instance}}"),
               ("sum by (partition) (stream_moe_replay_divergence_total)", "divergence, partition {{partition}}")],
              limits=steps((1, RED))),
    ]  # fmt: skip


def operations_labels() -> list[Panel]:
    return [
        graph("Waiting", "Events that wait for their label, and labels that wait for their event.",
              [("sum(stream_moe_pending_events)", "events"), ("sum(stream_moe_early_labels)", "labels")]),
        graph("Label delay", "From an event's timestamp to its label's, of labels in records of their own.",
              quantiles("label_delay_seconds"), "s"),
        graph("Labels by their fate", "Learnt, or of no use: late, twice, contradicting, without an event.",
              [(f"sum(rate(stream_moe_labels_{what}_total[I]))", what)
               for what in ("applied", "expired", "duplicate", "conflicting", "orphan")]
              + [("sum(rate(stream_moe_events_expired_total[I]))", "events given up")], "cps"),
    ]  # fmt: skip


def operations_durable() -> list[Panel]:
    return [
        graph("Checkpoint age", "Time since each partition's newest checkpoint; the line is the alert's.",
              [("max by (partition) (stream_moe_checkpoint_age_seconds)", "partition {{partition}}")], "s",
              limits=steps((LIMIT["CheckpointStale"], RED))),
        graph("Checkpoint failures", "Checkpoints that could not be written; the older ones are untouched.",
              [("sum by (reason) (increase(stream_moe_checkpoint_failures_total[I]))", "{{reason}}")],
              bars=True),
        graph("Checkpoint duration", "Time the newest checkpoint took, in the background.",
              [("max by (partition) (stream_moe_checkpoint_duration_seconds)", "partition {{partition}}")], "s"),
        graph("Checkpoint size", "Bytes of the newest checkpoint.",
              [("max by (partition) (stream_moe_checkpoint_bytes)", "partition {{partition}}")], "bytes"),
        graph("Commit duration", "Time per block to commit predictions and position in one transaction.",
              quantiles("commit_duration_seconds"), "s"),
        graph("Transactions", "By outcome; aborted, fenced and in doubt stay at 0.",
              [("sum by (outcome) (rate(stream_moe_transactions_total[I]))", "{{outcome}}")], "cps"),
        graph("Retention headroom", "Records that the log still holds before the committed position; from 0 on "
              "retention deletes what was never read.",
              [("min by (topic, partition) (stream_moe_retention_headroom_records)", "{{topic}}/{{partition}}")]),
        graph("Replay at the last start", "Time from start to the first new event.",
              [("max by (partition) (stream_moe_recovery_duration_seconds)", "partition {{partition}}")], "s"),
        graph("Records replayed", "Events replayed from the log at the last start.",
              [("max by (partition) (stream_moe_replayed_events)", "partition {{partition}}")]),
    ]  # fmt: skip


def operations_process() -> list[Panel]:
    return [
        graph("Memory", "Resident memory and its limit, and what of it the models hold.",
              [("max by (instance) (stream_moe_process_memory_bytes)", "resident {{instance}}"),
               ("max by (instance) (stream_moe_process_memory_limit_bytes)", "limit {{instance}}"),
               ("sum by (instance) (stream_moe_model_bytes)", "models {{instance}}")], "bytes", width=12),
        table("Versions and settings", "One row per process; two hashes in one group mean different settings.",
              "max by (instance, version) (stream_moe_build_info) * on (instance) group_left (hash) "
              "max by (instance, hash) (stream_moe_config_info)",
              [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}], height=8),
    ]  # fmt: skip


def operations(more: list[Panel]) -> dict[str, Any]:
    """Is it well; `more` are the panels of numbers that stand on no other dashboard."""
    return dashboard(
        "stream-moe-operations", "operations", "Is it well?",
        [("Now", operations_now()), ("Flow", operations_flow()), ("Labels", operations_labels()),
         ("Durability", operations_durable()), ("Process", operations_process()),
         *([("Others", more)] if more else [])],
        choices=variables(one_partition=False), marks=RESTARTS,
    )  # fmt: skip


def model_now() -> list[Panel]:
    return [
        stat("Accuracy", "Over about the last 1,000 labelled events, each predicted before it was learnt; mean of "
             "the chosen partitions.", f"avg({RECENT})", "percentunit", bounds=(0, 1), decimals=1),
        stat("Against its day", "Recent accuracy less its mean of the last day; the alert is at 10 points below.",
             f"min({RECENT} - stream_moe:accuracy_ratio:avg1d)", "percentunit",
             steps((-LIMIT["AccuracyDrop"], YELLOW), (-0.03, GREEN), base=RED), bounds=(-1, 1), decimals=1),
        stat("Kappa", "Accuracy beyond chance: 0 is guessing with the right class mix, 1 is perfect.",
             "avg(stream_moe_kappa_ratio)", "none", steps((0, GREEN), base=RED), bounds=(-1, 1), decimals=2),
        stat("kappa_M", "Below 0, always naming the most frequent class would be better.",
             "avg(stream_moe_kappa_majority_ratio)", "none", steps((0, GREEN), base=RED), decimals=2),
        stat("kappa_temporal", "Below 0, repeating the previous label would be better.",
             "avg(stream_moe_kappa_temporal_ratio)", "none", steps((0, GREEN), base=RED), decimals=2),
        stat("Log-loss", "Mean negative log probability of the true class; 0 is perfect.",
             "avg(stream_moe_log_loss)", "none", bounds=(0,), decimals=3),
        stat("Drifts", "Alarms of the mixture's own error in the time shown.",
             'sum(increase(stream_moe_drift_detections_total{scope="mixture"}[$__range]))', "short",
             steps((1, YELLOW), (LIMIT["DriftBurst"] + 1, RED)), bounds=(0,), decimals=0),
        stat("Since the last drift", "Of any scope: the features, an expert's error, the mixture's, the labels.",
             "time() - max(stream_moe_last_drift_timestamp_seconds)", "s", bounds=(0,)),
    ]  # fmt: skip


def model_quality() -> list[Panel]:
    return [
        graph("Accuracy", "Recent accuracy of each partition, and its mean of the last day.",
              [(f"avg by (partition) ({RECENT})", "partition {{partition}}"),
               ("avg by (partition) (stream_moe:accuracy_ratio:avg1d)", "day, partition {{partition}}")],
              "percentunit", bounds=(0, 1), width=12),
        graph("Kappas", "Over all labelled events, mean of the chosen partitions; at 0 chance, the majority "
              "class or the last label is as good.",
              [("avg(stream_moe_kappa_ratio)", "kappa"),
               ("avg(stream_moe_kappa_majority_ratio)", "kappa_M"),
               ("avg(stream_moe_kappa_temporal_ratio)", "kappa_temporal")],
              "none", bounds=(None, 1), limits=steps((0, "text"), base=RED), width=12),
        graph("Accuracy over everything", "Of all labelled events since the model began.",
              [('avg by (partition) (stream_moe_accuracy_ratio{window="all"})', "partition {{partition}}")],
              "percentunit", bounds=(0, 1)),
        graph("Log-loss", "Mean negative log probability of the true class, over all labelled events.",
              [("avg by (partition) (stream_moe_log_loss)", "partition {{partition}}")], "none"),
        graph("Size of the model", "Memory that the models hold.",
              [("sum by (partition) (stream_moe_model_bytes)", "partition {{partition}}")], "bytes"),
    ]  # fmt: skip


def model_drift() -> list[Panel]:
    return [
        graph("Drifts detected", "By what drifted: features, class rates, an expert's error, the mixture's.",
              [("sum by (scope, detector) (increase(stream_moe_drift_detections_total[I]))",
                "{{scope}} ({{detector}})")], bars=True, width=12),
        graph("Drift warnings", "The same detectors at their lower threshold.",
              [("sum by (scope) (increase(stream_moe_drift_warnings_total[I]))", "{{scope}}")], bars=True, width=12),
        graph("Feature drift", "How far each feature's recent distribution is from its reference; needs no labels.",
              [("max by (feature) (stream_moe_feature_drift_strength)", "{{feature}}")], "none",
              bounds=(0, 1)),
        graph("Trees replaced", "Experts started anew after a drift, and those of them that came back.",
              [("sum(increase(stream_moe_expert_resets_total[I]))", "replaced"),
               ("sum(increase(stream_moe_expert_returns_total[I]))", "came back")], bars=True),
        graph("Labelled events at the last drift", "A step is a drift; the height is how many labels had been seen.",
              [("max by (partition) (stream_moe_last_drift_events)", "partition {{partition}}")]),
    ]  # fmt: skip


def model_classes() -> list[Panel]:
    return [
        graph("Class mix: labels", "Share of each class in the labels that come.",
              [(f"sum by (class) (rate({TRUTH}[I]))", "{{class}}")], "cps", stack="percent"),
        graph("Class mix: predictions", "Share of each class in the predictions of the same events.",
              [(f"sum by (class) (rate({PREDICTED}[I]))", "{{class}}")], "cps", stack="percent"),
        graph("Bias by class", "Share of a class in the predictions less its share in the labels; above 0 it is "
              "named too often.",
              [(f"sum by (class) (rate({PREDICTED}[I]) - rate({TRUTH}[I])) / ignoring (class) group_left "
                f"sum(rate({TRUTH}[I]))", "{{class}}")], "percentunit", bounds=()),
        graph("Recall by class", "Of the labels of a class, the share that was predicted right; of a rare class it "
              "may be none while accuracy is high.",
              [(f"sum by (class) (rate({RIGHT}[I])) / sum by (class) (rate({TRUTH}[I]))", "{{class}}")],
              "percentunit", bounds=(0, 1)),
        graph("Precision by class", "Of the answers of a class, the share that was right.",
              [(f"sum by (class) (rate({RIGHT}[I])) / sum by (class) (rate({PREDICTED}[I]))", "{{class}}")],
              "percentunit", bounds=(0, 1)),
        graph("Balanced accuracy", "Mean recall of the classes, over all labelled events.",
              [("avg by (partition) (stream_moe_balanced_accuracy_ratio)", "partition {{partition}}")],
              "percentunit", bounds=(0, 1)),
    ]  # fmt: skip


def model() -> dict[str, Any]:
    return dashboard(
        "stream-moe-model", "model", "Is it right, and what drifted?",
        [("Now", model_now()), ("Quality", model_quality()), ("Drift", model_drift()), ("Classes", model_classes())],
        choices=variables(one_partition=False), marks=DRIFTS,
    )  # fmt: skip


def named(query: str) -> tuple[str, str]:
    """Put each expert's kind beside its number."""
    kind = "on (expert) group_left (kind) max by (expert, kind) (stream_moe_expert_info)"
    return f"sum by (expert) ({query}) * {kind}", "{{expert}} {{kind}}"


def experts_now() -> list[Panel]:
    return [
        stat("Load entropy", "How evenly the router spreads the events: 0 is one expert for all, 1 is uniform.",
             "avg(stream_moe_router_load_entropy_ratio)", "none", steps((LIMIT["RouterCollapse"], GREEN), base=RED),
             bounds=(0, 1), decimals=2),
        stat("Confidence", "Mean weight of the expert with the highest.",
             "avg(stream_moe_router_confidence_ratio)", "percentunit", bounds=(0, 1)),
        stat("Class information", "Share of the doubt about the class that the routed expert removes, 0 to 1.",
             "avg(stream_moe_router_class_information_ratio)", "none", bounds=(0, 1), decimals=2),
        stat("Overlap", "How often two experts are right together, of when either is.",
             "avg(stream_moe_expert_overlap_ratio)", "percentunit", bounds=(0, 1)),
        stat("Asleep", "Experts that carry no weight now, active on one event in eight.",
             "sum(stream_moe_experts_asleep)", bounds=(0,)),
        stat("Experts", "In the pool.", "count(stream_moe_expert_info)", bounds=(0,)),
        stat("Router loss", "Training loss of the router; its course matters, not its height.",
             "avg(stream_moe_router_loss)", "none", decimals=3),
        stat("Memory", "All experts together.", "sum(stream_moe_expert_memory_bytes)", "bytes", bounds=(0,)),
    ]  # fmt: skip


def experts_routing() -> list[Panel]:
    return [
        graph("Routing", "Share of the events for which an expert had the highest weight.",
              [named("stream_moe:expert_routed:share5m")], "percentunit", bounds=(0, 1), stack="normal", width=12),
        table("Experts and classes", "Share of each class in the labelled events routed to an expert: a row adds up "
              "to 100 %.", "sum by (expert, class) (stream_moe_expert_class_affinity_ratio)",
              [{"id": "groupingToMatrix", "options": {"columnField": "class", "rowField": "expert",
                                                      "valueField": "Value", "emptyValue": "zero"}}],
              "percentunit", bounds=(0, 1), colored=True),
        graph("Router", "Entropy of the load, confidence, class information and overlap of the experts, each 0 to "
              "1; below the line the load has collapsed.",
              [("avg(stream_moe_router_load_entropy_ratio)", "load entropy"),
               ("avg(stream_moe_router_confidence_ratio)", "confidence"),
               ("avg(stream_moe_router_class_information_ratio)", "class information"),
               ("avg(stream_moe_expert_overlap_ratio)", "overlap")], "none", bounds=(0, 1),
              limits=steps((LIMIT["RouterCollapse"], "text"), base=RED)),
        graph("Asleep and woken", "Experts asleep, and how many were woken.",
              [("sum(stream_moe_experts_asleep)", "asleep"),
               ("sum(increase(stream_moe_expert_wakes_total[I]))", "woken")]),
        graph("Router loss", "Training loss of the router.",
              [("avg by (partition) (stream_moe_router_loss)", "partition {{partition}}")], "none", bounds=()),
    ]  # fmt: skip


def experts_each() -> list[Panel]:
    return [
        graph("Accuracy", "Of each expert over about its last 1,000 labelled events, and of the mixture.",
              [named("stream_moe_expert_accuracy_ratio"),
               ('avg(stream_moe_accuracy_ratio{window="recent"})', "mixture")],
              "percentunit", bounds=(0, 1), width=12),
        graph("Trained", "Events that each expert learns; a sleeper learns one in eight.",
              [named("rate(stream_moe_expert_trained_total[I])")], "cps", width=12),
        graph("Nodes", "Of an expert's trees.", [named("stream_moe_expert_nodes")]),
        graph("Splits", "Leaves split.", [named("increase(stream_moe_expert_splits_total[I])")], bars=True),
        graph("Memory", "Held by each expert.", [named("stream_moe_expert_memory_bytes")], "bytes"),
        graph("Replaced", "Times an expert was started anew after a drift.",
              [named("increase(stream_moe_expert_resets_total[I])")], bars=True),
        graph("Came back", "Replacements in which a tree that had been replaced before came back.",
              [named("increase(stream_moe_expert_returns_total[I])")], bars=True),
        table("Experts now", "One row per expert.",
              [("max by (expert, kind) (stream_moe_expert_info)", ""), (ROUTED, ""),
               ("sum by (expert) (stream_moe_expert_accuracy_ratio)", ""),
               ("sum by (expert) (stream_moe_expert_trained_total)", ""),
               ("sum by (expert) (stream_moe_expert_resets_total)", "")],
              [{"id": "merge", "options": {}},
               {"id": "organize", "options": {
                   "excludeByName": {"Time": True, "Value #A": True},
                   "renameByName": {"Value #B": "share of the events", "Value #C": "recent accuracy",
                                    "Value #D": "events learnt", "Value #E": "replaced"}}}], width=8, height=8),
    ]  # fmt: skip


def experts() -> dict[str, Any]:
    return dashboard(
        "stream-moe-experts", "experts", "Which expert does what? Choose one partition: each has a pool of its own.",
        [("Now", experts_now()), ("Routing", experts_routing()), ("Each expert", experts_each())],
        choices=variables(one_partition=True), marks=DRIFTS,
    )  # fmt: skip


def others(drawn: str) -> list[Panel]:
    """Panels of the metrics that no dashboard names in `drawn`; those of keyed runs have none."""
    found = []
    for spec in METRICS:
        name = spec.name.removeprefix(PREFIX)
        if spec.name in drawn or re.match("keys?_", name):
            continue
        by = f" by ({', '.join(spec.labels)})" if spec.labels else ""
        queries = {
            "counter": [(f"sum{by} (rate({spec.name}[I]))", " ".join(f"{{{{{label}}}}}" for label in spec.labels))],
            "gauge": [(f"max{by} ({spec.name})", " ".join(f"{{{{{label}}}}}" for label in spec.labels))],
            "histogram": quantiles(name),
        }
        found.append(graph(name.replace("_", " ").capitalize(), spec.help, queries[spec.kind]))
    return found


def runbooks() -> dict[str, Any]:
    """Copy docs/runbooks.md, a panel for each alert, so that they are at hand where the dashboards are."""
    text = (DOCS / "runbooks.md").read_text()
    opening, *sections = re.split(r"^## ", text, flags=re.M)
    parts = [words("What to do", "How to use the runbooks.", opening.split("\n", 1)[1].strip(), 4)]
    for section in sections:
        name, content = section.split("\n", 1)
        parts.append(words(name, f"What {name} means and what to do.", content.strip(), 7))
    return dashboard(RUNBOOKS, "runbooks", "What each alert means and what to do.", [("Runbooks", parts)], choices=[])


def write(folder: Path) -> None:
    drawn = json.dumps([operations([]), model(), experts()]) + json.dumps(RECORDED)
    for made in (operations(others(drawn)), model(), experts(), runbooks()):
        name = made["uid"].removeprefix("stream-moe-")
        (folder / f"{name}.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "dashboards")
