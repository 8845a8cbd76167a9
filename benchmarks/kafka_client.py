"""What a record costs at the Kafka client, and what other ways of sending would buy.

    python -m benchmarks.kafka_client [--repeats 3] [--only costs,profile,daemon]

costs: microseconds per record of each step between the topics, in one process. profile: where the time of
`KafkaProducer.send` goes. daemon: the daemon sending in batches, record by record, and through confluent-kafka
(where that is installed), beside the bare loop of `benchmarks.kafka_loop`. Each starts a broker of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib.util
import pstats
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks import kafka_loop
from connectors.kafka import KafkaSettings
from connectors.kafka.internals import send_batches
from connectors.kafka.writer import producer_options
from stream_moe.engine.codec import JsonCodec
from stream_moe.models.published.data import DriftMoEData
from stream_moe.streams import open_stream
from stream_moe.types import RecordBatch
from tests.kafka.broker import Broker

Records = Sequence[tuple[bytes | None, bytes]]
BLOCK = 4096
HAS_CONFLUENT = importlib.util.find_spec("confluent_kafka") is not None


def one_by_one(producer: KafkaProducer, topic: str, partition: int, records: Records) -> list[Any]:
    return [producer.send(topic, value, key, None, partition) for key, value in records]


class Confluent:
    """Sends through librdkafka, with the options of `producer_options` by its names."""

    def __init__(self, bootstrap: str) -> None:
        from confluent_kafka import Producer

        self._failed: list[Any] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
                "compression.type": "lz4", "batch.size": 256 << 10, "batch.num.messages": 100_000,
                "queue.buffering.max.messages": 1_000_000, "delivery.report.only.error": True,
            }
        )  # fmt: skip

    def send(self, topic: str, partition: int, records: Records) -> None:
        produce, failed = self._producer.produce, lambda error, message: self._failed.append(error)
        for key, value in records:
            produce(topic, value, key, partition, failed)

    def flush(self) -> None:
        if self._producer.flush(45) or self._failed:
            raise SystemExit(f"confluent-kafka: not all was written: {self._failed[:1]}")


def patch(way: str, bootstrap: str) -> None:
    """Make this process's sink send in another way: for the daemon that is measured."""
    from connectors.kafka import writer

    if way == "one-by-one":
        setattr(writer, "send_batches", one_by_one)  # noqa: B010
    elif way == "confluent":
        client = Confluent(bootstrap)

        def send(_: KafkaProducer, topic: str, partition: int, records: Records) -> list[Any]:
            client.send(topic, partition, records)
            client.flush()
            return []

        setattr(writer, "send_batches", send)  # noqa: B010


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def poll(settings: KafkaSettings) -> list[list[Any]]:
    consumer = KafkaConsumer(**settings.client(), group_id=None, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(settings.topic, 0)])
    found: list[list[Any]] = []
    while sum(map(len, found)) < kafka_loop.EVENTS:
        found += consumer.poll(timeout_ms=1000, max_records=BLOCK).values()
    consumer.close()
    return found


def consume(settings: KafkaSettings) -> float:
    """Seconds per record of confluent-kafka's consumer, from its first records on, keys and values taken out."""
    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as Place

    consumer = Consumer(
        {"bootstrap.servers": settings.bootstrap, "group.id": "bench", "fetch.message.max.bytes": 8 << 20}
    )
    consumer.assign([Place(settings.topic, 0, 0)])
    first = done = len(consumer.consume(BLOCK, 10.0))
    start = time.perf_counter()
    while done < kafka_loop.EVENTS:
        messages = consumer.consume(min(BLOCK, kafka_loop.EVENTS - done), 1.0)  # it waits until it has so many
        done += len([(message.key(), message.value(), message.offset()) for message in messages])
    seconds = time.perf_counter() - start
    consumer.close()
    return seconds / (done - first)


def to_batch(records: list[Any]) -> RecordBatch:
    offsets, stamps = (np.array([getattr(r, name) for r in records], np.int64) for name in ("offset", "timestamp"))
    return RecordBatch(offsets, stamps, [r.key for r in records], [r.value for r in records], records[-1].offset + 1)


