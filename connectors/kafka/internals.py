"""Every place where we reach beyond kafka-python's public interface.

Each reach says what it touches and why the public interface does not do. All were read from the version `READ_FROM`,
so pyproject.toml holds the dependency below the next minor one. `tests/unit/test_kafka_internals.py` fails where a
client has moved one of them, and where another file of this package touches what is not public.
"""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.record import legacy_records, memory_records
from kafka.record.default_records import ControlRecord, DefaultRecord, DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch
from kafka.record.util import decode_varint, encode_varint

from connectors.kafka import unpacking
from connectors.kafka.unpacking import UnreadableError
from stream_moe.errors import one_line

READ_FROM = "3.0.12"

# ---- Connections ------------------------------------------------------------------------------------------------

# Trying again with the same credentials does not help. (A time-out or a reset does not belong here.)
_REFUSALS = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
    ssl.SSLError,
)


def refusal(error: BaseException | None) -> Exception | None:
    """Find the refusal in an error, in what led to it, or in what it wraps; None where there is none.

    Reaches: how the client wraps one error in another.
    Why: its first contact reports a time-out, and no public name tells what it hides.
    """
    for _ in range(8):  # a chain may be a ring
        if isinstance(error, _REFUSALS):
            # An end without a farewell is what a broker's restart looks like, too.
            return None if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) else error
        if error is None:
            break
        wrapped = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = wrapped or error.__cause__ or error.__context__
    return None


_ENDS = 3  # a connection may end this often while we authenticate before we take it for a refusal
# What a broker has to answer a new connection in, from the first try to the fifth; the client's own are 10 and 30 s,
# which a frozen broker takes from us each time.
_SETUP = {"socket_connection_setup_timeout_ms": 3000, "socket_connection_setup_timeout_max_ms": 10_000}


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: NetworkSelector, **options: Any) -> None:
        self._refused: dict[Any, Exception] = {}
        self._ended: Counter[Any] = Counter()
        self._tried: Counter[Any] = Counter()  # how often each address of the bootstrap was
        self._reached = False
        super().__init__(net, **_SETUP | options)
        self._addresses = self.cluster.bootstrap_brokers()
        self.cluster.bootstrap_brokers = self._next_addresses

    def _next_addresses(self) -> list[Any]:
        """Give the addresses that were tried least often: the client chooses one of these by chance."""
        least = min(self._tried[broker.node_id] for broker in self._addresses)
        return [broker for broker in self._addresses if self._tried[broker.node_id] == least]

    def get_connection(self, node_id: Any, timeout_ms: float | None = None, **options: Any) -> KafkaConnection:
        # Once the brokers have been reached, a refusal may pass (a broker starts without its users for a moment).
        self._reached = self._reached or self.bootstrapped
        if not self._reached and all(broker.node_id in self._refused for broker in self._addresses):
            reason = next(iter(self._refused.values()))
            raise reason if isinstance(reason, errors.KafkaError) else errors.KafkaConnectionError(reason)
        if self.cluster.is_bootstrap(node_id):
            if timeout_ms is not None:  # what is left, in equal parts for those whose turn is still to come
                timeout_ms /= len(self._next_addresses())
            self._tried[node_id] += 1
        connection = super().get_connection(node_id, timeout_ms=timeout_ms, **options)

        def note(error: BaseException) -> None:
            found = refusal(error)
            if found is None and connection.sasl_enabled and connection.broker_version_data is not None:
                # A broker closes right behind its refusal, and where the end is read together with the refusal the
                # client loses the latter.
                self._ended[node_id] += 1
                if self._ended[node_id] >= _ENDS:
                    found = errors.SaslAuthenticationFailedError("the connection ends in the authentication")
            if found is not None:
                self._refused[node_id] = found

        connection.init_future.add_errback(note)
        return connection


