"""State as named arrays and plain JSON values: what every learner, expert and detector is kept as.

Never an object to unpickle. A whole is packed from its parts: their arrays get the part's name as a prefix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import ANY, Range, expect

Arrays = dict[str, np.ndarray[Any, Any]]
Snapshot = tuple[Arrays, dict[str, Any]]


def pack(parts: dict[str, Snapshot]) -> Snapshot:
    """Join named snapshots into one: arrays get the part's name as a prefix."""
    arrays: Arrays = {f"{part}/{name}": a for part, (found, _) in parts.items() for name, a in found.items()}
    return arrays, {part: plain for part, (_, plain) in parts.items()}


def unpack(snapshot: Snapshot) -> dict[str, Snapshot]:
    """Undo `pack`."""
    arrays, plain = snapshot
    parts: dict[str, tuple[Arrays, Any]] = {name: ({}, value) for name, value in plain.items()}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        parts[part][0][rest] = array
    return parts


def fill(mine: Arrays, found: Arrays, part: str, ranges: Mapping[str, Range]) -> None:
    """Copy the arrays `found` in a checkpoint into ours, all or none of them.

    Parameters
    ----------
    mine
        Whose names, shapes and types those found must have.
    part
        For messages.
    ranges
        What each may hold; what is not named may hold anything.

    Raises
    ------
    CheckpointError
        If an array is absent, does not fit, or holds what it may not.
    """
    checked = [
        (array, expect(part, found, name, array.dtype, array.shape, ranges.get(name, ANY)))
        for name, array in mine.items()
    ]
    for array, other in checked:
        if other is not array:
            array[...] = other


def digest_of(snapshot: Snapshot) -> str:
    """Hex sha256 over the names, shapes and bytes of a snapshot."""
    arrays, plain = snapshot
    sha = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        sha.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        sha.update(np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


def keys_to_arrays(keys: Sequence[bytes]) -> Arrays:
    """Write keys as arrays: their bytes in one, their lengths in the other.

    Examples
    --------
    >>> keys_from_arrays(keys_to_arrays([b"till-7", b"", b"till-9"]))
    [b'till-7', b'', b'till-9']
    """
    return {
        "keys": np.frombuffer(b"".join(keys), np.uint8).copy(),
        "key_lengths": np.fromiter(map(len, keys), np.int64, len(keys)),
    }


def keys_from_arrays(arrays: Arrays) -> list[bytes]:
    """Undo `keys_to_arrays`; CheckpointError where the two do not fit."""
    content = expect("keys", arrays, "keys", np.uint8, (None,), ANY).tobytes()
    lengths = expect("keys", arrays, "key_lengths", np.int64, (None,), Range(0, len(content)))
    ends = np.cumsum(lengths)
    if (ends[-1] if len(ends) else 0) != len(content):
        raise CheckpointError(f"keys: lengths that do not add up to the {len(content)} bytes there are")
    places = ends.tolist()
    return [content[begin:end] for begin, end in zip([0, *places[:-1]], places, strict=False)]
