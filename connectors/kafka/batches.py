"""Many records to one partition, whole batches at a time.

`KafkaProducer.send` takes about 25 us a record: checks, three locks, a future and its callbacks, a number at a time.
Here only the first record of a batch goes that way, which makes the batch and its future; those behind it are put
into the batch's buffer in one pass, 1 us each. The batch then travels as any other: sequence numbers, transaction,
compression, checksum and retries are the client's.

This reaches into the client (3.0), so the dependency is held below 3.1 and a test reads back what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.record.util import encode_varint

_VARINTS = 1 << 15  # sizes and places in a batch that are kept encoded


def send_batches(
    producer: KafkaProducer, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]]
) -> list[Any]:
    """Hand (key, value) records to the producer, in order.

    Returns the client's futures, one per batch or more: call `flush`, then look at each. If one record failed,
    one of them has. All records of a batch bear the time of its first.
    """
    futures, done = [], 0
    while done < len(records):
        key, value = records[done]
        futures.append(producer.send(topic, value, key, None, partition))
        done += 1 + _fill(producer, TopicPartition(topic, partition), futures[-1], records, done + 1)
    return futures


def _fill(
    producer: KafkaProducer,
    place: TopicPartition,
    first: Any,
    records: Sequence[tuple[bytes | None, bytes]],
    start: int,
) -> int:
    """Put records[start:] behind `first` while its batch is open and has room; return how many."""
    accumulator = producer._accumulator
    with accumulator._tp_lock(place):  # the sender takes a batch, and closes it, under this lock
        waiting = accumulator._batches[place]
        if not waiting or waiting[-1]._record_futures[-1] is not first:
            return 0  # on its way already
        batch = waiting[-1]
        builder = batch.records._builder
        room = builder._batch_size - len(builder._buffer)
        written: list[bytes] = []
        for at, (key, value) in enumerate(records[start:], builder._num_records):
            # attributes, time behind the batch's first record, place in the batch, key, value, no headers
            body = b"".join((b"\0\0", _varint(at), _sized(key), _varint(len(value)), value, b"\0"))
            record = _varint(len(body)) + body
            room -= len(record)
            if room < 0:
                break
            written.append(record)
        builder._buffer += b"".join(written)
        builder._num_records += len(written)
        builder._last_offset += len(written)
        batch.records._next_offset += len(written)
        # Should the broker find the batch too large, the client splits it and binds the future of each record to
        # its part. One future bound to every part fails when any part does.
        batch._record_futures += [first] * len(written)
    return len(written)


def _sized(key: bytes | None) -> bytes:
    return _varint(-1) if key is None else _varint(len(key)) + key


@lru_cache(_VARINTS)
def _varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)
