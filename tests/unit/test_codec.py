from __future__ import annotations

import json
import math
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_moe.engine.codec import JsonCodec, schema_from_headers, schema_header
from stream_moe.errors import ConfigError
from stream_moe.types import Block, DeadLetter, Feature, RecordBatch, Schema

NUMERIC = Schema.numeric(3, ["DOWN", "UP"], ["a", "b", "c"])
MIXED = Schema((Feature("size"), Feature("colour", ("red", "blue")), Feature("grade", ("1", "2"))), ("0", "1"))
GOOD = b'{"id":"good","x":[1,2,3],"y":"UP"}'


def batch(
    *values: bytes | None, keys: list[bytes | None] | None = None, corrupt: tuple[int, ...] = ()
) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        np.arange(n) + 100, np.arange(n) + 5000, keys or [None] * n, list(values), 100 + n, list(corrupt)
    )


def one(schema: Schema, value: bytes, key: bytes | None = None) -> Block:
    block, dead = JsonCodec(schema).decode(batch(value, keys=[key]))
    assert dead == []
    assert len(block) == 1
    return block


def refused(schema: Schema, value: bytes | None, **options: Any) -> DeadLetter:
    block, dead = JsonCodec(schema, **options).decode(batch(value))
    assert len(block) == 0
    assert block.x.shape == (0, schema.n_features)
    (letter,) = dead
    assert (letter.offset, letter.timestamp, letter.value, letter.stage) == (100, 5000, value, "decode")
    return letter


def test_both_forms_of_x_give_the_same_block() -> None:
    block, dead = JsonCodec(NUMERIC).decode(
        batch(b'{"id":"e1","x":[1,2.5,true],"y":"UP"}', b'{"y":"DOWN","x":{"c":true,"a":1,"b":2.5},"id":2}')
    )
    assert dead == []
    assert block.x.dtype == np.float32
    assert block.x.tolist() == [[1, 2.5, 1]] * 2
    assert (block.y.dtype.name, block.y.tolist(), block.ids) == ("int32", [1, 0], ["e1", "2"])
    assert block.has_features is None
    assert block.offsets is not None
    assert block.timestamps is not None
    assert (block.offsets.tolist(), block.timestamps.tolist()) == ([100, 101], [5000, 5001])