def predictions_of(settings: KafkaSettings, seconds: dict[str, float]) -> list[Records]:
    """Blocks of keyed predictions as the daemon makes them; adds what each step before sending takes."""
    schema = open_stream("rbf_f").schema
    codec, learner = JsonCodec(schema), DriftMoEData(schema)
    seconds["poll, kafka-python"], polled = timed(poll, settings)
    seconds["columns"], batches = timed(lambda: [to_batch(records) for records in polled])
    seconds["decode"], blocks = timed(lambda: [codec.decode(batch)[0] for batch in batches])
    made = []
    for block in blocks:
        weights = np.empty((len(block), learner.n_experts), np.float32)
        made.append((block, learner.step(block.x, block.y, weights), weights.astype(np.float64)))

    def encode() -> list[list[bytes]]:
        return [codec.encode_predictions(b.ids, b.offsets, p, w, "driftmoe-data/0a1b2c3d") for b, p, w in made]

    encode()
    seconds["encode"], values = timed(encode)
    return [[(n.encode(), v) for n, v in zip(b.ids, vs, strict=True)] for b, vs in zip(blocks, values, strict=True)]


def costs(settings: KafkaSettings, _: int) -> None:
    seconds: dict[str, float] = {}
    blocks = predictions_of(settings, seconds)
    producer = KafkaProducer(**producer_options(settings))
    clients: dict[str, tuple[Callable[[Records], Any], Callable[[], Any]]] = {
        "kafka-python, record by record": (
            lambda records: one_by_one(producer, settings.predictions, 0, records),
            producer.flush,
        ),
        "kafka-python, in batches": (
            lambda records: send_batches(producer, settings.predictions, 0, records),
            producer.flush,
        ),
    }
    if HAS_CONFLUENT:
        seconds["poll, confluent-kafka"] = consume(settings) * kafka_loop.EVENTS
        other = Confluent(settings.bootstrap)
        clients["confluent-kafka"] = lambda records: other.send(settings.predictions, 0, records), other.flush
    for name, (send, flush) in clients.items():
        send(blocks[0])
        flush()
        seconds[f"send, {name}"] = seconds[f"flush, {name}"] = 0.0
        for block in blocks:
            seconds[f"send, {name}"] += timed(send, block)[0]
            seconds[f"flush, {name}"] += timed(flush)[0]
    producer.close()
    print(f"| step | us per record |\n| --- | --- |\n| bytes of a value | {len(blocks[0][-1][1])} |")
    for name, took in seconds.items():
        print(f"| {name} | {1e6 * took / kafka_loop.EVENTS:.2f} |", flush=True)


def profile(settings: KafkaSettings, _: int) -> None:
    records = [(b"%d" % i, b"x" * 220) for i in range(50_000)]
    producer, profiler = KafkaProducer(**producer_options(settings)), cProfile.Profile()
    one_by_one(producer, settings.predictions, 0, records[:1000])
    profiler.runcall(one_by_one, producer, settings.predictions, 0, records)
    producer.close()
    pstats.Stats(profiler, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(12)


def daemon(settings: KafkaSettings, repeats: int) -> None:
    ways = ["batches", "one-by-one", *(["confluent"] if HAS_CONFLUENT else [])]
    speeds: dict[str, list[float]] = {}
    for i in range(repeats):
        for way in ways:
            code = "from benchmarks import kafka_client as k; from stream_moe.cli import main; "
            kafka_loop.CLI[1:] = ["-c", code + f"k.patch({way!r}, {settings.bootstrap!r}); main()"]
            speeds.setdefault(f"daemon, {way}", []).append(kafka_loop.daemon(settings, f"{way}-{i}"))
        speeds.setdefault("bare loop", []).append(kafka_loop.bare_loop(settings))
    print("| events/s | median | min - max | of the bare loop (median of pairs) |\n| --- | --- | --- | --- |")
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, speeds["bare loop"], strict=True))
        print(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} - {max(found):,.0f} | {ratio:.2f} x |")


PARTS = {part.__name__: part for part in (costs, profile, daemon)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    broker = Broker()
    broker.start()
    try:
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(broker.bootstrap, topic, predictions=f"{topic}-out", dead_letters=f"{topic}-dead")
        kafka_loop.fill(settings)
        for name in options.only.split(","):
            PARTS[name](settings, options.repeats)
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
