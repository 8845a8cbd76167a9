"""Decoders that stop at a bound: a megabyte on the wire may hold gigabytes.

`internals.bound_unpacking` has the client use them.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import lz4.frame
import zstandard
from kafka.errors import CorruptRecordError

BATCH_BYTES = 64 << 20
_LZ4_RATIO = 255  # no more than that fits into a byte of lz4
_CHUNK = 1 << 20


def unpack_gzip(packed: Any) -> bytes:
    return _checked(zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(packed, BATCH_BYTES + 1))


def unpack_lz4(packed: bytes) -> bytes:
    if len(packed) * _LZ4_RATIO <= BATCH_BYTES:
        return lz4.frame.decompress(packed)
    return _checked(lz4.frame.LZ4FrameDecompressor().decompress(packed, BATCH_BYTES + 1))


def unpack_zstd(packed: bytes) -> bytes:
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