@pytest.mark.parametrize(
    "text",
    ["null", "NaN", "Infinity", "-Infinity", "1e39", "-1e39", "1e999", "9" * 400, "9" * 5000],
    ids=lambda text: text[:10],
)
@pytest.mark.parametrize("form", ['{{"id":"e","x":[1,{},3]}}', '{{"id":"e","x":{{"a":1,"b":{},"c":3}}}}'])
def test_numbers_that_do_not_fit_are_missing(form: str, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        block = one(NUMERIC, form.format(text).encode())
    assert block.x[0, [0, 2]].tolist() == [1, 3]
    assert np.isnan(block.x[0, 1])


def test_absent_features_are_missing_and_unknown_ones_ignored() -> None:
    block = one(NUMERIC, b'{"id":"e","x":{"b":2,"new":{"deep":["er"]}}, "more": 1}')
    assert np.isnan(block.x[0]).tolist() == [True, False, True]
    assert np.isnan(one(NUMERIC, b'{"id":"e","x":{}}').x).all()


def test_nominal_values_become_their_index() -> None:
    values = [
        '[0.5,"blue","2"]',
        "[null,null,1]",
        '[1,"green",3]',
        '{"colour":"red","grade":2}',
        '[NaN,"red",1]',
    ]
    block, dead = JsonCodec(MIXED).decode(batch(*(b'{"x":%s,"y":1}' % value.encode() for value in values)))
    assert dead == []
    nan = math.nan
    np.testing.assert_array_equal(block.x, [[0.5, 1, 1], [nan, nan, 0], [1, nan, nan], [nan, 0, 1], [nan, 0, 0]])
    assert block.y.tolist() == [1] * 5


@pytest.mark.parametrize(
    ("classes", "text", "index"),
    [
        (("0", "1"), "1", 1),
        (("-1", "1"), "-1", 0),
        (("true", "false"), "false", 1),
        (("a", "1.5"), '"1.5"', 1),
        (("a", "b"), "null", -1),
    ],
)
def test_labels_by_name_or_by_the_text_of_a_number(classes: tuple[str, ...], text: str, index: int) -> None:
    block = one(Schema.numeric(1, classes), b'{"x":[1],"y":%s}' % text.encode())
    assert block.y.tolist() == [index]


def test_a_label_alone_has_no_features() -> None:
    block, dead = JsonCodec(NUMERIC).decode(batch(GOOD, b'{"id":"e1","y":"UP"}', b'{"id":"e2","x":null,"y":"UP"}'))
    assert dead == []
    assert block.has_features is not None
    assert block.has_features.tolist() == [True, False, False]
    assert np.isnan(block.x[1:]).all()


def test_the_id_falls_back_to_the_key_and_then_to_the_offset() -> None:
    assert one(NUMERIC, b'{"x":[1,2,3]}', b"k\xc3\xa9").ids == ["ké"]
    assert one(NUMERIC, b'{"id":null,"x":[1,2,3]}', b"").ids == ["100"]
    assert one(NUMERIC, b'{"x":[1,2,3]}', b"\xff").ids == ["100"]
    assert one(NUMERIC, b'{"id":123456789012345678901,"x":[1,2,3]}').ids == ["123456789012345678901"]


BAD: list[tuple[str, bytes | None]] = [
    ("tombstone", None),
    ("empty", b""),
    ("bad-json", b" "),
    ("bad-json", b'{"id":"e","x":[1,2,3]'),
    ("bad-json", b'{"id":"e","x":[1,2,3]}{}'),
    ("bad-json", b"\xef\xbb\xbf" + GOOD),
    ("bad-utf8", b'{"id":"\xff","x":[1,2,3]}'),
    ("bad-utf8", GOOD.decode().encode("utf-16")),
    ("too-deep", b'{"z":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    ("not-object", b"[1,2,3]"),
    ("not-object", b"null"),
    ("bad-length", b'{"x":[1,2]}'),
    ("bad-length", b'{"x":[1,2,3,4]}'),
    ("bad-length", b'{"x":[]}'),
    ("bad-feature", b'{"x":[1,"two",3]}'),
    ("no-known-feature", b'{"x":{"A":1,"B":2}}'),
    ("no-known-feature", b'{"x":{"A":NaN}}'),
    ("bad-feature", b'{"x":[1,[2],3]}'),
    ("bad-feature", b'{"x":{"a":{}}}'),
    ("bad-feature", b'{"x":"1,2,3"}'),
    ("bad-feature", b'{"x":7}'),
    ("unknown-class", b'{"x":[1,2,3],"y":"SIDEWAYS"}'),
    ("unknown-class", b'{"x":[1,2,3],"y":1}'),
    ("unknown-class", b'{"x":[1,2,3],"y":true}'),
    ("unknown-class", b'{"x":[1,2,3],"y":0.5}'),
    ("unknown-class", b'{"x":[1,2,3],"y":["UP"]}'),
    ("unknown-class", b'{"x":[1,2,3],"y":"\\ud800"}'),
    ("bad-id", b'{"id":1.5,"x":[1,2,3]}'),
    ("bad-id", b'{"id":"' + b"e" * 1025 + b'","x":[1,2,3]}'),
    ("bad-id", b'{"id":true,"x":[1,2,3]}'),
    ("bad-id", b'{"id":{},"x":[1,2,3]}'),
    ("bad-id", b'{"id":"\\ud800","x":[1,2,3]}'),
    ("no-content", b"{}"),
    ("no-content", b'{"id":"e","x":null,"y":null}'),
    ("no-id", b'{"y":"UP"}'),
]


@pytest.mark.parametrize(("reason", "value"), BAD, ids=lambda v: str(v)[:30])
def test_what_cannot_be_used_says_why(reason: str, value: bytes | None) -> None:
    letter = refused(NUMERIC, value)
    assert letter.reason == reason
    assert letter.message.endswith(".")
    assert letter.message.isascii()
    assert "\n" not in letter.message
    assert len(letter.message) < 200


@pytest.mark.parametrize("value", [b'{"x":[1,[1],1]}', b'{"x":[1,{},1]}', b'{"x":["one","red",1]}'])
def test_wrong_types_of_nominal_features(value: bytes) -> None:
    assert refused(MIXED, value).reason == "bad-feature"


MATCHED = Schema(
    (Feature("n"), Feature("flag", ("false", "true")), Feature("digit", ("0", "1")), Feature("v", ("1.1", "1.10"))),
    ("1", "true"),
)


@pytest.mark.parametrize(
    ("x", "values"),
    [
        ('[1, true, 1, "1.10"]', [1, 1, 1, 1]),
        ('["2.5", "True", 1.0, "1.1"]', [2.5, 1, 1, 0]),
        ('[true, false, "1.0", 1.1]', [1, 0, 1, 0]),
        ('["1970-01-02", "FALSE", false, "2"]', [86400, 0, 0, None]),
        ('["NA", "-", "", "null"]', [None, None, None, None]),
        ('{"flag": 1}', [None, 1, None, None]),
    ],
)
def test_values_are_matched_to_names_by_one_rule(x: str, values: list[float | None]) -> None:
    block = one(MATCHED, f'{{"x": {x}}}'.encode())
    assert [None if np.isnan(v) else v for v in block.x[0].tolist()] == values


@pytest.mark.parametrize(
    ("y", "label"),
    [
        ("1", 0),
        ("1.0", 0),
        ('"1"', 0),
        ('"1.0"', 0),
        ("true", 1),
        ('"True"', 1),
        ('"NA"', -1),
        ('""', -1),
        ("null", -1),
    ],
)
def test_labels_are_matched_by_the_same_rule(y: str, label: int) -> None:
    assert one(MATCHED, f'{{"x": [1, true, 1, "1.1"], "y": {y}}}'.encode()).y.tolist() == [label]


def test_features_may_stand_beside_the_label() -> None:
    block = one(NUMERIC, b'{"id": "e", "a": 1.5, "c": "2", "y": "UP", "other": 7}')
    assert (block.ids, block.y.tolist(), block.has_features) == (["e"], [1], None)
    assert block.x[0, [0, 2]].tolist() == [1.5, 2]
    assert one(NUMERIC, b'{"id": "e", "y": "UP", "other": 7}').has_features is not None


def test_an_empty_id_is_none() -> None:
    assert one(NUMERIC, b'{"id": "", "x": [1, 2, 3]}').ids == one(NUMERIC, b'{"x": [1, 2, 3]}').ids


def test_large_numbers_are_distances_from_their_base() -> None:
    schema = Schema((Feature("ms", base=1_700_000_000_000.0), Feature("b", ("u", "v"))), ("n",))
    block = one(schema, b'{"x": [1700000000007, "v"]}')
    assert block.x.tolist() == [[7, 1]]
    assert JsonCodec(schema).encode_events(block) == [b'{"id":"100","x":[1700000000007,"v"]}']


def test_a_value_beyond_the_limit_is_not_parsed() -> None:
    assert refused(NUMERIC, GOOD, max_bytes=len(GOOD) - 1).reason == "too-large"
    assert one(NUMERIC, GOOD).ids == ["good"]


def test_a_bad_record_never_harms_its_neighbours() -> None:
    values = [value for _, bad in BAD for value in (GOOD, bad)] + [GOOD]
    block, dead = JsonCodec(NUMERIC).decode(batch(*values))
    assert [letter.reason for letter in dead] == [reason for reason, _ in BAD]
    assert block.offsets is not None
    assert block.offsets.tolist() == list(range(100, 100 + len(values), 2))
    assert block.x.tolist() == [[1, 2, 3]] * len(block)
    assert block.ids == ["good"] * len(block)


def test_two_broken_records_do_not_complete_each_other() -> None:
    block, dead = JsonCodec(NUMERIC).decode(batch(b'{"id":"a","x":[1', b'2,3]},{"id":"b","x":[1,2,3]}'))
    assert len(block) == 0
    assert [letter.reason for letter in dead] == ["bad-json", "bad-json"]


def test_offsets_that_the_log_could_not_read_become_dead_letters_in_order() -> None:
    _, dead = JsonCodec(NUMERIC).decode(batch(b"{", GOOD, b"{", corrupt=(99, 101)))
    assert [(d.offset, d.stage, d.reason) for d in dead] == [
        (99, "log", "corrupt"),
        (100, "decode", "bad-json"),
        (101, "log", "corrupt"),
        (102, "decode", "bad-json"),
    ]
    assert dead[0].value is None


def test_an_empty_batch() -> None:
    for schema in (NUMERIC, MIXED):
        block, dead = JsonCodec(schema).decode(batch())
        assert (len(block), block.x.shape, dead) == (0, (0, 3), [])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcxy"), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.dictionaries(st.sampled_from(["id", "x", "y", "z"]), json_values).map(
                lambda plain: json.dumps(plain).encode()
            ),
            st.just(GOOD),
        ),
        max_size=8,
    )
)
def test_any_bytes_give_events_or_dead_letters_whatever_stands_beside_them(values: list[bytes]) -> None:
    for schema in (NUMERIC, MIXED):
        codec = JsonCodec(schema)
        block, dead = codec.decode(batch(*values))
        assert len(block) + len(dead) == len(values)
        assert not np.isinf(block.x).any()
        for i, value in enumerate(values):
            alone = batch(value)
            alone.offsets[:] += i
            single, letters = codec.decode(alone)
            assert [(d.offset, d.reason) for d in letters] == [
                (d.offset, d.reason) for d in dead if d.offset == 100 + i
            ]
            if len(single):
                assert block.offsets is not None
                row = block.offsets.tolist().index(100 + i)
                np.testing.assert_array_equal(single.x[0], block.x[row])
                assert (single.y[0], single.ids[0]) == (block.y[row], block.ids[row])


