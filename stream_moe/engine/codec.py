"""The JSON form of events and predictions.

An event is one JSON object, ``{"id": "e1", "x": [0.05, 0.2], "y": "UP"}``. ``x`` is an array in schema order
or an object by feature name; the features may also stand beside ``id`` and ``y``. Without any the record is a label
alone, without ``y`` it is features alone.

Each record is decoded by a msgspec decoder compiled for the schema; what that refuses goes once more through
the slow, lenient reader of `_careful`, which either makes an event of it or says what is wrong. Records are
never joined into one text to be parsed together: two broken records could then complete each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from stream_moe.engine.fields import (
    Index,
    KeyRule,
    UnusableError,
    cell_of,
    checked_key,
    int_or_float,
    is_text,
    kind_of,
    name_of_event,
    reject,
    shown,
)
from stream_moe.engine.inputs import InputCounts
from stream_moe.engine.members import Members
from stream_moe.errors import ConfigError
from stream_moe.types import (
    SHARED,
    UNLABELLED,
    Block,
    DeadLetter,
    Feature,
    Float32,
    Float64,
    Int32,
    Int64,
    RecordBatch,
    Schema,
)

MAX_ID = 1024  # characters; ids go into keys and predictions, which a log limits too
SCHEMA_HEADER = "stream_moe.schema"
MAX_BYTES = 1 << 20  # Kafka's own default limit of a record

_Category = str | int | None


class _Prediction(msgspec.Struct, rename={"label": "class"}, omit_defaults=True):
    id: str
    label: str
    proba: list[float]
    model: str | int
    offset: int
    experts: list[float] | None = None


class JsonCodec:
    """JSON records to blocks, blocks to JSON records, predictions to JSON.

    Parameters
    ----------
    schema
        Names, kinds and classes of the events.
    max_bytes
        A record value longer than this many bytes is a dead letter and is not parsed.
    keys
        Where each key has its own model: which keys an event may have. None = the keys do not matter.
    inputs
        Counts the names that are no feature, and the values that are no category; changed. None = nobody asks.

    Examples
    --------
    >>> codec = JsonCodec(Schema.numeric(2, ["DOWN", "UP"]))
    >>> codec.encode_event("e1", np.array([0.1, np.nan], np.float32), 1)
    b'{"id":"e1","x":[0.1,null],"y":"UP"}'
    >>> batch = RecordBatch(
    ...     np.arange(2), np.zeros(2, np.int64), [None, None], [b'{"x": {"x1": 3}, "y": "UP"}', b"{"], 2
    ... )
    >>> block, dead = codec.decode(batch)
    >>> block.x.tolist(), block.y.tolist(), block.ids, dead[0].reason
    ([[nan, 3.0]], [1], ['0'], 'bad-json')
    """

    def __init__(
        self,
        schema: Schema,
        max_bytes: int = MAX_BYTES,
        keys: KeyRule | None = None,
        inputs: InputCounts | None = None,
    ) -> None:
        self._max_bytes, self._key_rule, self._inputs = max_bytes, keys, inputs
        self._encode = msgspec.json.Encoder().encode
        self._go_by(schema)
        self._members = Members(schema, inputs)

    def _go_by(self, schema: Schema) -> None:
        """Take values for those of a schema."""
        self.schema = schema
        self._label = Index(schema.classes, UNLABELLED)
        self._categories = [None if f.categories is None else Index(f.categories, math.nan) for f in schema.features]
        self._all_numeric = all(index is None for index in self._categories)
        self._base = np.array([feature.base for feature in schema.features])
        self._nothing: tuple[Any, ...] = (None,) * schema.n_features

    # ---- reading

    def decode(self, batch: RecordBatch, *, labels_only: bool = False) -> tuple[Block, list[DeadLetter]]:
        """Read the records of a batch; what cannot be used comes back as dead letters, in offset order.

        With `labels_only` each record is taken for a label, whatever its ``x``.

        The result for a record depends on that record alone.

        - ``x``: numbers for numeric features (true and false are 1 and 0, and a text may hold a number or a time),
          category names for nominal ones. Values are matched to names as `stream_moe.values` says. Missing (NaN)
          are: null, a feature that is not there, a text that means "no value", NaN, Infinity, a number beyond
          float32, a category that the schema does not list. A feature name that the schema does not list is
          ignored, as producers grow columns before models do; an object without any known one is of no use.
          Such categories and names are counted in `inputs`.
        - ``y``: a class, matched in the same way. Null, absent, or a text that means "no value": no label.
        - ``id``: a string or integer of at most 1,024 characters. Without it, or where it is empty, the id is the
          record's key, and without that its offset.
        - of a member that appears twice the last one counts, and other members are ignored.

        Where each key has its own model, the block has the keys too: of a null or empty one b"". That of a label
        alone does not matter, as it is learnt with its event's.

        Dead letters have the stage "decode" and one of the reasons "tombstone", "empty", "too-large",
        "bad-utf8", "bad-json", "too-deep", "not-object", "bad-length" (of an array x), "bad-feature" (wrong
        type), "no-known-feature" (in an object x), "unknown-class", "bad-id", "no-content" (neither x nor y),
        "no-id" (a label alone, and neither id nor key), "no-key" and "key-too-large"; offsets in `batch.corrupt`
        have the stage "log" and the reason "corrupt".
        """
        letters = [
            DeadLetter(offset, -1, None, None, "log", "corrupt", "The log could not read the record at this offset.")
            for offset in batch.corrupt
        ]
        kept: list[int] = []
        rows: list[tuple[Any, ...]] = []
        labels: list[int] = []
        ids: list[str] = []
        keys: list[bytes] = []
        alone: list[int] = []
        offsets = batch.offsets.tolist()
        for i, value in enumerate(batch.values):
            try:
                x, label, name, key, is_label = self._event_of(value, batch.keys[i], offsets[i], labels_only)
            except UnusableError as why:
                reason, message = why.args
                letters.append(
                    DeadLetter(offsets[i], int(batch.timestamps[i]), batch.keys[i], value, "decode", reason, message)
                )
                continue
            if is_label:
                alone.append(len(kept))
            kept.append(i)
            rows.append(x)
            labels.append(label)
            ids.append(name)
            keys.append(key)
        has_features = None
        if alone:
            has_features = np.ones(len(kept), np.bool_)
            has_features[alone] = False
        self._members.end_block()
        letters.sort(key=lambda letter: letter.offset)
        where = slice(None) if len(kept) == len(offsets) else kept
        block = Block(
            self._columns(rows),
            np.array(labels, np.int32),
            ids,
            has_features,
            np.asarray(batch.offsets, np.int64)[where],
            np.asarray(batch.timestamps, np.int64)[where],
            keys if self._key_rule is not None else None,
        )
        return block, letters

    def take_growth(self) -> list[tuple[int, Schema]]:
        """Return from which row of the latest block on which schema holds, as far as it grew: this one does not."""
        return []

    def news(self) -> Iterator[str]:
        """Yield what is new in the schema since this was last asked, a line each: nothing here."""
        yield from ()

    def _event_of(
        self, value: bytes | None, key: bytes | None, offset: int, labels_only: bool
    ) -> tuple[tuple[Any, ...], int, str, bytes, bool]:
        """Return features, label, id and key of a record, and whether it is a label alone."""
        event = self._read(value)
        label = self._label[event.y]
        if label is None:
            reject("unknown-class", f"y is {shown(event.y)}, which is no class of the schema.")
        x = None if labels_only else event.x
        if x is None and not labels_only:
            x = self._beside(value)
        if is_label := x is None:
            if label == UNLABELLED:
                reject("no-content", f"The record has {'no' if labels_only else 'neither x nor'} y.")
            x = self._nothing
        elif type(x) is not tuple:
            if isinstance(x, dict):
                self._members.count(x)
            x = self._in_order(x)
            if x == self._nothing:
                self._check_known(json.loads(value or b"{}").get("x", {}))
        checked = SHARED
        if self._key_rule is not None and not is_label:
            checked = checked_key(key, self._key_rule)
        name = event.id if event.id and type(event.id) is str else name_of_event(event.id, is_label, key, offset)
        if len(name) > MAX_ID:
            reject("bad-id", f"The id has {len(name):,} characters; the limit is {MAX_ID:,}.")
        return x, int(label), name, checked, is_label

    def _read(self, value: bytes | None) -> Any:
        if value is None:
            reject("tombstone", "The record has no value.")
        if len(value) > self._max_bytes:
            reject("too-large", f"The value has {len(value):,} bytes; the limit is {self._max_bytes:,}.")
        try:
            return self._read_compiled(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._careful(value)

    def _read_compiled(self, value: bytes) -> Any:
        return self._members.read(value)

    def _beside(self, value: bytes | None) -> tuple[Any, ...] | None:
        """Return the features that stand beside ``id`` and ``y``, None where there are none."""
        try:
            by_name = self._members.read_flat(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            by_name = json.loads(value or b"{}", parse_int=int_or_float)
        if isinstance(by_name, dict):
            self._members.count_flat(by_name)
        found = self._in_order(by_name)
        return None if found == self._nothing else found

    def _in_order(self, by_name: Any) -> tuple[Any, ...]:
        """Return an object's values in schema order."""
        if not isinstance(by_name, dict):
            return self._members.values(by_name)
        features = self.schema.features
        return tuple(cell_of(by_name.get(f.name), f.name, names) for f, names in self._named(features))

    def _named(self, features: Sequence[Feature]) -> Iterator[tuple[Feature, Index | None]]:
        return zip(features, self._categories, strict=True)

    def _check_known(self, x: dict[str, Any]) -> None:
        """Refuse an object without any known feature: its producer has other names, or another topic."""
        if x and not x.keys() & self.schema.feature_index.keys():
            names = ", ".join(map(shown, list(x)[:3]))
            reject("no-known-feature", f"x has {names}, and none of it is a feature of the schema.")

    def _columns(self, rows: list[tuple[Any, ...]]) -> Float32:
        shape = (len(rows), self.schema.n_features)
        with np.errstate(over="ignore"):
            if not rows or (self._all_numeric and not self._base.any()):
                x = np.array(rows, np.float32).reshape(shape)
            elif self._all_numeric:
                x = (np.array(rows, np.float64) - self._base).astype(np.float32)
            else:
                x = np.empty(shape, np.float32)
                for j, (column, index) in enumerate(zip(zip(*rows, strict=True), self._categories, strict=True)):
                    cells = column if index is None else self._indices(column, j, index)
                    x[:, j] = np.array(cells, np.float64) - self._base[j]
        x[np.isinf(x)] = np.nan
        return x

    def _indices(self, column: Sequence[Any], j: int, index: Index) -> list[float | None]:
        """Return the index of each category, None of what is none."""
        cells = [index[c] for c in column]
        if self._inputs is not None and (unknown := cells.count(None)):
            self._inputs.count_categories(j, unknown, column[cells.index(None)])
        return cells

    def _careful(self, value: bytes) -> Any:
        """Read what the compiled decoder refused: NaN, numbers without end, and to say what is wrong."""
        plain = object_of(value)
        x, y, name = self._careful_row(plain.get("x")), plain.get("y"), plain.get("id")
        if isinstance(y, bool | float):
            y = self._label.name(y)
        elif y is not None and not isinstance(y, str | int):
            reject("unknown-class", f"y is a {kind_of(y)}; give the name of a class.")
        if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
            reject("bad-id", f"id is a {kind_of(name)}; give a string or an integer.")
        if isinstance(name, str) and not is_text(name):
            reject("bad-id", "id holds half a surrogate pair, which no UTF-8 text can.")
        return self._members.event(x, y, name)

    def _careful_row(self, x: Any) -> Any:
        """Return the features of `_careful`'s record."""
        features = self.schema.features
        if isinstance(x, dict):
            self._members.count(x)
            self._check_known(x)
            x = [x.get(feature.name) for feature in features]
        if isinstance(x, list):
            if len(x) != len(features):
                reject("bad-length", f"x has {len(x):,} values; the schema has {len(features):,} features.")
            return tuple(cell_of(v, f.name, names) for v, (f, names) in zip(x, self._named(features), strict=True))
        if x is not None:
            reject("bad-feature", f"x is a {kind_of(x)}; give an array or an object.")
        return None

    # ---- writing

    def encode_event(self, id: str, x_row: Float32, y_index: int | None = None) -> bytes:
        """Write one event; `x_row` is float32 [d], `y_index` None (or -1) for no label."""
        y = np.array([UNLABELLED if y_index is None else y_index], np.int32)
        return self.encode_events(Block(x_row[np.newaxis], y, [id]))[0]

    def encode_events(self, block: Block, first_id: int = 0) -> list[bytes]:
        """Write the events of a block, x as an array in schema order.

        Numbers are the shortest decimals that read back as the same float32; NaN becomes null, a nominal
        value its category's name. Where the block has no ids they count up from `first_id`.
        """
        rows = _shortest(block.x).tolist()
        for j, feature in enumerate(self.schema.features):
            if feature.base:
                for row, value in zip(rows, (block.x[:, j] + np.float64(feature.base)).tolist(), strict=True):
                    row[j] = int(value) if value.is_integer() else value
            if feature.categories is not None:
                for row, index in zip(rows, block.x[:, j].tolist(), strict=True):
                    row[j] = feature.categories[int(index)] if 0 <= index < len(feature.categories) else None
        ids = block.ids or [str(first_id + i) for i in range(len(block))]
        events: list[dict[str, Any]] = [{"id": name, "x": row} for name, row in zip(ids, rows, strict=True)]
        for event, label in zip(events, block.y.tolist(), strict=True):
            if label != UNLABELLED:
                event["y"] = self.schema.classes[label]
        if block.has_features is not None:
            for i in np.flatnonzero(~block.has_features):
                del events[i]["x"]
        return [self._encode(event) for event in events]

    def encode_predictions(
        self,
        ids: Iterable[str],
        offsets: Int64,
        proba: Float64,
        weights: Float64 | None,
        model_version: str | int,
        answers: Int32 | None = None,
    ) -> list[bytes]:
        """Write one prediction per event.

        ``{"id": "e1", "class": "UP", "proba": [0.4, 0.6], "model": 7, "offset": 41, "experts": [0.9, 0.1]}``:
        `class` is the answer, `proba` is in the schema's class order, `experts` (absent without
        `weights`) the router's weights in expert order, `offset` the event's position in the input log.
        Probabilities and weights have 6 significant digits (20 decimals at most); NaN is null.

        Parameters
        ----------
        ids
            n event ids.
        offsets
            int64 [n].
        proba
            float [n, C].
        weights
            float [n, E], or None.
        model_version
            Which model made them.
        answers
            int32 [n], the classes that are answered; None = the most probable ones.
        """
        answered = proba.argmax(axis=1) if answers is None else answers
        names = [self.schema.classes[c] for c in answered.tolist()]
        experts = [None] * len(names) if weights is None else _six_digits(weights)
        columns = zip(ids, names, _six_digits(proba), offsets.tolist(), experts, strict=True)
        return [self._encode(_Prediction(i, c, p, model_version, at, e)) for i, c, p, at, e in columns]


