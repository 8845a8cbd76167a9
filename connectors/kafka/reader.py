"""A topic that is read for itself: the labels, and the journal."""

from __future__ import annotations

from dataclasses import replace

from kafka import KafkaConsumer, TopicPartition

from connectors.kafka.failures import as_log_error
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.source import FETCH_BYTES, MAX_RECORDS, KafkaSource
from stream_moe.types import RecordBatch


class KafkaReader(KafkaSource):
    """The `Reader` port over one topic: partitions as they are sought, outside of any group.

    Parameters
    ----------
    settings
        Where and as whom.
    topic
        What to read.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        super().__init__(replace(settings, topic=topic, labels=None, journal=None))

    def open(self) -> None:
        """Get ready; that the topic is there is first asked when a partition of it is."""
        self._join()

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        return super().poll(max_records, timeout) if self._positions else []

    def _join(self) -> None:
        """Open a consumer that is nobody's member; it has no partition before `seek` names one."""
        with as_log_error(self._settings, f"reading {self.topic!r}"):
            self._consumer = KafkaConsumer(
                **self._settings.client(),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                max_poll_records=MAX_RECORDS,
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=self._partition_bytes,
            )

    def _watch_the_join(self) -> None:
        """There is none."""

    def seek(self, partition: int, offset: int) -> None:
        consumer, place = self._opened(), TopicPartition(self.topic, partition)
        if place not in consumer.assignment():
            consumer.assign([*consumer.assignment(), place])
        super().seek(partition, offset)
