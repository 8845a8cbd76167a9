"""Writing events to the input topic: for `stream-moe produce` and for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kafka import KafkaProducer
from kafka.partitioner import murmur2

from connectors.kafka.failures import as_log_error
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import ensure_topics
from connectors.kafka.writer import IN_FLIGHT_BYTES, producer_options

_FLUSH_SECONDS = 60.0


class KafkaProducerLog:
    """Append events to the input topic, idempotently and in the order of each partition.

    A record's key decides its partition, as in every Kafka client (murmur2); records without a key take turns.

    Parameters
    ----------
    settings
        Where, as whom, and to which topic.
    headers
        Headers of the first record that is written to each partition, such as the schema's.
    create
        Create the topic if it does not exist.
    partitions
        How many partitions a topic gets that is created here.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        headers: Sequence[tuple[str, bytes]] = (),
        create: bool = False,
        partitions: int = 1,
    ) -> None:
        if create:
            ensure_topics(settings, [settings.topic], partitions)
        self._settings = settings
        self._headers = list(headers)
        self._begun: set[int] = set()  # partitions that have their headers
        self._turn = 0
        self._in_flight = 0
        self._failed: list[BaseException] = []
        with as_log_error(settings, "opening the producer"):
            self._producer = KafkaProducer(**producer_options(settings))

    def send(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Append (key, value) records; `LogError` when one of them, or an earlier one, was not written."""
        with as_log_error(self._settings, f"writing to {self._settings.topic!r}"):
            partitions = len(self._producer.partitions_for(self._settings.topic))
            for key, value in records:
                partition = self._partition(key, partitions)
                headers = [] if partition in self._begun else self._headers
                self._begun.add(partition)
                sent = self._producer.send(self._settings.topic, value, key, headers, partition)
                sent.add_errback(self._failed.append)
                self._in_flight += len(value or b"")
                if self._in_flight > IN_FLIGHT_BYTES:
                    self._flush()
            self._raise_failure()

    def _partition(self, key: bytes | None, partitions: int) -> int:
        if key is None:
            self._turn += 1
            return self._turn % partitions
        return int((murmur2(key) & 0x7FFFFFFF) % partitions) if partitions > 1 else 0

    def flush(self) -> None:
        """Wait until every record is written; `LogError` when one is not."""
        with as_log_error(self._settings, f"writing to {self._settings.topic!r}"):
            self._flush()

    def close(self) -> None:
        """Flush and let go of the connection."""
        with as_log_error(self._settings, f"writing to {self._settings.topic!r}"):
            try:
                self._flush()
            finally:
                self._producer.close(timeout=5)

    def _flush(self) -> None:
        self._producer.flush(_FLUSH_SECONDS)
        self._in_flight = 0
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failed:
            raise self._failed[0]
