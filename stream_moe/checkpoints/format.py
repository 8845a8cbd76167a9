"""The bytes of a checkpoint: how they prove themselves whole, what is checked before memory is taken, old versions.

Layout, of every version: 4 bytes ``SMOE``, the version as 4 bytes big-endian, 32 bytes sha256, then a safetensors
file. From version 2 on the sha256 covers magic and version too, so that a flipped bit in the version is damage and
not "a newer program's file"; a later version may change anything but this frame.

| version | what it is |
| --- | --- |
| 1 | sha256 of the safetensors file alone; everything but the arrays in its header |
| 2 | names its source and parameters; array ``state.json`` has all but the arrays, as a header ends at 100 MB |
| 3 | counts what became of each label, and remembers the ids of events that gave up waiting for theirs |
| 4 | adaptive trees with an archive and their recent events |
| 5 | the drift detectors beside the learner |
| 6 | an event that waits for its label has a ticket |
| 7 | adaptive trees that count the values of numeric columns |
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
from safetensors.numpy import save

from stream_moe.checkpoints.migrations import MIGRATIONS, State
from stream_moe.errors import CheckpointError
from stream_moe.snapshot import Arrays

MAGIC, VERSION = b"SMOE", 8
MAX_HEADER = 100_000_000  # bytes; safetensors reads no longer one
MAX_AXES, MAX_AXIS = 8, 2**40  # of an array; ours have 4, and one axis is never longer than memory has bytes
_FRAME = len(MAGIC) + 4 + 32
_STATE = "state.json"
_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class NewerVersionError(CheckpointError):
    """A whole checkpoint that a newer program wrote."""


def encode(state: dict[str, Any], arrays: Arrays) -> bytes:
    """Write JSON values and named arrays as a checkpoint of the current version."""
    plain = np.frombuffer(json.dumps(state).encode(), np.uint8)
    body = save({name: array.copy("C") for name, array in arrays.items()} | {_STATE: plain})
    head = MAGIC + VERSION.to_bytes(4, "big")
    return head + digest(VERSION, head, body) + body


def decode(content: bytes, name: str) -> tuple[int, State]:
    """Read a checkpoint of any version; give its version, and its state as the current version has it.

    CheckpointError says why it is bad. Memory is taken only for what the file really holds.
    """
    if not content:
        raise CheckpointError(f"{name}: empty")
    if content[: len(MAGIC)] != MAGIC[: len(content)]:
        raise CheckpointError(f"{name}: not a checkpoint: it begins with {content[:8]!r}; name a .ckpt file")
    if len(content) < _FRAME:
        raise CheckpointError(f"{name}: cut off: {len(content)} bytes, the frame alone has {_FRAME}")
    version = int.from_bytes(content[len(MAGIC) : 8], "big")
    body = memoryview(content)[_FRAME:]
    if digest(version, content[:8], body) != content[8:_FRAME]:
        raise CheckpointError(f"{name}: damaged or cut off: {len(content)} bytes whose sha256 does not fit")
    if version > VERSION:
        raise NewerVersionError(
            f"{name}: format version {version}, and this program reads up to {VERSION}; run the program that wrote "
            "it, or go back to a backup of --state-dir made before the upgrade"
        )
    if version < 1:
        raise CheckpointError(f"{name}: format version {version} never was")
    try:
        meta, arrays = _tensors(body)
        state = json.loads(meta["stream_moe"] if version == 1 else arrays.pop(_STATE).tobytes())
        for step in range(version, VERSION):
            state, arrays = MIGRATIONS[step](state, arrays)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{name}: whole, but not readable as a checkpoint: {_line(error)}") from None
    return version, (state, arrays)


def digest(version: int, head: bytes, body: bytes | memoryview) -> bytes:
    sha = hashlib.sha256(b"" if version == 1 else head)
    sha.update(body)
    return sha.digest()


def _tensors(body: memoryview) -> tuple[dict[str, str], Arrays]:
    """Read a safetensors file; ValueError when it claims what it does not hold."""
    size = int.from_bytes(body[:8], "little")
    if size > min(len(body) - 8, MAX_HEADER):
        raise ValueError(f"a header of {size:,} bytes in {len(body):,}; the longest that is read has {MAX_HEADER:,}")
    header = json.loads(bytes(body[8 : 8 + size]))
    if type(header) is not dict:
        raise ValueError("the header is no JSON object")
    meta, data = header.pop("__metadata__", {}), body[8 + size :]
    places = sorted((_place(name, entry), name) for name, entry in header.items())
    arrays, reached = {}, 0
    for (begin, end), name in places:
        if begin != reached:  # two names for the same bytes could claim many times what the file holds
            raise ValueError(
                f"array {ascii(name)[:60]} begins at byte {begin:,}, the one before it ended at {reached:,}"
            )
        if end > len(data):
            raise ValueError(f"array {ascii(name)[:60]} ends at byte {end:,} of {len(data):,}")
        reached = end
        dtype, shape = _DTYPES[header[name]["dtype"]], header[name]["shape"]
        if dtype is np.bool_ and np.frombuffer(data[begin:end], np.uint8).max(initial=0) > 1:
            raise ValueError(f"array {ascii(name)[:60]} has truth values other than 0 and 1")
        arrays[name] = np.frombuffer(data[begin:end], dtype).reshape(shape).copy()
    if reached != len(data):
        raise ValueError(f"{len(data) - reached:,} bytes belong to no array")
    return meta, arrays


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Say where an array's bytes lie; ValueError unless they are as many as its type and shape take."""
    if type(entry) is not dict or entry.get("dtype") not in _DTYPES:
        raise ValueError(f"array {ascii(name)[:60]} is {ascii(entry)[:60]}; its type is none of {', '.join(_DTYPES)}")
    shape, place = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if shape is None or len(shape) > MAX_AXES or max(shape, default=0) > MAX_AXIS:
        raise ValueError(f"array {ascii(name)[:60]} has the shape {ascii(entry.get('shape'))[:60]}")
    if place is None or len(place) != 2 or place[0] > place[1]:
        raise ValueError(f"array {ascii(name)[:60]} lies at {ascii(entry.get('data_offsets'))[:60]}")
    takes, held = math.prod(shape) * np.dtype(_DTYPES[entry["dtype"]]).itemsize, place[1] - place[0]
    if takes != held:
        raise ValueError(f"array {ascii(name)[:60]} of shape {shape} takes {takes:,} bytes, and holds {held:,}")
    return place[0], place[1]


def _counts(value: Any) -> list[int] | None:
    return value if type(value) is list and all(type(n) is int and 0 <= n < 2**63 for n in value) else None


def _line(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {str(error)[:120]}"
