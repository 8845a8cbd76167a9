"""Protobuf: records to dicts and back, by the compiled code of protobuf.

A schema is compiled by protoc (of grpcio-tools) from its text. Fields have the names of the .proto file. A field
without presence (proto3, no `optional`) that is not set has its default, 0, "" or false: the record does not tell the
two apart. Any other field that is not set is missing. An enum is its name; a Timestamp or Duration is seconds, a
wrapper what it wraps; bytes and repeated fields hold nothing, as arrays do; a map is an object.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stream_moe.engine.fields import reject
from stream_moe.errors import ConfigError, one_line
from stream_moe.ports import RegisteredSchema
from stream_moe.runtime.extras import need

FIRST_MESSAGE = b"\0"  # index path of the first message of a file
_MAIN = "registered.proto"
_COMPILE_SECONDS = 60.0
_MOST_INDICES, _VARINT_BYTES = 16, 5
_FILE_NAME = re.compile(r"(?!/)(?!.*(?:^|/)\.\.?(?:/|$))[\w./-]{1,200}\.proto")
_SECONDS = {"google.protobuf.Timestamp", "google.protobuf.Duration"}
_WRAPPER = re.compile(r"google\.protobuf\.\w+Value")

Take = Callable[[Any], dict[str, Any]]


def reader(schema: RegisteredSchema, start: int) -> Callable[[bytes], dict[str, Any]]:
    """Make what reads a record whose index path begins at `start`; ConfigError where the schema cannot be used."""
    file, pool = compiled(schema)
    error = need("google.protobuf.message", "registry", "Protobuf").DecodeError
    message_class = need("google.protobuf.message_factory", "registry", "Protobuf").GetMessageClass
    takers: dict[str, Take] = {}
    known: dict[tuple[int, ...], tuple[Callable[[bytes], Any], Take]] = {}

    def of(path: tuple[int, ...]) -> tuple[Callable[[bytes], Any], Take]:
        if path not in known:
            messages, name = file.message_type, file.package
            for index in path:
                if not 0 <= index < len(messages):
                    reject("bad-protobuf", f"The value's index path {list(path)} leads to no message of its schema.")
                name = f"{name}.{messages[index].name}".lstrip(".")
                messages = messages[index].nested_type
            found = pool.FindMessageTypeByName(name)
            known[path] = message_class(found).FromString, _taker(found, takers)
        return known[path]

    def record_of(record: bytes) -> dict[str, Any]:
        path, at = ((0,), start + 1) if record[start : start + 1] == FIRST_MESSAGE else _path(record, start)
        parse, take = of(path)
        try:
            return take(parse(record[at:]))
        except error:
            reject("bad-protobuf", "The value is not of its schema.")

    return record_of


def writer(text: str, message: str) -> Callable[[Mapping[str, Any]], bytes]:
    """Make what writes a message of a schema, without framing and index path; a None is left out."""
    _, pool = compiled(RegisteredSchema("PROTOBUF", text))
    factory = need("google.protobuf.message_factory", "registry", "Protobuf")
    cls = factory.GetMessageClass(pool.FindMessageTypeByName(message))

    def payload(record: Mapping[str, Any]) -> bytes:
        content: bytes = cls(**_set(record)).SerializeToString()
        return content

    return payload


def compiled(schema: RegisteredSchema) -> tuple[Any, Any]:
    """Compile a schema; return its file's descriptor and a pool with all that it imports."""
    need("grpc_tools", "registry", "Protobuf")
    descriptors = need("google.protobuf.descriptor_pb2", "registry", "Protobuf")
    with tempfile.TemporaryDirectory(prefix="stream-moe-proto-") as folder:
        for name, text in [(_MAIN, schema.text), *_files(schema)]:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        out = Path(folder, "set.bin")
        done = subprocess.run(
            [sys.executable, "-P", "-m", "grpc_tools.protoc", f"-I{folder}", "--include_imports",
             f"--descriptor_set_out={out}", _MAIN],
            capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if "error" in line or _MAIN in line] or [done.stderr]
            raise ConfigError(f"no Protobuf schema: {said[0].removeprefix(f'{_MAIN}:')[:200].strip()}")
        files = descriptors.FileDescriptorSet.FromString(out.read_bytes())
    pool = need("google.protobuf.descriptor_pool", "registry", "Protobuf").DescriptorPool()
    try:
        for file in files.file:
            pool.Add(file)
    except TypeError as error:
        raise ConfigError(f"no Protobuf schema: {one_line(error)[:200]}") from None
    return files.file[-1], pool


def _files(schema: RegisteredSchema) -> Iterator[tuple[str, str]]:
    for name, each in schema.imports:
        if not _FILE_NAME.fullmatch(name):
            raise ConfigError(f"no Protobuf schema: {name!r:.80} is no name of a file to import")
        yield name, each.text
        yield from _files(each)


def _path(record: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """Read an index path: how many indices, then each, as zigzag varints."""
    count, at = _varint(record, at)
    if not 0 <= count <= _MOST_INDICES:
        reject("bad-protobuf", f"The value's index path has {count} indices.")
    path = []
    for _ in range(count):
        index, at = _varint(record, at)
        path.append(index)
    return tuple(path) or (0,), at


def _varint(record: bytes, at: int) -> tuple[int, int]:
    found = 0
    for place, byte in enumerate(record[at : at + _VARINT_BYTES]):
        found |= (byte & 127) << 7 * place
        if byte < 128:
            return (found >> 1) ^ -(found & 1), at + place + 1
    reject("bad-protobuf", "The value ends inside its index path.")


def _taker(message: Any, takers: dict[str, Take]) -> Take:
    """Make what turns a message into a dict; it looks at what is set, in compiled code."""
    if (made := takers.get(message.full_name)) is not None:
        return made
    defaults: dict[str, Any] = {}
    special: dict[str, Callable[[Any], Any]] = {}

    def take(found: Any) -> dict[str, Any]:
        record = defaults.copy()
        for field, value in found.ListFields():
            name = field.name
            record[name] = special[name](value) if name in special else value
        return record

    takers[message.full_name] = take  # before its fields, which may be of it
    for field in message.fields:
        convert = _convert(field, takers)
        if convert is not None:
            special[field.name] = convert
        if not field.has_presence and not field.is_repeated:
            value = field.default_value
            defaults[field.name] = value if convert is None else convert(value)
    return take


def _convert(field: Any, takers: dict[str, Take]) -> Callable[[Any], Any] | None:
    """Return what makes a plain value of a field's; None where it is one."""
    of = field.message_type
    if of is not None and of.GetOptions().map_entry:
        inner = _convert(of.fields_by_name["value"], takers)
        return lambda value: {str(k): each if inner is None else inner(each) for k, each in value.items()}
    if field.is_repeated or field.type == field.TYPE_BYTES:
        return lambda value: []
    if field.enum_type is not None:
        names = {number: each.name for number, each in field.enum_type.values_by_number.items()}
        return lambda value: names.get(value, str(value))
    if of is None:
        return None
    if of.full_name in _SECONDS:
        return lambda value: value.seconds + value.nanos * 1e-9
    if _WRAPPER.fullmatch(of.full_name) and "value" in of.fields_by_name:
        return lambda value: [] if isinstance(value.value, bytes) else value.value
    return _taker(of, takers)


def _set(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None, in records inside it too."""
    return {
        name: _set(value) if isinstance(value, Mapping) else value
        for name, value in record.items()
        if value is not None
    }
