"""What a batch of the log unpacks to is bounded: a megabyte on the wire may hold gigabytes."""

from __future__ import annotations

import io
import zlib
from typing import Any

import lz4.frame
import zstandard
from kafka.errors import CorruptRecordError
from kafka.record import default_records

BATCH_BYTES = 64 << 20
_LZ4_RATIO = 255  # no more than that fits into a byte of lz4
_CHUNK = 1 << 20


def bound_unpacking() -> None:
    """Have the client take a batch that unpacks to more than `BATCH_BYTES` for a corrupt one.

    This reaches into the client (3.0), whose own functions have no bound.
    """
    default_records.gzip_decode, default_records.lz4_decode, default_records.zstd_decode = _gzip, _lz4, _zstd


def _gzip(packed: Any) -> bytes:
    return _checked(zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(packed, BATCH_BYTES + 1))


def _lz4(packed: bytes) -> bytes:
    if len(packed) * _LZ4_RATIO <= BATCH_BYTES:
        return lz4.frame.decompress(packed)
    return _checked(lz4.frame.LZ4FrameDecompressor().decompress(packed, BATCH_BYTES + 1))


def _zstd(packed: bytes) -> bytes:
    chunks, size = [], 0
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True) as reader:
        while size <= BATCH_BYTES and (chunk := reader.read(_CHUNK)):
            chunks.append(chunk)
            size += len(chunk)
    if size > BATCH_BYTES:
        chunks.clear()
        _refuse()
    return b"".join(chunks)


def _checked(unpacked: bytes) -> bytes:
    if len(unpacked) > BATCH_BYTES:
        _refuse()
    return unpacked


def _refuse() -> None:
    raise CorruptRecordError(f"a batch unpacks to more than {BATCH_BYTES >> 20} MiB")
