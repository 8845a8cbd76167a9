"""Avro and Protobuf records as plain dicts: every type's value, and what schema or record is refused, and how."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import pytest

from stream_moe.engine.fields import UnusableError
from stream_moe.errors import ConfigError, UnavailableError
from stream_moe.formats import avro, protobuf
from stream_moe.formats.framing import HEAD, Formats, framed
from stream_moe.ports import RegisteredSchema

HEADER = framed(1)


def record_schema(*fields: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "E",
        "fields": [{"name": f"f{j}", "type": t} for j, t in enumerate(fields)],
    } | more


def avro_record(schema: Any, record: dict[str, Any]) -> bytes:
    file = BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), record)
    return HEADER + file.getvalue()


def avro_reader(schema: Any, *imports: RegisteredSchema) -> Callable[[bytes], dict[str, Any]]:
    named = tuple((f"import {j}", each) for j, each in enumerate(imports))
    return avro.reader(RegisteredSchema("AVRO", json.dumps(schema), named), HEAD)


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
FIXED = {"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 1}
ENUM = {"type": "enum", "name": "C", "symbols": ["DE", "FR"]}


@pytest.mark.parametrize(
    ("kind", "written", "read"),
    [
        ("int", 3, 3),
        ("double", 2.5, 2.5),
        ("boolean", True, True),
        ("string", "é", "é"),
        (["null", "double"], None, None),
        (["null", "double", "string"], "text", "text"),
        (ENUM, "FR", "FR"),
        ("bytes", b"\xff", []),
        (DECIMAL, b"\xfb\x2e", -12.34),
        (["null", DECIMAL], b"\x04\xd2", 12.34),
        (FIXED, b"\x00\x00\x00\x0f", 1.5),
        ({"type": "long", "logicalType": "timestamp-millis"}, 1700000000123, 1700000000123),
        ({"type": "long", "logicalType": "timestamp-micros"}, 1700000000123456, 1700000000123456),
        ({"type": "int", "logicalType": "date"}, 19000, 19000),
        ({"type": "string", "logicalType": "uuid"}, "c0ffee", "c0ffee"),
        ({"type": "map", "values": "double"}, {"a": 1.0}, {"a": 1.0}),
        (["null", {"type": "map", "values": DECIMAL}], {"a": b"\x01"}, {"a": 0.01}),
        ({"type": "array", "items": "long"}, [1, 2], [1, 2]),
        (record_schema("long", DECIMAL, name="Inner"), {"f0": 1, "f1": b"\x64"}, {"f0": 1, "f1": 1.0}),
        (["null", record_schema(DECIMAL, name="Inner")], {"f0": b"\x64"}, {"f0": 1.0}),
    ],
)
def test_each_type_of_avro_has_its_value(kind: Any, written: Any, read: Any) -> None:
    def raw(given: Any) -> Any:  # the writer is given what is stored
        if isinstance(given, dict):
            return {
                key: raw(value) for key, value in given.items() if key not in ("logicalType", "precision", "scale")
            }
        return [raw(each) for each in given] if isinstance(given, list) else given

    found = avro_reader(record_schema(kind))(avro_record(raw(record_schema(kind)), {"f0": written}))
    assert found == {"f0": read}


def test_a_decimal_beyond_all_numbers_is_none() -> None:
    schema = record_schema("bytes")
    assert avro_reader(record_schema(DECIMAL))(avro_record(schema, {"f0": b"\1" * 500_000})) == {"f0": []}


def test_types_are_found_by_name_in_namespaces_and_in_other_schemas() -> None:
    other = RegisteredSchema(
        "AVRO", json.dumps({"type": "enum", "name": "C", "namespace": "n", "symbols": ["a", "b"]})
    )
    schema = record_schema("C", "n.C", ["null", {"type": "record", "name": "R", "fields": []}], "R", namespace="n")
    whole = record_schema(json.loads(other.text), "n.C", ["null", {"type": "record", "name": "R", "fields": []}], "R",
                          namespace="n")  # fmt: skip
    record: dict[str, Any] = {"f0": "b", "f1": "a", "f2": None, "f3": {}}
    assert avro_reader(schema, other)(avro_record(whole, record)) == record


def doubling(depth: int) -> dict[str, Any]:
    """A record that unfolds to two of the one before, and so on: of 2 ** depth values, and no byte."""
    inner: Any = record_schema(name="N0")
    for n in range(1, depth):
        inner = record_schema(inner, f"N{n - 1}", name=f"N{n}")
    return record_schema(inner)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (record_schema(["null", "E"]), "refers to itself, at 'E'"),
        (record_schema({"type": "array", "items": "null"}), "an array of nothing"),
        (record_schema({"type": "array", "items": record_schema("null", name="R")}), "an array of nothing"),
        (record_schema({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}), "an array of nothing"),
        (doubling(40), "unfolds to more than 10,000 values"),
        ("string", "is no record"),
        (record_schema("nonsense"), "there is no type 'nonsense'"),
        (record_schema({"type": "enum", "name": "C", "symbols": "none"}), "no Avro schema"),
        ({"type": "record", "fields": []}, "without a name"),
        ({"type": "record", "name": "E", "fields": [7]}, "a field without a name"),
        ([], "is no record"),
        (7, "a type that is none"),
        ({"type": {"type": {"type": "no such"}}}, "there is no type"),
    ],
)
def test_an_avro_schema_that_cannot_be_used(schema: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        avro_reader(schema)


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: Any = "long"
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ConfigError, match="nested deeper"):
        avro_reader(record_schema(schema))


PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Country { UNKNOWN = 0; DE = 1; }
message Order {
  message Line { string name = 1; Line next = 2; }
  string id = 1;
  double amount = 2;
  optional double paid = 3;
  Country country = 4;
  google.protobuf.Timestamp at = 5;
  google.protobuf.StringValue note = 6;
  repeated int64 items = 7;
  map<string, double> weights = 8;
  bytes raw = 9;
  Line line = 10;
  oneof how { bool cash = 11; int64 card = 12; }
  map<int32, Line> lines = 13;
}
"""


