"""Each reach into kafka-python does what it is for on the client that is installed, and all are in one file."""

from __future__ import annotations

import ast
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kafka
import pytest
from kafka import KafkaConsumer, TopicPartition, errors
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import BaseCoordinator
from kafka.future import Future
from kafka.net.compat import KafkaNetClient
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from connectors.kafka import internals
from connectors.kafka.failures import as_log_error
from connectors.kafka.reader import KafkaReader
from connectors.kafka.settings import KafkaSettings
from stream_moe.errors import LogError, UnavailableError

FOLDER = Path(internals.__file__).parent
PLACE = TopicPartition("events", 3)
NOWHERE = "127.0.0.1:1"
SETTINGS = KafkaSettings(bootstrap=NOWHERE, topic="events", group="group")
PUBLIC = {"kafka", "kafka.errors", "kafka.structs", "kafka.admin", "kafka.partitioner", "kafka.net.sasl.oauth"}


def test_the_client_is_the_one_that_the_reaches_were_read_from() -> None:
    assert kafka.__version__.split(".")[:2] == internals.READ_FROM.split(".")[:2], (
        "read internals.py against this client, reach by reach, then raise READ_FROM and pyproject.toml"
    )


def beyond_public(code: str) -> list[str]:
    """Names that a module imports from kafka-python which are not public."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("kafka.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kafka":
            names = [alias.name for alias in node.names]
            if node.module == "kafka":
                found += [name for name in names if name not in {*kafka.__all__, "errors"}]
            elif node.module not in PUBLIC:
                found.append(str(node.module))
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.parent.rglob("*.py")), ids=lambda path: path.name)
def test_no_other_file_imports_what_is_not_public(path: Path) -> None:
    """Attributes with an underscore are ruff's to find: rule SLF001 of pyproject.toml."""
    assert path.name == "internals.py" or beyond_public(path.read_text()) == []


@pytest.mark.parametrize(
    "code", ["from kafka.net.compat import KafkaNetClient", "import kafka.codec", "from kafka import codec"]
)
def test_the_rule_notices(code: str) -> None:
    assert beyond_public(code)


@pytest.fixture
def consumer() -> Iterator[KafkaConsumer]:
    """A consumer that has never met a broker: with a version given, it asks for none."""
    one = KafkaConsumer(
        bootstrap_servers=NOWHERE,
        api_version=(3, 9),
        group_id="group",
        auto_offset_reset="none",
        partition_assignment_strategy=[internals.Assignor()],
        kafka_client=internals.Client,
    )
    yield one
    one.close(autocommit=False, timeout_ms=0)


def test_a_refused_client_stops_at_once_and_says_why() -> None:
    client = internals.Client(bootstrap_servers=NOWHERE)
    with contextlib.closing(client):
        manager = client._manager
        manager.get_connection("bootstrap-0").init_future.failure(
            errors.SaslAuthenticationFailedError("wrong password")
        )
        with pytest.raises(errors.SaslAuthenticationFailedError, match="wrong password"):
            manager.get_connection("bootstrap-0")


def test_a_client_that_was_only_cut_off_tries_again() -> None:
    client = internals.Client(bootstrap_servers=NOWHERE)
    with contextlib.closing(client):
        manager = client._manager
        first = manager.get_connection("bootstrap-0")
        first.init_future.failure(errors.KafkaConnectionError("cut off"))
        assert manager.get_connection("bootstrap-0") is first


def test_connections_that_end_in_the_authentication_are_a_refusal() -> None:
    options = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    client = internals.Client(bootstrap_servers=NOWHERE, sasl_plain_username="u", sasl_plain_password="p", **options)
    with contextlib.closing(client):
        manager = client._manager
        for _ in range(3):
            manager._conns.clear()
            connection = manager.get_connection("bootstrap-0")
            connection.broker_version_data = SimpleNamespace(
                broker_version=(4, 0)
            )  # so the connection got as far as the authentication
            connection.init_future.failure(errors.KafkaConnectionError("closed"))
        with pytest.raises(errors.SaslAuthenticationFailedError, match="ends in the authentication"):
            manager.get_connection("bootstrap-0")


