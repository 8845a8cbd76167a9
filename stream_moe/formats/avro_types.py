"""What is taken from an Avro schema, and what is refused.

fastavro's compiled code follows a type that refers to itself until the stack ends, and makes as many elements of no
bytes as a record claims: either ends the process. So such schemas are refused, and those that unfold to very many
values. Logical types are left out: Python's objects for them are slow to make, and the largest decimals take minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stream_moe.errors import ConfigError

DEEPEST = 64  # types inside types
WIDEST = 10_000  # values of a record beside those in arrays and maps
LONGEST_DECIMAL = 64  # bytes; what is longer is no number of ours
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Named:
    """What is known of a type: how many values it unfolds to, whether each takes bytes, and what becomes of them."""

    width: int = 1
    takes: bool = True
    convert: Convert | None = None
    kind: Any = bytes  # class of the value that is converted
    names: frozenset[str] | None = None  # of a record's fields


class Types:
    """Takes the types of schemas that may refer to each other.

    Examples
    --------
    >>> kept, convert = Types().of({"type": "record", "name": "E", "fields": [
    ...     {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ...     {"name": "paid", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]})
    >>> [field["type"] for field in kept["fields"]], convert({"at": 5, "paid": b"\\x04\\xd2"})
    (['long', 'bytes'], {'at': 5, 'paid': 12.34})
    """

    def __init__(self) -> None:
        self._known: dict[str, _Named] = {}
        self._open: set[str] = set()

    def of(self, given: Any) -> tuple[Any, Convert | None]:
        """Return a schema as fastavro is to see it, and what makes plain values of a record, None if they are."""
        kept, found = self._take(given, "", 0)
        return kept, found.convert

    def _take(self, given: Any, space: str, depth: int) -> tuple[Any, _Named]:
        if depth > DEEPEST:
            raise ConfigError(f"an Avro schema nested deeper than {DEEPEST}")
        if isinstance(given, list):
            return self._union(given, space, depth)
        if isinstance(given, str):
            return self._by_name(given, space)
        if not isinstance(given, dict) or "type" not in given:
            raise ConfigError("no Avro schema: a type that is none")
        kind = given["type"]
        if kind in ("record", "error"):
            return self._record(given, space, depth)
        if kind in ("enum", "fixed"):
            return self._names_of_its_own(given, space)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            kept, found = self._take(given.get(inner), space, depth + 1)
            if kind == "array" and not found.takes:
                raise ConfigError("an Avro schema with an array of nothing, of which a record may claim any number")
            convert = None
            if kind == "map" and (of_value := found.convert) is not None:
                convert = lambda value: {key: of_value(each) for key, each in value.items()}  # noqa: E731
            return {"type": kind, inner: kept}, _Named(convert=convert, kind=dict)
        if kind == "bytes":
            return kind, _Named(convert=_bytes_of(given))
        return self._take(kind, space, depth + 1)

    def _by_name(self, name: str, space: str) -> tuple[Any, _Named]:
        if name in _PRIMITIVES:
            return name, _Named(takes=name != "null", convert=_bytes_of({}) if name == "bytes" else None)
        for full in [name] if "." in name else [f"{space}.{name}" if space else name, name]:
            if full in self._open:
                raise ConfigError(f"an Avro schema that refers to itself, at {full!r:.80}: such records have no end")
            if full in self._known:
                return full, self._known[full]
        raise ConfigError(f"no Avro schema: there is no type {name!r:.80}")

    def _record(self, given: dict[str, Any], space: str, depth: int) -> tuple[Any, _Named]:
        name = _full_name(given, space)
        self._open.add(name)
        fields, parts = [], list[tuple[str, _Named]]()
        for each in given.get("fields") or ():
            if not isinstance(each, dict) or not isinstance(each.get("name"), str):
                raise ConfigError(f"no Avro schema: {name!r:.80} has a field without a name")
            kept, found = self._take(each.get("type"), name.rpartition(".")[0], depth + 1)
            fields.append({"name": each["name"], "type": kept})
            parts.append((each["name"], found))
        self._open.discard(name)
        width = 1 + sum(found.width for _, found in parts)
        if width > WIDEST:
            raise ConfigError(f"an Avro schema that unfolds to more than {WIDEST:,} values, in {name!r:.80}")
        converts = [(field, found.convert) for field, found in parts if found.convert is not None]

        def convert(record: dict[str, Any]) -> dict[str, Any]:
            for field, to_plain in converts:
                record[field] = to_plain(record[field])
            return record

        names = frozenset(field for field, _ in parts)
        takes = any(found.takes for _, found in parts)
        self._known[name] = found = _Named(width, takes, convert if converts else None, dict, names)
        return {"type": "record", "name": name, "fields": fields}, found

    def _names_of_its_own(self, given: dict[str, Any], space: str) -> tuple[Any, _Named]:
        name, kind = _full_name(given, space), given["type"]
        kept = {"type": kind, "name": name} | {key: given[key] for key in ("symbols", "size") if key in given}
        fixed = kind == "fixed"
        takes = not fixed or (isinstance(size := given.get("size"), int) and size > 0)
        self._known[name] = found = _Named(takes=takes, convert=_bytes_of(given) if fixed else None)
        return kept, found

    def _union(self, given: list[Any], space: str, depth: int) -> tuple[Any, _Named]:
        taken = [self._take(each, space, depth + 1) for each in given]
        kept, branches = [each for each, _ in taken], [found for _, found in taken]
        converts = [found for found in branches if found.convert is not None]

        def convert(value: Any) -> Any:
            for found in converts:
                if isinstance(value, found.kind) and (found.names is None or set(value) == found.names):
                    assert found.convert is not None
                    return found.convert(value)
            return value

        return kept, _Named(max((found.width for found in branches), default=1), True, convert if converts else None)


def _bytes_of(given: dict[str, Any]) -> Convert:
    """Return what makes a number of a decimal's bytes, and an empty array of others."""
    scale = given.get("scale", 0)
    if given.get("logicalType") != "decimal" or not isinstance(scale, int) or not 0 <= scale <= 300:
        return lambda value: []
    return lambda value: _decimal(value, scale)


def _decimal(value: bytes, scale: int) -> float | list[Any]:
    if len(value) > LONGEST_DECIMAL:
        return []
    return int.from_bytes(value, "big", signed=True) / 10**scale


def _full_name(given: dict[str, Any], space: str) -> str:
    name = given.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError("no Avro schema: a type without a name")
    space = given.get("namespace", space) or ""
    return name if "." in name or not space else f"{space}.{name}"
