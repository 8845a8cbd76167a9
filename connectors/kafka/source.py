"""The input topic as the engine's `Source`: a reader whose partitions the consumer group deals out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import MemberState

from connectors.kafka import internals
from connectors.kafka.failures import as_log_error, persistently
from connectors.kafka.reader import CALL_SECONDS, FETCH_BYTES, PARTITION_BYTES, KafkaReader
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import require_every_record, require_topic
from stream_moe.entries import JournalEntry
from stream_moe.errors import FencedError, LogError, UnavailableError
from stream_moe.ports import Change
from stream_moe.types import RecordBatch

logger = logging.getLogger(__name__)

SESSION_SECONDS = 10.0  # a process that is gone loses its partitions after this
JOIN_SECONDS = 15.0  # first patience with a join; more than a session, as the member before us may have to time out
REJOIN_SECONDS = 60.0  # the same for one that was a member: others may be in the middle of a long block
PATIENCE_SECONDS = 240.0  # patience doubles up to this
METADATA_SECONDS = 30.0  # a topic that got more partitions is noticed after at most this
JOINING_SECONDS = 0.5  # a poll waits so long, at least, for a join that is under way
_LEAST_BYTES = 1 << 20  # brokers take no larger record unless told to


class KafkaSource(KafkaReader):
    """Read the partitions of the input topic that the consumer group gives to this member.

    Offsets are committed by the sink, never here.

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
    """

    labels = None  # they come with the events

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, settings.topic)
        self.group = settings.group
        self._listener = _Listener(internals.Assignor())
        self._entries: dict[int, JournalEntry] = {}  # committed beside the offsets
        self._changes: list[Change] = []
        self._unsettled_since = self._topic_seen_at = 0.0
        self._patience = JOIN_SECONDS
        self._away = False  # no broker answers since we left the group

    @property
    def settled(self) -> bool:
        """Whether we are a member and no rebalance is under way that we know of."""
        return self._consumer is not None and self._consumer.group_metadata().state == MemberState.STABLE

    def open(self) -> None:
        """Ask to join the group; the partitions come in `poll`, when the other members know of us.

        Raises `LogError` when no broker answers (within about 10 s), and when the topic is missing or compacted.
        """
        count = require_topic(self._settings, self.topic)
        require_every_record(self._settings)
        self._partition_bytes = max(_LEAST_BYTES, min(PARTITION_BYTES, FETCH_BYTES // count))
        persistently(self._settings, f"joining group {self.group!r}", self._join)

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Give the next records as `KafkaReader.poll` does; partitions come and go in here, see `changes`."""
        joining = self._see_the_join_through()
        if self._away:
            time.sleep(timeout)
            return []
        self._watch_the_topic()
        if self._changes:
            timeout = 0.0
        elif joining:
            # Where a join was done between two polls the client begins another: polls that do not wait would never
            # see one end.
            timeout = max(timeout, JOINING_SECONDS)
        return self._poll(max_records, timeout)

    def changes(self) -> list[Change]:
        """Report what `poll` has changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

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

    def close(self) -> None:
        """Leave the group at once, so that a successor need not wait for the session to end."""
        self._close(f"leaving group {self.group!r}")

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Say which member of which generation of the group we are: the sink shows it with the position.

        `FencedError` when we are none: a broker would take a position that names no member from anybody.
        """
        found = self._opened().group_metadata()
        if found.generation_id < 0 or not found.member_id:
            raise FencedError(f"group {self.group!r} removed this member; it joins again")
        return found

    def commit(self, partition: int, next_offset: int, note: str, timeout: float) -> None:
        """Commit a position and its note outside of any transaction: for the sink's mode at-least-once."""
        self.group_metadata()
        place = TopicPartition(self.topic, partition)
        self._opened().commit({place: OffsetAndMetadata(next_offset, note, -1)}, timeout_ms=timeout * 1000)

    def _join(self) -> None:
        self.close()  # what an earlier try may have left
        with as_log_error(self._settings, f"joining group {self.group!r}"):
            assignor = internals.Assignor()
            self._listener = _Listener(assignor)
            self._consumer = consumer = self._connect(
                group_id=self.group,
                partition_assignment_strategy=[assignor],
                session_timeout_ms=int(SESSION_SECONDS * 1000),
                heartbeat_interval_ms=int(SESSION_SECONDS * 1000 / 4),
                metadata_max_age_ms=int(METADATA_SECONDS * 1000),
            )
            consumer.subscribe([self.topic], listener=self._listener)
            # A member that joins before it knows the topic's partitions is given none and has to join again: so
            # wait for an answer of a broker about all topics.
            self._ask_for_topics(consumer)
        self._unsettled_since = self._topic_seen_at = time.monotonic()

    def _see_the_join_through(self) -> bool:
        """Say whether a join is under way, and begin it anew where it takes too long."""
        now, settled = time.monotonic(), self.settled
        joining = self._consumer is not None and not settled
        if joining:
            internals.end_the_join(self._opened())
        if settled:
            self._unsettled_since, self._patience = now, REJOIN_SECONDS
        elif not self._away and now - self._unsettled_since > self._patience:
            logger.warning("group %s: no answer for %.0f s; joining again", self.group, self._patience)
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
        return joining

    def _watch_the_topic(self) -> None:
        """Raise where the topic is gone: the group then takes its partitions from everybody, without a word."""
        now = time.monotonic()
        if self._opened().assignment():
            self._topic_seen_at = now
        elif now - self._topic_seen_at > METADATA_SECONDS:
            with suppress(UnavailableError):
                require_topic(self._settings, self.topic)
            self._topic_seen_at = now

    def _poll_client(self, consumer: KafkaConsumer, max_records: int, seconds: float) -> dict[TopicPartition, Any]:
        try:
            found = super()._poll_client(consumer, max_records, seconds)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            # Of partitions that were handed to us in this very poll: the engine says where to start.
            if not self._listener.events:
                raise
            found = {}
        self._note_changes(consumer)
        return found

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

    def _take(self, consumer: KafkaConsumer, place: TopicPartition) -> None:
        raise LogError(f"partition {place.partition} of {self.topic!r} is not assigned to this member of the group")


_Kind = Literal["assigned", "revoked", "lost"]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only takes notes: it runs on the client's IO thread, where anything longer stops the heartbeats."""

    def __init__(self, assignor: internals.Assignor) -> None:
        self.events: list[tuple[_Kind, frozenset[int]]] = []
        self._assignor = assignor

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._note("revoked", revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._note("assigned", assigned)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._assignor.forget()
        self._note("lost", lost)

    def _note(self, kind: _Kind, places: Iterable[TopicPartition]) -> None:
        self.events.append((kind, frozenset(place.partition for place in places)))