@pytest.fixture(scope="module")
def order() -> tuple[Any, Callable[[bytes], dict[str, Any]]]:
    from google.protobuf import message_factory

    schema = RegisteredSchema("PROTOBUF", PROTO)
    _, pool = protobuf.compiled(schema)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order")), protobuf.reader(schema, HEAD)


def test_a_field_that_is_not_set_is_its_default_or_missing(order: Any) -> None:
    cls, read = order
    found = read(HEADER + b"\0" + cls(id="7").SerializeToString())
    assert found == {"id": "7", "amount": 0.0, "country": "UNKNOWN", "raw": []}


def test_each_type_of_protobuf_has_its_value(order: Any) -> None:
    cls, read = order
    message = cls(id="7", amount=2, paid=0, country=1, items=[1], weights={"a": 1.5}, raw=b"x", card=5)
    message.at.seconds, message.at.nanos = 1700000000, 500_000_000
    message.note.value = "gift"
    message.line.name, message.line.next.name = "a", "b"
    message.lines[3].name = "c"
    found = read(HEADER + b"\0" + message.SerializeToString())
    assert found == {
        "id": "7", "amount": 2.0, "paid": 0.0, "country": "DE", "at": 1700000000.5, "note": "gift", "items": [],
        "weights": {"a": 1.5}, "raw": [], "line": {"name": "a", "next": {"name": "b"}}, "card": 5,
        "lines": {"3": {"name": "c"}},
    }  # fmt: skip
    message.ClearField("country")
    unknown = message.SerializeToString() + b"\x20\x63"  # field 4 is 99
    assert read(HEADER + b"\0" + unknown)["country"] == "99"