def schema_header(schema: Schema) -> tuple[str, bytes]:
    """Give the header that a producer puts on the first record it writes.

    >>> schema = Schema.numeric(3, ["a", "b"])
    >>> schema_from_headers([schema_header(schema)]) == schema
    True
    """
    return SCHEMA_HEADER, json.dumps(schema.to_dict(), separators=(",", ":")).encode()


def schema_from_headers(headers: Sequence[tuple[str, bytes]]) -> Schema | None:
    """Read the schema from a record's headers, None when they hold none; ConfigError when it is damaged."""
    for key, value in headers:
        if key == SCHEMA_HEADER:
            try:
                plain = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"header {SCHEMA_HEADER}: not JSON ({error}); produce the topic anew") from None
            return Schema.from_dict(plain)
    return None


def object_of(value: bytes) -> dict[str, Any]:
    """Read a JSON object as Python does, with NaN and numbers without end; `UnusableError` says what is wrong."""
    if not value:
        reject("empty", "The value is empty.")
    if value[0] == 0:
        reject(
            "framed", "The value bears the id of a schema, as in Avro or Protobuf; name the registry by --registry."
        )
    try:
        plain = json.loads(value.decode(), parse_int=int_or_float)
    except UnicodeDecodeError as error:
        reject("bad-utf8", f"The value is not UTF-8 at byte {error.start}.")
    except RecursionError:
        reject("too-deep", "The JSON is nested too deeply.")
    except ValueError as error:
        reject("bad-json", f"The value is not JSON: {error}.")
    if not isinstance(plain, dict):
        reject("not-object", f"The value is a JSON {kind_of(plain)}; an event is an object.")
    return plain


def _shortest(x: Float32) -> Float64:
    """Give the doubles whose shortest decimals are the shortest decimals of these float32 values."""
    doubles = x.astype("S").astype(np.float64) if x.size else x.astype(np.float64)
    # A decimal close to the middle of two float32 may round twice, to its neighbour: write that one in full.
    return np.where(doubles.astype(np.float32) == x, doubles, x)


def _six_digits(x: Float64) -> list[list[float]]:
    x = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = np.clip(5 - np.floor(np.log10(np.abs(x))), 0, 20)
        scale = 10.0**digits
    rounded: list[list[float]] = np.where(np.isfinite(digits), np.rint(x * scale) / scale, x).tolist()
    return rounded
