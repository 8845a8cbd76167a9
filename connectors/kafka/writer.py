"""The one writer of a partition: its outputs and its position, as one step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition, errors

from connectors.dead_letters import dead_letter_headers
from connectors.kafka.failures import as_log_error
from connectors.kafka.internals import send_batches
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.source import KafkaSource
from stream_moe.errors import LogError
from stream_moe.runtime.failpoints import reach
from stream_moe.types import DeadLetter, Outputs

T = TypeVar("T")
COMMIT_SECONDS = 45.0  # less than the transaction's own timeout, so that we give up first and know of it
_TRANSACTION_SECONDS = 60.0
# Brokers refuse records above 1 MiB by default.
_KEY_BYTES = 64_000
_VALUE_BYTES = 900_000
IN_FLIGHT_BYTES = 32 << 20  # the client itself takes in what it is given without a bound


def producer_options(settings: KafkaSettings) -> dict[str, Any]:
    """Give a producer's options: large compressed batches, each write acknowledged, no endless waits."""
    return settings.client() | {
        "acks": "all",
        "compression_type": "lz4",
        "linger_ms": 5,
        "batch_size": 256 << 10,
        "max_request_size": 4 << 20,
        "max_block_ms": 10_000,
        "delivery_timeout_ms": 40_000,
        "allow_auto_create_topics": False,
    }


class PartitionWriter:
    """Write the outputs of one partition and commit its input position as one step.

    In the mode exactly-once that step is one transaction, made by the one writer
    `settings.transactional_id(partition)`: a newer one fences the older, whose next commit fails. After any failure
    this writer can no longer be used: a new one ends what was left open and reads the committed offset, which
    shows whether the commit was done. In the mode at-least-once the outputs are written first, then the position.

    The position is committed for a member of the group's current generation, so one that the group gave up
    is refused even where nobody else writes yet.

    A dead letter must never stop the stream. So a key of up to 64,000 bytes and a value of up to 900,000 are kept
    whole, and longer ones are cut, with the original sizes in the header `__streams.errors.truncated`; a
    record with neither key nor value, which the client cannot send, gets an empty value; and its time is the
    time of writing, as a broker refuses times far from now.

    Parameters
    ----------
    settings
        Where and as whom.
    source
        The reader whose position is committed.
    partition
        Of the input, and of the outputs.
    """

    def __init__(self, settings: KafkaSettings, source: KafkaSource, partition: int) -> None:
        self._settings = settings
        self._source = source
        self._within = source.watchdog.within
        self._partition = partition
        self._producer: KafkaProducer | None = None
        self._broken = False
        self._in_transaction = False

    def open(self) -> None:
        """Fence older writers and end the transaction that they left open."""
        options = producer_options(self._settings)
        doing = f"opening the output of partition {self._partition}"
        with as_log_error(self._settings, doing):
            if self._settings.guarantee == "at-least-once":
                self._producer = KafkaProducer(**options)
                return
            self._producer = KafkaProducer(
                **options,
                transactional_id=self._settings.transactional_id(self._partition),
                transaction_timeout_ms=int(_TRANSACTION_SECONDS * 1000),
            )
            self._within(COMMIT_SECONDS, doing, self._producer.init_transactions)

    def commit(self, outputs: Outputs) -> None:
        """Publish outputs and the position, with the entry as its metadata and in the journal.

        Raises `FencedError` when another one took over, `InDoubtError` when the outcome is unknown, `StuckError`
        when no answer came within `COMMIT_SECONDS`.
        """
        if self._producer is None or self._broken:
            raise LogError(f"partition {self._partition}: the writer is not open, or it failed before")
        self._broken = True  # until all of it is known to have succeeded
        doing = f"committing offset {outputs.next_offset} of partition {self._partition}"
        with as_log_error(self._settings, doing, commits=True):
            self._within(COMMIT_SECONDS, doing, lambda: self._commit(outputs))
        self._broken = False

    def close(self, abort: bool = True) -> None:
        """End what is open and let go of the connection; at most about 15 s, and without raising.

        `abort` False leaves an open transaction to the next writer.
        """
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(errors.KafkaError, LogError):
            if self._in_transaction and abort:
                # Readers of committed records wait for an open transaction; without this until it times out.
                self._within(5, "aborting the transaction", producer.abort_transaction)
        with contextlib.suppress(errors.KafkaError, LogError):
            seconds = 5 if abort else 0  # what is still on its way is worth a wait, or is not wanted any more
            self._within(8, "closing the output", lambda: producer.close(timeout=seconds))

    def _commit(self, outputs: Outputs) -> None:
        producer = self._producer
        assert producer is not None
        note = outputs.entry.to_json().decode() if outputs.entry is not None else ""
        if self._settings.guarantee == "at-least-once":
            self._publish(producer, outputs)
            self._source.commit(self._partition, outputs.next_offset, note, COMMIT_SECONDS)
            return
        group = self._source.group_metadata()
        producer.begin_transaction()
        self._in_transaction = True
        self._publish(producer, outputs)
        place = TopicPartition(self._settings.topic, self._partition)
        position = OffsetAndMetadata(outputs.next_offset, note, -1)
        producer.send_offsets_to_transaction({place: position}, group)
        reach("offsets-sent")
        producer.commit_transaction()
        self._in_transaction = False

    def _publish(self, producer: KafkaProducer, outputs: Outputs) -> None:
        """Write predictions, dead letters, drifts and the journal's entry, and wait until all are delivered."""
        to, partition = self._settings, self._partition
        for piece in _pieces(outputs.predictions, lambda record: len(record[1])):
            _delivered(producer, send_batches(producer, to.predictions, partition, piece))
        for letters in _pieces(outputs.dead_letters, lambda letter: len(letter.value or b"")):
            content = [self._letter(letter) for letter in letters]
            sent = [producer.send(to.dead_letters, value, key, heads, partition) for key, value, heads in content]
            _delivered(producer, sent)
        if to.drifts is not None:
            _delivered(producer, [producer.send(to.drifts, drift, None, None, partition) for drift in outputs.drifts])
        if to.journal_topic is not None and outputs.entry is not None:
            _delivered(producer, [producer.send(to.journal_topic, outputs.entry.brief(), None, None, partition)])
        reach("flushed")

    def _letter(self, letter: DeadLetter) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
        key, value = letter.key, letter.value
        headers = dead_letter_headers(letter, self._settings.topic, self._partition)
        sizes = f"key {len(key or b'')}, value {len(value or b'')} bytes"
        if len(key or b"") > _KEY_BYTES or len(value or b"") > _VALUE_BYTES:
            headers.append(("__streams.errors.truncated", sizes.encode()))
            key = key and key[:_KEY_BYTES]
            value = value and value[:_VALUE_BYTES]
        if key is None and value is None:
            value = b""
        return key, value, headers


def _pieces(records: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Cut records into runs that may be in flight at once."""
    begin = total = 0
    for at, record in enumerate(records):
        total += size(record)
        if total > IN_FLIGHT_BYTES and at > begin:
            yield records[begin:at]
            begin, total = at, size(record)
    if begin < len(records):
        yield records[begin:]


def _delivered(producer: KafkaProducer, sent: Sequence[Any]) -> None:
    """Wait for all of them, and raise what one of them failed of."""
    producer.flush(COMMIT_SECONDS)
    for future in sent:
        if not future.succeeded():  # `get` takes a lock, and after the flush nearly all have succeeded
            future.get(timeout=COMMIT_SECONDS)
