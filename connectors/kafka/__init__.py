"""Apache Kafka as the engine's source and sink."""

from __future__ import annotations

from connectors.kafka.producer import KafkaProducerLog
from connectors.kafka.reader import KafkaReader
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.sink import KafkaSink
from connectors.kafka.source import KafkaSource
from connectors.kafka.topics import ensure_topics, partition_counts

__all__ = [
    "KafkaProducerLog", "KafkaReader", "KafkaSettings", "KafkaSink", "KafkaSource", "ensure_topics",
    "partition_counts",
]  # fmt: skip