def test_the_index_path_leads_to_the_message(order: Any) -> None:
    _, read = order
    line = b"\x0a\x01a"
    assert read(HEADER + b"\x04\x00\x00" + line) == {"name": "a"}  # two indices: Order, Line
    assert read(HEADER + b"\x02\x00" + line)["id"] == "a"  # one index, 0


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b"", "ends inside its index path"),
        (b"\x02\x02", "leads to no message"),
        (b"\x02\x01", "leads to no message"),
        (b"\x80\x80\x80\x80\x80\x80", "ends inside its index path"),
        (b"\x64", "has 50 indices"),
        (b"\0\xff", "not of its schema"),
        (b"\0" + b"\x52\x7f" * 9, "not of its schema"),
    ],
)
def test_a_message_that_is_none(order: Any, tail: bytes, said: str) -> None:
    with pytest.raises(UnusableError) as caught:
        order[1](HEADER + tail)
    assert caught.value.args[0] == "bad-protobuf"
    assert said in caught.value.args[1]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (RegisteredSchema("PROTOBUF", "nonsense"), "no Protobuf schema: "),
        (RegisteredSchema("PROTOBUF", 'syntax = "proto3"; import "confluent/meta.proto";'), "confluent/meta.proto"),
        (RegisteredSchema("PROTOBUF", "", (("../up.proto", RegisteredSchema("PROTOBUF", "")),)), "no name of a file"),
        (
            RegisteredSchema("PROTOBUF", "", (("/etc/x.proto", RegisteredSchema("PROTOBUF", "")),)),
            "no name of a file",
        ),
    ],
)
def test_a_protobuf_schema_that_cannot_be_used(schema: RegisteredSchema, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        protobuf.reader(schema, HEAD)


def test_a_protobuf_schema_may_import_others() -> None:
    other = RegisteredSchema("PROTOBUF", 'syntax = "proto3"; package o; message P { int64 n = 1; }')
    text = 'syntax = "proto3"; import "o/p.proto"; message E { o.P p = 1; }'
    read = protobuf.reader(RegisteredSchema("PROTOBUF", text, (("o/p.proto", other),)), HEAD)
    assert read(HEADER + b"\0" + b"\x0a\x02\x08\x05") == {"p": {"n": 5}}


@pytest.mark.parametrize("kind", ["avro", "protobuf"])
def test_bytes_that_were_changed_are_a_record_or_a_dead_letter(order: Any, kind: str) -> None:
    """Whatever stands there: no other error, and never more than a moment."""
    drawn = random.Random(1)
    if kind == "avro":
        schema = record_schema("string", ["null", "double"], {"type": "array", "items": "long"}, "bytes", ENUM,
                               {"type": "map", "values": "string"}, "int")  # fmt: skip
        whole = avro_record(schema, {"f0": "id", "f1": 2.0, "f2": [1, 2, 3], "f3": b"abc", "f4": "DE",
                                     "f5": {"a": "b"}, "f6": 5})  # fmt: skip
        read = avro_reader(schema)
    else:
        cls, read = order
        whole = HEADER + b"\0" + cls(id="7", amount=2, items=[1, 2], weights={"a": 1.5}).SerializeToString()
    refused = 0
    for _ in range(20_000):
        changed = bytearray(whole)
        for _ in range(drawn.randrange(1, 4)):
            changed[drawn.randrange(HEAD, len(changed))] = drawn.choice(
                [0, 1, 0x7F, 0x80, 0xFE, 0xFF, drawn.randrange(256)]
            )
        del changed[drawn.randrange(HEAD, len(changed) + 1) :]
        try:
            assert isinstance(read(bytes(changed)), dict)
        except UnusableError:
            refused += 1
    assert 1_000 < refused < 20_000


class Held:
    """A registry in memory, which may be away."""

    def __init__(self, **schemas: RegisteredSchema) -> None:
        self.schemas, self.away, self.asked = schemas, False, 0

    def find(self, number: int) -> RegisteredSchema | None:
        self.asked += 1
        if self.away:
            raise UnavailableError("registry: no answer")
        return self.schemas.get(str(number))

    def register(self, subject: str, kind: str, text: str) -> int:
        raise AssertionError(subject)


def test_each_record_is_read_by_the_schema_that_it_names_and_each_schema_asked_for_once() -> None:
    text = json.dumps(record_schema("long"))
    registry = Held(**{"1": RegisteredSchema("AVRO", text), "2": RegisteredSchema("PROTOBUF", PROTO),
                       "3": RegisteredSchema("JSON", "{}"), "4": RegisteredSchema("AVRO", "nonsense")})  # fmt: skip
    formats = Formats(registry)
    records = [
        avro_record(record_schema("long"), {"f0": 5}),
        framed(2) + b"\0\x0a\x017",
        framed(3) + b'{"a":1}',
        b"{}",
    ]
    for _ in range(3):
        formats.prepare([*records, None, framed(4), framed(9), b"\0\0"])
    assert registry.asked == 5
    found = [formats.read(record) for record in records]
    assert (found[0], found[1]["id"], found[2:]) == ({"f0": 5}, "7", [{"a": 1}, {}])
    for record, reason in [
        (framed(4) + b"x", "unusable-schema"),
        (framed(9), "unknown-schema"),
        (b"\0\0", "bad-framing"),
    ]:
        with pytest.raises(UnusableError) as caught:
            formats.read(record)
        assert caught.value.args[0] == reason


def test_what_bears_no_schema_asks_nobody() -> None:
    registry = Held()
    registry.away = True
    formats = Formats(registry)
    formats.prepare([b"{}", None, b""])
    with pytest.raises(UnavailableError):
        formats.prepare([framed(1)])
