"""The input topic as the engine's `Source`."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterable

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition, errors
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from connectors.kafka.failures import as_log_error
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import require_one_partition
from stream_moe.errors import LogError
from stream_moe.types import RecordBatch

logger = logging.getLogger(__name__)

MAX_RECORDS = 4096  # per poll: in hundreds the client's cost per poll shows, beyond this it no longer falls
SESSION_SECONDS = 10.0  # a process that is gone loses its partition after this
JOIN_SECONDS = 15.0  # more than a session: the member before us may have to time out first
JOIN_ATTEMPTS = 3
CALL_SECONDS = 15.0
_FETCH_BYTES = 8 << 20
# While joining nothing is read: the engine says later where to start.
_NO_POSITION = (errors.NoOffsetForPartitionError, errors.OffsetOutOfRangeError, errors.CorruptRecordError)
_CORRUPT_AT = re.compile(r"at offset (\d+)")


class KafkaSource:
    """Read one partition of the input topic as a member of the consumer group.

    Offsets are committed by the sink, never here. A position that the log does not hold stops the reader; it
    is never reset. Records of aborted transactions are not seen.

    Parameters
    ----------
    settings
        Where and as whom.

    Notes
    -----
    A record that the client cannot read (bad checksum, broken structure, a header name that is not UTF-8)
    would stop it for ever: its parser ends, and further polls spin. So its offset is noted in
    `RecordBatch.corrupt` and the position is set behind it before anything else is read. As the client parses
    a batch of the log from its start, the records behind it in that batch (of the same producer) are lost
    with it, one offset at a time.
    """

    partition = 0

    def __init__(self, settings: KafkaSettings) -> None:
        self.group, self.topic = settings.group, settings.topic
        self._settings = settings
        self._place = TopicPartition(settings.topic, self.partition)
        self._consumer: KafkaConsumer | None = None
        self._listener = _Listener()
        self._position: int | None = None

    def open(self) -> int | None:
        """Join the group and give its committed offset, None if it never committed.

        Raises `LogError` when no broker answers (within about 10 s), when the topic is missing or has several
        partitions, and when the partition is not handed to us within 45 s.
        """
        require_one_partition(self._settings, self.topic)
        with as_log_error(self._settings, f"joining group {self._settings.group!r}"):
            for _ in range(JOIN_ATTEMPTS):
                if self._join():
                    break
                # Seen about once in a hundred joins: the client waits for an answer that never comes.
                self.close()
            else:
                raise LogError(
                    f"group {self._settings.group!r}: partition 0 of {self.topic!r} was not handed to us "
                    f"within {JOIN_ATTEMPTS * JOIN_SECONDS:.0f} s; stop the member that holds it"
                )
            committed: int | None = self._opened().committed(self._place, timeout_ms=CALL_SECONDS * 1000)
        logger.info("joined group %s on %s, committed offset %s", self._settings.group, self.topic, committed)
        return committed

    def _join(self) -> bool:
        self._consumer = consumer = KafkaConsumer(
            **self._settings.client(),
            group_id=self._settings.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            heartbeat_interval_ms=int(SESSION_SECONDS * 1000 / 4),
            max_poll_records=MAX_RECORDS,
            fetch_max_bytes=4 * _FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        self._listener = _Listener()
        consumer.subscribe([self.topic], listener=self._listener)
        # A member that joins before it knows the topic's partitions is given none and has to join again: so
        # wait for an answer of the broker about all topics.
        consumer.topics()
        deadline = time.monotonic() + JOIN_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(*_NO_POSITION):
                consumer.poll(timeout_ms=100, max_records=1)
            if self._place in consumer.assignment():
                return True
        return False

    def bounds(self) -> tuple[int, int]:
        """Give the first offset held and the offset after the last committed record."""
        consumer = self._opened()
        with as_log_error(self._settings, f"asking for the offsets of {self.topic!r}"):
            first = consumer.beginning_offsets([self._place], timeout_ms=CALL_SECONDS * 1000)[self._place]
            after = consumer.end_offsets([self._place], timeout_ms=CALL_SECONDS * 1000)[self._place]
        return first, after

    def seek(self, offset: int) -> None:
        """Read from this offset on."""
        with as_log_error(self._settings, f"seeking in {self.topic!r}"):
            self._still_ours()
            self._opened().seek(self._place, offset)
            self._position = offset

    def poll(self, max_records: int, timeout: float) -> RecordBatch | None:
        """Give the next records in log order, None if none came within `timeout` seconds.

        A batch without records moves the position over control records or corrupt ones. Raises `LogError`
        when the partition was taken away, the position is not in the log, or the broker refuses.
        """
        consumer = self._opened()
        if self._position is None:
            raise LogError(f"topic {self.topic!r}: no position; seek before the first poll")
        deadline = time.monotonic() + timeout
        corrupt: list[int] = []
        found: list[ConsumerRecord] = []
        with as_log_error(self._settings, f"reading {self.topic!r}"):
            while not found:
                self._still_ours()
                left = max(0.0, deadline - time.monotonic())
                if len(corrupt) >= max_records or (corrupt and not left):
                    break
                try:
                    polled = consumer.poll(timeout_ms=0 if corrupt else left * 1000, max_records=max_records)
                except errors.CorruptRecordError as error:
                    corrupt.append(self._skip(consumer, error))
                    continue
                found = polled.get(self._place, [])
                if not found and not corrupt:
                    break
            self._still_ours()
            next_offset = consumer.position(self._place, timeout_ms=CALL_SECONDS * 1000)
        if not found and not corrupt and next_offset == self._position:
            return None
        self._position = next_offset
        return RecordBatch(
            offsets=np.array([record.offset for record in found], np.int64),
            timestamps=np.array([record.timestamp for record in found], np.int64),
            keys=[record.key for record in found],
            values=[record.value for record in found],
            next_offset=next_offset,
            corrupt=corrupt,
            headers=tuple(found[0].headers) if found else (),
        )

    def close(self) -> None:
        """Leave the group at once, so that a successor need not wait for the session to end."""
        consumer, self._consumer = self._consumer, None
        self._position = None
        if consumer is not None:
            with as_log_error(self._settings, f"leaving group {self._settings.group!r}"):
                consumer.close(autocommit=False, timeout_ms=5000)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Say which member of which generation of the group we are: the sink shows it with the position."""
        self._still_ours()
        return self._opened().group_metadata()

    def commit(self, next_offset: int, timeout: float) -> None:
        """Commit a position outside of any transaction: for the sink's mode at-least-once."""
        self._still_ours()
        self._opened().commit({self._place: OffsetAndMetadata(next_offset, "", -1)}, timeout_ms=timeout * 1000)

    def _opened(self) -> KafkaConsumer:
        if self._consumer is None:
            raise LogError(f"topic {self.topic!r}: the source is not open; call open first")
        return self._consumer

    def _still_ours(self) -> None:
        if self._listener.lost:
            raise LogError(
                f"partition 0 of {self.topic!r} was taken away from this process: another one joined "
                f"group {self._settings.group!r}, or this one was silent for long; run one process each"
            )

    def _skip(self, consumer: KafkaConsumer, error: errors.CorruptRecordError) -> int:
        """Set the position behind a record that cannot be read, and give its offset."""
        at = int(consumer.position(self._place))
        # A bad checksum names its batch, which begins beyond the position where aborted records lie between.
        named = _CORRUPT_AT.search(str(error))
        if named:
            at = max(at, int(named.group(1)))
        logger.warning("%s: the record at offset %d cannot be read and is skipped", self.topic, at)
        consumer.seek(self._place, at + 1)
        return at


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only sets a flag: it runs on the client's IO thread, where anything longer stops the heartbeats."""

    def __init__(self) -> None:
        self.lost = False

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.lost = self.lost or bool(revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.lost = self.lost or bool(lost)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The loss of a partition is final, even if it comes back: others may have moved its position."""
