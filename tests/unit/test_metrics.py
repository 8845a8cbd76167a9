"""The metric table: names, bounds, and what a report becomes when it is scraped."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe.report import DriftReport, GroupReport
from stream_moe.telemetry.board import Board, Histogram
from stream_moe.telemetry.prometheus import Exporter
from stream_moe.telemetry.table import MAX_CLASSES, METRICS, PREFIX, STATES
from tests.unit.reports import make_inputs, make_report


def scrape(board: Board, *, of_one: bool = True) -> dict[str, float]:
    """Sample text (name and labels) -> value; `of_one` leaves out the label of the one partition, 3."""
    lines = Exporter(board).exposition().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    assert len({name for name, _ in pairs}) == len(pairs), "a series twice"
    samples = {name.removeprefix(PREFIX): float(value) for name, value in pairs}
    if not of_one:
        return samples
    label = re.compile(r'partition="3",|,?partition="3"')
    return {label.sub("", name).replace("{}", ""): value for name, value in samples.items()}


def scraped(**changes: Any) -> dict[str, float]:
    board = Board()
    board.update(make_report(**changes))
    board.update_group(GroupReport("running", (3,), outcomes={"committed": 4}))
    return scrape(board)


def test_every_row_is_rendered_from_a_full_report() -> None:
    board = Board()
    board.update(make_report())
    board.update_group(GroupReport("running", (3,), config_hash="c0ffee00"))
    text = Exporter(board).exposition().decode()
    for spec in METRICS:
        assert f"# HELP {spec.name} {spec.help}\n# TYPE {spec.name} {spec.kind}\n" in text
    assert "_created" not in text


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [f"| `{spec.name}` | {spec.kind} | {', '.join(spec.labels) or '-'} | {spec.help} |" for spec in METRICS]
    assert re.findall(r"^\| `.*\|$", page, re.M) == rows, "write it anew: make written"


def test_names_keep_the_conventions() -> None:
    names = [spec.name for spec in METRICS]
    assert len(set(names)) == len(names)
    for spec in METRICS:
        assert spec.name.startswith(PREFIX)
        assert (spec.kind == "counter") == spec.name.endswith("_total")
        assert spec.help.endswith((".", "load.", "1."))
        assert not set(spec.labels) & {"id", "key", "tenant"}


def test_values_come_from_the_report() -> None:
    samples = scraped()
    report = make_report()
    assert samples["events_consumed_total"] == report.events_consumed
    assert samples['consumer_lag_records{topic="events"}'] == report.lag_records
    assert samples['accuracy_ratio{window="recent"}'] == report.quality.window_accuracy
    assert samples['expert_routed_total{expert="1"}'] == report.learner.experts[1].routed
    assert samples['drift_detections_total{detector="adwin",scope="mixture"}'] == 1
    assert (samples['expert_resets_total{expert="0"}'], samples['expert_returns_total{expert="0"}']) == (2, 1)
    assert (samples["experts_asleep"], samples["expert_wakes_total"]) == (1, 2)
    assert samples['state{state="running"}'] == 1
    assert sum(samples[f'state{{state="{state}"}}'] for state in STATES) == 1
    assert samples['drift_detections_total{detector="ks",scope="feature"}'] == 4
    assert samples['last_drift_timestamp_seconds{scope="feature"}'] == 1.7e9
    assert samples['retention_headroom_records{topic="events"}'] == report.retention_headroom
    assert (samples['checkpoint_failures_total{reason="space"}'], samples["process_memory_bytes"] > 1e6) == (1, True)
    assert samples["process_memory_bytes"] < samples["process_memory_limit_bytes"]
    affinity = samples['expert_class_affinity_ratio{class="a",expert="0"}']
    assert affinity == report.learner.expert_class[0, 0] / report.learner.expert_class[0].sum()


def test_at_most_two_thousand_series_with_everything_at_its_worst() -> None:
    board = Board()
    report = make_report(experts=64, classes=40, features=54)
    report.dead_letters = {f"reason-{i}": 1 for i in range(100)}
    report.step_seconds = {f"phase-{i}": 0.1 for i in range(100)}
    board.update(report)
    assert 1_500 < len(scrape(board)) <= 2_000
    assert 'expert_class_affinity_ratio{class="class-0",expert="63"}' in scrape(board)
    board.update(make_report(experts=200, classes=500, features=1000))
    board.update_group(GroupReport("running", (3,), config_hash="c0ffee00"))
    assert len(scrape(board)) <= 2_000


def test_each_partition_has_its_series_as_long_as_there_is_room() -> None:
    board = Board()
    for partition in range(2):
        board.update(make_report(partition=partition, lag_records=partition))
    board.update_group(GroupReport("running", (0, 1)))
    samples = scrape(board, of_one=False)
    for partition in range(2):
        assert samples[f'consumer_lag_records{{partition="{partition}",topic="events"}}'] == partition
        assert f'accuracy_ratio{{partition="{partition}",window="all"}}' in samples
        assert f'expert_routed_total{{expert="1",partition="{partition}"}}' in samples
    board.update_group(GroupReport("running", (1,)))
    assert not any('partition="0"' in name for name in scrape(board, of_one=False))
    for partition in range(200):
        board.update(make_report(experts=12, partition=partition))
    board.update_group(GroupReport("running", tuple(range(200))))
    samples = scrape(board, of_one=False)
    assert len(samples) <= 2_000
    assert sum(name.startswith("consumer_lag_records") for name in samples) == 200
    assert 10 < sum(name.startswith("kappa_ratio") for name in samples) < 200  # then there was no more room


def test_further_classes_and_reasons_are_added_up_under_other() -> None:
    report = make_report(classes=40)
    board = Board()
    report.dead_letters = {f"reason-{i}": 1 for i in range(40)}
    board.update(report)
    samples = scrape(board)
    labels = {name: value for name, value in samples.items() if name.startswith("class_labels_total")}
    assert len(labels) == MAX_CLASSES + 1
    assert sum(labels.values()) == report.quality.class_labels.sum()
    assert samples['dead_letters_total{reason="other"}'] == 8
    affinities = [v for name, v in samples.items() if "affinity_ratio" in name and 'expert="0"' in name]
    assert sum(affinities) == pytest.approx(1)


def test_further_features_share_their_highest_strength() -> None:
    board = Board()
    board.update(make_report(features=40))
    samples = scrape(board)
    assert samples['feature_drift_strength{feature="x31"}'] == 0.31
    assert samples['feature_drift_strength{feature="other"}'] == 0.39


def test_what_records_bring_instead_of_features_is_bounded() -> None:
    board = Board()
    names = {f"n{i}": 100 - i for i in range(40)}
    found = make_inputs(
        features=40, names=names, other_names=7, gone=("x1", "x2"), categories=np.arange(40, dtype=np.int64)
    )
    board.update(make_report(inputs=found))
    samples = scrape(board)
    assert (samples["unknown_names"], samples["features_gone"]) == (40, 2)
    for name, total, most in (("unknown_names", sum(names.values()) + 7, 13), ("unknown_categories", 780, 13)):
        each = {label: value for label, value in samples.items() if label.startswith(f"{name}_total")}
        assert (sum(each.values()), len(each)) == (total, most)
    assert samples['feature_missing_ratio{feature="x31"}'] == 0.031
    assert samples['feature_missing_ratio{feature="other"}'] == 0.039


def test_a_class_called_other_does_not_make_a_series_twice() -> None:
    report = make_report(classes=40)
    report.classes = ("other", *report.classes[1:])
    board = Board()
    board.update(report)
    assert 'class_labels_total{class="other"}' in scrape(board)


def test_what_is_unknown_is_left_out() -> None:
    report = make_report()
    report.quality.events = 0
    report.quality.kappa = math.nan
    report.learner.overlap = math.nan
    report.learner.router_loss = math.inf
    report.learner.last_drift_event, report.drift = -1, DriftReport()
    report.learner.expert_class[1] = 0
    report.checkpoint_time = None
    board = Board()
    board.update(report)
    text = Exporter(board).exposition().decode()
    absent = [
        "accuracy_ratio",
        "kappa_ratio",
        "overlap",
        "router_loss",
        "last_drift",
        "checkpoint_age",
        "NaN",
    ]
    for name in absent:
        assert name not in text, name
    assert 'expert_class_affinity_ratio{class="a",expert="1"' not in text
    assert 'expert_class_affinity_ratio{class="a",expert="0"' in text


def test_a_router_without_any_load_is_not_collapsed() -> None:
    report = make_report()
    for expert in report.learner.experts:
        expert.routed = 0
    report.learner.load_entropy = 0.0
    board = Board()
    board.update(report)
    assert "load_entropy" not in Exporter(board).exposition().decode()


def test_nothing_but_empty_histograms_before_the_first_report() -> None:
    assert set(scrape(Board()).values()) == {0.0}


def test_counters_of_the_model_are_silent_while_it_is_replayed() -> None:
    # They would step back to the checkpoint, and Prometheus would count the past a second time.
    samples = scraped(state="recovering")
    counters = {spec.name.removeprefix(PREFIX) for spec in METRICS if spec.kind == "counter"}
    seen = {name.split("{")[0] for name in samples} & counters
    assert seen == {
        "checkpoint_failures_total",
        "key_models_evicted_total",
        "key_models_loaded_total",
        "replay_divergence_total",
        "transactions_total",
        "rebalances_total",
        "watchdog_fired_total",
    }


def test_durations_of_every_block_are_added() -> None:
    board = Board()
    for _ in range(3):
        board.update(
            make_report(step_seconds={"experts": 0.0002}, commit_seconds=0.03, prediction_latencies=[0.2, 9.0],
                        label_delays=[-1.0, 7200.0])
        )  # fmt: skip
    board.update(make_report(step_seconds={}, commit_seconds=0.0, prediction_latencies=[], label_delays=[]))
    samples = scrape(board)
    assert samples['label_delay_seconds_bucket{le="0.01"}'] == 3  # an early one has waited for nothing
    assert samples['label_delay_seconds_bucket{le="3600.0"}'] == 3
    assert samples['label_delay_seconds_bucket{le="14400.0"}'] == samples["label_delay_seconds_count"] == 6
    assert samples["label_delay_seconds_sum"] == 21_600
    assert samples['step_duration_seconds_bucket{le="0.0001",phase="experts"}'] == 0
    assert samples['step_duration_seconds_bucket{le="0.00025",phase="experts"}'] == 3
    assert samples['step_duration_seconds_count{phase="experts"}'] == 3
    assert samples["commit_duration_seconds_count"] == 3
    assert samples["prediction_latency_seconds_count"] == 6
    assert samples["prediction_latency_seconds_sum"] == pytest.approx(27.6)


def test_histogram_takes_clock_skew_and_nonsense() -> None:
    histogram = Histogram()
    histogram.add([-5.0, math.nan, math.inf, 1e9])
    assert histogram.sum == 1e9
    assert histogram.cumulative()[0] == ("0.0001", 1)
    assert histogram.cumulative()[-1] == ("+Inf", 2)


def test_checkpoint_age_is_taken_at_scrape_time() -> None:
    assert scraped(checkpoint_time=time.time() - 100)["checkpoint_age_seconds"] >= 100
    assert scraped(checkpoint_time=time.time() + 100)["checkpoint_age_seconds"] == 0  # a clock set back


def test_a_storm_of_scrapes_gets_the_same_bytes() -> None:
    board = Board()
    exporter = Exporter(board, cache_seconds=3_600)
    board.update(make_report(lag_records=1))
    first = exporter.exposition()
    board.update(make_report(lag_records=2))
    assert exporter.exposition() is first


def test_label_values_are_escaped() -> None:
    report = make_report()
    report.classes = ('a"\n\\', "b", "c")
    board = Board()
    board.update(report)
    assert f"class_labels_total{{class={json.dumps(report.classes[0])}," in Exporter(board).exposition().decode()
