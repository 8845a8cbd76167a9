"""Avro: records to dicts and back, by fastavro's compiled code.

Numbers, texts and booleans are those; an enum is its text. A decimal is a number; a date, time or timestamp is the
number that is stored (timestamp-millis: milliseconds since 1970), a uuid its text. Bytes hold nothing, as an array
does. A union is the value of its branch, null a missing one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from stream_moe.engine.fields import reject
from stream_moe.errors import ConfigError, one_line
from stream_moe.formats.avro_types import Types
from stream_moe.ports import RegisteredSchema
from stream_moe.runtime.extras import need


def reader(schema: RegisteredSchema, start: int) -> Callable[[bytes], dict[str, Any]]:
    """Make what reads a record whose payload begins at `start`; ConfigError where the schema cannot be used."""
    fastavro = need("fastavro", "registry", "Avro")
    types = Types()
    named: dict[str, Any] = {}
    for each in [*_imports(schema), schema]:
        root, convert = types.of(_loaded(each.text))
        try:
            parsed = fastavro.parse_schema(root, named)
        except Exception as error:  # of the library's, which has several kinds
            raise ConfigError(f"no Avro schema: {one_line(error)[:200]}") from None
    if not isinstance(root, dict) or root["type"] != "record":
        raise ConfigError("an Avro schema that is no record; an event is one")
    read = fastavro.schemaless_reader

    def record_of(record: bytes) -> dict[str, Any]:
        file = BytesIO(record)
        file.seek(start)
        try:
            found: dict[str, Any] = read(file, parsed, None)
        except (EOFError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError) as error:
            reject("bad-avro", f"The value is not of its schema ({type(error).__name__}).")
        if file.tell() != len(record):
            reject("bad-avro", f"The value has {len(record) - file.tell():,} bytes more than its schema takes.")
        return found if convert is None else convert(found)

    return record_of


def writer(text: str) -> Callable[[Mapping[str, Any]], bytes]:
    """Make what writes records of a schema, without the framing."""
    fastavro = need("fastavro", "registry", "Avro")
    parsed, write = fastavro.parse_schema(json.loads(text)), fastavro.schemaless_writer

    def payload(record: Mapping[str, Any]) -> bytes:
        file = BytesIO()
        write(file, parsed, record)
        return file.getvalue()

    return payload


def _imports(schema: RegisteredSchema) -> list[RegisteredSchema]:
    """Return what a schema refers to, each behind what it refers to itself."""
    found: list[RegisteredSchema] = []
    for _, each in schema.imports:
        found += [other for other in [*_imports(each), each] if other not in found and other.text]
    return found


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if text.strip().isidentifier():
            return text.strip()  # a primitive may stand without quotes
        raise ConfigError("no Avro schema: not JSON") from None
