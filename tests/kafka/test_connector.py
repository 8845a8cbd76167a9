from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import traceback
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cramjam
import lz4.frame
import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaProducer, errors
from kafka.admin import ConfigResource, ConfigResourceType
from pydantic import SecretStr

from connectors.kafka import (
    KafkaProducerLog,
    KafkaSettings,
    KafkaSink,
    KafkaSource,
    ensure_topics,
    partition_counts,
)
from connectors.kafka.watchdog import Watchdog
from stream_moe.engine.codec import JsonCodec, schema_from_headers, schema_header
from stream_moe.errors import FencedError, LogError, StuckError
from stream_moe.ports import Sink, Source
from stream_moe.types import Block, DeadLetter, Outputs, Schema
from tests.kafka.broker import SASL_PASSWORD, SASL_USER, Broker, free_ports
from tests.kafka.steps import Writer, committed_records, joined, opened, produce, read

pytestmark = pytest.mark.kafka

CANARY = "canary-9f8e7d"
LETTER = DeadLetter(3, 5, b"\xfekey", b"\xff{", "decode", "bad-json", "The value is not JSON.")


def test_events_come_back_with_their_schema(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    schema = Schema.numeric(3, ["a", "b"])
    codec = JsonCodec(schema)
    x = np.random.default_rng(1).random((10_000, 3)).astype(np.float32)
    produce(settings, codec.encode_events(Block(x, np.zeros(len(x), np.int32))), (schema_header(schema),))
    port: Source = KafkaSource(settings)
    source, _, committed = opened(settings, closing)
    assert (port.topic, committed, source.bounds([0])) == (settings.topic, None, {0: (0, 10_000)})
    source.seek(0, 0)
    batches = read(source, len(x))
    assert schema_from_headers(batches[0].headers) == schema
    assert max(map(len, batches)) <= 4096
    assert [b.next_offset for b in batches] == [int(b.offsets[-1]) + 1 for b in batches]
    assert np.concatenate([b.offsets for b in batches]).tolist() == list(range(len(x)))
    np.testing.assert_array_equal(np.concatenate([codec.decode(b)[0].x for b in batches]), x)
    assert batches[0].keys[:2] == [b"k0", b"k1"]
    assert abs(batches[0].timestamps[0] / 1000 - time.time()) < 3600
    assert source.poll(4096, 0.0) == []
    source.seek(0, 9_999)
    assert read(source, 1)[0].offsets.tolist() == [9_999]


def test_a_commit_makes_everything_visible_at_once(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"] * 5)
    port: Sink = KafkaSink(settings, KafkaSource(settings))
    port.close(0)  # never opened
    source, sink, _ = opened(settings, closing)
    sink.commit(0, Outputs(4, [(None, b"p%d" % i) for i in range(3)], [LETTER]))
    sink.commit(0, Outputs(5, [(b"k", b"p3")]))
    records = committed_records(settings, settings.predictions)
    assert [(r.key, r.value) for r in records] == [(None, b"p0"), (None, b"p1"), (None, b"p2"), (b"k", b"p3")]
    (dead,) = committed_records(settings, settings.dead_letters)
    assert (dead.key, dead.value) == (b"\xfekey", b"\xff{")
    assert dict(dead.headers) == {
        "__streams.errors.exception": b"bad-json",
        "__streams.errors.message": b"The value is not JSON.",
        "__streams.errors.topic": settings.topic.encode(),
        "__streams.errors.partition": b"0",
        "__streams.errors.offset": b"3",
        "__streams.errors.stage": b"decode",
    }
    sink.close(0)
    source.close()
    assert opened(settings, closing)[2] == 5


def test_a_commit_that_breaks_leaves_nothing(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"] * 5)
    source, sink, _ = opened(settings, closing)
    sink.commit(0, Outputs(1, [(None, b"first")]))

    class LostError(Exception):
        pass

    def lost(*_: object) -> None:
        raise LostError

    sink._writers[0]._producer.send_offsets_to_transaction = lost  # type: ignore[union-attr]
    with pytest.raises(LostError):
        sink.commit(0, Outputs(4, [(None, b"never")] * 3, [LETTER]))
    with pytest.raises(LogError, match="failed before"):
        sink.commit(0, Outputs(4, [(None, b"never")]))
    source.close()  # and the transaction stays open, as after kill -9
    _, again, committed = opened(settings, closing)
    assert committed == 1
    again.commit(0, Outputs(2, [(None, b"second")]))
    assert [r.value for r in committed_records(settings, settings.predictions)] == [b"first", b"second"]
    assert committed_records(settings, settings.dead_letters) == []


def test_a_second_instance_fences_the_first(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"] * 5)
    source, zombie, _ = opened(settings, closing)
    zombie.commit(0, Outputs(1, [(None, b"first")]))
    newer = KafkaSink(settings, source)
    closing(Writer(newer))
    newer.open(0)
    with pytest.raises(FencedError, match=r"another process of group .* took over"):
        zombie.commit(0, Outputs(2, [(None, b"never")]))
    newer.commit(0, Outputs(2, [(None, b"second")]))
    assert [r.value for r in committed_records(settings, settings.predictions)] == [b"first", b"second"]


def test_at_least_once_commits_without_a_transaction(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    settings = dataclasses.replace(settings, guarantee="at-least-once")
    produce(settings, [b"0"] * 5)
    source, sink, _ = opened(settings, closing)
    sink.commit(0, Outputs(4, [(None, b"p")], [LETTER]))
    assert [r.offset for r in committed_records(settings, settings.predictions)] == [0]
    assert len(committed_records(settings, settings.dead_letters)) == 1
    sink.close(0)
    source.close()
    assert opened(settings, closing)[2] == 4


def test_no_dead_letter_stops_the_stream(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"])
    _, sink, _ = opened(settings, closing)
    letters = [
        DeadLetter(0, -1, None, None, "log", "corrupt", "Unreadable."),
        DeadLetter(1, 4102444800000, b"k", None, "decode", "tombstone", "The record has no value."),
        DeadLetter(2, 5, b"k" * 100_000, b"v" * 2_000_000, "decode", "too-large", "half a pair: \ud800"),
    ]
    sink.commit(0, Outputs(1, [], letters))
    corrupt, tombstone, large = committed_records(settings, settings.dead_letters)
    assert (corrupt.key, corrupt.value) == (None, b"")
    assert (tombstone.key, tombstone.value) == (b"k", None)
    assert (len(large.key), len(large.value)) == (64_000, 900_000)
    assert dict(large.headers)["__streams.errors.truncated"] == b"key 100000, value 2000000 bytes"


def test_an_unreadable_record_is_noted_and_passed(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"before", b"too"])
    poison = KafkaProducer(**settings.client())

    class Bytes(str):
        """A header name that is not UTF-8, which the client itself would not send."""

        def encode(self, *_: object) -> bytes:
            return b"\xff\xfe"

    poison.send(settings.topic, b"poison", headers=[(Bytes("h"), b"v")])
    poison.flush()
    poison.close()
    produce(settings, [b"after"])
    source, _, _ = opened(settings, closing)
    source.seek(0, 0)
    batches = read(source, 4)
    assert [v for b in batches for v in b.values] == [b"before", b"too", b"after"]
    assert [at for b in batches for at in b.corrupt] == [2]
    assert batches[-1].next_offset == 4
    source.seek(0, 2)
    (alone,) = read(source, 2)
    assert (alone.corrupt, alone.offsets.tolist()) == ([2], [3])


def test_a_corrupt_batch_is_noted_record_by_record(
    settings: KafkaSettings, closing: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka.record.default_records import DefaultRecordBatch

    for values in ([b"0", b"1"], [b"2", b"3", b"4"], [b"5"]):
        produce(settings, values)
    right = DefaultRecordBatch.validate_crc
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda batch: batch.base_offset != 2 and right(batch))
    source, _, _ = opened(settings, closing)
    source.seek(0, 0)
    batches = read(source, 6)
    assert [at for b in batches for at in b.offsets.tolist()] == [0, 1, 5]
    assert [at for b in batches for at in b.corrupt] == [2, 3, 4]


def claims_a_terabyte(payload: bytes, **_: object) -> bytes:
    """A frame of lz4 that a broker takes, as it looks at what is in it alone, whose header says 2^40 bytes."""
    plain = lz4.frame.compress(bytes(payload), store_size=False, block_linked=False)
    head = plain[:4] + bytes([plain[4] | 8, plain[5]]) + (1 << 40).to_bytes(8, "little")
    for check in range(256):
        with contextlib.suppress(RuntimeError):
            lz4.frame.get_frame_info(head + bytes([check]) + plain[7:])
            return head + bytes([check]) + plain[7:]
    raise AssertionError


@pytest.mark.parametrize("codec", ["snappy", "lz4"])
def test_what_other_producers_pack_is_read_or_passed(
    codec: str, settings: KafkaSettings, closing: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java's snappy is read; a batch of lz4 whose header claims a terabyte was the end of each start."""
    produce(settings, [b"before"])
    if codec == "snappy":
        packer = SimpleNamespace(compress=lambda text: bytes(cramjam.snappy.compress_raw(text)))
        monkeypatch.setattr("kafka.codec.snappy", packer)
    else:
        monkeypatch.setattr("kafka.record.default_records.lz4_encode", claims_a_terabyte)
    other = KafkaProducer(**settings.client(), compression_type=codec, linger_ms=200)
    values = [digit * 1000 for digit in (b"1", b"2", b"3")]  # short ones the client would not pack
    for value in values:
        other.send(settings.topic, value)
    other.flush()
    other.close()
    monkeypatch.undo()
    produce(settings, [b"after"])
    source, _, _ = opened(settings, closing)
    source.seek(0, 0)
    batches = read(source, 5)
    packed, lost = (values, []) if codec == "snappy" else ([], [1, 2, 3])
    assert [v for b in batches for v in b.values] == [b"before", *packed, b"after"]
    assert [at for b in batches for at in b.corrupt] == lost
    assert batches[-1].next_offset == 5


def test_aborted_records_are_not_seen(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0"])
    writer = KafkaProducer(**settings.client(), transactional_id=f"{settings.group}-upstream")
    writer.init_transactions()
    for value, end in ((b"no", writer.abort_transaction), (b"1", writer.commit_transaction)):
        writer.begin_transaction()
        writer.send(settings.topic, value)
        writer.flush()
        end()
    writer.close()
    source, _, _ = opened(settings, closing)
    source.seek(0, 0)
    batches = read(source, 2)
    assert [v for b in batches for v in b.values] == [b"0", b"1"]
    assert batches[-1].next_offset == source.bounds([0])[0][1] == 5  # behind the markers of both transactions


def test_a_lost_position_stops_loudly(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    produce(settings, [b"0", b"1"])
    source, _, _ = opened(settings, closing)
    source.seek(0, 50)
    with pytest.raises(LogError, match="no longer holds the position"):
        read(source, 1)


def test_a_pause_in_the_middle_of_what_was_fetched(settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    ensure_topics(settings, [settings.topic], partitions=2)
    produce(settings, [b"%d" % i for i in range(2000)])
    source = joined(closing(KafkaSource(settings)), 0, 1)
    for partition in (0, 1):
        source.seek(partition, 0)
    (begun,) = source.poll(10, 20.0)
    source.pause(begun.partition)
    other = 1 - begun.partition
    rest = source.bounds([0, 1])
    assert {batch.partition for batch in read(source, rest[other][1])} == {other}
    source.seek(begun.partition, begun.next_offset)
    batches = read(source, rest[begun.partition][1] - 10)  # the client would never read on
    assert np.concatenate([batch.offsets for batch in batches]).tolist() == list(range(10, rest[begun.partition][1]))


def test_what_was_read_when_the_broker_went_away_is_read_again(
    settings: KafkaSettings, closing: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [b"%d" % i for i in range(10)]
    produce(settings, values)
    source, _, _ = opened(settings, closing)
    source.seek(0, 0)
    consumer = source._consumer
    assert consumer is not None
    position = consumer.position
    lost: list[int] = []

    def position_unless_away(*arguments: Any, **options: Any) -> Any:
        if not lost and (found := position(*arguments, **options)):  # once, when records were read
            lost.append(found)
            raise errors.KafkaConnectionError("away")
        return position(*arguments, **options)

    monkeypatch.setattr(consumer, "position", position_unless_away)
    batches = read(source, 10)
    assert lost
    assert [value for batch in batches for value in batch.values] == values


@pytest.mark.parametrize("which", ["topic", "labels"])
def test_a_compacted_topic_is_refused(settings: KafkaSettings, which: str) -> None:
    """Compaction would take away records that were learnt: a replay then comes to another state, and says nothing."""
    settings = dataclasses.replace(settings, labels=f"{settings.topic}.labels")
    ensure_topics(settings, [settings.topic, f"{settings.labels}"])
    with contextlib.closing(KafkaAdminClient(**settings.client())) as admin:
        policy = {"cleanup.policy": "compact,delete"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, getattr(settings, which), policy)])
    refused = (
        rf"topic '{getattr(settings, which)}' has cleanup.policy=compact,delete.*set its cleanup.policy to delete"
    )
    with contextlib.closing(KafkaSource(settings)) as source, pytest.raises(LogError, match=refused):
        source.open()


def test_topics_that_do_not_fit(settings: KafkaSettings) -> None:
    with pytest.raises(LogError, match=f"topic '{settings.topic}' does not exist"):
        KafkaSource(settings).open()
    ensure_topics(settings, [settings.topic], partitions=3)
    ensure_topics(settings, [settings.topic])  # there already: left as it is
    assert partition_counts(settings, [settings.topic, "nowhere"]) == {settings.topic: 3, "nowhere": 0}
    ensure_topics(settings, [settings.predictions], partitions=2)
    sink = KafkaSink(settings, KafkaSource(settings))
    with pytest.raises(LogError, match=r"predictions' has 2 partition\(s\) and the input .* has 3; give it as many"):
        sink.open(0)
    with pytest.raises(LogError, match="cannot be created"):
        ensure_topics(settings, ["not a name"])


def test_a_broker_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kafka.settings.CONNECT_SECONDS", 0.5)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings = KafkaSettings(address, "events")
    source = KafkaSource(settings)
    for call in (source.open, lambda: KafkaSink(settings, source).open(0), lambda: KafkaProducerLog(settings)):
        with pytest.raises(LogError, match=f"{address}.*no broker answers"):
            call()


def test_an_answer_that_never_comes_is_a_doubt(settings: KafkaSettings) -> None:
    watchdog = Watchdog(settings)
    assert watchdog.within(60, "asking", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        watchdog.within(60, "asking", lambda: 1 // 0)
    assert watchdog.fired == 0
    with pytest.raises(StuckError, match=r"committing: no answer .* in doubt"):
        watchdog.within(0.01, "committing", lambda: time.sleep(60))
    assert watchdog.fired == 1


def test_nothing_is_lost_or_doubled_when_the_broker_dies(
    closing: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    try:
        broker.start()
        settings = KafkaSettings(broker.bootstrap, "events")
        values = [b"%d" % i for i in range(6)]
        produce(settings, values)
        for fault, cure in ((broker.pause, broker.resume), (broker.kill, broker.start)):
            source, sink, committed = opened(settings, closing)
            done = committed or 0
            sink.commit(0, Outputs(done + 1, [(None, values[done])]))
            fault()
            with monkeypatch.context() as patch:
                patch.setattr("connectors.kafka.writer.COMMIT_SECONDS", 1.0)
                with pytest.raises(LogError, match=broker.bootstrap):
                    sink.commit(0, Outputs(done + 2, [(None, values[done + 1])]))
            cure()
            sink.close(0)
            source.close()
        _, sink, committed = opened(settings, closing)
        assert committed is not None
        assert committed >= 2
        sink.commit(0, Outputs(len(values), [(None, value) for value in values[committed:]]))
        assert [r.value for r in committed_records(settings, settings.predictions)] == values
        sink.close(0)
    finally:
        broker.stop()


def test_the_password_is_never_shown(
    own_broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.settings.CONNECT_SECONDS", 2.0)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("kafka.net.connection").setLevel(logging.DEBUG)
    for password in (CANARY, SASL_PASSWORD):
        settings = KafkaSettings(
            own_broker.sasl_bootstrap,
            f"test-{uuid.uuid4().hex[:12]}",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username=SASL_USER,
            sasl_password=SecretStr(password),
            allow_plaintext_password=True,
        )
        shown = f"{settings!r} {settings}"
        if password == CANARY:
            with pytest.raises(LogError, match="refused user 'tester'") as caught:
                partition_counts(settings, [settings.topic])
            shown += "".join(traceback.format_exception(caught.value))
        else:
            produce(settings, [b"0"])
            assert partition_counts(settings, [settings.topic]) == {settings.topic: 1}
        assert password not in shown
        assert password not in caplog.text
    assert "kafka" in {record.name.split(".")[0] for record in caplog.records}
