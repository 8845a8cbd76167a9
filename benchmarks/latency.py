"""How long a record waits for its prediction: `python -m benchmarks.latency [--rates 50,5000] [--seconds 30]`.

A daemon with exactly-once and everything else as by default, on a real broker. A process of its own produces events
of electricity, evenly spaced, and gives each the moment of its sending as its id; the id is the prediction's key. So
whoever reads it, committed records only, knows how long that took: producer, daemon, transaction and consumer
together. The first seconds, in which the daemon compiles, do not count. Writes bench/latency.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from connectors.kafka import KafkaSettings, ensure_topics
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.streams import open_stream
from tests.kafka.broker import Broker
from tests.kafka.daemons import CLI, Members

QUANTILES = {"median": 0.5, "95 %": 0.95, "99 %": 0.99, "longest": 1.0}
WARM_UP = 10.0  # seconds of the same rate before those that count
PACE = 0.001  # seconds between two looks at the clock


def produce(bootstrap: str, topic: str, rate: float, seconds: float) -> None:
    """Send events at their time; the id of each is the nanoseconds since 1970 at which it was sent."""
    stream = open_stream("electricity")
    values = JsonCodec(stream.schema).encode_events(next(stream.blocks(45_312)))
    bodies, headers = [value[value.index(b",") :] for value in values], [schema_header(stream.schema)]
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
    began, sent, total = time.perf_counter(), 0, int(rate * seconds)
    while sent < total:
        due = min(total, int((time.perf_counter() - began) * rate) + 1)
        for i in range(sent, due):
            producer.send(topic, b'{"id":"%d"' % time.time_ns() + bodies[i % len(bodies)], None, headers, 0)
        sent = due
        time.sleep(PACE)
    producer.flush()
    producer.close()


def reader_of(settings: KafkaSettings) -> KafkaConsumer:
    consumer = KafkaConsumer(
        **settings.client(), group_id=None, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(settings.predictions, 0)])
    return consumer


def waits(consumer: KafkaConsumer, count: int, patience: float) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Nanoseconds from sending to reading of the next `count` predictions, in their order."""
    found: list[int] = []
    deadline = time.monotonic() + patience
    while len(found) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(found)} of {count} predictions came within {patience:.0f} s")
        for records in consumer.poll(timeout_ms=200).values():
            now = time.time_ns()
            found += [now - int(record.key) for record in records]
    return np.array(found, np.int64)


def measure(broker: Broker, rate: float, seconds: float, model: str) -> dict[str, Any]:
    """Milliseconds at each quantile, and how many events they are of."""
    name = f"latency-{rate:g}"
    settings = KafkaSettings(broker.bootstrap, name, f"{name}-out", f"{name}-dead", name)
    ensure_topics(settings, [settings.topic, settings.predictions, settings.dead_letters])
    with tempfile.TemporaryDirectory() as folder:
        options = ("--model", model, "--guarantee", "exactly-once")
        group = Members(settings, Path(folder), *options, cli=CLI)
        with closing(group) as members, closing(reader_of(settings)) as consumer:
            members.joined(members.start())
            asked = ["--produce", broker.bootstrap, name, str(rate), str(WARM_UP + seconds)]
            producer = subprocess.Popen([sys.executable, "-m", "benchmarks.latency", *asked])
            total, first = int(rate * (WARM_UP + seconds)), int(rate * WARM_UP)
            began = time.monotonic()
            found = waits(consumer, total, 2 * (WARM_UP + seconds) + 120)[first:] / 1e6
            took = time.monotonic() - began
            producer.wait()
    return {
        "rate": rate, "events": len(found), "seconds": took, "load_average": os.getloadavg()[0],
        "ms": {title: float(np.quantile(found, q)) for title, q in QUANTILES.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--rates", default="50,5000", help="events a second, separated by commas")
    parser.add_argument("--seconds", type=float, default=30.0, help="that count, for each rate")
    parser.add_argument("--model", default="driftmoe")
    parser.add_argument("--produce", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.produce:
        bootstrap, topic, rate, seconds = options.produce
        produce(bootstrap, topic, float(rate), float(seconds))
        return
    print(f"| events/s | events | {' | '.join(f'{title}, ms' for title in QUANTILES)} | load average |")
    print("| --- " * (len(QUANTILES) + 3) + "|")
    broker, found = Broker(), []
    try:
        broker.start()
        for rate in map(float, options.rates.split(",")):
            one = measure(broker, rate, options.seconds, options.model)
            found.append(one)
            cells = [f"{one['ms'][title]:.1f}" for title in QUANTILES]
            print(
                f"| {rate:,.0f} | {one['events']:,} | {' | '.join(cells)} | {one['load_average']:.1f} |", flush=True
            )
    finally:
        broker.stop()
    Path("bench").mkdir(exist_ok=True)
    Path("bench/latency.json").write_text(json.dumps({"model": options.model, "rates": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