class Client(KafkaNetClient):  # type: ignore[misc]
    """The `kafka_client` of our consumers, producers and admin clients: it stops at a refusal, not at a dead broker.

    Reaches: the client's connection manager, whose `get_connection` it overrides, with the addresses of the first
    contact and the time that a new connection has; and `await_ready`.
    Why: the client tries a broker again and again until its time is up, and then reports the time only. A wrong
    password or an expired certificate looks like a broker that is not there, eight seconds and a dozen refused
    attempts later (enough to lock an account). Here the first contact ends as soon as every address has refused us
    for good. It may also spend all its time on one frozen broker while two others would answer: here each address
    gets its part. And the producer's sender takes a broker that is away for one of which `await_ready` says False,
    while it raises: the request of the transaction is then never sent again, which stands until our watchdog ends
    the process.
    """

    def __init__(self, **options: Any) -> None:
        net = NetworkSelector(**options)
        super().__init__(net, _Manager(net, **options))

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> bool:
        """Wait for the connection to a broker; False where there is none in time."""
        try:
            return bool(
                super().await_ready(node_id, min(timeout_ms, _SETUP["socket_connection_setup_timeout_max_ms"]))
            )
        except errors.KafkaConnectionError:
            return False


def quiet_loggers() -> None:
    """Hold the client's loggers at INFO or above.

    Reaches: the names of the client's loggers below "kafka".
    Why: at DEBUG they print requests and the SASL password, and no option of the client leaves these out.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("kafka.") and isinstance(logger, logging.Logger) and 0 < logger.level < logging.INFO:
            logger.setLevel(logging.NOTSET)
    top = logging.getLogger("kafka")
    top.setLevel(max(top.level, logging.INFO))


def is_fenced(error: errors.KafkaError) -> bool:
    """Say whether the text of an error tells that a newer writer or member took over.

    Reaches: the texts of errors.
    Why: the client wraps the error of a transaction in one of a general class.
    """
    return "ProducerFenced" in str(error) or "metadata mismatch" in str(error)


def is_first_contact(error: errors.KafkaError) -> bool:
    """Say whether an error tells that no broker answered at all.

    Reaches: the text of an error.
    Why: the client has one class for every time that is up.
    """
    return isinstance(error, errors.KafkaTimeoutError) and "bootstrap" in str(error)


# ---- Reading ----------------------------------------------------------------------------------------------------

MOST_HEADERS = 1000  # of a record: 64 MiB of empty ones would take gigabytes as Python's objects
_INT64 = 1 << 63
_unpacked_bytes = [unpacking.BATCH_BYTES]  # what a batch may unpack to, in this process


def read_safely(unpacked_bytes: int = unpacking.BATCH_BYTES) -> None:
    """Have the client take every batch that it cannot read for a corrupt one, within `unpacked_bytes` of memory.

    Reaches: the classes that the client's parser makes of a batch, and the fetcher's iterator over records.
    Why: the client's decoders believe what a header claims (an lz4 frame of 2^40 bytes), none has a bound, snappy
    needs a package that is not there, and a library's own error, unlike `CorruptRecordError`, ends the poll at the
    same offset for ever. Whoever may write to a topic could so stop its readers for good.
    """
    _unpacked_bytes[0] = unpacked_bytes
    memory_records.DefaultRecordBatch = _Batch
    memory_records.LegacyRecordBatch = _OldBatch
    legacy_records.gzip_decode = lambda packed: unpacking.unpack(1, packed, _unpacked_bytes[0])
    legacy_records.snappy_decode = lambda packed: unpacking.unpack(2, packed, _unpacked_bytes[0])
    legacy_records.lz4_decode = lambda packed: unpacking.unpack(3, packed, _unpacked_bytes[0])
    legacy_records.lz4_decode_old_kafka = _refuse_old_lz4
    Fetcher.PartitionRecords = _PartitionRecords


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch whose codec is bounded, and whose records lie where the batch says that they do."""

    _buffer: Any
    _pos: int
    _decompressed: bool

    def __init__(self, buffer: Any) -> None:
        super().__init__(buffer)
        self._before = self.base_offset - 1  # offset of the record read last

    def _maybe_uncompress(self) -> None:
        if not self._decompressed and (codec := self.compression_type):
            self._buffer = unpacking.unpack(codec, memoryview(self._buffer)[self._pos :], _unpacked_bytes[0])
            self._pos = 0
        self._decompressed = True

    def _read_msg(self) -> Any:
        buffer = self._buffer
        size, start = decode_varint(buffer, self._pos)
        later, at = decode_varint(buffer, start + 1)  # behind the attributes, a byte that says nothing
        place, at = decode_varint(buffer, at)
        key, at = _sized_bytes(buffer, at)
        value, at = _sized_bytes(buffer, at)
        count, at = decode_varint(buffer, at)
        if not 0 <= count <= MOST_HEADERS:
            raise UnreadableError(f"a record with {count} headers; at most {MOST_HEADERS} are read")
        headers = []
        for _ in range(count):
            name, at = _sized_bytes(buffer, at)
            if name is None:
                raise UnreadableError("a header without a name")
            content, at = _sized_bytes(buffer, at)
            headers.append((name.decode(), content))
        offset, time = self.base_offset + place, self.first_timestamp + later
        kind = self.timestamp_type
        if kind == self.LOG_APPEND_TIME:
            time = self.max_timestamp
        if at - start != size or at > len(buffer):
            raise UnreadableError(f"a record of {size} bytes takes {at - start}")
        if not self._before < offset <= self.last_offset or not -_INT64 <= time < _INT64:
            raise UnreadableError(f"a record at offset {offset}, time {time}, behind offset {self._before}")
        self._before, self._pos = offset, at
        record = ControlRecord if self.is_control_batch else DefaultRecord
        return record(size, offset, time, kind, key, value, headers)


