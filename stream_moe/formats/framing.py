"""Confluent's framing: a byte 0, the schema's id in 4 bytes, and what the schema says.

`Formats` reads such records, each under the schema whose id it bears, beside records of plain JSON, of which none
begins with a byte 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from stream_moe.engine.codec import object_of
from stream_moe.engine.fields import UnusableError, reject
from stream_moe.errors import ConfigError, one_line
from stream_moe.formats import avro, protobuf
from stream_moe.ports import RegisteredSchema, SchemaRegistry

MAGIC = b"\0"
HEAD = 5  # bytes before the payload
Reader = Callable[[bytes], dict[str, Any]]
"""From a framed record to its dict; `UnusableError` where it cannot be read."""

_log = logging.getLogger(__name__)


def framed(number: int) -> bytes:
    r"""Return what stands before the payload of a record under a schema.

    >>> framed(7)
    b'\x00\x00\x00\x00\x07'
    """
    return MAGIC + number.to_bytes(4, "big")


class Formats:
    """Reads records under the schemas that they name.

    Parameters
    ----------
    registry
        Where schemas are asked for, by `prepare` alone; each once, as what an id means never changes.

    Examples
    --------
    >>> class Held:
    ...     def find(self, number: int) -> RegisteredSchema | None:
    ...         return RegisteredSchema("JSON", "{}") if number == 7 else None
    >>> formats, records = Formats(Held()), [framed(7) + b'{"a": 1}', framed(8), b'{"a": 2}']
    >>> formats.prepare(records)
    >>> formats.read(records[0]), formats.read(records[2])
    ({'a': 1}, {'a': 2})
    >>> formats.read(records[1])
    Traceback (most recent call last):
    stream_moe.engine.fields.UnusableError: ('unknown-schema', 'The registry has no schema 8.')
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._readers: dict[bytes, Reader] = {}  # by the first 5 bytes of a record

    def prepare(self, records: Iterable[bytes | None]) -> None:
        """Learn the schemas that records name; `UnavailableError` where the registry cannot be asked now."""
        heads = {record[:HEAD] for record in records if record is not None and record[:1] == MAGIC}
        for head in heads - self._readers.keys():
            if len(head) == HEAD:
                self._readers[head] = self._reader(int.from_bytes(head[1:], "big"))

    def read(self, record: bytes) -> dict[str, Any]:
        """Return a record as a dict, for the mapping; `UnusableError` where it cannot be read."""
        if record[:1] != MAGIC:
            return _json(record)
        reader = self._readers.get(record[:HEAD])
        if reader is None:
            if len(record) < HEAD:
                reject(
                    "bad-framing", f"The value begins with a byte 0, and has {len(record)} bytes; {HEAD} are least."
                )
            self.prepare([record])
            reader = self._readers[record[:HEAD]]
        return reader(record)

    def _reader(self, number: int) -> Reader:
        schema = self._registry.find(number)
        if schema is None:
            _log.warning("the registry has no schema %d: records that name it are dead letters", number)
            return _refusing("unknown-schema", f"The registry has no schema {number}.")
        try:
            reader = _MAKE[schema.kind](schema)
        except ConfigError as error:
            if "pip install" in str(error):  # a format whose packages are not here: nothing is lost by ending
                raise
            _log.warning("schema %d cannot be used: %s; records that name it are dead letters", number, error)
            return _refusing("unusable-schema", f"Schema {number} of the registry: {one_line(error)}.")
        _log.info("schema %d of the registry: %s", number, schema.kind)
        return reader


def _refusing(reason: str, message: str) -> Reader:
    def read(record: bytes) -> dict[str, Any]:
        raise UnusableError(reason, message)

    return read


def _json(record: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else object_of(record)  # which is lenient, or says what is wrong


_MAKE: dict[str, Callable[[RegisteredSchema], Reader]] = {
    "AVRO": lambda schema: avro.reader(schema, HEAD),
    "PROTOBUF": lambda schema: protobuf.reader(schema, HEAD),
    "JSON": lambda schema: lambda record: _json(record[HEAD:]),
}