def test_a_broker_that_is_away_is_no_error_of_await_ready() -> None:
    """The producer's sender asks `elif not await_ready(...)`: what it raises loses the transaction's request."""
    source = Path(kafka.__file__).with_name("producer") / "sender.py"
    assert source.read_text().count("elif not self._client.await_ready(target_node, timeout_ms=") == 2
    options = {"bootstrap_servers": NOWHERE, "api_version": (3, 9)}
    with contextlib.closing(KafkaNetClient(**options)) as theirs, pytest.raises(errors.KafkaConnectionError):
        theirs.await_ready("bootstrap-0", timeout_ms=100)
    with contextlib.closing(internals.Client(**options)) as ours:
        assert ours.await_ready("bootstrap-0", timeout_ms=100) is False


def test_the_first_contact_gives_each_address_its_part_of_the_time() -> None:
    with contextlib.ExitStack() as held:
        frozen = [
            held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)
        ]  # take in, never answer
        ports = [one.getsockname()[1] for one in frozen]
        client = internals.Client(bootstrap_servers=[f"127.0.0.1:{port}" for port in ports])
        held.callback(client.close)
        began = time.monotonic()
        with pytest.raises(errors.KafkaTimeoutError) as caught:
            client._manager.bootstrap(1500)
        assert internals.is_first_contact(caught.value)
        assert 1.0 < time.monotonic() - began < 5
        for one in frozen:
            one.settimeout(0.1)
            one.accept()[0].close()  # TimeoutError where it was not asked


def test_the_clients_loggers_stay_above_debug() -> None:
    logger, top = logging.getLogger("kafka.net.connection"), logging.getLogger("kafka")
    before = logger.level, top.level
    try:
        logger.setLevel(logging.DEBUG)
        top.setLevel(logging.DEBUG)
        internals.quiet_loggers()
        assert logger.getEffectiveLevel() == logging.INFO
    finally:
        logger.setLevel(before[0])
        top.setLevel(before[1])


def test_a_first_contact_that_fails_is_told_by_its_text() -> None:
    with pytest.raises(errors.KafkaTimeoutError) as caught:
        KafkaConsumer(bootstrap_servers=NOWHERE, bootstrap_timeout_ms=50)
    assert internals.is_first_contact(caught.value)
    assert not internals.is_first_contact(errors.KafkaTimeoutError("no position of partition 0"))


def test_a_fence_inside_a_general_error_is_found_by_its_text() -> None:
    source = Path(kafka.__file__).with_name("producer") / "transaction_manager.py"
    assert "metadata mismatch" in source.read_text()
    assert internals.is_fenced(errors.KafkaError(errors.ProducerFencedError()))
    assert not internals.is_fenced(errors.KafkaError("a time-out"))


def batches(*counts: int) -> bytearray:
    """The log's batches of so many records each."""
    content, offset = bytearray(), 0
    for count in counts:
        builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 20, offset=0)
        for _ in range(count):
            builder.append(timestamp=0, key=None, value=b"value")
        builder.close()
        batch = bytearray(builder.buffer())
        batch[:8] = offset.to_bytes(8, "big")
        content += batch
        offset += count
    return content


def polled(consumer: KafkaConsumer, content: bytearray) -> Any:
    """What the fetcher makes of bytes that a broker has answered with."""
    internals.read_safely()
    fetcher = consumer._fetcher
    fetcher._next_partition_records = Fetcher.PartitionRecords(0, PLACE, MemoryRecords(bytes(content)))
    return fetcher.fetched_records(10)


def test_an_unreadable_record_is_found(consumer: KafkaConsumer) -> None:
    consumer.assign([PLACE])
    consumer.seek(PLACE, 0)
    found, _ = polled(consumer, batches(2, 2))
    assert [record.offset for record in found[PLACE]] == [0, 1, 2, 3]
    content = batches(2, 2)
    content[-1] ^= 1
    consumer.seek(PLACE, 0)
    found, _ = polled(consumer, content)
    assert [record.offset for record in found[PLACE]] == [0, 1]
    with pytest.raises(errors.CorruptRecordError, match="at offset 2 failed"):
        consumer._fetcher.fetched_records(10)
    assert internals.unreadable(consumer) == (PLACE, range(2, 4))
    assert consumer._fetcher.fetched_records(10) == ({}, False)  # it neither spins nor gives what lies behind