@settings(max_examples=300, deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(width=32, allow_infinity=False)))
def test_float32_values_survive_bit_for_bit(x: Any) -> None:
    codec = JsonCodec(NUMERIC)
    block, dead = codec.decode(batch(*codec.encode_events(Block(x, np.array([0, 1, -1, 0], np.int32)), 7)))
    assert dead == []
    x[np.isnan(x)] = np.nan  # one NaN for all: JSON's null keeps no payload
    np.testing.assert_array_equal(block.x.view(np.int32), x.view(np.int32))
    assert (block.y.tolist(), block.ids) == ([0, 1, -1, 0], ["7", "8", "9", "10"])


def test_numbers_are_written_short() -> None:
    codec = JsonCodec(NUMERIC)
    row = np.array([0.1, 1e-30, 16777216], np.float32)
    assert codec.encode_event("e", row, 0) == b'{"id":"e","x":[0.1,1e-30,16777216.0],"y":"DOWN"}'
    assert codec.encode_event("e", row) == b'{"id":"e","x":[0.1,1e-30,16777216.0]}'


def test_blocks_of_all_kinds_round_trip() -> None:
    nan = math.nan
    x = np.array([[0.5, 1, 0], [nan, nan, 1], [nan, nan, nan]], np.float32)
    sent = Block(x, np.array([1, -1, 0], np.int32), ["a", "b", "c"], np.array([True, True, False]))
    codec = JsonCodec(MIXED)
    values = codec.encode_events(sent)
    assert values[0] == b'{"id":"a","x":[0.5,"blue","1"],"y":"1"}'
    assert values[2] == b'{"id":"c","y":"0"}'
    block, dead = codec.decode(batch(*values))
    assert dead == []
    np.testing.assert_array_equal(block.x, x)
    assert (block.y.tolist(), block.ids) == ([1, -1, 0], sent.ids)
    assert block.has_features is not None
    assert block.has_features.tolist() == [True, True, False]
    assert codec.encode_events(Block(x[:0], sent.y[:0])) == []


