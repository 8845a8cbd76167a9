"""Whatever a batch holds, the client reads it within bounds or passes it, and never ends there for ever."""

from __future__ import annotations

import contextlib
import gzip
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
import lz4.frame
import pytest
import zstandard
from crc32c import crc32c
from kafka import KafkaConsumer, TopicPartition
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import encode_varint

from connectors.kafka.reader import KafkaReader
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.unpacking import UnreadableError, unpack
from stream_moe.types import RecordBatch

PLACE = TopicPartition("events", 0)


def xerial(text: bytes) -> bytes:
    """Snappy as Java frames it."""
    blocks = [bytes(cramjam.snappy.compress_raw(text[at : at + 30_000])) for at in range(0, len(text), 30_000)]
    return b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01" + b"".join(len(one).to_bytes(4, "big") + one for one in blocks)


PACKERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, gzip.compress),
    "snappy": (2, lambda text: bytes(cramjam.snappy.compress_raw(text))),
    "snappy of Java": (2, xerial),
    "lz4": (3, lz4.frame.compress),
    "zstd": (4, zstandard.ZstdCompressor().compress),
}
# The header of the frame says that it holds 2^40 bytes.
LZ4_CLAIM = bytes.fromhex("04224d1868400000000000010000b704000080666f757200000000")


