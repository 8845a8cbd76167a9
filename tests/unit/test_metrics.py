"""The metric table: names, bounds, and what a report becomes when it is scraped."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

from stream_moe.telemetry.metrics import EngineMetrics, Histogram
from stream_moe.telemetry.table import MAX_CLASSES, METRICS, PREFIX, STATES
from tests.unit.reports import make_report


def scrape(metrics: EngineMetrics) -> dict[str, float]:
    """Sample text (name and labels) -> value."""
    lines = metrics.exposition().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    assert len({name for name, _ in pairs}) == len(pairs), "a series twice"
    return {name.removeprefix(PREFIX): float(value) for name, value in pairs}


def scraped(**changes: Any) -> dict[str, float]:
    metrics = EngineMetrics(cache_seconds=0)
    metrics.update(make_report(**changes))
    return scrape(metrics)


def test_every_row_is_rendered_from_a_full_report() -> None:
    metrics = EngineMetrics()
    metrics.update(make_report())
    text = metrics.exposition().decode()
    for spec in METRICS:
        assert f"# HELP {spec.name} {spec.help}\n# TYPE {spec.name} {spec.kind}\n" in text
    assert "_created" not in text


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
    assert samples['events_consumed_total{partition="3"}'] == report.events_consumed
    assert samples['consumer_lag_records{partition="3",topic="events"}'] == report.lag_records
    assert samples['accuracy_ratio{window="recent"}'] == report.quality.window_accuracy
    assert samples['expert_routed_total{expert="1"}'] == report.learner.experts[1].routed
    assert samples['drift_detections_total{detector="adwin",scope="mixture"}'] == 1
    assert (samples["experts_asleep"], samples["expert_wakes_total"]) == (1, 2)
    assert samples['state{state="running"}'] == 1
    assert sum(samples[f'state{{state="{state}"}}'] for state in STATES) == 1
    affinity = samples['expert_class_affinity_ratio{class="a",expert="0"}']
    assert affinity == report.learner.expert_class[0, 0] / report.learner.expert_class[0].sum()


def test_at_most_two_thousand_series_with_everything_at_its_worst() -> None:
    metrics = EngineMetrics(cache_seconds=0)
    report = make_report(experts=64, classes=40)
    report.dead_letters = {f"reason-{i}": 1 for i in range(100)}
    report.step_seconds = {f"phase-{i}": 0.1 for i in range(100)}
    metrics.update(report)
    assert 1_500 < len(scrape(metrics)) <= 2_000
    metrics.update(make_report(experts=200, classes=500))
    assert len(scrape(metrics)) <= 2_000


def test_further_classes_and_reasons_are_added_up_under_other() -> None:
    report = make_report(classes=40)
    metrics = EngineMetrics(cache_seconds=0)
    report.dead_letters = {f"reason-{i}": 1 for i in range(40)}
    metrics.update(report)
    samples = scrape(metrics)
    labels = {name: value for name, value in samples.items() if name.startswith("class_labels_total")}
    assert len(labels) == MAX_CLASSES + 1
    assert sum(labels.values()) == report.quality.class_labels.sum()
    assert samples['dead_letters_total{reason="other"}'] == 8
    affinities = [v for name, v in samples.items() if "affinity_ratio" in name and 'expert="0"' in name]
    assert sum(affinities) == pytest.approx(1)


def test_a_class_called_other_does_not_make_a_series_twice() -> None:
    report = make_report(classes=40)
    report.classes = ("other", *report.classes[1:])
    metrics = EngineMetrics()
    metrics.update(report)
    assert 'class_labels_total{class="other"}' in scrape(metrics)


def test_what_is_unknown_is_left_out() -> None:
    report = make_report()
    report.quality.events = 0
    report.quality.kappa = math.nan
    report.learner.overlap = math.nan
    report.learner.router_loss = math.inf
    report.learner.last_drift_event = -1
    report.learner.expert_class[1] = 0
    report.checkpoint_time = None
    metrics = EngineMetrics()
    metrics.update(report)
    text = metrics.exposition().decode()
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
    assert 'expert_class_affinity_ratio{class="a",expert="1"}' not in text
    assert 'expert_class_affinity_ratio{class="a",expert="0"}' in text


def test_a_router_without_any_load_is_not_collapsed() -> None:
    report = make_report()
    for expert in report.learner.experts:
        expert.routed = 0
    report.learner.load_entropy = 0.0
    metrics = EngineMetrics()
    metrics.update(report)
    assert "load_entropy" not in metrics.exposition().decode()


def test_nothing_but_empty_histograms_before_the_first_report() -> None:
    assert set(scrape(EngineMetrics()).values()) == {0.0}


def test_counters_of_the_model_are_silent_while_it_is_replayed() -> None:
    # They would step back to the checkpoint, and Prometheus would count the past a second time.
    samples = scraped(state="recovering")
    counters = {spec.name.removeprefix(PREFIX) for spec in METRICS if spec.kind == "counter"}
    seen = {name.split("{")[0] for name in samples} & counters
    assert seen == {"checkpoint_failures_total", "transactions_total"}
    assert samples['state{state="recovering"}'] == 1


def test_durations_of_every_block_are_added() -> None:
    metrics = EngineMetrics(cache_seconds=0)
    for _ in range(3):
        metrics.update(
            make_report(step_seconds={"train": 0.0002}, commit_seconds=0.03, prediction_latencies=[0.2, 9.0])
        )
    metrics.update(make_report(step_seconds={}, commit_seconds=0.0, prediction_latencies=[]))
    samples = scrape(metrics)
    assert samples['step_duration_seconds_bucket{le="0.0001",phase="train"}'] == 0
    assert samples['step_duration_seconds_bucket{le="0.00025",phase="train"}'] == 3
    assert samples['step_duration_seconds_count{phase="train"}'] == 3
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
    metrics = EngineMetrics(cache_seconds=3_600)
    metrics.update(make_report(lag_records=1))
    first = metrics.exposition()
    metrics.update(make_report(lag_records=2))
    assert metrics.exposition() is first


def test_label_values_are_escaped() -> None:
    report = make_report()
    report.classes = ('a"\n\\', "b", "c")
    metrics = EngineMetrics()
    metrics.update(report)
    assert f"class_labels_total{{class={json.dumps(report.classes[0])}}}" in metrics.exposition().decode()
