"""Records of any shape, under a schema that may grow: what a form takes apart, and what is new, by one policy.

A reader compiled for form and schema reads a record at once. What it refuses is read again as a plain dict, which
says what is wrong with it, or what is new in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from stream_moe.engine.codec import MAX_BYTES, MAX_ID, JsonCodec, object_of
from stream_moe.engine.fields import (
    Index,
    KeyRule,
    cell_of,
    checked_key,
    is_text,
    kind_of,
    name_of_event,
    reject,
    shown,
)
from stream_moe.engine.inputs import LONGEST_NAME, InputCounts
from stream_moe.engine.records.forms import DICTS, JSON, Form, Mapped, Native
from stream_moe.engine.records.growth import (
    MOST_CLASSES,
    MOST_FEATURES,
    New,
    Unknown,
    feature_of,
    in_words,
    schemas_along,
)
from stream_moe.engine.records.mapping import ABSENT, NATIVE_LABELS, FieldMapping, milliseconds_of
from stream_moe.engine.records.reader import RecordReader
from stream_moe.rows import MAX_CATEGORIES
from stream_moe.types import UNLABELLED, Block, DeadLetter, Feature, Float32, RecordBatch, Schema
from stream_moe.values import name_of

REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Row = tuple[tuple[Any, ...], Any, Any, Any, dict[Feature, Any]]
"""Features, id, label, time, and the new features with their values."""


class RecordCodec(JsonCodec):
    """As `JsonCodec`, for records of another shape, or where what is new is not ignored.

    Parameters
    ----------
    schema, max_bytes, keys, inputs
        As of `JsonCodec`; the schema grows.
    mapping
        Which fields are what; None = the form ``{"id", "x", "y"}``.
    labels
        The same of the labels' topic, where they have one.
    unknown
        What becomes of a feature, category or class that the schema does not have: "grow" takes it in, "ignore"
        leaves features out and takes categories as missing, "dead-letter" refuses the record. A class is refused by
        the last two.
    read
        From the bytes of a record to a dict, for other formats than JSON; it raises `UnusableError`. None = JSON.

    Examples
    --------
    >>> schema, mapping = Schema.numeric(1, ["no"], ["amount"]), FieldMapping("order", "fraud")
    >>> codec = RecordCodec(schema, mapping=mapping, unknown="grow")
    >>> values = [b'{"order":1,"amount":5,"fraud":"no"}', b'{"order":2,"amount":7,"country":"DE","fraud":"yes"}']
    >>> block, dead = codec.decode(RecordBatch(np.arange(2), np.zeros(2, np.int64), [None, None], list(values), 2))
    >>> block.x.tolist(), block.ids, dead, [(row, schema.classes) for row, schema in codec.take_growth()]
    ([[5.0, nan], [7.0, 0.0]], ['1', '2'], [], [(1, ('no', 'yes'))])
    """

    def __init__(
        self,
        schema: Schema,
        max_bytes: int = MAX_BYTES,
        keys: KeyRule | None = None,
        inputs: InputCounts | None = None,
        *,
        mapping: FieldMapping | None = None,
        labels: FieldMapping | None = None,
        unknown: Unknown = "ignore",
        read: Callable[[bytes], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(schema, max_bytes, keys, inputs)
        self._form: Form = Native() if mapping is None else Mapped(mapping)
        self._labels = Mapped(labels or NATIVE_LABELS)
        self._unknown, self._to_dict = unknown, read
        decoder = JSON if read is None else DICTS
        self._reader = RecordReader(self._form, decoder, inputs)
        self._label_read = self._labels.compiled_label(decoder, alone=False)
        self._news: list[New] = []
        self._grown: list[tuple[int, Schema]] = []
        self._told: list[str] = []
        self._taken = 0  # records of the block so far
        self._times: list[int] = []  # of those records, where a field holds it

    def decode(self, batch: RecordBatch, *, labels_only: bool = False) -> tuple[Block, list[DeadLetter]]:
        """As `JsonCodec.decode`; where the schema grew, x has the columns of the last one.

        Further reasons of dead letters are "no-envelope", "bad-time", "unknown-feature" and "unknown-category".
        """
        before, self._news, self._taken, self._times = self.schema, [], 0, []
        block, letters = super().decode(batch, labels_only=labels_only)
        if self._times:
            block.timestamps = np.array(self._times, np.int64)
        if self._news:
            grown = schemas_along(before, self._news)
            self.schema = grown[-1][1]
            assert block.offsets is not None
            self._told += in_words(self._news, self.schema, block.offsets.tolist())
            self._grown += grown
        self._reader.end_block(learn=self._unknown == "ignore")
        return block, letters

    def take_growth(self) -> list[tuple[int, Schema]]:
        """Return from which row of the latest block on which schema holds, as far as it grew; once."""
        grown, self._grown = self._grown, []
        return grown

    def news(self) -> Iterator[str]:
        """Yield what is new since this was last asked, a line each."""
        told, self._told = self._told, []
        yield from told

    # ---- one record

    def _event_of(
        self, value: bytes | None, key: bytes | None, offset: int, labels_only: bool
    ) -> tuple[tuple[Any, ...], int, str, bytes, bool]:
        if value is None:
            reject("tombstone", "The record has no value.")
        if len(value) > self._max_bytes:
            reject("too-large", f"The value has {len(value):,} bytes; the limit is {self._max_bytes:,}.")
        record = value if self._to_dict is None else self._to_dict(value)
        form = self._labels if labels_only else self._form
        x, given, label, time, new = self._label_row(record) if labels_only else self._row(record)
        is_label = labels_only or (x is self._nothing and not new)
        index = self._label[label] if type(label) is str else None
        if index is None:
            index = self._index_of(label, form)
        if is_label and index == UNLABELLED:
            reject(
                "no-content",
                f"The record has {'no' if labels_only else 'neither features nor'} {_named(form.label)}.",
            )
        if form.id is not None and given in (None, ""):
            reject("no-id", f"{shown(form.id)}, the id, is {'empty' if given == '' else 'not there, or null'}.")
        checked = b"" if self._key_rule is None or is_label else checked_key(key, self._key_rule)
        name = given if given and type(given) is str else name_of_event(given, is_label, key, offset)
        if len(name) > MAX_ID:
            reject("bad-id", f"The id has {len(name):,} characters; the limit is {MAX_ID:,}.")
        at = _time_of(time) if form.has_time else None
        # From here on the record is taken, and what is new in it too.
        if new:
            x = self._take_features(x, new)
        if index is None:
            index = self._take_class(label)
        self._taken += 1
        if at is not None:
            self._times.append(at)
        return x, int(index), name, checked, is_label

    def _object(self, record: Any) -> Mapping[str, Any]:
        return object_of(record) if self._to_dict is None else record

    def _row(self, value: Any) -> Row:
        """Read a record of the events' topic; its features are `_nothing` itself where it is a label alone."""
        d = self.schema.n_features
        if (read := self._reader.for_schema(self.schema)) is not None:
            try:
                found = read(value)
            except REFUSED:
                return self._careful_row_of(value)
            x = found[:d]
            if x != self._nothing:
                if len(found) > d + 3:
                    self._reader.saw(found[d + 3 :])
                if self._unknown == "dead-letter":
                    self._check_categories(x)
                return x, found[d], found[d + 1], found[d + 2], {}
            if (alone := self._reader.alone) is not None:
                try:
                    name, label, time = alone(value)
                except REFUSED:
                    label = None
                if label is not None:
                    return self._nothing, name, label, time, {}
        return self._careful_row_of(value)

    def _label_row(self, value: Any) -> Row:
        if self._label_read is not None:
            try:
                return self._nothing, *self._label_read(value), {}
            except REFUSED:
                pass
        picked = self._labels.mapping.pick(self._object(value))
        return self._nothing, _id(picked.id, self._labels), self._label_text(picked.label), picked.time, {}

    def _careful_row_of(self, value: Any) -> Row:
        """Read what the compiled reader refused: values of other types, and what is new."""
        plain = self._object(value)
        picked = self._form.pick(plain, self.schema)
        if dotted := [name for name in picked.features if "." in name]:
            own = self._form.names_of_its_own(plain)
            self._reader.find_exact({name for name in dotted if name in own})
        known = self.schema.feature_index
        named = zip(self.schema.features, self._categories, strict=True)
        x = tuple(cell_of(picked.features.get(f.name), f.name, names) for f, names in named)
        label, given = self._label_text(picked.label), _id(picked.id, self._form)
        self._check_categories(x)
        new: dict[Feature, Any] = {}
        if unknown := {name: each for name, each in picked.features.items() if name not in known}:
            new = self._new_features(unknown)
        if not new and not known.keys() & picked.features.keys():
            if picked.features:
                names = ", ".join(map(shown, list(picked.features)[:3]))
                reject("no-known-feature", f"The record has {names}, and none of it is a feature of the schema.")
            if (
                isinstance(plain.get("x"), dict) and self._form.label == "y"
            ):  # of the native form: an event of nothing
                return (None,) * len(x), given, label, picked.time, new
            return self._nothing, given, label, picked.time, new
        return x, given, label, picked.time, new

    def _label_text(self, label: Any) -> Any:
        """Return a label as the compiled reader gives it; `UnusableError` for what is none."""
        if label is ABSENT:
            return None
        if label is not None and not isinstance(label, str | int | float):
            reject("unknown-class", f"The label is a {kind_of(label)}; give the name of a class.")
        return label

    def _index_of(self, label: Any, form: Form) -> float | None:
        """Return the index of a label; None where it is a class to be taken in."""
        if type(label) is bool or type(label) is float:
            label = self._label.name(label)
        index = self._label[label]
        if index is not None:
            return index
        full = self.schema.n_classes + sum(new.kind == "class" for new in self._news) >= MOST_CLASSES
        if self._unknown != "grow" or full:
            why = f"no class of the schema{f', which has {MOST_CLASSES} already' if full else ''}"
            reject("unknown-class", f"{_named(form.label)} is {shown(label)}, which is {why}.")
        if isinstance(label, str) and not is_text(label):
            reject("unknown-class", f"{_named(form.label)} holds half a surrogate pair, which no UTF-8 text can.")
        return None

    def _check_categories(self, x: Sequence[Any]) -> None:
        if self._unknown != "dead-letter":
            return
        for value, index, feature in zip(x, self._categories, self.schema.features, strict=True):
            if index is not None and index[value] is None:
                reject(
                    "unknown-category", f"{shown(feature.name)} is {shown(value)}, which is none of its categories."
                )

    # ---- what is new

    def _new_features(self, unknown: dict[str, Any]) -> dict[Feature, Any]:
        """Return those of the unknown members that become features, with their values; the others are ignored."""
        if self._unknown == "dead-letter":
            names = ", ".join(map(shown, list(unknown)[:3]))
            reject("unknown-feature", f"The record has {names}, which the schema does not have.")
        new: dict[Feature, Any] = {}
        left = dict(unknown)
        for name in sorted(unknown) if self._unknown == "grow" else ():  # the order of members must not matter
            value, fits = unknown[name], len(name) < LONGEST_NAME and is_text(name)
            full = not fits or self.schema.n_features + len(new) >= MOST_FEATURES
            feature = None if full else feature_of(name, value)
            if feature is not None:
                new[feature] = cell_of(value, name, None if feature.categories is None else _NO_NAMES)
                del left[name]
            elif full or value is None or isinstance(value, list):
                self._reader.ignore(name, lists_only=not full)
            if value is None:
                left.pop(name, None)
        if self._inputs is not None and left:
            self._inputs.count_names(left)
        return new

    def _take_features(self, x: tuple[Any, ...], new: dict[Feature, Any]) -> tuple[Any, ...]:
        row = self._taken
        self._news += [New(row, "feature", feature.name, feature=feature) for feature in new]
        schema, labels, indices = self.schema, self._label, self._categories
        self._go_by(replace(schema, features=(*schema.features, *new)))
        self._label, self._categories[: len(indices)] = labels, indices
        return (*x, *new.values())

    def _take_class(self, label: Any) -> int:
        classes = [new.name for new in self._news if new.kind == "class"]
        self._news.append(New(self._taken, "class", name_of(label)))
        names = (*self.schema.classes, *classes, name_of(label))
        self._label = Index(names, UNLABELLED)
        return len(names) - 1

    def _columns(self, rows: list[tuple[Any, ...]]) -> Float32:
        d = self.schema.n_features
        if self._news:
            rows = [row if len(row) == d else (*row, *(None,) * (d - len(row))) for row in rows]
        return super()._columns(rows)

    def _indices(self, column: Sequence[Any], j: int, index: Index) -> list[float | None]:
        """Return the index of each category; what is new becomes one from its row on."""
        cells = [index[c] for c in column]
        if self._unknown != "grow":
            return super()._indices(column, j, index)
        names = [*index.names]
        start, full = 0, None
        while None in cells[start:]:
            row = cells.index(None, start)
            if len(names) >= MAX_CATEGORIES or not is_text(str(column[row])):
                full = column[row] if full is None else full
                start = row + 1
                continue
            names.append(name_of(column[row]))
            self._news.append(New(row, "category", names[-1], column=j))
            index = self._categories[j] = Index(names, np.nan)
            cells[row:] = [index[c] for c in column[row:]]
            start = row + 1
        if full is not None and self._inputs is not None:
            self._inputs.count_categories(j, cells.count(None), full)
        return cells


_NO_NAMES = Index((), np.nan)


def _id(given: Any, form: Form) -> Any:
    if given is ABSENT or given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, str | int):
        reject("bad-id", f"{_named(form.id or 'id')} is a {kind_of(given)}; give a string or an integer.")
    if isinstance(given, str) and not is_text(given):
        reject("bad-id", f"{_named(form.id or 'id')} holds half a surrogate pair, which no UTF-8 text can.")
    return given


def _time_of(value: Any) -> int:
    if type(value) is float and 1e11 <= value < 1e14:  # milliseconds, as most have it
        return int(value)
    if (at := milliseconds_of(value)) is None:
        what = "is not there, or null" if value is None or value is ABSENT else f"is {shown(value)}"
        reject("bad-time", f"The time {what}; it must be a moment since 1970, or a text as 2024-01-31T10:00:00Z.")
    return at


def _named(member: str | None) -> str:
    return "label" if member is None else shown(member)