def _sized_bytes(buffer: Any, at: int) -> tuple[bytes | None, int]:
    size, at = decode_varint(buffer, at)
    if size < 0:
        return None, at
    return bytes(buffer[at : at + size]), at + size


class _OldBatch(LegacyRecordBatch):  # type: ignore[misc]
    """A batch of Kafka before 0.11, whose records go forward and hold no more together than the batch."""

    def __init__(self, buffer: Any, magic: int) -> None:
        super().__init__(buffer, magic)
        self._given = 0

    def _assert_has_codec(self, compression_type: int) -> None:
        """Of another codec than the three there is no decoder, which is an error that means a corrupt batch, too."""

    def _read_all_headers(self) -> list[Any]:
        at, least = self.LOG_OVERHEAD - 4, self.RECORD_OVERHEAD_V0  # of the size; and what it is at least
        start, found = 0, []
        while start < len(self._buffer):
            size = int.from_bytes(self._buffer[start + at : start + at + 4], "big", signed=True)
            if size < least:
                raise UnreadableError(f"a record of {size} bytes")
            found.append((self._read_header(start), start))
            start += self.LOG_OVERHEAD + size
        return found

    def _read_key_value(self, pos: int) -> tuple[bytes | None, bytes | None]:
        key, value = super()._read_key_value(pos)
        self._given += len(key or b"") + len(value or b"")
        if self._given > len(self._buffer):
            raise UnreadableError("records that lie in one another")
        return key, value


def _refuse_old_lz4(packed: bytes) -> bytes:
    raise UnreadableError("lz4 as Kafka before 0.10 wrote it; write it to a topic anew")


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Records of one fetch; `batch` is the one that is being read."""

    batch: Any = None

    def _unpack_records(self, place: TopicPartition, records: Any, *deserializers: Any) -> Iterator[Any]:
        try:
            yield from super()._unpack_records(place, _Noting(records, self), *deserializers)
        except (errors.CorruptRecordError, MemoryError):
            raise
        except Exception as error:
            raise errors.CorruptRecordError(one_line(error)) from error


class _Noting:
    """Batches as they come, each noted."""

    def __init__(self, batches: Any, reader: _PartitionRecords) -> None:
        self._batches, self._reader = batches, reader

    def next_batch(self) -> Any:
        self._reader.batch = None
        self._reader.batch = self._batches.next_batch()
        return self._reader.batch


def unreadable(consumer: KafkaConsumer) -> tuple[TopicPartition, range]:
    """Say of which partition, and at which offsets, the records lie that the poll has just failed on.

    Reaches: the fetcher's parser, which has just ended there, and the batch that it was in.
    Why: the error of a broken structure names neither the partition nor the offset, and what lies behind a record
    that cannot be read in its batch cannot be read either.

    The range is empty where all records of the batch were read and it is what follows them that is wrong.
    """
    part = consumer._fetcher._next_partition_records
    part.drain()  # where the position stays, the client would ask what has ended for more, for ever
    at, batch = int(consumer.position(part.topic_partition)), part.batch
    if batch is None:  # its head cannot be read
        return part.topic_partition, range(at, at + 1)
    if batch.magic != 2:  # one of before 0.11 bears the offset of its last record
        return part.topic_partition, range(at, int(batch.base_offset) + 1)
    first = max(at, int(batch.base_offset))  # beyond the position where aborted records lie between
    return part.topic_partition, range(first, int(batch.last_offset) + 1)


def drop_parked(consumer: KafkaConsumer, place: TopicPartition) -> None:
    """Drop the records that the client put aside when the partition was paused; call it behind `seek`.

    Reaches: the fetcher's records of paused partitions.
    Why: the client takes them up again only if the partition that it read last gave nothing, and asks for no more of
    the partition until then, which may be for ever.
    """
    consumer._fetcher._paused_partition_records.pop(place, None)


# ---- The group --------------------------------------------------------------------------------------------------


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Kafka's cooperative-sticky assignor (KIP-429), which forgets the partitions that the member has lost.

    Reaches: the assignor's record of the member's partitions.
    Why: the client would go on claiming them: the leader would leave a partition that moves from us to another
    member to neither, and wait for us to hand back what we do not have.
    """

    def forget(self) -> None:
        self.member_assignment = None


