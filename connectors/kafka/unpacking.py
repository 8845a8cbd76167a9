"""Decoders that stop at a bound: a kilobyte on the wire may hold gigabytes, or claim to.

`internals.read_safely` has the client use them. Nothing here believes a size that a header claims: what is unpacked
is counted as it comes. All of them raise `UnreadableError`, whatever the library under them raises.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import Any

import cramjam
import lz4.frame
import zstandard

BATCH_BYTES = 64 << 20  # unless said otherwise; brokers take no batch beyond 1 MiB unless told to
_CHUNK = 1 << 20
_XERIAL = b"\x82SNAPPY\0"  # how Java frames snappy: this, two numbers, then blocks of a length and raw snappy
_XERIAL_HEADER = 16


class UnreadableError(ValueError):
    """Bytes that cannot be unpacked, or to more than the bound."""


def unpack(codec: int, packed: Any, limit: int = BATCH_BYTES) -> bytes:
    """Return what a batch of the log holds.

    Parameters
    ----------
    codec
        As Kafka numbers them: 1 gzip, 2 snappy (raw, or framed as Java does), 3 lz4, 4 zstd.
    packed
        Bytes, or what has their buffer.
    limit
        At most so many bytes.

    Raises
    ------
    UnreadableError
        For a codec that does not exist, bytes that are not of it, and more than `limit`.

    Examples
    --------
    >>> unpack(1, gzip.compress(b"two records"))
    b'two records'
    >>> unpack(1, gzip.compress(bytes(1000)), limit=100)
    Traceback (most recent call last):
    connectors.kafka.unpacking.UnreadableError: it unpacks to more than 100 bytes
    """
    if codec not in _UNPACK:
        raise UnreadableError(f"codec {codec} does not exist; Kafka's are 1 to 4")
    name, function = _UNPACK[codec]
    try:
        return function(bytes(packed), limit)
    except UnreadableError:
        raise
    except MemoryError:
        raise  # of this machine: no claim was believed, and the batch is as good as it was
    except Exception as error:
        raise UnreadableError(f"not {name}: {error}") from error


def _unpack_gzip(packed: bytes, limit: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as reader:
        return _read_all(reader, limit)


def _unpack_zstd(packed: bytes, limit: int) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True) as reader:
        return _read_all(reader, limit)


def _unpack_lz4(packed: bytes, limit: int) -> bytes:
    reader = lz4.frame.LZ4FrameDecompressor()  # lz4.frame.decompress would allocate what the header claims
    unpacked: bytes = reader.decompress(packed, limit + 1)
    if len(unpacked) > limit:
        raise _beyond(limit)
    if not reader.eof:
        raise UnreadableError("lz4 that ends in the middle")
    return unpacked


def _unpack_snappy(packed: bytes, limit: int) -> bytes:
    if not packed.startswith(_XERIAL):
        return _raw_snappy(packed, limit)
    blocks, left, at = [], limit, _XERIAL_HEADER
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        at += 4 + size
        if at > len(packed):
            raise UnreadableError("snappy that ends in the middle")
        blocks.append(_raw_snappy(packed[at - size : at], left))
        left -= len(blocks[-1])
    return b"".join(blocks)


def _raw_snappy(packed: bytes, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > limit:
        raise _beyond(limit)
    return bytes(cramjam.snappy.decompress_raw(packed))


def _read_all(reader: Any, limit: int) -> bytes:
    chunks, size = [], 0
    while chunk := reader.read(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            chunks.clear()
            raise _beyond(limit)
    return b"".join(chunks)


def _beyond(limit: int) -> UnreadableError:
    return UnreadableError(f"it unpacks to more than {limit:,} bytes")


_UNPACK: dict[int, tuple[str, Callable[[bytes, int], bytes]]] = {
    1: ("gzip", _unpack_gzip), 2: ("snappy", _unpack_snappy), 3: ("lz4", _unpack_lz4), 4: ("zstd", _unpack_zstd),
}  # fmt: skip
