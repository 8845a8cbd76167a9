"""Records of any shape: what a mapping makes of them, fast and slowly, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.inputs import InputCounts
from stream_moe.engine.records.codec import RecordCodec
from stream_moe.engine.records.mapping import FieldMapping
from stream_moe.types import Block, DeadLetter, Feature, RecordBatch, Schema

SCHEMA = Schema((Feature("amount"), Feature("country", ("DE", "FR")), Feature("from.age")), ("no", "yes"))
MAPPING = FieldMapping("order", "fraud", "ts")
GOOD: dict[str, Any] = {
    "order": "o1", "fraud": "yes", "ts": 1700000000000, "amount": 2.5, "country": "FR", "from": {"age": 40}
}  # fmt: skip


def batch(values: list[Any], keys: list[bytes | None] | None = None, first: int = 100) -> RecordBatch:
    n = len(values)
    raw = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    return RecordBatch(np.arange(n) + first, np.arange(n) + 5000, keys or [None] * n, raw, first + n)


def one(record: Any, mapping: FieldMapping = MAPPING, key: bytes | None = None, **options: Any) -> Block:
    block, dead = RecordCodec(SCHEMA, mapping=mapping, **options).decode(batch([record], [key]))
    assert dead == []
    assert len(block) == 1
    return block


def refused(record: Any, mapping: FieldMapping = MAPPING, **options: Any) -> DeadLetter:
    labels_only = options.pop("labels_only", False)
    codec = RecordCodec(SCHEMA, mapping=mapping, **options)
    block, (letter,) = codec.decode(batch([record]), labels_only=labels_only)
    assert (len(block), codec.take_growth(), letter.offset, letter.stage) == (0, [], 100, "decode")
    return letter


def test_a_flat_record_is_an_event() -> None:
    block = one(GOOD)
    assert (block.x.tolist(), block.y.tolist(), block.ids) == ([[2.5, 1, 40]], [1], ["o1"])
    assert block.timestamps is not None
    assert block.timestamps.tolist() == [1700000000000]


def test_nothing_but_a_label_field_is_needed() -> None:
    block = one(
        {"amount": 1, "country": "DE", "fraud": False}, FieldMapping(label="fraud"), key=b"k7", unknown="grow"
    )
    assert (block.ids, block.x[0, :2].tolist(), block.y.tolist()) == (["k7"], [1, 0], [2])
    assert one({"id": 7, "amount": 1}, FieldMapping(label="fraud")).ids == ["7"]
    assert one({"amount": 1}, FieldMapping(label="fraud")).ids == ["100"]


@pytest.mark.parametrize(
    ("envelope", "record"),
    [
        ("payload.after", {"payload": {"before": None, "after": GOOD, "op": "c"}, "schema": {}}),
        ("data", {"specversion": "1.0", "source": "/shop", "data": GOOD}),
    ],
)
def test_an_envelope_holds_the_fields(envelope: str, record: dict[str, Any]) -> None:
    block = one(record, FieldMapping("order", "fraud", "ts", envelope=envelope))
    assert (block.x.tolist(), block.y.tolist(), block.ids) == ([[2.5, 1, 40]], [1], ["o1"])


def test_the_parts_of_a_cloud_event_stand_outside_of_its_data() -> None:
    record = {"id": "c1", "time": "2023-11-14T22:13:20Z", "data": {"amount": 1, "fraud": "no"}}
    block = one(record, FieldMapping("$.id", "fraud", "$.time", envelope="data"))
    assert block.timestamps is not None
    assert (block.ids, block.timestamps.tolist(), block.y.tolist()) == (["c1"], [1700000000000], [0])


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"order": None}, "no-id", "'order', the id, is not there, or null."),
        ({"order": ""}, "no-id", "'order', the id, is empty."),
        ({"order": [1]}, "bad-id", "'order' is a array"),
        ({"order": True}, "bad-id", "'order' is a boolean"),
        ({"order": "x" * 1025}, "bad-id", "1,025 characters"),
        ({"order": "\ud800"}, "bad-id", "surrogate"),
        ({"ts": None}, "bad-time", "The time is not there, or null"),
        ({"ts": "yesterday"}, "bad-time", "The time is 'yesterday'"),
        ({"ts": {}}, "bad-time", "The time is {}"),
        ({"fraud": "maybe"}, "unknown-class", "'fraud' is 'maybe', which is no class of the schema."),
        ({"fraud": [1]}, "unknown-class", "The label is a array"),
        ({"amount": "much"}, "bad-feature", "Feature 'amount' is a string; it must be a number."),
        ({"amount": [1, 2]}, "bad-feature", "Feature 'amount' is a array"),
        ({"country": [1]}, "bad-feature", "Feature 'country' is a array"),
    ],
)
@pytest.mark.parametrize("unknown", ["ignore", "grow"])
def test_what_a_record_must_have_and_has_not_is_told(
    change: dict[str, Any], reason: str, says: str, unknown: Any
) -> None:
    if unknown == "grow" and change.get("fraud") == "maybe":
        return
    letter = refused(GOOD | change | {"new": 1, "new.er": "x"}, unknown=unknown)
    assert letter.reason == reason
    assert says in letter.message


@pytest.mark.parametrize("member", ["order", "ts"])
def test_a_member_that_is_not_there_is_as_one_that_is_null(member: str) -> None:
    reason = {"order": "no-id", "ts": "bad-time"}[member]
    assert refused({name: value for name, value in GOOD.items() if name != member}).reason == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"), (b"", "empty"), (b"{", "bad-json"), (b"[1]", "not-object"), (b"\xff", "bad-utf8"),
        (b'{"a":' * 100_000, "too-deep"), (b" " * (1 << 20) + b"{}", "too-large"), (b"{}", "no-content"),
        (b'{"order":1,"ts":1700000000}', "no-content"), (b'{"note":1,"ts":1700000000}', "no-known-feature"),
    ],
)  # fmt: skip
def test_what_is_no_record_has_the_reasons_of_old(value: bytes | None, reason: str) -> None:
    assert refused(value).reason == reason


@pytest.mark.parametrize("payload", [None, 1, []])
def test_an_envelope_that_is_not_there_is_told(payload: Any) -> None:
    mapping = FieldMapping(label="fraud", envelope="payload.after")
    assert refused({"payload": {"after": payload}}, mapping).reason == "no-envelope"
    assert refused({"other": 1}, mapping).reason == "no-envelope"


def test_a_label_alone_and_an_event_of_nothing() -> None:
    label = {"order": "o1", "ts": 1700000000, "fraud": "no"}
    block = one(label)
    assert block.has_features is not None
    assert (block.has_features.tolist(), block.y.tolist()) == ([False], [0])
    assert one(label | {"amount": None}).has_features is None
    assert one(label | {"note": None}, FieldMapping("order", "fraud", "ts", drop=("note",))).has_features is not None


def test_labels_of_a_topic_of_their_own_have_names_of_their_own() -> None:
    codec = RecordCodec(SCHEMA, mapping=MAPPING, labels=FieldMapping("ref", "is_fraud"), unknown="grow")
    records = [{"ref": 1, "is_fraud": "yes", "who": "Ann"}, {"ref": 2, "is_fraud": "maybe", "amount": "x"}]
    block, dead = codec.decode(batch(records), labels_only=True)
    assert (block.y.tolist(), block.ids, dead) == ([1, 2], ["1", "2"], [])
    assert [(row, schema.classes) for row, schema in codec.take_growth()] == [(1, ("no", "yes", "maybe"))]
    labels: dict[str, Any] = {"labels": FieldMapping("ref", "is_fraud"), "labels_only": True}
    for record, reason in (({"ref": 1}, "no-content"), ({"is_fraud": "no"}, "no-id"), ({"ref": 1.5}, "bad-id")):
        assert refused(record, **labels).reason == reason, record
    native, dead = RecordCodec(SCHEMA, mapping=MAPPING).decode(batch([{"id": 3, "y": "no"}]), labels_only=True)
    assert (native.ids, dead) == (["3"], [])


@pytest.mark.parametrize("features", [("amount",), ("amount", "from"), ("from",)])
def test_only_the_features_that_were_named_are_looked_at(features: tuple[str, ...]) -> None:
    chosen = Schema(tuple(f for f in SCHEMA.features if f.name.split(".")[0] in features), ("no", "yes"))
    counts = InputCounts(chosen)
    codec = RecordCodec(
        chosen, mapping=FieldMapping("order", "fraud", features=features), inputs=counts, unknown="grow"
    )
    block, dead = codec.decode(batch([GOOD | {"more": 1}, GOOD | {"from": {"age": 1, "zip": 7}, "amount": 3}]))
    assert dead == []
    assert counts.names == {}
    grown = codec.take_growth()
    assert [f.name for _, schema in grown for f in schema.features[chosen.n_features :]] == (
        ["from.zip"] if "from" in features else []
    )
    assert block.x.shape == (2, chosen.n_features + len(grown))


def test_a_name_with_dots_of_its_own_is_read_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = RecordCodec(SCHEMA, mapping=FieldMapping("order", "fraud"))
    record = {"order": 1, "amount": 1, "from.age": 7}
    assert codec.decode(batch([record]))[0].x[0].tolist()[2] == 7
    monkeypatch.setattr(codec, "_careful_row_of", None)
    assert codec.decode(batch([record] * 3))[0].x[:, 2].tolist() == [7, 7, 7]


@pytest.mark.parametrize("unknown", ["ignore", "grow"])
def test_what_comes_again_is_read_at_once(unknown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names, arrays and nulls cost a second reading once."""
    codec = RecordCodec(SCHEMA, mapping=MAPPING, inputs=InputCounts(SCHEMA), unknown=unknown)
    record = GOOD | {"tags": ["a"], "nothing": None, "coupon": 3}
    codec.decode(batch([record]))
    codec.take_growth()
    monkeypatch.setattr(codec, "_careful_row_of", None)
    assert len(codec.decode(batch([record] * 3))[0]) == 3


