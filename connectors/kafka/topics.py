"""Which topics there are, and making those that we write to."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kafka import KafkaAdminClient, errors

from connectors.kafka.failures import as_log_error
from connectors.kafka.settings import KafkaSettings
from stream_moe.errors import LogError

logger = logging.getLogger(__name__)


def partition_counts(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Say how many partitions each topic has; 0 = it does not exist."""
    with as_log_error(settings, "looking for topics"):
        admin = KafkaAdminClient(**settings.client())
        try:
            return _counts(admin, list(topics))
        finally:
            admin.close()


def ensure_topics(settings: KafkaSettings, topics: Iterable[str], partitions: int = 1) -> None:
    """Create those of the topics that do not exist, with `partitions` partitions and the broker's defaults.

    Raises LogError when a topic neither exists nor may be created.
    """
    with as_log_error(settings, "creating topics"):
        admin = KafkaAdminClient(**settings.client())
        try:
            wanted = list(topics)
            for topic in [name for name, count in _counts(admin, wanted).items() if count == 0]:
                try:
                    admin.create_topics({topic: {"num_partitions": partitions}}, wait_for_metadata=True)
                    logger.info("created topic %s with %d partition(s)", topic, partitions)
                except errors.TopicAlreadyExistsError:
                    pass  # somebody else was faster
                except (errors.BrokerResponseError, errors.KafkaTimeoutError) as error:
                    raise LogError(
                        f"Kafka at {settings.bootstrap}: topic {topic!r} is not there and cannot be created "
                        f"({type(error).__name__}); create it with the broker's tools"
                    ) from error
        finally:
            admin.close()


def require_one_partition(settings: KafkaSettings, topic: str) -> None:
    """Raise LogError unless the topic exists and has one partition."""
    count = partition_counts(settings, [topic])[topic]
    if count == 0:
        raise LogError(
            f"Kafka at {settings.bootstrap}: topic {topic!r} does not exist; create it, or correct the name"
        )
    if count > 1:
        raise LogError(
            f"Kafka at {settings.bootstrap}: topic {topic!r} has {count} partitions; one model reads one "
            "partition, so give it a topic with a single partition"
        )


def _counts(admin: KafkaAdminClient, topics: list[str]) -> dict[str, int]:
    counts = dict.fromkeys(topics, 0)
    for topic in admin.describe_topics(topics):
        error = errors.for_code(topic["error_code"])
        if issubclass(error, errors.AuthorizationError):
            raise error(f"topic {topic['name']!r}")
        counts[topic["name"]] = len(topic["partitions"])
    return counts