def test_a_partition_that_comes_back_is_fetched_again(consumer: KafkaConsumer) -> None:
    consumer.assign([PLACE])
    consumer.seek(PLACE, 0)
    fetcher = consumer._fetcher
    fetcher._paused_partition_records[PLACE] = Fetcher.PartitionRecords(0, PLACE, MemoryRecords(bytes(batches(1))))
    assert PLACE not in fetcher._fetchable_partitions()
    internals.drop_parked(consumer, PLACE)
    assert PLACE in fetcher._fetchable_partitions()
    internals.drop_parked(consumer, PLACE)  # nothing was put aside


def test_a_lost_partition_is_not_claimed() -> None:
    class Assignment:
        def partitions(self) -> list[TopicPartition]:
            return [PLACE]

    assignor = internals.Assignor()
    assignor.on_assignment(Assignment(), 1)
    assert [owned.partitions for owned in assignor.metadata({"events"}).owned_partitions] == [[3]]
    assignor.forget()
    assert assignor.metadata({"events"}).owned_partitions == []


def test_a_join_under_way_is_gone_on_with(consumer: KafkaConsumer) -> None:
    coordinator = consumer._coordinator
    coordinator.rejoin_needed = False
    assert not BaseCoordinator.need_rejoin(coordinator)
    internals.end_the_join(consumer)
    assert BaseCoordinator.need_rejoin(coordinator)


def test_a_refresh_of_the_topics_that_ended_begins_again(consumer: KafkaConsumer) -> None:
    cluster = consumer._cluster
    running = cluster._refresh_loop_future = Future()
    internals.keep_refreshing(consumer)
    assert cluster._refresh_loop_future is running
    running.failure(RuntimeError("an error that is not one of Kafka's"))
    cluster.start_refresh_loop()
    assert cluster._refresh_loop_future is running, "the client starts it again by itself now: drop keep_refreshing"
    internals.keep_refreshing(consumer)
    assert cluster._refresh_loop_future is not running


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Unexpected error in InitProducerIdResponse: [Error 50] InvalidTransactionTimeoutError", "transaction.max"),
        ("Could not execute transactional request for unknown reasons: None", "look at that broker's log"),
    ],
)
def test_errors_that_the_client_has_no_class_for_get_a_meaning(text: str, meaning: str) -> None:
    with pytest.raises(LogError, match=meaning), as_log_error(SETTINGS, "opening the writer of partition 3"):
        raise errors.KafkaError(text)


class _Slow:
    """A consumer whose broker does not answer."""

    def __init__(self) -> None:
        self.patience: list[float] = []

    def beginning_offsets(self, places: object, timeout_ms: float) -> dict[TopicPartition, int]:
        self.patience.append(timeout_ms / 1000)
        raise errors.KafkaTimeoutError("no answer")


def test_a_report_waits_a_second_for_the_ends_of_the_log_and_an_opening_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, consumer = KafkaReader(SETTINGS, "events"), _Slow()
    asked: list[str] = []
    monkeypatch.setattr("connectors.kafka.reader.require_topic", lambda _, topic: asked.append(topic))
    reader._consumer = consumer
    with pytest.raises(UnavailableError):
        reader.bounds([3])
    assert consumer.patience[-1] > 10
    reader._positions[3] = 7  # it is being read
    with pytest.raises(UnavailableError):
        reader.bounds([3])
    assert consumer.patience[-1] <= 1


def test_a_topic_that_is_gone_is_told_after_the_report_that_had_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = KafkaReader(SETTINGS, "events")

    def gone(*_: object) -> None:
        raise LogError("topic 'events' does not exist")

    monkeypatch.setattr("connectors.kafka.reader.require_topic", gone)
    reader._consumer, reader._positions = _Slow(), {3: 7}
    with pytest.raises(UnavailableError):
        reader.bounds([3])
    for thread in threading.enumerate():
        if thread.name == "kafka: topic":
            thread.join(5)
    with pytest.raises(LogError, match="does not exist"):
        reader.bounds([3])