def test_a_null_or_an_array_that_becomes_a_number_is_taken_in_then() -> None:
    codec = RecordCodec(SCHEMA, mapping=MAPPING, unknown="grow")
    for value, features in ((None, 3), ([1], 3), ({}, 3), ("NA", 3), (5, 4)):
        codec.decode(batch([GOOD | {"late": value}]))
        assert codec.schema.n_features == features, value


def test_a_dead_letter_takes_nothing_in() -> None:
    record = GOOD | {"new": 1, "country": "ES", "fraud": "maybe", "ts": None}
    assert refused(record, unknown="grow").reason == "bad-time"


def test_what_is_new_is_taken_in_in_the_order_of_the_log() -> None:
    codec = RecordCodec(SCHEMA, mapping=MAPPING, unknown="grow")
    records = [
        GOOD,
        GOOD | {"country": "ES", "b": 1, "a": "red"},
        GOOD | {"country": "PT", "fraud": "maybe"},
        GOOD | {"a": "blue", "country": "ES"},
        GOOD | {"t": "2024-01-31T10:00:00Z", "n": 1e12},
    ]
    block, dead = codec.decode(batch(records))
    assert dead == []
    steps = [
        (
            row,
            len(s.features[1].categories or ()),
            [(f.name, f.categories, f.base) for f in s.features[3:]],
            s.n_classes,
        )
        for row, s in codec.take_growth()
    ]
    red = ("a", ("red",), 0.0), ("b", None, 0.0)
    both = ("a", ("red", "blue"), 0.0), ("b", None, 0.0)
    times = ("n", None, 1e12), ("t", None, 1706695200.0)
    assert steps == [
        (1, 3, [*red], 2), (2, 4, [*red], 3), (3, 4, [*both], 3), (4, 4, [*both, *times], 3)
    ]  # fmt: skip
    assert block.x.shape == (5, 7)
    assert block.x[:, 1].tolist() == [1, 2, 3, 2, 1]
    assert np.isnan(block.x[0, 3:]).all()
    assert block.x[4, 5:].tolist() == [0, 0]
    assert next(codec.news()).startswith(
        "offset 101 to 104: new features taken in, of which there are now 7: 'a' (a "
    )


