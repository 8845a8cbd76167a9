"""What the rows of the fault table stand on: a broker, daemons, and the check of what they left behind."""

from __future__ import annotations

import contextlib
import signal
import struct
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from connectors.files import FileCheckpointStore
from connectors.kafka import KafkaProducerLog, KafkaSettings
from connectors.memory import CONTROL, EOF, MemoryLog, MemoryReader, MemorySink, MemorySource, Record
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.entries import JournalEntry
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed.factory import for_each_key
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.ports import Source
from stream_moe.runtime.failpoints import VARIABLE
from stream_moe.streams import open_stream
from stream_moe.types import UNLABELLED, Schema
from tests.faults import daemon
from tests.faults.member import PATIENCE_SECONDS, Member, wait_for
from tests.faults.proxy import Proxy
from tests.kafka.broker import Broker, free_ports
from tests.kafka.broker.cluster import Cluster
from tests.simulation.inputs import Rehearsal

MODEL = "hoeffding-tree"
STREAM = open_stream("electricity")
CODEC = JsonCodec(STREAM.schema)
SMALL = ("--block-rows", "100", "--checkpoint-events", "500")
VALUE_BYTES = 900_000  # of a dead letter, at most

_PROXIED = """
listeners=PLAINTEXT://127.0.0.1:{{port}},PROXIED://127.0.0.1:{proxied},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},PROXIED://127.0.0.1:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
group.min.session.timeout.ms=1000
{more}
"""


def events(start: int, count: int) -> list[bytes]:
    """Records with features and label."""
    block = next(STREAM.blocks(start + count))
    return CODEC.encode_events(block)[start:]


def apart(start: int, count: int) -> tuple[list[bytes], list[bytes]]:
    """The same with the labels in records of their own."""
    block = next(STREAM.blocks(start + count))
    no_labels, no_features = np.full_like(block.y, UNLABELLED), np.zeros(len(block), np.bool_)
    features, labels = replace(block, y=no_labels), replace(block, has_features=no_features)
    return CODEC.encode_events(features)[start:], CODEC.encode_events(labels)[start:]


class FaultyBroker(Broker):
    """A broker with one address more, that of a proxy before it."""

    def __init__(self, more: str = "") -> None:
        proxied, proxy = free_ports(2)
        super().__init__(properties=_PROXIED.format(proxied=proxied, proxy=proxy, more=more))
        self.proxy = Proxy(proxy, f"127.0.0.1:{proxied}")

    def stop(self) -> None:
        self.proxy.close()
        super().stop()


