"""Events as msgspec reads them: by decoders compiled for the names of a schema, and for the unknown ones that came.

A decoder that knows an unknown name reads it as fast as it skips it, so a producer that always sends more than the
schema has costs nothing. The first record with a new name is read twice, as is each with a name beyond those kept.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from stream_moe.engine.inputs import LONGEST_NAME, InputCounts
from stream_moe.types import Schema

_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # what a field of msgspec may not have in its name
_OWN = ("id", "x", "y")  # members of an event beside which its features may stand
_Number = float | bool | None
_Category = str | int | None
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Members:
    """Decoders of events for a schema.

    Parameters
    ----------
    schema
        Of the events.
    inputs
        Counts the names that are no feature; changed. None = they are ignored.

    Attributes
    ----------
    event
        Struct of an event: `x` a tuple in schema order, a struct by name or None, `y` and `id`.

    Examples
    --------
    >>> counts = InputCounts(Schema.numeric(2, ["no", "yes"]))
    >>> members = Members(Schema.numeric(2, ["no", "yes"]), counts)
    >>> members.values(members.read(b'{"x": {"x1": 3, "y1": 4}, "y": "no"}').x), counts.names
    ((None, 3.0), {'y1': 1})
    """

    def __init__(self, schema: Schema, inputs: InputCounts | None) -> None:
        self._d, self._inputs = schema.n_features, inputs
        self._features, self._kinds = schema.feature_index, [
            _Category if feature.is_nominal else _Number for feature in schema.features
        ]  # fmt: skip
        # Where msgspec does not take a name, each value is looked at by hand.
        self._plain = any(map(_ESCAPED.search, self._features))
        self.event, self._lenient, self._lenient_flat = self._compiled((), strict=False)
        self._extra: tuple[str, ...] = ()  # the unknown names that the strict decoders know
        self._strict, self._strict_flat = self._lenient, self._lenient_flat
        self._counts = inputs is not None and not self._plain
        if self._counts:
            _, self._strict, self._strict_flat = self._compiled((), strict=True)
        self._names: Any = msgspec.json.Decoder(msgspec.defstruct("Names", [("x", dict[str, msgspec.Raw])])).decode
        self._names_flat = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._seen: list[tuple[Any, ...]] = []  # members of each record, in order of `_extra`

    def _compiled(self, extra: Iterable[str], *, strict: bool) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
        """Make the struct of an event, its decoder, and that of features beside id and y."""
        # A tuple type has a fixed length and a type per place, so msgspec itself checks both.
        by_name: Any = self._by_name([*extra], strict)
        own = [name for name in _OWN if name not in self._features] if strict else []
        flat: Any = self._by_name([*extra, *own], strict)
        in_order = tuple.__class_getitem__(tuple(self._kinds))
        event: Any = msgspec.defstruct(
            "Event",
            [("x", in_order | by_name | None, None), ("y", _Category, None), ("id", _Category, None)],
            gc=False,
        )
        return event, msgspec.json.Decoder(event).decode, msgspec.json.Decoder(flat).decode

    def _by_name(self, extra: list[str], strict: bool) -> Any:
        if self._plain:
            return dict[str, Any]
        fields: list[Any] = [(f"f{j}", kind, None) for j, kind in enumerate(self._kinds)]
        fields += [(f"u{k}", msgspec.Raw, None) for k in range(len(extra))]
        renamed = {f"f{j}": name for name, j in self._features.items()}
        renamed |= {f"u{k}": name for k, name in enumerate(extra)}
        return msgspec.defstruct("ByName", fields, rename=renamed, gc=False, forbid_unknown_fields=strict)

    def read(self, value: bytes) -> Any:
        """Read an event; as msgspec does, it raises DecodeError, UnicodeDecodeError or RecursionError."""
        try:
            return self._strict(value)
        except _REFUSED:
            if not self._counts:
                raise
        event = self._lenient(value)
        if isinstance(event.x, msgspec.Struct):
            with contextlib.suppress(*_REFUSED):
                self.count(self._names(value).x)
        return event

    def read_flat(self, value: bytes) -> Any:
        """Read the features that stand beside id and y; it raises what `read` does."""
        try:
            return self._strict_flat(value)
        except _REFUSED:
            if not self._counts:
                raise
        found = self._lenient_flat(value)
        with contextlib.suppress(*_REFUSED):
            self.count_flat(self._names_flat(value))
        return found

    def values(self, by_name: msgspec.Struct) -> tuple[Any, ...]:
        """Return what `read` gave by name in schema order."""
        row = msgspec.structs.astuple(by_name)
        if len(row) == self._d:
            return row
        if extra := row[self._d : self._d + len(self._extra)]:
            self._seen.append(extra)
        return row[: self._d]

    def count(self, names: Iterable[str]) -> None:
        """Count the names of an event's `x` that was read otherwise."""
        if self._inputs is not None:
            self._inputs.count_names(names)

    def count_flat(self, names: Iterable[str]) -> None:
        """Count the names that stand beside id and y."""
        self.count(name for name in names if name not in _OWN)

    def end_block(self) -> None:
        """Count the unknown members of the block, and learn to read the names that are new."""
        if self._inputs is None:
            return
        for name, column in zip(self._extra, zip(*self._seen, strict=True), strict=bool(self._seen)):
            if n := len(column) - column.count(None):
                self._inputs.count_names([name], n)
        self._seen = []
        new = [name for name in self._inputs.names if name not in self._extra and self._is_field(name)]
        if new and self._counts:
            self._extra += tuple(new)
            _, self._strict, self._strict_flat = self._compiled(self._extra, strict=True)

    @staticmethod
    def _is_field(name: str) -> bool:
        return name not in _OWN and len(name) < LONGEST_NAME and not _ESCAPED.search(name)
