"""Reading a topic: the labels' and the journal's as it stands here, the input's as `source.KafkaSource` has it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from typing import Any

import numpy as np
from kafka import KafkaConsumer, TopicPartition, errors

from connectors.kafka import internals
from connectors.kafka.failures import as_log_error, persistently
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import require_topic
from connectors.kafka.watchdog import Watchdog
from stream_moe.errors import LogError, StuckError, UnavailableError, one_line
from stream_moe.types import RecordBatch

logger = logging.getLogger(__name__)

MAX_RECORDS = 4096  # per poll: in hundreds the client's cost per poll shows, beyond this it no longer falls
CALL_SECONDS = 15.0
LAG_SECONDS = 1.0  # patience with the ends of partitions that are being read: only reports ask for them
# What the client holds of records that were not handed out: one answer of a broker, and no more is asked for before
# it is used up. So the bound is per member, whatever the number of partitions.
FETCH_BYTES = 32 << 20
PARTITION_BYTES = 8 << 20

_Records = dict[TopicPartition, list[Any]]  # ConsumerRecord of the client


class KafkaReader:
    """The `Reader` port over one topic: partitions as they are sought, outside of any group.

    A position that the log does not hold stops the reader; it is never reset. Records of aborted transactions are
    not seen.

    Parameters
    ----------
    settings
        Where and as whom.
    topic
        What to read.

    Attributes
    ----------
    watchdog
        Of the client's calls.

    Notes
    -----
    A record that the client cannot read (bad checksum, broken structure, a header name that is not UTF-8, what
    unpacks to more than `KafkaSettings.batch_memory`) would stop it for ever: its parser ends, and further polls
    spin. So its offset is noted in `RecordBatch.corrupt`, with those behind it in its batch of the log (of the same
    producer), as a batch is parsed from its start; the position is set behind them before anything else is read.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.topic = topic
        self.watchdog = Watchdog(settings)
        self._settings = settings
        self._consumer: KafkaConsumer | None = None
        self._gone: LogError | None = None
        self._positions: dict[int, int] = {}  # of the partitions that are handed out, by what was sought or polled
        self._partition_bytes = PARTITION_BYTES

    def open(self) -> None:
        """Connect; whether the topic exists is asked when the first of its partitions is."""
        self._consumer = persistently(self._settings, f"reading {self.topic!r}", lambda: self._connect(group_id=None))

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Give the next records of each partition in log order; none if none came within `timeout` seconds.

        A batch without records moves the position over control records or corrupt ones. Raises `LogError`
        when a position is not in the log, or the broker refuses.
        """
        return self._poll(max_records, timeout) if self._positions else []

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """For each partition: the first offset held and the offset after the last committed record.

        Of partitions that are being read a report alone asks, which no block waits for longer than a second.
        """
        if self._gone is not None:
            raise self._gone
        reading = all(partition in self._positions for partition in partitions)
        consumer, deadline = self._opened(), time.monotonic() + (LAG_SECONDS if reading else CALL_SECONDS)

        def left() -> float:
            return 1000 * max(0.0, deadline - time.monotonic())

        places = [TopicPartition(self.topic, partition) for partition in partitions]
        with as_log_error(self._settings, f"asking for the offsets of {self.topic!r}"):
            try:
                try:
                    first = consumer.beginning_offsets(places, timeout_ms=left())
                except KeyError:  # a partition so new that the client, which the leader tells, has not heard of it
                    self._ask_for_topics(consumer)
                    first = consumer.beginning_offsets(places, timeout_ms=left())
                after = consumer.end_offsets(places, timeout_ms=left())
            except errors.KafkaTimeoutError:
                if not reading:
                    require_topic(self._settings, self.topic)  # which says so where it is the topic that is gone
                else:
                    threading.Thread(target=self._look_for_topic, name="kafka: topic", daemon=True).start()
                raise
        return {place.partition: (first[place], after[place]) for place in places}

    def seek(self, partition: int, offset: int) -> None:
        """Hand out the partition from this offset on."""
        place, consumer = TopicPartition(self.topic, partition), self._opened()
        if place not in consumer.assignment():
            self._take(consumer, place)
        consumer.seek(place, offset)
        consumer.resume(place)
        internals.drop_parked(consumer, place)
        self._positions[partition] = offset

    def pause(self, partition: int) -> None:
        """Hand out nothing of the partition until the next `seek`."""
        place = TopicPartition(self.topic, partition)
        self._positions.pop(partition, None)
        if self._consumer is not None and place in self._consumer.assignment():
            self._consumer.pause(place)

    def close(self) -> None:
        """Let go of the connection; at most about 8 s."""
        self._close(f"closing the reader of {self.topic!r}")

    def _connect(self, **options: Any) -> KafkaConsumer:
        internals.read_safely(self._settings.batch_memory << 20)
        return KafkaConsumer(
            **self._settings.client(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            max_poll_records=MAX_RECORDS,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=self._partition_bytes,
            **options,
        )

    def _opened(self) -> KafkaConsumer:
        if self._consumer is None:
            raise LogError(f"topic {self.topic!r}: the source is not open; call open first")
        return self._consumer

    def _take(self, consumer: KafkaConsumer, place: TopicPartition) -> None:
        consumer.assign([*consumer.assignment(), place])

    def _look_for_topic(self) -> None:
        """Note, for the next who asks for bounds, that the topic is gone."""
        try:
            require_topic(self._settings, self.topic)
        except UnavailableError:
            pass
        except LogError as error:
            self._gone = error

    def _ask_for_topics(self, consumer: KafkaConsumer) -> None:
        self.watchdog.within(CALL_SECONDS, "asking for the topics", consumer.topics)

    def _poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        consumer, deadline = self._opened(), time.monotonic() + timeout
        internals.keep_refreshing(consumer)
        try:
            with as_log_error(self._settings, f"reading {self.topic!r}"):
                return self._read(consumer, max_records, deadline)
        except UnavailableError as error:
            logger.warning("%s; trying again", error)
            for partition, position in self._positions.items():  # what was not handed out is read again
                if (place := TopicPartition(self.topic, partition)) in consumer.assignment():
                    consumer.seek(place, position)
            time.sleep(max(0.0, deadline - time.monotonic()))
            return []

    def _read(self, consumer: KafkaConsumer, max_records: int, deadline: float) -> list[RecordBatch]:
        """Poll the client once, and again behind each record that it cannot read."""
        corrupt: dict[int, list[int]] = {}
        found: _Records = {}
        while not found:
            left = max(0.0, deadline - time.monotonic())
            if corrupt and (not left or sum(map(len, corrupt.values())) >= max_records):
                break
            try:
                found = self._poll_client(consumer, max_records, 0.0 if corrupt else left)
            except errors.CorruptRecordError as error:
                place, lost = internals.unreadable(consumer)
                lost = lost[: max(1, max_records - sum(map(len, corrupt.values())))]  # the next poll finds the others
                if lost:
                    logger.warning(
                        "%s/%d: offsets %d to %d cannot be read and are skipped: %s",
                        *place, lost[0], lost[-1], one_line(error),
                    )  # fmt: skip
                consumer.seek(place, max(lost.stop, int(consumer.position(place))))
                corrupt.setdefault(int(place.partition), []).extend(lost)
            else:
                if not corrupt:
                    break
        return self._advance(consumer, found, corrupt)

    def _poll_client(self, consumer: KafkaConsumer, max_records: int, seconds: float) -> _Records:
        found: _Records = consumer.poll(timeout_ms=seconds * 1000, max_records=max_records)
        return found

    def _advance(self, consumer: KafkaConsumer, found: _Records, corrupt: dict[int, list[int]]) -> list[RecordBatch]:
        """Give what was found of each partition, and note its new position."""
        batches = []
        for partition, position in self._positions.items():
            place = TopicPartition(self.topic, partition)
            next_offset = consumer.position(place, timeout_ms=CALL_SECONDS * 1000)
            if next_offset is None:
                raise errors.KafkaTimeoutError(f"no position of partition {partition}")
            records, bad = found.get(place, []), corrupt.get(partition, [])
            if records or bad or next_offset != position:
                batches.append(_batch(partition, records, bad, next_offset))
        self._positions |= {batch.partition: batch.next_offset for batch in batches}
        return batches

    def _close(self, doing: str) -> None:
        consumer, self._consumer = self._consumer, None
        self._positions.clear()
        if consumer is not None:
            try:
                with as_log_error(self._settings, doing):
                    self.watchdog.within(8, doing, lambda: consumer.close(autocommit=False, timeout_ms=5000))
            except (StuckError, UnavailableError) as error:  # a member's session ends then, which tells the group
                logger.warning("%s", error)


def _batch(partition: int, records: list[Any], corrupt: list[int], next_offset: int) -> RecordBatch:
    return RecordBatch(
        offsets=np.array([record.offset for record in records], np.int64),
        timestamps=np.array([record.timestamp for record in records], np.int64),
        keys=[record.key for record in records],
        values=[record.value for record in records],
        next_offset=next_offset,
        corrupt=corrupt,
        headers=tuple(records[0].headers) if records else (),
        partition=partition,
    )