@dataclass
class Uninterrupted:
    """What one run without any fault makes of the same log."""

    digests: dict[int, str] = field(default_factory=dict)
    predictions: dict[int, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    letters: dict[int, list[tuple[bytes | None, bytes | None, bytes]]] = field(default_factory=dict)


class Case:
    """One group on one topic: everything a row of the table needs, and is checked for.

    Parameters
    ----------
    broker
        Must be running.
    partitions
        Of the input.
    model
        Which model learns.
    schema
        Of the events.
    two_topics
        Whether the labels have a topic of their own.
    keys
        How many record keys there are, each with a model of its own; 0 = one model, and a key for each record.
    """

    def __init__(
        self,
        broker: FaultyBroker | Cluster,
        partitions: int = 1,
        model: str = MODEL,
        schema: Schema = STREAM.schema,
        two_topics: bool = False,
        keys: int = 0,
    ) -> None:
        name = f"fault-{uuid.uuid4().hex[:10]}"
        self.broker, self.partitions, self.model, self.schema, self.keys = broker, partitions, model, schema, keys
        self.settings = KafkaSettings(
            broker.bootstrap, f"{name}.events", f"{name}.predictions", f"{name}.dead-letters", f"{name}.group"
        )
        if two_topics:
            self.settings = replace(self.settings, labels=f"{name}.labels")
        self._folder = tempfile.TemporaryDirectory(prefix="stream-moe-fault-")
        self.folder = Path(self._folder.name)
        self.state = self.folder / "state"
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.close()
        for name in ("_reader", "_watcher"):
            if name in self.__dict__:
                getattr(self, name).close(autocommit=False)
        if "admin" in self.__dict__:
            self.admin.close()
        self._folder.cleanup()

    # What goes in

    def produce(self, values: Iterable[bytes | None], start: int = 0) -> None:
        """Append records with the keys start, start + 1, ..., which decide the partition."""
        self._append(self.settings, values, start)

    def _append(self, to: KafkaSettings, values: Iterable[bytes | None], start: int) -> None:
        header = schema_header(self.schema)
        with contextlib.closing(KafkaProducerLog(to, [header], True, self.partitions)) as log:
            log.send((b"%d" % (i % self.keys if self.keys else i), value) for i, value in enumerate(values, start))

    def fill(self, count: int, start: int = 0) -> None:
        """Append events of the stream and their labels, each to its topic."""
        if self.settings.labels is None:
            self.produce(events(start, count), start)
            return
        features, labels = apart(start, count)
        self._append(self.settings, features, start)
        self._append(replace(self.settings, topic=self.settings.labels, labels=None), labels, start)

    # Daemons

    def start(self, *more: str, fail_at: str = "", proxied: bool = False, **conditions: Any) -> Member:
        """Start a daemon; `conditions` are those of `tests.faults.daemon`."""
        number, names = len(self.members), self.settings
        arguments = ["run", "--bootstrap", names.bootstrap]
        if proxied:
            assert isinstance(self.broker, FaultyBroker)
            arguments[-1] = self.broker.proxy.address
        arguments += ["--topic", names.topic, "--predictions", names.predictions, "--group", names.group]
        arguments += ["--dead-letters", names.dead_letters, "--state-dir", str(self.state)]
        arguments += ["--metrics-port", "0", "--json", str(self.folder / f"{number}.json")]
        arguments += ["--labels", names.labels] if names.labels is not None else []
        arguments += [] if "--model" in more else ["--model", self.model]
        arguments += ["--model-per", "key"] if self.keys else []
        environment = {VARIABLE: fail_at} if fail_at else {}
        unusual = daemon.Conditions(environment, **conditions)
        process = daemon.start([*arguments, *more], self.folder / f"{number}.log", unusual)
        member = Member(number, self.folder, process)
        self.members.append(member)
        return member

    def killed(self, fail_at: str, *more: str, proxied: bool = False) -> None:
        """Run a daemon into a fail point that kills it."""
        self.start(*SMALL, *more, fail_at=fail_at, proxied=proxied).ended(-signal.SIGKILL)

    def finished(self, member: Member | None = None, seconds: float = PATIENCE_SECONDS) -> Counter[str]:
        """Let a daemon (default: a new one) come to the end of the log and drain; check everything; its metrics."""
        member = member or self.start(*SMALL)
        self.settle(member, seconds=seconds)
        # What is committed may not be reported yet; a report of no block is one that came after.
        metrics: Counter[str] = wait_for("its report", member.reported)
        member.signal(signal.SIGTERM)
        member.ended(0)
        self.check(member)
        return metrics

    def settle(self, *members: Member, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until everything is committed, and the members are ready."""
        deadline = time.monotonic() + seconds
        while self.committed() != self.ends() or not all(member.ready() for member in members):
            for member in members:
                assert member.process.is_alive(), f"ended with {member.process.exitcode}\n{member.log}"
            logs = "\n".join(member.log for member in members)
            assert time.monotonic() < deadline, f"{self.committed()} of {self.ends()}\n{logs}"
            time.sleep(0.05)
        if len(members) > 1:  # a partition that changes hands is nobody's for a moment
            wait_for("every partition to be held", lambda: self._held(members) == self.partitions, seconds)

    def _held(self, members: Sequence[Member]) -> float:
        return sum(member.metrics()["stream_moe_assigned_partitions"] for member in members)

    # What is there

    def _open(self, isolation: str) -> KafkaConsumer:
        return KafkaConsumer(
            **self.settings.client(), group_id=self.settings.group, enable_auto_commit=False,
            isolation_level=isolation, auto_offset_reset="earliest",
        )  # fmt: skip

    @cached_property
    def _reader(self) -> KafkaConsumer:
        return self._open("read_committed")

    @cached_property
    def _watcher(self) -> KafkaConsumer:
        """Told of the committed offset even while a transaction is open; the other would wait for its end."""
        return self._open("read_uncommitted")

    @cached_property
    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(**self.settings.client())

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for partition in range(self.partitions)]

    def committed(self) -> list[int]:
        """The position of each partition: with two topics the sum of both."""
        places = self._places(self.settings.topic)
        if self.settings.labels is None:
            return [self._watcher.committed(place) or 0 for place in places]
        found = [self._watcher.committed(place, metadata=True) for place in places]
        return [JournalEntry.from_json(one.metadata.encode()).position if one is not None else 0 for one in found]

    def ends(self) -> list[int]:
        topics = [self.settings.topic] + ([self.settings.labels] if self.settings.labels is not None else [])
        return [sum(ends) for ends in zip(*map(self._ends, topics), strict=True)]

    def _ends(self, topic: str) -> list[int]:
        places = self._places(topic)
        try:
            ends = self._reader.end_offsets(places)
        except KeyError:  # of partitions that were just added
            self._reader.topics()
            ends = self._reader.end_offsets(places)
        return [ends[place] for place in places]

    def wait_for_commits(self, at_least: int, seconds: float = PATIENCE_SECONDS) -> None:
        wait_for(f"{at_least} committed", lambda: min(self.committed()) >= at_least, seconds)

    def records(self, topic: str, partition: int) -> list[ConsumerRecord]:
        """All that a reader of committed records sees."""
        place = TopicPartition(topic, partition)
        self._reader.assign([place])
        self._reader.seek_to_beginning(place)
        end, found = self._reader.end_offsets([place])[place], list[ConsumerRecord]()
        while self._reader.position(place) < end:
            found += self._reader.poll(timeout_ms=500, max_records=4096).get(place, [])
        return found

    def commits(self) -> Iterator[tuple[int, int]]:
        """Every offset that the group ever committed, with its partition, in order."""
        for record in self.records("__consumer_offsets", 0):
            (version,) = struct.unpack_from(">h", record.key)
            if version > 1 or record.value is None:
                continue
            names, at = [], 2
            for _ in range(2):
                (length,) = struct.unpack_from(">h", record.key, at)
                names.append(record.key[at + 2 : at + 2 + length].decode())
                at += 2 + length
            if names == [self.settings.group, self.settings.topic]:
                yield struct.unpack_from(">i", record.key, at)[0], struct.unpack_from(">q", record.value, 2)[0]

    def uninterrupted(self) -> Uninterrupted:
        """Run the log, as it is now, through the engine without any fault; two topics in the order of the journal."""
        names, log, found = self.settings, MemoryLog(), Uninterrupted()
        for topic in filter(None, (names.topic, names.labels, names.journal_topic)):
            for partition in range(self.partitions):
                self._copy(topic, partition, log)
        source: Source = MemorySource(log, names.topic, names.group)
        if names.labels is not None and names.journal_topic is not None:
            source = Rehearsal(source, MemoryReader(log, names.labels), MemoryReader(log, names.journal_topic))
        keys = KeySettings() if self.keys else None

        def make(schema: Schema) -> BlockClassifier:
            return build_model(self.model, schema)

        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(
                source,
                MemorySink(log, names.topic, names.group, names.predictions, names.dead_letters),
                lambda partition: FileCheckpointStore(Path(folder) / str(partition)),
                for_each_key(make, keys) if keys is not None else make,
                EngineSettings(self.model, keys=keys),
                schema=self.schema,
            )
            engine.run()
        found.digests = engine.digests()
        for p in range(self.partitions):
            found.predictions[p] = [(one.key, one.value) for one in log.records(names.predictions, p)]
            letters = log.records(names.dead_letters, p)
            found.letters[p] = [(one.key, (one.value or b"")[:VALUE_BYTES], _offset(one.headers)) for one in letters]
        return found

    def _copy(self, topic: str, partition: int, log: MemoryLog) -> None:
        offset = 0
        for record in self.records(topic, partition):
            log.extend(topic, [CONTROL] * (record.offset - offset), partition)
            log.append(topic, Record(record.value, record.key, record.timestamp, tuple(record.headers)), partition)
            offset = record.offset + 1
        log.append(topic, EOF, partition)

    def check(self, *last: Member) -> None:
        """O1: each record answered exactly once, in order, as an uninterrupted run would. O2: so is the state.
        O3: no commit ever went back."""
        expected, names = self.uninterrupted(), self.settings
        for partition in range(self.partitions):
            seen = [(one.key, one.value) for one in self.records(names.predictions, partition)]
            assert_same(f"predictions of partition {partition}", seen, expected.predictions[partition])
            letters = self.records(names.dead_letters, partition)
            dead = [(one.key, one.value or b"", _offset(one.headers)) for one in letters]
            assert_same(f"dead letters of partition {partition}", dead, expected.letters[partition])
        parts = [part for member in last for part in member.result["partitions"]]
        digests = {part["partition"]: part["state_digest"] for part in parts}
        assert digests == expected.digests, f"state digests {digests}, uninterrupted {expected.digests}"
        # A transaction that another case left open hides what was committed after it, until it is ended.
        wait_for("every commit to be readable", lambda: self._reached() == self._ends(self.settings.topic))

    def _reached(self) -> list[int]:
        reached: Counter[int] = Counter()
        for partition, offset in self.commits():
            assert offset >= reached[partition], f"partition {partition}: {offset} after {reached[partition]}"
            reached[partition] = offset
        return [reached[p] for p in range(self.partitions)]


@contextlib.contextmanager
def standing(
    broker: FaultyBroker, fail_at: str, count: int, partitions: int = 1, two_topics: bool = False, **conditions: Any
) -> Iterator[tuple[Case, Member]]:
    """A case with `count` events whose daemon stopped itself at a fail point; SIGCONT lets it go on."""
    with Case(broker, partitions, two_topics=two_topics) as case:
        case.fill(count)
        member = case.start(*SMALL, fail_at=f"{fail_at}:STOP", **conditions)
        member.stopped()
        yield case, member


def assert_same(what: str, seen: Sequence[Any], expected: Sequence[Any]) -> None:
    """Compare, and say where the first difference is."""
    at = next((i for i, pair in enumerate(zip(seen, expected, strict=False)) if pair[0] != pair[1]), None)
    if at is not None:
        raise AssertionError(f"{what}: number {at} is {str(seen[at])[:300]}, expected {str(expected[at])[:300]}")
    assert len(seen) == len(expected), f"{what}: {len(seen)}, expected {len(expected)}"


def _offset(headers: Iterable[tuple[str, bytes]]) -> bytes:
    return dict(headers)["__streams.errors.offset"]
