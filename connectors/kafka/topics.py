"""Which topics there are, and making those that we write to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import TypeVar

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

from connectors.kafka.failures import persistently
from connectors.kafka.settings import KafkaSettings
from stream_moe.errors import LogError

T = TypeVar("T")
logger = logging.getLogger(__name__)


def partition_counts(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Say how many partitions each topic has; 0 = it does not exist."""
    names = list(topics)
    return _asked(settings, "looking for topics", lambda admin: _counts(admin, names))


def ensure_topics(settings: KafkaSettings, topics: Iterable[str], partitions: int = 1) -> None:
    """Create those of the topics that do not exist, with `partitions` partitions and the broker's defaults.

    Raises LogError when a topic neither exists nor may be created.
    """
    names = list(topics)
    _asked(settings, "creating topics", lambda admin: _create(admin, settings, names, partitions))


def _create(admin: KafkaAdminClient, settings: KafkaSettings, topics: list[str], partitions: int) -> None:
    for topic in [name for name, count in _counts(admin, topics).items() if count == 0]:
        # A compacted journal would lose blocks: a replay needs each of them.
        configs = {"cleanup.policy": "delete"} if topic == settings.journal_topic else {}
        try:
            admin.create_topics({topic: {"num_partitions": partitions, "configs": configs}}, wait_for_metadata=True)
            logger.info("created topic %s with %d partition(s)", topic, partitions)
        except errors.TopicAlreadyExistsError:
            admin.wait_for_topics([topic])  # somebody else was faster, and may not be done
        except errors.RequestTimedOutError:
            raise  # a broker that is away was asked, or had to be
        except (errors.BrokerResponseError, errors.KafkaTimeoutError) as error:
            raise LogError(
                f"Kafka at {settings.bootstrap}: topic {topic!r} is not there and cannot be created "
                f"({type(error).__name__}); create it with the broker's tools"
            ) from error


def require_topic(settings: KafkaSettings, topic: str) -> int:
    """Return the number of partitions of a topic; LogError where it does not exist."""
    count = partition_counts(settings, [topic])[topic]
    if count == 0:
        raise LogError(
            f"Kafka at {settings.bootstrap}: topic {topic!r} does not exist; create it, or correct the name"
        )
    return count


def prepare_outputs(settings: KafkaSettings) -> int:
    """Create those output topics that are missing, with as many partitions as the input has; return how many.

    Partition i of the outputs is for partition i of the input: LogError where an output topic has fewer, and where
    the topic of the labels has.
    """
    wanted = require_topic(settings, settings.topic)
    if settings.labels is not None and (found := require_topic(settings, settings.labels)) != wanted:
        raise LogError(
            f"Kafka at {settings.bootstrap}: the labels' topic {settings.labels!r} has {found} partition(s) and the "
            f"input {settings.topic!r} has {wanted}; give both the same number, and a label its event's partition"
        )
    ensure_topics(settings, settings.outputs, wanted)
    for topic, count in partition_counts(settings, settings.outputs).items():
        if count < wanted:
            raise LogError(
                f"Kafka at {settings.bootstrap}: topic {topic!r} has {count} partition(s) and the input "
                f"{settings.topic!r} has {wanted}; give it as many, or name another output topic"
            )
    return wanted


def require_every_record(settings: KafkaSettings) -> None:
    """Raise LogError where a topic that is read is compacted: a replay would miss records that were learnt."""
    topics = [topic for topic in (settings.topic, settings.labels, settings.journal_topic) if topic is not None]
    named = [ConfigResource(ConfigResourceType.TOPIC, topic, ["cleanup.policy"]) for topic in topics]
    doing = "asking for the topics' cleanup.policy"
    found = _asked(settings, doing, lambda admin: admin.describe_configs(named, config_filter="all")).get("topic", {})
    for topic in topics:
        policy = found.get(topic, {}).get("cleanup.policy", {}).get("value")
        if policy is None and topic != settings.journal_topic:  # which may be still to be made
            logger.warning(
                "topic %s: its cleanup.policy may not be read, so nobody knows whether it is compacted; "
                "allow DescribeConfigs on it",
                topic,
            )
        if "compact" in (policy or ""):
            raise LogError(
                f"Kafka at {settings.bootstrap}: topic {topic!r} has cleanup.policy={policy}: compaction takes away "
                "records that were learnt, and a replay without them comes to another state; set its cleanup.policy "
                "to delete, or read a topic that keeps every record"
            )


def grow_outputs(settings: KafkaSettings) -> int:
    """Give the output topics the partitions that the input has got while we ran; return how many that is."""
    wanted = require_topic(settings, settings.topic)

    def grow(admin: KafkaAdminClient) -> None:
        for topic in [name for name, count in _counts(admin, settings.outputs).items() if count < wanted]:
            with suppress(errors.InvalidPartitionsError):  # another member was faster
                admin.create_partitions({topic: wanted})
                logger.info("topic %s has %d partitions now, as the input", topic, wanted)

    _asked(settings, "adding partitions to the output topics", grow)
    return wanted


def _asked(settings: KafkaSettings, doing: str, question: Callable[[KafkaAdminClient], T]) -> T:
    def ask() -> T:
        with closing(KafkaAdminClient(**settings.client())) as admin:
            return question(admin)

    return persistently(settings, doing, ask)


def _counts(admin: KafkaAdminClient, topics: list[str]) -> dict[str, int]:
    counts = dict.fromkeys(topics, 0)
    for topic in admin.describe_topics(topics):
        error = errors.for_code(topic["error_code"])
        if issubclass(error, errors.AuthorizationError):
            raise error(f"topic {topic['name']!r}")
        counts[topic["name"]] = len(topic["partitions"])
    return counts