@pytest.mark.parametrize("kind", PACKERS)
def test_what_fits_comes_back_and_a_bomb_does_not(kind: str) -> None:
    codec, pack = PACKERS[kind]
    for text in (b"", b"x" * 100_000, bytes(range(256)) * 40_000):
        assert unpack(codec, memoryview(pack(text))) == text
    assert len(unpack(codec, pack(bytes(10_000_000)), 10_000_000)) == 10_000_000
    bomb = pack(bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(UnreadableError, match=r"more than [\d,]+ bytes"):
        unpack(codec, bomb, 10_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000


@pytest.mark.parametrize("kind", PACKERS)
def test_bytes_that_are_not_of_the_codec_are_one_error(kind: str) -> None:
    codec, pack = PACKERS[kind]
    whole, draw = pack(b"some records" * 1000), random.Random(1)
    for cut in (0, 1, 7, len(whole) // 2, len(whole) - 1):
        refused_or_read(codec, whole[:cut])
    for _ in range(500):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] = draw.randrange(256)
        refused_or_read(codec, bytes(changed))
        refused_or_read(codec, draw.randbytes(40))


def refused_or_read(codec: int, content: bytes) -> None:
    with contextlib.suppress(UnreadableError):
        assert len(unpack(codec, content, 1_000_000)) <= 1_000_000


@pytest.mark.parametrize(
    ("codec", "content"),
    [(3, LZ4_CLAIM), (2, b"\xff\xff\xff\xff\x0f\0"), (2, xerial(b"")[:16] + b"\x7f\xff\xff\xff"), (7, b"")],
)
def test_a_claim_is_not_believed(codec: int, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        unpack(codec, content)


def test_two_frames_are_one_batch() -> None:
    for codec in (1, 4):
        pack = {1: gzip.compress, 4: zstandard.ZstdCompressor().compress}[codec]
        assert unpack(codec, pack(b"a") + pack(b"b")) == b"ab"


# ---- As a broker hands them out ---------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def record(
    place: int, value: bytes = b"{}", *, time: int = 0, headers: bytes = b"\0", size: int | None = None
) -> bytes:
    body = b"\0" + varint(time) + varint(place) + varint(-1) + varint(len(value)) + value + headers
    return varint(len(body) if size is None else size) + body


def batch(offset: int, body: bytes, codec: int = 0, *, last: int = 0, count: int = 1, time: int = 0) -> bytes:
    """A batch of the log as it stands on the wire, with the right checksum whatever is in it."""
    checked = struct.pack(">hiqqqhii", codec, last, time, time, -1, -1, -1, count) + body
    return struct.pack(">qiibI", offset, len(checked) + 9, 0, 2, crc32c(checked)) + checked


def old(offset: int, body: bytes, codec: int) -> bytes:
    """The same of Kafka before 0.11."""
    checked = struct.pack(">bbqii", 1, codec, 0, -1, len(body)) + body
    return struct.pack(">qiI", offset, len(checked) + 4, zlib.crc32(checked)) + checked


def inner(value: bytes, says: int) -> bytes:
    """A record of such a batch that says its value had so many bytes."""
    body = struct.pack(">bbqii", 1, 0, 0, -1, says) + value
    return struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body


GZIP = gzip.compress
INNER = inner(b"four", 4)
POISON: dict[str, bytes] = {
    "an lz4 frame that claims 2^40 bytes": batch(1, LZ4_CLAIM, 3),
    "snappy that claims 4 GiB": batch(1, b"\xff\xff\xff\xff\x0f\0", 2),
    "snappy that is none": batch(1, b"\x05abc", 2),
    "a codec that does not exist": batch(1, b"", 6),
    "gzip of nothing": batch(1, b"", 1),
    "zstd that is none": batch(1, b"zstd", 4),
    "a bomb": batch(1, zstandard.compress(bytes(200_000_000)), 4),
    "no records": batch(1, b"", count=1),
    "fewer records than it says": batch(1, record(0), count=2),
    "a billion records": batch(1, GZIP(record(0)), 1, count=1 << 30),
    "fewer than none": batch(1, record(0), count=-1),
    "a value longer than the batch": batch(1, b"\x10\0\0\0\1" + varint(1 << 40) + b"\0"),
    "a size that is not its size": batch(1, record(0, size=99)),
    "a negative size": batch(1, record(0, size=-5)),
    "a varint without end": batch(1, b"\xff" * 40),
    "an offset far behind": batch(1, record(1 << 40)),
    "an offset before": batch(1, record(-1)),
    "a time beyond int64": batch(1, record(0, time=1 << 62), time=(1 << 63) - 1),
    "a header name that is not UTF-8": batch(1, record(0, headers=varint(1) + varint(1) + b"\xff\0")),
    "a header without a name": batch(1, record(0, headers=varint(1) + varint(-1) + b"\0")),
    "fewer headers than none": batch(1, record(0, headers=varint(-1))),
    "thirty million headers": batch(1, GZIP(record(0, headers=varint(30_000_000) + bytes(60_000_000))), 1),
    "a head cut short": struct.pack(">qiibIh", 1, 20, 0, 2, 0, 0) + bytes(9),
    "a control batch without its key": batch(1, record(0), 0x20 | 0x10),
    "old: in one another": old(1, GZIP(inner(b"long", 1 << 30) * 900_000), 1),
    "old: a size that goes back": old(1, GZIP(struct.pack(">qi", 0, -12) + bytes(40)), 1),
    "old: an lz4 frame that claims 2^40 bytes": old(1, LZ4_CLAIM, 3),
    "old: snappy": old(1, b"\xff\xff\xff\xff\x0f\0", 2),
    "old: a codec that does not exist": old(1, b"", 5),
    "old: packed twice": old(1, GZIP(old(0, GZIP(INNER), 1)), 1),
}  # fmt: skip


class Log(KafkaReader):
    """A reader whose client is answered with bytes of ours instead of a broker's."""

    def __init__(self, content: bytes) -> None:
        super().__init__(KafkaSettings("127.0.0.1:1", PLACE.topic), PLACE.topic)
        self._consumer = self._connect(group_id=None, api_version=(3, 9))
        self._content, self.polls = content, 0

    def _ask_for_topics(self, consumer: KafkaConsumer) -> None:
        pass

    def _poll_client(self, consumer: KafkaConsumer, max_records: int, seconds: float) -> Any:
        fetcher, at = consumer._fetcher, int(consumer.position(PLACE))
        part = fetcher._next_partition_records
        self.polls += 1
        if not part or part.next_fetch_offset != at:  # a broker begins with the batch that holds the offset
            content = self._content
            while content and int.from_bytes(content[:8], "big") + last_of(content) < at:
                content = content[12 + int.from_bytes(content[8:12], "big") :]
            records = MemoryRecords(bytes(content))
            fetcher._next_partition_records = type(fetcher).PartitionRecords(at, PLACE, records)
        found, _ = fetcher.fetched_records(max_records)
        return found


def last_of(content: bytes) -> int:
    return int.from_bytes(content[23:27], "big", signed=True) if content[16] == 2 else 0


@pytest.fixture
def read() -> Iterator[Callable[[bytes, int], list[RecordBatch]]]:
    opened = []

    def read(content: bytes, until: int, max_records: int = 4096) -> list[RecordBatch]:
        log = Log(content)
        opened.append(log)
        log.seek(0, 0)
        found: list[RecordBatch] = []
        while not found or found[-1].next_offset < until:
            found += log._read(log._opened(), max_records, 0.0)
            assert log.polls < 20, "it stands still"
        return found

    yield read
    for log in opened:
        log._opened().close(autocommit=False, timeout_ms=0)


@pytest.mark.parametrize("kind", POISON)
def test_a_poisoned_batch_is_noted_and_what_is_around_it_is_read(kind: str, read: Any) -> None:
    content = batch(0, record(0, b"before")) + POISON[kind] + batch(2, record(0, b"after!"))
    tracemalloc.start()
    found = read(content, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400_000_000
    values = [value[:6] for each in found for value in each.values]
    assert values in ([b"before", b"after!"], [b"before", b"{}", b"after!"], [b"before", b"long\0\0", b"after!"])
    noted = [at for each in found for at in each.corrupt]
    lost = len(values) == 2 and kind != "a control batch without its key"  # which is not looked into
    assert noted == ([1] if lost else [])


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_records_are_read(kind: str, read: Any) -> None:
    codec, pack = PACKERS[kind]
    body = b"".join(record(place, b"value %d" % place) for place in range(100))
    (found,) = read(batch(0, pack(body), codec, last=99, count=100), 100)
    assert found.values == [b"value %d" % place for place in range(100)]
    assert found.corrupt == []
    (found,) = read(old(0, pack(INNER), codec), 1) if codec < 4 else (found,)
    assert found.values == [b"four"] or codec == 4


def test_all_records_of_a_batch_that_cannot_be_unpacked_are_noted_at_once(read: Any) -> None:
    content = batch(0, LZ4_CLAIM, 3, last=9_999, count=10_000) + batch(10_000, record(0, b"after"))
    found = read(content, 10_001)
    assert [at for each in found for at in each.corrupt] == list(range(10_000))
    assert [value for each in found for value in each.values] == [b"after"]
    assert max(len(each.corrupt) for each in found) <= 4096


def test_what_follows_the_records_of_a_batch_does_not_cost_the_next_one(read: Any) -> None:
    content = batch(0, record(0, b"0") + b"more") + batch(1, record(0, b"1"))
    found = read(content, 2)
    assert [value for each in found for value in each.values] == [b"0", b"1"]
    assert [at for each in found for at in each.corrupt] == []
