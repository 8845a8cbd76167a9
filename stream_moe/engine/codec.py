"""The JSON form of events and predictions.

An event is one JSON object, ``{"id": "e1", "x": [0.05, 0.2], "y": "UP"}``. ``x`` is an array in schema order
or an object by feature name; without ``x`` the record is a label alone, without ``y`` it is features alone.

Each record is decoded by a msgspec decoder compiled for the schema; what that refuses goes once more through
the slow, lenient reader of `_careful`, which either makes an event of it or says what is wrong. Records are
never joined into one text to be parsed together: two broken records could then complete each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, Protocol

import msgspec
import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.types import SHARED, UNLABELLED, Block, DeadLetter, Float32, Float64, Int64, RecordBatch, Schema

MAX_ID = 1024  # characters; ids go into keys and predictions, which a log limits too
SCHEMA_HEADER = "stream_moe.schema"
MAX_BYTES = 1 << 20  # Kafka's own default limit of a record

_UNKNOWN = -2
_Number = float | bool | None
_Category = str | int | None
_CANONICAL_INT = re.compile(r"0|-?[1-9][0-9]{0,18}")


class _UnusableError(Exception):
    """A record that becomes a dead letter: (reason, message)."""


class _Prediction(msgspec.Struct, rename={"label": "class"}, omit_defaults=True):
    id: str
    label: str
    proba: list[float]
    model: str | int
    offset: int
    experts: list[float] | None = None


class KeyRule(Protocol):
    """Which keys a record with features may have, where each key has its own model."""

    @property
    def null_key(self) -> str:
        """Of a null or empty one: "shared" = all such have one model, "dead-letter"."""

    @property
    def max_key_bytes(self) -> int:
        """A longer key makes its record a dead letter."""


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

    def __init__(self, schema: Schema, max_bytes: int = MAX_BYTES, keys: KeyRule | None = None) -> None:
        self.schema = schema
        self._max_bytes, self._key_rule = max_bytes, keys
        kinds = [_Category if feature.is_nominal else _Number for feature in schema.features]
        by_name = msgspec.defstruct(
            "ByName",
            [(f"f{j}", kind, None) for j, kind in enumerate(kinds)],
            rename={f"f{j}": feature.name for j, feature in enumerate(schema.features)},
            gc=False,
        )
        # A tuple type has a fixed length and a type per place, so msgspec itself checks both.
        in_order = tuple.__class_getitem__(tuple(kinds))
        self._event: Any = msgspec.defstruct(
            "Event",
            [("x", in_order | by_name | None, None), ("y", _Category, None), ("id", _Category, None)],
            gc=False,
        )
        self._decode = msgspec.json.Decoder(self._event).decode
        self._encode = msgspec.json.Encoder().encode
        self._label = {None: UNLABELLED, **_by_text(schema.classes)}
        self._categories = [None if f.categories is None else _by_text(f.categories) for f in schema.features]
        self._all_numeric = all(index is None for index in self._categories)
        self._nothing = (None,) * schema.n_features

    # ---- reading

    def decode(self, batch: RecordBatch, *, labels_only: bool = False) -> tuple[Block, list[DeadLetter]]:
        """Read the records of a batch; what cannot be used comes back as dead letters, in offset order.

        With `labels_only` each record is taken for a label, whatever its ``x``.

        The result for a record depends on that record alone.

        - ``x``: numbers for numeric features (true and false are 1 and 0), category names for nominal ones
          (an integer counts as its text). Missing (NaN) are: null, a feature that is not there, NaN,
          Infinity, a number beyond float32, a category that the schema does not list. A feature name that the
          schema does not list is ignored, as producers grow columns before models do.
        - ``y``: a class name; an integer, true or false counts as its JSON text. Null or absent: no label.
        - ``id``: a string or integer of at most 1,024 characters. Without it the id is the record's key, and
          without that its offset.
        - of a member that appears twice the last one counts, and other members are ignored.

        Where each key has its own model, the block has the keys too: of a null or empty one b"". That of a label
        alone does not matter, as it is learnt with its event's.

        Dead letters have the stage "decode" and one of the reasons "tombstone", "empty", "too-large",
        "bad-utf8", "bad-json", "too-deep", "not-object", "bad-length" (of an array x), "bad-feature" (wrong
        type), "unknown-class", "bad-id", "no-content" (neither x nor y), "no-id" (a label alone, and
        neither id nor key), "no-key" and "key-too-large"; offsets in
        `batch.corrupt` have the stage "log" and the reason "corrupt".
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
                event = self._read(value)
                label = self._label.get(event.y, _UNKNOWN)
                if label == _UNKNOWN:
                    _reject("unknown-class", f"y is {_shown(event.y)}, which is no class of the schema.")
                x = None if labels_only else event.x
                if is_label := x is None:
                    if label == UNLABELLED:
                        _reject("no-content", f"The record has {'no' if labels_only else 'neither x nor'} y.")
                    x = self._nothing
                elif type(x) is not tuple:
                    x = msgspec.structs.astuple(x)
                key = SHARED
                if self._key_rule is not None and not is_label:
                    key = _checked_key(batch.keys[i], self._key_rule)
                name = event.id if type(event.id) is str else _name(event.id, is_label, batch.keys[i], offsets[i])
                if len(name) > MAX_ID:
                    _reject("bad-id", f"The id has {len(name):,} characters; the limit is {MAX_ID:,}.")
            except _UnusableError as why:
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

    def _read(self, value: bytes | None) -> Any:
        if value is None:
            _reject("tombstone", "The record has no value.")
        if len(value) > self._max_bytes:
            _reject("too-large", f"The value has {len(value):,} bytes; the limit is {self._max_bytes:,}.")
        try:
            return self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._careful(value)

    def _columns(self, rows: list[tuple[Any, ...]]) -> Float32:
        shape = (len(rows), self.schema.n_features)
        with np.errstate(over="ignore"):
            if self._all_numeric or not rows:
                x = np.array(rows, np.float32).reshape(shape)
            else:
                x = np.empty(shape, np.float32)
                for j, (column, index) in enumerate(zip(zip(*rows, strict=True), self._categories, strict=True)):
                    x[:, j] = np.array(column if index is None else [index.get(c) for c in column], np.float32)
        x[np.isinf(x)] = np.nan
        return x

    def _careful(self, value: bytes) -> Any:
        """Read what the compiled decoder refused: NaN, numbers without end, and to say what is wrong."""
        if not value:
            _reject("empty", "The value is empty.")
        try:
            plain = json.loads(value.decode(), parse_int=_int_or_float)
        except UnicodeDecodeError as error:
            _reject("bad-utf8", f"The value is not UTF-8 at byte {error.start}.")
        except RecursionError:
            _reject("too-deep", "The JSON is nested too deeply.")
        except ValueError as error:
            _reject("bad-json", f"The value is not JSON: {error}.")
        if not isinstance(plain, dict):
            _reject("not-object", f"The value is a JSON {_kind(plain)}; an event is an object.")
        x, y, name = plain.get("x"), plain.get("y"), plain.get("id")
        features = self.schema.features
        if isinstance(x, dict):
            x = [x.get(feature.name) for feature in features]
        if isinstance(x, list):
            if len(x) != len(features):
                _reject("bad-length", f"x has {len(x):,} values; the schema has {len(features):,} features.")
            x = tuple(_cell(v, f.name, f.is_nominal) for v, f in zip(x, features, strict=True))
        elif x is not None:
            _reject("bad-feature", f"x is a {_kind(x)}; give an array or an object.")
        if isinstance(y, bool):
            y = "true" if y else "false"
        elif y is not None and not isinstance(y, str | int):
            _reject("unknown-class", f"y is a {_kind(y)}; give the name of a class.")
        if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
            _reject("bad-id", f"id is a {_kind(name)}; give a string or an integer.")
        if isinstance(name, str) and not _is_text(name):
            _reject("bad-id", "id holds half a surrogate pair, which no UTF-8 text can.")
        return self._event(x, y, name)

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
    ) -> list[bytes]:
        """Write one prediction per event.

        ``{"id": "e1", "class": "UP", "proba": [0.4, 0.6], "model": 7, "offset": 41, "experts": [0.9, 0.1]}``:
        `class` is the most probable class, `proba` is in the schema's class order, `experts` (absent without
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
        """
        names = [self.schema.classes[c] for c in proba.argmax(axis=1)]
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


