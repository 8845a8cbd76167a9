"""The two forms of a record: fields that a mapping names, and ``{"id", "x", "y"}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from stream_moe.engine.fields import kind_of, reject
from stream_moe.engine.records.compiled import ID, LABEL, Compiled, kinds_of, label_type, record_type, struct_of
from stream_moe.engine.records.mapping import ABSENT, FieldMapping, Picked, found, leaves
from stream_moe.types import Schema

Read = Callable[[Any], tuple[Any, ...]]
"""From a record to its features, id, label and time, and further members; what msgspec refuses, it raises."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """What reads records as a type of msgspec.

    Parameters
    ----------
    reading
        From the type to what reads a record as that.
    skipped
        The type of a member that is not looked at.
    """

    reading: Callable[[Any], Callable[[Any], Any]]
    skipped: Any


JSON = Decoder(lambda kind: msgspec.json.Decoder(kind).decode, msgspec.Raw)
DICTS = Decoder(lambda kind: lambda record: msgspec.convert(record, kind), Any)
BESIDE = FieldMapping(label="y", drop=("x",))  # features beside id and y


class Form(Protocol):
    """How records are taken apart."""

    id: str | None
    """Name of the member that must hold the id; None = it may be absent."""
    label: str | None
    """Name of the label."""
    has_time: bool
    """Whether a member holds the event's time, and must."""

    def compiled(
        self, schema: Schema, extra: Mapping[str, Any], exact: frozenset[str], decoder: Decoder
    ) -> Read | None:
        """Make what reads a record at once; None where nothing can be compiled."""

    def compiled_label(self, decoder: Decoder) -> Read | None:
        """Make what reads a record that is a label alone, and no other: id, label and time."""

    def pick(self, record: Mapping[str, Any], schema: Schema | None) -> Picked:
        """Take a record apart; `UnusableError` where it is none. Without a schema an array has x0, x1, ..."""

    def names_of_its_own(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the object whose members are the features."""


class Mapped:
    """Records whose fields a mapping names."""

    def __init__(self, mapping: FieldMapping) -> None:
        self.mapping, self.id, self.label = mapping, mapping.id, mapping.label
        self.has_time = mapping.time is not None

    def compiled(
        self, schema: Schema, extra: Mapping[str, Any], exact: frozenset[str], decoder: Decoder
    ) -> Read | None:
        return _reading(record_type(schema, self.mapping, extra, exact, decoder.skipped), decoder)

    def compiled_label(self, decoder: Decoder, *, alone: bool = True) -> Read | None:
        return _reading(label_type(self.mapping, decoder.skipped, alone=alone), decoder)

    def pick(self, record: Mapping[str, Any], schema: Schema | None) -> Picked:
        del schema
        return self.mapping.pick(record)

    def names_of_its_own(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        root = found(record, self.mapping.envelope) if self.mapping.envelope else record
        return root if isinstance(root, Mapping) else {}


class Native:
    """Records as ``{"id", "x", "y"}``, with the features in ``x`` or beside ``id`` and ``y``."""

    id: str | None = None
    label: str | None = "y"
    has_time = False

    def compiled(
        self, schema: Schema, extra: Mapping[str, Any], exact: frozenset[str], decoder: Decoder
    ) -> Read | None:
        beside = Mapped(BESIDE).compiled(schema, extra, exact, decoder)
        in_x = struct_of(schema, extra)
        if beside is None or in_x is None:
            return None
        in_order = tuple.__class_getitem__(tuple(kinds_of(schema)))
        event = msgspec.defstruct(
            "Event", [("x", in_order | in_x | None, None), ("y", LABEL, None), ("id", ID, None)], gc=False
        )
        decode, d, none = decoder.reading(event), schema.n_features, (None,) * len(extra)
        astuple = msgspec.structs.astuple

        def read(value: Any) -> tuple[Any, ...]:
            found = decode(value)
            if (x := found.x) is None:
                return beside(value)
            if type(x) is tuple:
                return *x, found.id, found.y, None, *none
            row = astuple(x)
            return *row[:d], found.id, found.y, None, *row[d:]

        return read

    def compiled_label(self, decoder: Decoder) -> Read | None:
        return _reading(label_type(BESIDE, type(None), alone=True), decoder)  # with x it is no label

    def pick(self, record: Mapping[str, Any], schema: Schema | None) -> Picked:
        x, own = record.get("x"), (record.get("id", ABSENT), record.get("y", ABSENT), ABSENT)
        if isinstance(x, Mapping):
            return Picked(*own, dict(leaves(x)))
        if isinstance(x, list):
            if schema is None:
                return Picked(*own, {f"x{j}": value for j, value in enumerate(x)})
            if len(x) != schema.n_features:
                reject("bad-length", f"x has {len(x):,} values; the schema has {schema.n_features:,} features.")
            return Picked(*own, {feature.name: value for feature, value in zip(schema.features, x, strict=True)})
        if x is not None:
            reject("bad-feature", f"x is a {kind_of(x)}; give an array or an object.")
        return BESIDE.pick(record)

    def names_of_its_own(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        x = record.get("x")
        return x if isinstance(x, Mapping) else record


def _reading(found: Compiled | None, decoder: Decoder) -> Read | None:
    if found is None:
        return None
    kind, values = found
    decode = decoder.reading(kind)
    return lambda value: values(decode(value))