texts = st.sampled_from(["DE", "ES", "", "NA", "1.5", "7", "x", "2024-01-31", "true"])
values = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=True, width=32), texts,
    st.lists(st.integers(0, 1), max_size=2),
    st.dictionaries(st.sampled_from(["age", "b"]), st.integers(0, 3), max_size=2),
)  # fmt: skip
members = st.dictionaries(
    st.sampled_from(["order", "fraud", "amount", "country", "from", "from.age", "n1", "n2", 'q"', "id", "x", "y"]),
    values, max_size=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(members, max_size=12),
    st.sampled_from(["ignore", "grow", "dead-letter"]),
    st.booleans(),
    st.integers(1, 12),
)
def test_compiled_or_not_and_in_any_blocks_a_record_is_the_same(
    records: list[dict[str, Any]], unknown: Any, native: bool, rows: int
) -> None:
    mapping = None if native else FieldMapping("order", "fraud")
    seen = []
    for compiled, size in ((True, 99), (False, 99), (True, rows)):
        counts = InputCounts(SCHEMA)
        codec = RecordCodec(SCHEMA, mapping=mapping, unknown=unknown, inputs=counts)
        if not compiled:
            codec._reader.for_schema = lambda schema: None  # type: ignore[method-assign]
        events: list[Any] = []
        dead: list[Any] = []
        for start in range(0, len(records), size):
            block, letters = codec.decode(batch(records[start : start + size], first=start))
            dead += [(letter.offset, letter.reason) for letter in letters]
            for name, label, row in zip(block.ids, block.y.tolist(), block.x.tolist(), strict=True):
                named = zip(codec.schema.feature_index, row, strict=True)
                events.append((name, label, {feature: value for feature, value in named if not np.isnan(value)}))
            for _, grown in codec.take_growth():
                counts.grow(grown)
        seen.append((codec.schema, dead, events, counts.names))
    assert seen[0] == seen[1] == seen[2]