def test_predictions() -> None:
    proba = np.array([[0.123456789, 1 - 0.123456789], [1.0, 0.0]])
    weights = np.array([[1 / 3, 2 / 3, 1e-9], [0.0, 1.0, math.nan]])
    first, second = JsonCodec(NUMERIC).encode_predictions(["e1", "e2"], np.array([41, 42]), proba, weights, "m7")
    assert msgspec.json.decode(first) == {
        "id": "e1",
        "class": "UP",
        "proba": [0.123457, 0.876543],
        "model": "m7",
        "offset": 41,
        "experts": [0.333333, 0.666667, 1e-9],
    }
    assert msgspec.json.decode(second)["experts"] == [0.0, 1.0, None]
    (plain,) = JsonCodec(NUMERIC).encode_predictions(["e1"], np.array([1]), proba[:1], None, 3)
    assert msgspec.json.decode(plain).keys() == {"id", "class", "proba", "model", "offset"}


def test_the_schema_travels_in_a_header() -> None:
    header = schema_header(MIXED)
    assert schema_from_headers([("other", b"\xff"), header]) == MIXED
    assert schema_from_headers([]) is None
    for damaged in (b"\xff", b"{", b"[]", b'{"features":1}', b"[" * 100_000):
        with pytest.raises(ConfigError):
            schema_from_headers([(header[0], damaged)])
