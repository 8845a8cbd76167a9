"""Events and predictions written as Avro, Protobuf or JSON Schema, each under a schema that is registered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import msgspec

from stream_moe.engine.codec import JsonCodec
from stream_moe.errors import ConfigError
from stream_moe.formats import avro, protobuf
from stream_moe.formats.framing import framed
from stream_moe.ports import SchemaRegistry
from stream_moe.types import Block, Schema

Format = Literal["json", "avro", "protobuf", "json-schema"]
FORMATS: tuple[str, ...] = get_args(Format)
SPACE = "stream_moe"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

PREDICTION = json.dumps(
    {
        "type": "record",
        "name": "Prediction",
        "namespace": SPACE,
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "class", "type": "string"},
            {"name": "proba", "type": {"type": "array", "items": ["null", "double"]}},
            {"name": "model", "type": "string"},
            {"name": "offset", "type": "long"},
            {"name": "experts", "type": ["null", {"type": "array", "items": ["null", "double"]}], "default": None},
        ],
    }
)


class EventWriter:
    """Writes events as `JsonCodec.encode_events`, in a format.

    Parameters
    ----------
    schema
        Of the events; their features are members of ``x`` by name.
    format
        One of `FORMATS`.
    registry
        Where the events' schema is registered; not asked for plain JSON.
    subject
        Under which.
    """

    def __init__(self, schema: Schema, format: str, registry: SchemaRegistry | None, subject: str) -> None:
        self._codec = JsonCodec(schema)
        self._names = [feature.name for feature in schema.features]
        if format == "json":
            self._payload: Callable[[Any], bytes] | None = None
            return
        if registry is None:
            raise ConfigError(f"--format {format}: name the schema registry with --registry URL")
        if format != "json-schema":
            for name in self._names:
                if not _NAME.fullmatch(name):
                    raise ConfigError(
                        f"--format {format}: feature {name!r} is no name there (letters, digits, _); "
                        "use json-schema, or rename the column"
                    )
        kind, text = event_schema(schema, format)
        self._head = framed(registry.register(subject, kind, text))
        if format == "avro":
            self._payload = avro.writer(text)
        elif format == "protobuf":
            self._head += protobuf.FIRST_MESSAGE
            self._payload = protobuf.writer(text, f"{SPACE}.Event")
        else:
            self._payload = msgspec.json.Encoder().encode

    def encode_events(self, block: Block, first_id: int = 0) -> list[bytes]:
        """Write the events of a block."""
        plain = self._codec.encode_events(block, first_id)
        if self._payload is None:
            return plain
        head, payload = self._head, self._payload
        return [head + payload(self._by_name(msgspec.json.decode(each))) for each in plain]

    def _by_name(self, event: dict[str, Any]) -> dict[str, Any]:
        x = event.get("x")
        named = None if x is None else dict(zip(self._names, x, strict=True))
        return {"id": event["id"], "x": named, "y": event.get("y")}


def event_schema(schema: Schema, format: str) -> tuple[str, str]:
    """Return the kind and the text of the schema under which events are written."""
    features = [(feature.name, feature.is_nominal) for feature in schema.features]
    if format == "avro":
        named = [
            {"name": name, "type": ["null", "string" if nominal else "double"], "default": None}
            for name, nominal in features
        ]
        x = {"type": "record", "name": "Features", "fields": named}
        fields = [
            {"name": "id", "type": "string"},
            {"name": "x", "type": ["null", x], "default": None},
            {"name": "y", "type": ["null", "string"], "default": None},
        ]
        return "AVRO", json.dumps({"type": "record", "name": "Event", "namespace": SPACE, "fields": fields})
    if format == "protobuf":
        lines = [
            f"  optional {'string' if nominal else 'double'} {name} = {number + (number >= 19_000) * 1_000};"
            for number, (name, nominal) in enumerate(features, 1)  # 19,000 to 19,999 are protobuf's own
        ]
        event = "message Event {\n  string id = 1;\n  Features x = 2;\n  optional string y = 3;\n}\n"
        syntax = f'syntax = "proto3";\npackage {SPACE};\n'
        return "PROTOBUF", syntax + event + "message Features {\n" + "\n".join(lines) + "\n}\n"
    members = {name: {"type": ["null", "string" if nominal else "number"]} for name, nominal in features}
    properties = {
        "id": {"type": "string"},
        "x": {"type": ["null", "object"], "properties": members},
        "y": {"type": ["null", "string"]},
    }
    about = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Event", "type": "object"}
    return "JSON", json.dumps(about | {"properties": properties, "required": ["id"]})


class AvroPredictions:
    """Makes Avro records of predictions in JSON, under a schema that is registered when the first one comes.

    Parameters
    ----------
    registry, subject
        Where.
    """

    def __init__(self, registry: SchemaRegistry, subject: str) -> None:
        self._registry, self._subject = registry, subject
        self._payload = avro.writer(PREDICTION)
        self._head = b""

    def register(self) -> None:
        """Register the schema, once; `UnavailableError` where the registry does not answer now."""
        if not self._head:
            self._head = framed(self._registry.register(self._subject, "AVRO", PREDICTION))

    def encode(self, prediction: bytes) -> bytes:
        """Return one prediction, framed."""
        found: Mapping[str, Any] = msgspec.json.decode(prediction)
        return self._head + self._payload({"experts": None, **found, "model": str(found["model"])})