def test_the_form_of_old_reads_as_before_where_it_may_grow() -> None:
    values: list[Any] = [
        {"id": "a", "x": [1, "DE", None], "y": "no"}, {"x": {"amount": "2.5", "country": "FR"}, "y": 1},
        {"amount": 3, "id": 5}, {"id": "b", "y": "yes"}, {"x": [1]}, {"x": {}}, {"x": 5}, {"y": "yes"}, {"x": None},
        {"x": {"other": 1}}, b"nonsense", {"x": {"amount": None}},
    ]  # fmt: skip
    schema = Schema((*SCHEMA.features[:2], Feature("age")), SCHEMA.classes)
    old, dead = JsonCodec(schema).decode(batch(values))
    new, letters = RecordCodec(schema, unknown="ignore", labels=FieldMapping("ref", "y")).decode(batch(values))
    assert [(letter.offset, letter.reason) for letter in letters] == [
        (letter.offset, letter.reason) for letter in dead
    ]
    assert np.array_equal(old.x, new.x, equal_nan=True)
    assert (old.ids, old.y.tolist()) == (new.ids, new.y.tolist())
    assert old.has_features is not None
    assert new.has_features is not None
    assert old.has_features.tolist() == new.has_features.tolist()


def test_a_dict_of_another_format_is_read_as_json_is() -> None:
    records = [GOOD, GOOD | {"amount": None, "from": {}}, GOOD | {"amount": "x"}, GOOD | {"extra": 1}]
    plain = RecordCodec(SCHEMA, mapping=MAPPING, unknown="grow")
    other = RecordCodec(SCHEMA, mapping=MAPPING, unknown="grow", read=msgspec.msgpack.decode)
    a, dead = plain.decode(batch(records))
    b, letters = other.decode(batch([msgspec.msgpack.encode(record) for record in records]))
    assert [letter.reason for letter in letters] == [letter.reason for letter in dead] == ["bad-feature"]
    assert np.array_equal(a.x, b.x, equal_nan=True)
    assert (a.ids, a.y.tolist(), plain.schema) == (b.ids, b.y.tolist(), other.schema)
