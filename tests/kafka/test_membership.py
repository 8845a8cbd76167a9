"""Membership: partitions are shared, taken over, and noticed when they become more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaAdminClient

from connectors.kafka import KafkaProducerLog, KafkaSettings, KafkaSource, ensure_topics
from stream_moe.errors import FencedError, LogError
from stream_moe.ports import Change
from stream_moe.types import Outputs
from tests.kafka.steps import committed_records, joined, opened, produce, read

pytestmark = pytest.mark.kafka


def test_members_share_the_partitions_and_take_over(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    ensure_topics(settings, [settings.topic], partitions=2)
    produce(settings, [b"%d" % i for i in range(40)])
    first = joined(closing(KafkaSource(settings)), 0, 1)
    for partition in (0, 1):
        first.seek(partition, 0)
    assert sum(map(len, read(first, 40))) == 40
    second: KafkaSource = closing(KafkaSource(settings))
    second.open()
    told: dict[KafkaSource, list[Change]] = {first: [], second: []}
    deadline = time.monotonic() + 120
    while not told[second] and time.monotonic() < deadline:
        for source in told:
            assert source.poll(10, 0.2) == []
            told[source] += source.changes()
    (lost,), (won,) = told[first], told[second]
    assert (lost.kind, won.kind) == ("revoked", "assigned")
    assert lost.partitions == won.partitions  # and the other one was not touched
    (kept,) = {0, 1} - lost.partitions
    (moved,) = lost.partitions
    first.seek(kept, 0)
    with pytest.raises(LogError, match="not assigned to this member"):
        first.seek(moved, 0)
    second.seek(moved, 0)
    count = second.bounds([moved])[moved][1]
    assert {batch.partition for batch in read(second, count)} == {moved}
    first.close()
    joined(second, kept)


def test_a_topic_that_grows_is_noticed_even_if_the_client_stopped_asking(
    settings: KafkaSettings, closing: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.source.METADATA_SECONDS", 1.0)
    KafkaProducerLog(settings, create=True).close()
    source: KafkaSource = joined(closing(KafkaSource(settings)), 0)
    consumer = source._consumer
    assert consumer is not None

    def fail(_: object) -> None:
        consumer._cluster.remove_listener(fail)
        raise RuntimeError("an error that is not one of Kafka's ends the client's coroutine")

    asking = consumer._cluster._refresh_loop_future
    consumer._cluster.add_listener(fail)
    while not asking.is_done:
        time.sleep(0.05)
    with contextlib.closing(KafkaAdminClient(**settings.client())) as admin:
        admin.create_partitions({settings.topic: 2})
    joined(source, 1)


def test_a_member_that_the_group_gave_up_is_told_so(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"] * 5)
    source, sink, _ = opened(settings, closing)
    assert source._consumer is not None
    source._consumer._coordinator.reset_generation()  # as the heartbeat does when the broker knows us no more
    with pytest.raises(FencedError, match="removed this member; it joins again"):
        sink.commit(0, Outputs(1, [(None, b"never")]))
    source.poll(10, 5.0)
    assert next(change.kind for change in source.changes()) == "lost"
    assert committed_records(settings, settings.predictions) == []


def test_a_stale_generation_cannot_commit(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"] * 5)
    source, sink, _ = opened(settings, closing)
    stale = source.group_metadata()
    source.close()
    joined(closing(KafkaSource(settings)), 0)
    source.group_metadata = lambda: stale  # type: ignore[method-assign]
    with pytest.raises(FencedError, match=r"another process of group .* took over"):
        sink.commit(0, Outputs(1, [(None, b"never")]))
    sink.close(0)  # aborts
    assert committed_records(settings, settings.predictions) == []
