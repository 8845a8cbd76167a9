"""One model as bytes: equal states give equal bytes, and their sha256 is the model's digest."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import msgspec
import numpy as np

from stream_moe.checkpoints.checkpoint import understood
from stream_moe.checkpoints.migrations import forget_waiting, with_votes
from stream_moe.errors import CheckpointError
from stream_moe.snapshot import Snapshot

MAX_RECORD = 1 << 30  # bytes of one model; what claims to unpack to more is not unpacked
SMALL = 1 << 16  # bytes
_encode = msgspec.msgpack.Encoder(order="sorted").encode
_Record = tuple[dict[str, Any], list[tuple[str, str, tuple[int, ...], bytes]]]
_decode = msgspec.msgpack.Decoder(_Record).decode


def to_bytes(snapshot: Snapshot) -> bytes:
    """Write a snapshot, the arrays by name.

    Examples
    --------
    >>> content = to_bytes(({"n": np.arange(3)}, {"seen": 2}))
    >>> arrays, plain = from_bytes(pack(content), digest(content), "doctest")
    >>> arrays["n"].tolist(), plain
    ([0, 1, 2], {'seen': 2})
    """
    arrays, plain = snapshot
    return _encode((plain, [(name, a.dtype.str, a.shape, a.tobytes()) for name, a in sorted(arrays.items())]))


def digest(content: bytes) -> bytes:
    """Return the sha256, 32 bytes."""
    return hashlib.sha256(content).digest()


def pack(content: bytes) -> bytes:
    """Compress a small model, which is mostly zeros; a big one is mostly digits, and would take milliseconds."""
    return zlib.compress(content, 1 if len(content) <= SMALL else 0)


def from_bytes(packed: bytes, expected: bytes, where: str) -> Snapshot:
    """Read a snapshot; CheckpointError unless its digest is the `expected` one."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, MAX_RECORD)
        whole = unpacker.eof and not unpacker.unused_data
    except zlib.error:
        whole = False
    if not whole or digest(content) != expected:
        raise CheckpointError(
            f"{where} is not the one that the checkpoint names: the file was changed or damaged, or this process "
            "sees another state directory than the one that wrote the checkpoint; point --state-dir of all members "
            "at the same place, or restore it from a backup"
        )
    with understood(where):
        plain, listed = _decode(content)
        arrays = {name: np.frombuffer(raw, dtype).reshape(shape).copy() for name, dtype, shape, raw in listed}
        if "waiting/key" in arrays:  # of a program up to format 5
            arrays = forget_waiting(arrays)
        if "waiting/said" in arrays:  # of a program up to format 7
            arrays["waiting/said"] = with_votes(arrays["waiting/said"], len(arrays["gates/last"]))
    return arrays, plain