def _reject(reason: str, message: str) -> NoReturn:
    raise _UnusableError(reason, message)


def _by_text(names: Sequence[str]) -> dict[str | int | None, int]:
    """Index names by themselves and, where a name is the text of an integer, by that integer."""
    index: dict[str | int | None, int] = {name: i for i, name in enumerate(names)}
    return index | {int(name): i for i, name in enumerate(names) if _CANONICAL_INT.fullmatch(name)}


def _name(given: Any, is_label: bool, key: bytes | None, offset: int) -> str:
    if given is not None:
        return str(given)
    if key:
        try:
            return key.decode()
        except UnicodeDecodeError:
            pass  # bytes that are no text cannot be an id in the predictions' JSON
    if is_label:
        _reject("no-id", "A label alone needs an id, or a key in UTF-8, to find its event.")
    return str(offset)


def _checked_key(key: bytes | None, rule: KeyRule) -> bytes:
    if not key and rule.null_key == "dead-letter":
        _reject("no-key", f"The record's key is {'null' if key is None else 'empty'}; each key has its own model.")
    if key and len(key) > rule.max_key_bytes:
        _reject("key-too-large", f"The record's key has {len(key):,} bytes; the limit is {rule.max_key_bytes:,}.")
    return key or SHARED


def _cell(value: Any, name: str, nominal: bool) -> Any:
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool) and nominal):
        return value
    if not nominal and isinstance(value, int | float):
        return float(value)
    expected = "a category name" if nominal else "a number"
    _reject("bad-feature", f"Feature {_shown(name)} is a {_kind(value)}; it must be {expected}.")


def _int_or_float(digits: str) -> int | float:
    # int() takes quadratic time and refuses more than 4,300 digits; float() is linear and may give infinity.
    return int(digits) if len(digits) <= 20 else float(digits)


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    return ascii(value)[:60]


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
