"""The input topic as the engine's `Source`."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Literal

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition, errors
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from connectors.kafka.failures import as_log_error
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import require_topic
from connectors.kafka.unpacking import bound_unpacking
from connectors.kafka.watchdog import Watchdog
from stream_moe.errors import FencedError, LogError, StuckError, UnavailableError
from stream_moe.ports import Change
from stream_moe.types import JournalEntry, RecordBatch

logger = logging.getLogger(__name__)

MAX_RECORDS = 4096  # per poll: in hundreds the client's cost per poll shows, beyond this it no longer falls
SESSION_SECONDS = 10.0  # a process that is gone loses its partitions after this
JOIN_SECONDS = 15.0  # first patience with a join; more than a session, as the member before us may have to time out
REJOIN_SECONDS = 60.0  # the same for one that was a member: others may be in the middle of a long block
PATIENCE_SECONDS = 240.0  # patience doubles up to this
METADATA_SECONDS = 30.0  # a topic that got more partitions is noticed after at most this
JOINING_SECONDS = 0.5  # that a poll waits for a join that is under way: see `_watch_the_join`
CALL_SECONDS = 15.0
# What the client holds of records that were not handed out: one answer of a broker, and no more is asked for before
# it is used up. So the bound is per member, whatever the number of partitions.
FETCH_BYTES = 32 << 20
_PARTITION_BYTES = 8 << 20
_LEAST_BYTES = 1 << 20  # brokers take no larger record unless told to
_CORRUPT_AT = re.compile(r"at offset (\d+)")


class KafkaSource:
    """Read the partitions of the input topic that the consumer group gives to this member.

    Offsets are committed by the sink, never here. A position that the log does not hold stops the reader; it
    is never reset. Records of aborted transactions are not seen.

    Parameters
    ----------
    settings
        Where and as whom.

    Attributes
    ----------
    watchdog
        Of the client's calls, the sink's too.

    Notes
    -----
    The group uses Kafka's classic protocol with the cooperative-sticky assignor (KIP-429): partitions that stay where
    they are go on through a rebalance, with their writer and without being fenced. The eager assignors would take
    away all of them each time. Whichever assignor it is, nothing of exactly-once depends on it: a partition changes
    hands inside `poll` only, when all that was handed out is committed, and the next owner fences the writer before
    it reads the committed offset (with `require_stable`, which the client sets for read_committed).

    A record that the client cannot read (bad checksum, broken structure, a header name that is not UTF-8)
    would stop it for ever: its parser ends, and further polls spin. So its offset is noted in
    `RecordBatch.corrupt` and the position is set behind it before anything else is read. As the client parses
    a batch of the log from its start, the records behind it in that batch (of the same producer) are lost
    with it, one offset at a time.
    """

    labels = None  # they come with the events

    def __init__(self, settings: KafkaSettings) -> None:
        self.group, self.topic = settings.group, settings.topic
        self.watchdog = Watchdog(settings)
        self._settings = settings
        self._consumer: KafkaConsumer | None = None
        self._listener = _Listener(CooperativeStickyAssignor())
        self._positions: dict[int, int] = {}  # of the partitions that are handed out, by what was sought or polled
        self._entries: dict[int, JournalEntry] = {}  # committed beside the offsets
        self._changes: list[Change] = []
        self._partition_bytes = _PARTITION_BYTES
        self._unsettled_since = self._topic_seen_at = 0.0
        self._patience = JOIN_SECONDS
        self._away = False  # no broker answers since we left the group
        self._joining = False  # a join is under way

    @property
    def settled(self) -> bool:
        """Whether we are a member and no rebalance is under way that we know of."""
        return self._consumer is not None and self._consumer.group_metadata().state == MemberState.STABLE

    def open(self) -> None:
        """Ask to join the group; the partitions come in `poll`, when the other members know of us.

        Raises `LogError` when no broker answers (within about 10 s) and when the topic is missing.
        """
        count = require_topic(self._settings, self.topic)
        self._partition_bytes = max(_LEAST_BYTES, min(_PARTITION_BYTES, FETCH_BYTES // count))
        self._join()

    def _join(self) -> None:
        with as_log_error(self._settings, f"joining group {self.group!r}"):
            bound_unpacking()
            assignor = CooperativeStickyAssignor()
            self._listener = _Listener(assignor)
            self._consumer = consumer = KafkaConsumer(
                **self._settings.client(),
                group_id=self.group,
                partition_assignment_strategy=[assignor],
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                session_timeout_ms=int(SESSION_SECONDS * 1000),
                heartbeat_interval_ms=int(SESSION_SECONDS * 1000 / 4),
                metadata_max_age_ms=int(METADATA_SECONDS * 1000),
                max_poll_records=MAX_RECORDS,
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=self._partition_bytes,
            )
            consumer.subscribe([self.topic], listener=self._listener)
            # A member that joins before it knows the topic's partitions is given none and has to join again: so
            # wait for an answer of the broker about all topics.
            self.watchdog.within(CALL_SECONDS, "asking for the topics", consumer.topics)
        self._unsettled_since = self._topic_seen_at = time.monotonic()

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Give the next records of each partition in log order; none if none came within `timeout` seconds.

        A batch without records moves the position over control records or corrupt ones. Raises `LogError`
        when a position is not in the log, or the broker refuses.
        """
        self._watch_the_join()
        deadline = time.monotonic() + timeout
        if self._away and self._consumer is None:
            time.sleep(timeout)
            return []
        consumer = self._opened()
        self._watch_the_topic(consumer)
        try:
            return self._read(consumer, max_records, deadline)
        except UnavailableError as error:
            logger.warning("%s; trying again", error)
            for partition, position in self._positions.items():  # what was not handed out is read again
                if (place := TopicPartition(self.topic, partition)) in consumer.assignment():
                    consumer.seek(place, position)
            time.sleep(max(0.0, deadline - time.monotonic()))
            return []

    def _read(self, consumer: KafkaConsumer, max_records: int, deadline: float) -> list[RecordBatch]:
        corrupt: dict[int, list[int]] = {}
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        with as_log_error(self._settings, f"reading {self.topic!r}"):
            while not found:
                left = 0.0
                if not corrupt and not self._changes:
                    left = max(JOINING_SECONDS if self._joining else 0.0, deadline - time.monotonic())
                if corrupt and (time.monotonic() > deadline or sum(map(len, corrupt.values())) >= max_records):
                    break
                try:
                    found = consumer.poll(timeout_ms=left * 1000, max_records=max_records)
                except errors.CorruptRecordError as error:
                    partition, at = self._skip(consumer, error)
                    corrupt.setdefault(partition, []).append(at)
                    continue
                except (errors.NoOffsetForPartitionError, errors.OffsetOutOfRangeError):
                    # Of partitions that were handed to us in this very poll: the engine says where to start.
                    if not self._listener.events:
                        raise
                self._note_changes(consumer)
                if not corrupt:
                    break
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

    def changes(self) -> list[Change]:
        """Tell what `poll` has changed since the last call."""
        told, self._changes = self._changes, []
        return told

    def committed(self, partition: int) -> int | None:
        """Give the group's committed offset, None if it never committed."""
        with as_log_error(self._settings, f"asking for the committed offset of partition {partition}"):
            place = TopicPartition(self.topic, partition)
            found = self._opened().committed(place, metadata=True, timeout_ms=CALL_SECONDS * 1000)
        self._entries.pop(partition, None)
        if found is None:
            return None
        with suppress(LogError):  # what another program wrote
            self._entries[partition] = JournalEntry.from_json(found.metadata.encode())
        return int(found.offset)

    def entry(self, partition: int) -> JournalEntry | None:
        """Give what was committed beside the offset that `committed` gave last."""
        return self._entries.get(partition)

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """For each partition: the first offset held and the offset after the last committed record."""
        consumer, timeout = self._opened(), CALL_SECONDS * 1000
        places = [TopicPartition(self.topic, partition) for partition in partitions]
        with as_log_error(self._settings, f"asking for the offsets of {self.topic!r}"):
            try:
                try:
                    first = consumer.beginning_offsets(places, timeout_ms=timeout)
                except KeyError:  # a partition so new that the client, which the leader tells, has not heard of it
                    self.watchdog.within(CALL_SECONDS, "asking for the topics", consumer.topics)
                    first = consumer.beginning_offsets(places, timeout_ms=timeout)
                after = consumer.end_offsets(places, timeout_ms=timeout)
            except errors.KafkaTimeoutError:
                require_topic(self._settings, self.topic)  # which says so where it is the topic that is gone
                raise
        return {place.partition: (first[place], after[place]) for place in places}

    def seek(self, partition: int, offset: int) -> None:
        """Hand out the partition from this offset on."""
        place, consumer = TopicPartition(self.topic, partition), self._opened()
        if place not in consumer.assignment():
            raise LogError(f"partition {partition} of {self.topic!r} is not assigned to this member of the group")
        consumer.seek(place, offset)
        consumer.resume(place)
        # The client (3.0) puts aside what it has of a partition that is paused, and takes it up again only if the one
        # it read last gave nothing; until then it asks for no more of it, which may be for ever.
        consumer._fetcher._paused_partition_records.pop(place, None)
        self._positions[partition] = offset

    def pause(self, partition: int) -> None:
        """Hand out nothing of the partition until the next `seek`."""
        place = TopicPartition(self.topic, partition)
        self._positions.pop(partition, None)
        if self._consumer is not None and place in self._consumer.assignment():
            self._consumer.pause(place)

    def close(self) -> None:
        """Leave the group at once, so that a successor need not wait for the session to end."""
        consumer, self._consumer = self._consumer, None
        self._positions.clear()
        if consumer is not None:
            doing = f"leaving group {self.group!r}"
            try:
                with as_log_error(self._settings, doing):
                    self.watchdog.within(8, doing, lambda: consumer.close(autocommit=False, timeout_ms=5000))
            except (StuckError, UnavailableError) as error:  # the session's end tells the group as well
                logger.warning("%s", error)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Say which member of which generation of the group we are: the sink shows it with the position.

        `FencedError` when we are none: a broker would take a position that names no member from anybody.
        """
        found = self._opened().group_metadata()
        if found.generation_id < 0 or not found.member_id:
            raise FencedError(f"group {self.group!r} gave this member up; it joins anew")
        return found

    def commit(self, partition: int, next_offset: int, timeout: float) -> None:
        """Commit a position outside of any transaction: for the sink's mode at-least-once."""
        self.group_metadata()
        place = TopicPartition(self.topic, partition)
        self._opened().commit({place: OffsetAndMetadata(next_offset, "", -1)}, timeout_ms=timeout * 1000)

    def _opened(self) -> KafkaConsumer:
        if self._consumer is None:
            raise LogError(f"topic {self.topic!r}: the source is not open; call open first")
        return self._consumer

    def _watch_the_join(self) -> None:
        """See a join through, and join again from the start where that takes too long.

        A leader whose topic got more partitions joins again. The client (3.0) forgets why as soon as it has dealt
        them out: if its poll ends before the broker has answered that, the next one sees nothing to do, and the
        member neither has the partitions nor sends a heartbeat any more (in Java, KAFKA-9815). So it is told that it
        has a join to end. Where one was done between two polls the client begins another: polls that do not wait
        would never see one end.
        """
        now = time.monotonic()
        self._joining = self._consumer is not None and not self.settled
        if self._joining:
            self._opened()._coordinator.request_rejoin()
        if self.settled:
            self._unsettled_since, self._patience = now, REJOIN_SECONDS
        elif not self._away and now - self._unsettled_since > self._patience:
            logger.warning("group %s: no answer for %.0f s; joining anew", self.group, self._patience)
            self._patience = min(2 * self._patience, PATIENCE_SECONDS)
            held = frozenset(place.partition for place in self._opened().assignment())
            if held:
                self._changes.append(Change("lost", held))
            self.close()
            self._away = True
        if self._away:
            try:
                self._join()
                self._away = False
            except UnavailableError as error:
                logger.warning("%s; trying again", error)
                self.close()

    def _watch_the_topic(self, consumer: KafkaConsumer) -> None:
        """Keep the client asking about the topic, and raise where that is gone.

        The group then takes its partitions from everybody, without a word.
        """
        cluster = consumer._cluster
        if cluster._refresh_loop_future is not None and cluster._refresh_loop_future.is_done:
            # The client (3.0) asks about its topics in a coroutine that some errors end, and never starts it again.
            cluster._refresh_loop_future = None
            cluster.request_update()
        now = time.monotonic()
        if consumer.assignment():
            self._topic_seen_at = now
        elif now - self._topic_seen_at > METADATA_SECONDS:
            with suppress(UnavailableError):
                require_topic(self._settings, self.topic)
            self._topic_seen_at = now

    def _note_changes(self, consumer: KafkaConsumer) -> None:
        events, self._listener.events = self._listener.events, []
        for kind, partitions in events:
            for partition in partitions:
                self._positions.pop(partition, None)
                place = TopicPartition(self.topic, partition)
                if kind == "assigned" and place in consumer.assignment():
                    # Any position will do: without one the client asks for the committed offset, and raises.
                    consumer.seek(place, 0)
                    consumer.pause(place)
            if partitions:
                self._changes.append(Change(kind, partitions))

    def _skip(self, consumer: KafkaConsumer, error: errors.CorruptRecordError) -> tuple[int, int]:
        """Set the position behind a record that cannot be read; give its partition and its offset."""
        place = consumer._fetcher._next_partition_records.topic_partition  # whose parser has just ended
        at = int(consumer.position(place))
        # A bad checksum names its batch, which begins beyond the position where aborted records lie between.
        named = _CORRUPT_AT.search(str(error))
        if named:
            at = max(at, int(named.group(1)))
        logger.warning("%s/%d: the record at offset %d cannot be read and is skipped", *place, at)
        consumer.seek(place, at + 1)
        return int(place.partition), at


def _batch(partition: int, records: list[ConsumerRecord], corrupt: list[int], next_offset: int) -> RecordBatch:
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


_Kind = Literal["assigned", "revoked", "lost"]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only takes notes: it runs on the client's IO thread, where anything longer stops the heartbeats."""

    def __init__(self, assignor: CooperativeStickyAssignor) -> None:
        self.events: list[tuple[_Kind, frozenset[int]]] = []
        self._assignor = assignor

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._note("revoked", revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._note("assigned", assigned)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        # The client (3.0) would go on claiming them: the leader would then leave a partition that moves from us to
        # another member to neither, and wait for us to hand back what we do not have.
        self._assignor.member_assignment = None
        self._note("lost", lost)

    def _note(self, kind: _Kind, places: Iterable[TopicPartition]) -> None:
        self.events.append((kind, frozenset(place.partition for place in places)))
