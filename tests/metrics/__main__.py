"""Every query of the dashboards, recording rules and alerts against a real Prometheus, daemon and broker.

`python -m tests.metrics` prints the table of docs/dashboards.md; `python -m tests.metrics --healthy MINUTES` lets the
default model read the electricity data for so long, evaluates the rules all the while and prints every alert that was
pending or fired.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from connectors.kafka import KafkaSettings
from tests.kafka.broker import Broker
from tests.kafka.daemons import finish, run_arguments, stream_moe
from tests.kafka.test_daemon import EVENTS as ELECTRICITY
from tests.metrics.queries import NOT_PROVOKED, PROVOKED
from tests.metrics.tools import COMPILE_SECONDS, Prometheus, free_port
from tests.metrics.watched import Seen, watched


def line(seen: Seen) -> str:
    """One row of the table."""
    name = seen.query.name.replace("|", "\\|")
    where, ill = "<br>".join(seen.query.where), "" if seen.ill is None else str(seen.ill)
    remark = PROVOKED.get(seen.query.name, "") or NOT_PROVOKED.get(seen.query.name, "")
    return f"| `{name}` | {where} | {seen.well} | {seen.joined} | {ill} | {remark} |"


def table(settings: KafkaSettings, folder: Path) -> int:
    """Ask everything, of a well run and of an ill one."""
    with watched(settings, folder) as run:
        seen = run.well()
        lint = run.lint()
        run.ill(seen)
    print("| query or alert | used by | well | as bool | ill | what it takes |")
    print("| --- | --- | --- | --- | --- | --- |")
    for one in seen:
        print(line(one))
    wrong = [one.wrong for one in seen if one.wrong]
    print(f"\n{len(seen)} queries, {len(wrong)} wrong", *wrong, sep="\n")
    print("promtool check metrics, on a scrape of the daemon:", lint or "nothing to say")
    return 1 if wrong or lint else 0


def healthy(settings: KafkaSettings, folder: Path, minutes: float) -> int:
    """Count the evaluations in which an alert was pending or fired."""
    where = ["--bootstrap", settings.bootstrap, "--topic", settings.topic]
    rate = str(ELECTRICITY / 60 / minutes)
    port = free_port()
    (folder / "prometheus").mkdir()
    producer = stream_moe("produce", "electricity", *where, "--partitions", "2", "--rate", rate)
    arguments = run_arguments(settings, folder / "state")
    arguments[arguments.index("--metrics-port") + 1] = str(port)
    daemon = stream_moe(*arguments)
    prometheus = Prometheus(folder / "prometheus", f"127.0.0.1:{port}")
    try:
        prometheus.wait_for("stream_moe_events_consumed_total > 0", COMPILE_SECONDS)
        begun = time.time()  # while the daemon starts there is nobody to scrape
        finish(producer, 60 * minutes + 300)
        window = f"[{time.time() - begun:.0f}s]"
        alerts = prometheus.query(f"sum by (alertname, alertstate) (count_over_time(ALERTS{window}))")
        shown = ("sum(stream_moe_events_consumed_total)", "avg(stream_moe_accuracy_ratio)",
                 "min(stream_moe_router_load_entropy_ratio)", "max(stream_moe_experts_asleep)",
                 "max(stream_moe_consumer_lag_seconds)", "sum(stream_moe_drift_detections_total)")  # fmt: skip
        for query in shown:
            print(query, *[sample["value"][1] for sample in prometheus.query(query)])
        evaluations = prometheus.query(f"count_over_time(stream_moe:events_consumed:rate5m{window})")
        print(f"{(time.time() - begun) / 60:.1f} minutes, {evaluations[0]['value'][1]} evaluations of the rules,")
    finally:
        prometheus.close()
        daemon.terminate()
        finish(daemon)
    for sample in alerts:
        print(sample["metric"], sample["value"][1])
    print(f"{len(alerts)} alerts pending or firing")
    return 1 if alerts else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.metrics", description=__doc__)
    parser.add_argument("--healthy", type=float, metavar="MINUTES", help="only see whether an alert fires in so long")
    minutes = parser.parse_args().healthy
    broker = Broker()
    try:
        broker.start()
        settings = KafkaSettings(bootstrap=broker.bootstrap, topic="watched")
        with tempfile.TemporaryDirectory() as folder:
            return healthy(settings, Path(folder), minutes) if minutes else table(settings, Path(folder))
    finally:
        broker.stop()


if __name__ == "__main__":
    sys.exit(main())
