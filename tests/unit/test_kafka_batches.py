from __future__ import annotations

from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecords

from connectors.kafka.internals import send_batches

PLACE = TopicPartition("out", 3)
ROOM = 2_000
RECORDS: list[tuple[bytes | None, bytes]] = [(b"k%d" % i if i % 7 else None, b"v" * (i % 40)) for i in range(300)]
RECORDS[100] = (b"key", b"larger than a batch" * 200)
RECORDS[200] = (b"k" * 300, b"")


class StandIn:
    """The client's own accumulator under a producer without a broker; `takes` = places whose batch leaves at once."""

    def __init__(self, takes: tuple[int, ...] = ()) -> None:
        self._accumulator = RecordAccumulator(batch_size=ROOM, compression_attrs=3)
        self.left: list[Any] = []
        self._takes, self._sent = takes, 0

    def send(self, topic: str, value: bytes, key: bytes | None, headers: None, partition: int) -> Any:
        future, *_ = self._accumulator.append(TopicPartition(topic, partition), None, key, value, headers or [])
        if self._sent in self._takes:
            self.take()
        self._sent += 1
        return future

    def take(self) -> list[Any]:
        """What the client's sender does: the batches so far are closed and under way."""
        waiting = self._accumulator._batches[PLACE]
        while waiting:
            self.left.append(waiting.popleft())
            self.left[-1].records.close()
        return self.left


def read(batches: list[Any]) -> list[tuple[bytes | None, bytes]]:
    found = []
    for batch in batches:
        (content,) = MemoryRecords(batch.records.buffer())
        assert content.validate_crc()
        records = list(content)
        assert [record.offset for record in records] == list(range(batch.record_count))
        found += [(record.key, record.value) for record in records]
    return found


@pytest.mark.parametrize("takes", [(), (0,), (0, 1, 2, 5)])
def test_batches_read_back_as_they_were_given(takes: tuple[int, ...]) -> None:
    producer = StandIn(takes)
    futures = send_batches(producer, PLACE.topic, PLACE.partition, RECORDS[:150]) + send_batches(
        producer, PLACE.topic, PLACE.partition, RECORDS[150:]
    )
    batches = producer.take()
    assert read(batches) == RECORDS
    assert len(batches) < 15
    for batch in batches:
        assert not any(future.is_done for future in futures if future._produce_future is batch.produce_future)
        batch.complete(0, -1)
    assert all(future.succeeded() for future in futures)
    assert send_batches(producer, PLACE.topic, PLACE.partition, []) == []


def test_a_failed_batch_fails_a_future() -> None:
    producer = StandIn()
    futures = send_batches(producer, PLACE.topic, PLACE.partition, RECORDS)
    first, lost, *rest = producer.take()
    for batch in (first, *rest):
        batch.complete(0, -1)
    lost.complete_exceptionally(KafkaTimeoutError(), lambda _: KafkaTimeoutError())
    assert any(future.failed() for future in futures)


@pytest.mark.parametrize("lost", [None, 0, 1])
def test_a_split_batch_fails_when_a_part_does(lost: int | None) -> None:
    producer = StandIn()
    records = RECORDS[:40]
    futures = send_batches(producer, PLACE.topic, PLACE.partition, records)
    (whole,) = producer.take()
    producer._accumulator.split_and_reenqueue(whole)
    producer.left.clear()
    parts = producer.take()
    assert read(parts) == records
    for number, part in enumerate(parts):
        if number == lost:
            part.complete_exceptionally(KafkaTimeoutError(), lambda _: KafkaTimeoutError())
        else:
            part.complete(0, -1)
    assert all(future.succeeded() for future in futures) == (lost is None)
