"""Steps that tests of the connector share: write, read, join a group, look at what was committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from connectors.kafka import KafkaProducerLog, KafkaSettings, KafkaSink, KafkaSource
from stream_moe.types import RecordBatch


def produce(settings: KafkaSettings, values: list[bytes], headers: tuple[tuple[str, bytes], ...] = ()) -> None:
    log = KafkaProducerLog(settings, headers, create=True)
    log.send((b"k%d" % i, value) for i, value in enumerate(values))
    log.close()


def read(source: KafkaSource, count: int) -> list[RecordBatch]:
    """Poll until `count` records or corrupt offsets came, or 20 s went by."""
    batches: list[RecordBatch] = []
    deadline = time.monotonic() + 20
    while sum(len(b) + len(b.corrupt) for b in batches) < count and time.monotonic() < deadline:
        batches += source.poll(4096, 1.0)
    return batches


def joined(source: KafkaSource, *partitions: int) -> KafkaSource:
    """Open a source, if it is not, and poll until it was given these partitions."""
    if source._consumer is None:
        source.open()
    given: set[int] = set()
    deadline = time.monotonic() + 40
    while not given >= set(partitions) and time.monotonic() < deadline:
        assert source.poll(10, 0.5) == []  # nothing before it is sought
        given |= {p for change in source.changes() if change.kind == "assigned" for p in change.partitions}
    assert given >= set(partitions)
    return source


def committed_records(settings: KafkaSettings, topic: str, partition: int = 0) -> list[Any]:
    """What a reader of committed records sees in a partition now."""
    place = TopicPartition(topic, partition)
    consumer = KafkaConsumer(
        **settings.client(), isolation_level="read_committed", auto_offset_reset="earliest", group_id=None
    )
    try:
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]  # of read_committed: before any open transaction
        records: list[Any] = []
        while consumer.position(place) < end:
            records += consumer.poll(timeout_ms=200).get(place, [])
        return records
    finally:
        consumer.close()


def opened(settings: KafkaSettings, closing: Callable[[Any], Any]) -> tuple[KafkaSource, KafkaSink, int | None]:
    source: KafkaSource = joined(closing(KafkaSource(settings)), 0)
    sink = KafkaSink(settings, source)
    closing(Writer(sink))
    sink.open(0)
    return source, sink, source.committed(0)


class Writer:
    """Closes partition 0 of a sink."""

    def __init__(self, sink: KafkaSink) -> None:
        self._sink = sink

    def close(self) -> None:
        self._sink.close(0)


class CommitWatcher:
    """Reads what a group has committed, as somebody who is no member."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer = KafkaConsumer(
            **settings.client(), group_id=settings.group, enable_auto_commit=False,
            isolation_level="read_committed", auto_offset_reset="earliest",
        )  # fmt: skip

    def committed(self, partitions: int) -> list[int]:
        places = [TopicPartition(self._settings.topic, partition) for partition in range(partitions)]
        return [self._consumer.committed(place) or 0 for place in places]

    def records(self, topic: str, partition: int) -> list[Any]:
        """Return all that a reader of committed records sees in a partition now."""
        place = TopicPartition(topic, partition)
        self._consumer.assign([place])
        self._consumer.seek_to_beginning(place)
        end, found = self._consumer.end_offsets([place])[place], list[Any]()
        while self._consumer.position(place) < end:
            found += self._consumer.poll(timeout_ms=500, max_records=10_000).get(place, [])
        return found

    def close(self) -> None:
        self._consumer.close(autocommit=False)
