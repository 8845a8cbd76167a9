"""Records whose features are sparse: any names, and only those that are not zero."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.fields import int_or_float, kind_of, reject, shown
from stream_moe.sparse_rows import SparseRows
from stream_moe.types import Block

_OWN = ("id", "x", "y")
_Value = float | int | str | bool | None


class _Event(msgspec.Struct, gc=False):
    x: dict[str, _Value] | None = None
    y: str | int | None = None
    id: str | int | None = None


class SparseCodec(JsonCodec):
    """As `JsonCodec`, under a sparse schema: ``x`` is an object, or its members stand beside ``id`` and ``y``.

    A number is the value of its name, true is 1, and a text makes a name of its own (`stream_moe.sparse_rows`). What
    is missing or zero may be left out; an empty ``x`` is an event without an entry.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe.types import RecordBatch, Schema
    >>> codec = SparseCodec(Schema((), ("ham", "spam"), sparse=True))
    >>> values = [b'{"x": {"pills": 2, "from": "bob"}, "y": "spam"}', b'{"pills": 1}', b'{"x": [1, 2]}']
    >>> block, dead = codec.decode(RecordBatch(np.arange(3), np.zeros(3, np.int64), [None] * 3, values, 3))
    >>> block.x.lengths.tolist(), block.y.tolist(), [letter.reason for letter in dead]
    ([2, 1], [1, -1], ['bad-feature'])
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more | {"inputs": None})  # no name is unknown
        self._nothing = ({},)
        self._decode = msgspec.json.Decoder(_Event).decode

    def _read_compiled(self, value: bytes) -> Any:
        return self._decode(value)

    def _beside(self, value: bytes | None) -> tuple[Any, ...] | None:
        try:
            plain = json.loads(value or b"{}", parse_int=int_or_float)
        except RecursionError:
            reject("too-deep", "The JSON is nested too deeply.")
        found = {name: each for name, each in plain.items() if name not in _OWN}
        return (self._careful_row(found),) if found else None

    def _in_order(self, by_name: Any) -> tuple[Any, ...]:
        return (by_name,)

    def _check_known(self, x: dict[str, Any]) -> None:
        """Let it pass: there is no list of names."""

    def _careful_row(self, x: Any) -> Any:
        if x is None:
            return None
        if not isinstance(x, dict):
            reject("bad-feature", f"x is a {kind_of(x)}; give an object by name, as the rows are sparse.")
        for name, value in x.items():
            if not isinstance(value, _Value):
                reject("bad-feature", f"Feature {shown(name)} is a {kind_of(value)}; give a number or a text.")
        return x

    def _columns(self, rows: list[tuple[Any, ...]]) -> Any:
        return SparseRows.of(row[0] for row in rows)

    def encode_events(self, block: Block, first_id: int = 0) -> Any:
        """Refuse: rows know the buckets of their names, and not the names."""
        raise NotImplementedError("sparse rows cannot be written as records: their names are not kept")