def end_the_join(consumer: KafkaConsumer) -> None:
    """Tell a member whose join is under way that it has a join to end.

    Reaches: the coordinator's flag.
    Why: a leader whose topic got more partitions joins again. The client forgets why as soon as it has dealt them
    out: if its poll ends before the broker has answered that, the next one sees nothing to do, and the member
    neither has the partitions nor sends a heartbeat any more (in Java, KAFKA-9815).
    """
    consumer._coordinator.request_rejoin()


def keep_refreshing(consumer: KafkaConsumer) -> None:
    """Have the client ask about its topics again where it has stopped.

    Reaches: the task that refreshes the cluster's metadata.
    Why: it is a coroutine that some errors end, and the client never starts it again, so that a member would not
    notice that its topic got more partitions.
    """
    cluster = consumer._cluster
    if cluster._refresh_loop_future is not None and cluster._refresh_loop_future.is_done:
        cluster._refresh_loop_future = None
        cluster.request_update()


# ---- Writing ----------------------------------------------------------------------------------------------------

_VARINTS = 1 << 15  # sizes and places in a batch that are kept encoded


def send_batches(
    producer: KafkaProducer, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]]
) -> list[Any]:
    """Hand (key, value) records to the producer, in order, whole batches at a time.

    Reaches: the producer's open batch, its buffer and its counters.
    Why: `KafkaProducer.send` takes about 25 us a record: checks, three locks, a future and its callbacks, a number at
    a time. Here only the first record of a batch goes that way, which makes the batch and its future; those behind it
    are put into the batch's buffer in one pass, 1 us each. The batch then travels as any other: sequence numbers,
    transaction, compression, checksum and retries are the client's.

    Returns the client's futures, one per batch or more: call `flush`, then look at each. If one record failed,
    one of them has. All records of a batch bear the time of its first.
    """
    futures, done = [], 0
    while done < len(records):
        key, value = records[done]
        futures.append(producer.send(topic, value, key, None, partition))
        done += 1 + _fill(producer, TopicPartition(topic, partition), futures[-1], records, done + 1)
    return futures


def _fill(
    producer: KafkaProducer,
    place: TopicPartition,
    first: Any,
    records: Sequence[tuple[bytes | None, bytes]],
    start: int,
) -> int:
    """Put records[start:] behind `first` while its batch is open and has room; return how many."""
    accumulator = producer._accumulator
    with accumulator._tp_lock(place):  # the sender takes a batch, and closes it, under this lock
        waiting = accumulator._batches[place]
        if not waiting or waiting[-1]._record_futures[-1] is not first:
            return 0  # on its way already
        batch = waiting[-1]
        builder = batch.records._builder
        room = builder._batch_size - len(builder._buffer)
        written: list[bytes] = []
        for at, (key, value) in enumerate(records[start:], builder._num_records):
            # attributes, time behind the batch's first record, place in the batch, key, value, no headers
            body = b"".join((b"\0\0", _varint(at), _sized(key), _varint(len(value)), value, b"\0"))
            record = _varint(len(body)) + body
            room -= len(record)
            if room < 0:
                break
            written.append(record)
        builder._buffer += b"".join(written)
        builder._num_records += len(written)
        builder._last_offset += len(written)
        batch.records._next_offset += len(written)
        # Should the broker find the batch too large, the client splits it and binds the future of each record to
        # its part. One future bound to every part fails when any part does.
        batch._record_futures += [first] * len(written)
    return len(written)


def _sized(key: bytes | None) -> bytes:
    return _varint(-1) if key is None else _varint(len(key)) + key


@lru_cache(_VARINTS)
def _varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)
