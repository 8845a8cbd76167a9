"""Writing events to the input topic: for `stream-moe produce` and for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kafka import KafkaProducer

from connectors.kafka.failures import as_log_error
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.sink import producer_options
from connectors.kafka.topics import ensure_topics

_IN_FLIGHT_BYTES = 32 << 20  # the client's send() itself buffers without a bound
_FLUSH_SECONDS = 60.0


class KafkaProducerLog:
    """Append events to the input topic, idempotently and in order.

    Parameters
    ----------
    settings
        Where, as whom, and to which topic.
    headers
        Headers of the first record that is written, such as the schema's.
    create
        Create the topic, with one partition, if it does not exist.
    """

    def __init__(
        self, settings: KafkaSettings, headers: Sequence[tuple[str, bytes]] = (), create: bool = False
    ) -> None:
        if create:
            ensure_topics(settings, [settings.topic])
        self._settings = settings
        self._headers = list(headers)
        self._in_flight = 0
        self._failed: list[BaseException] = []
        with as_log_error(settings, "opening the producer"):
            self._producer = KafkaProducer(**producer_options(settings))

    def send(self, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        """Append (key, value) records; `LogError` when one of them, or an earlier one, was not written."""
        with as_log_error(self._settings, f"writing to {self._settings.topic!r}"):
            for key, value in records:
                headers, self._headers = self._headers, []
                self._producer.send(self._settings.topic, value, key, headers).add_errback(self._failed.append)
                self._in_flight += len(value)
                if self._in_flight > _IN_FLIGHT_BYTES:
                    self._flush()
            self._raise_failure()

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
