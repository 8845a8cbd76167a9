"""Records of any shape as msgspec reads them: a decoder compiled for a mapping and a schema.

It gives the values of all features, id, label and time at once, and refuses what it does not know: a member that is
no feature, a value of another type. What it refuses is for a slower reader, which knows why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec

from stream_moe.engine.records.mapping import TOP, USUAL_ID, FieldMapping
from stream_moe.types import Schema

NUMBER, NAME, ID = float | bool | None, str | int | None, str | int | None
LABEL, TIME = str | int | float | bool | None, str | float | None
Compiled = tuple[Any, Callable[[Any], tuple[Any, ...]]]
"""A type of msgspec, and what takes the values out of it: features, id, label and time, and further members."""

_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # what a field of msgspec may not have in its name


class _ConflictError(Exception):
    """Two paths of which one leads through the other, or a name that no compiled decoder takes."""


@dataclass(slots=True)
class _Node:
    """An object of the record: its members, and whether it may have others."""

    strict: bool = False
    members: dict[str, _Node | tuple[str, Any]] = field(default_factory=dict)  # (attribute, type) of a value

    def at(self, path: str) -> _Node:
        """Return the object at a path."""
        node = self
        for name in path.split(".") if path else ():
            found = node.members.setdefault(name, _Node())
            if not isinstance(found, _Node):
                raise _ConflictError(path)
            node = found
        return node

    def put(self, parts: Sequence[str], attribute: str, kind: Any) -> str:
        """Have a value at a path; return the way there by attributes."""
        node, path = self, ".".join(parts)
        if any(map(_ESCAPED.search, parts)):
            raise _ConflictError(path)
        for name in parts[:-1]:
            found = node.members.setdefault(name, _Node(node.strict))
            if not isinstance(found, _Node):
                raise _ConflictError(path)
            node = found
        if parts[-1] in node.members:
            raise _ConflictError(path)
        node.members[parts[-1]] = attribute, kind
        return ".".join([*(f"n_{list(each.members).index(name)}" for each, name in self._way(parts)), attribute])

    def has(self, path: str) -> bool:
        """Whether there is an object at a path."""
        node: Any = self
        for name in path.split("."):
            node = node.members.get(name) if isinstance(node, _Node) else None
        return isinstance(node, _Node)

    def _way(self, parts: Sequence[str]) -> Iterable[tuple[_Node, str]]:
        node: Any = self
        for name in parts[:-1]:
            yield node, name
            node = node.members[name]

    def struct(self) -> Any:
        """Make the type that msgspec reads."""
        fields, names = list[Any](), dict[str, str]()
        for i, (name, member) in enumerate(self.members.items()):
            if isinstance(member, _Node):
                kind = member.struct()
                attribute, default = f"n_{i}", msgspec.field(default_factory=kind)
            else:
                (attribute, kind), default = member, None
            fields.append((attribute, kind, default))
            names[attribute] = name
        return msgspec.defstruct("Fields", fields, rename=names, forbid_unknown_fields=self.strict, gc=False)


def record_type(
    schema: Schema,
    mapping: FieldMapping,
    extra: Mapping[str, Any],
    exact: frozenset[str] = frozenset(),
    skipped: Any = msgspec.Raw,
) -> Compiled | None:
    """Make the type of a record, and what takes the values out of it: features, id, label, time, then `extra`.

    Parameters
    ----------
    schema, mapping
        Of the records.
    extra
        Types of further members by name.
    exact
        Names of features whose dots are no path.
    skipped
        Type of a member that is not looked at.

    Returns
    -------
    None where one path leads through another, or a name cannot be compiled.

    Examples
    --------
    >>> kind, values = record_type(Schema.numeric(1, ["no", "yes"], ["amount"]), FieldMapping(label="fraud"), {})
    >>> values(msgspec.json.decode(b'{"fraud":"no","amount":3}', type=kind))
    (3.0, None, 'no', None)
    """
    top = _Node()
    try:
        root = top.at(mapping.envelope)
        root.strict = not mapping.features
        for path in mapping.features:  # objects, of which each member is a feature
            if any(feature.name.startswith(f"{path}.") for feature in schema.features):
                root.at(path).strict = True
        ways = [
            _put(top, mapping, feature.name, f"f{j}", kind, exact=feature.name in exact)
            for j, (feature, kind) in enumerate(zip(schema.features, kinds_of(schema), strict=True))
        ]
        ways += _own(top, mapping)
        ways += [_put(top, mapping, name, f"u{k}", kind) for k, (name, kind) in enumerate(extra.items())]
        for k, path in enumerate(mapping.drop):
            _put(top, mapping, path, f"d{k}", skipped)
        for k, path in enumerate(mapping.features):  # of which nothing came yet: whatever comes is new
            if path not in schema.feature_index and path not in extra and not root.has(path):
                _put(top, mapping, path, f"e{k}", type(None))
        return top.struct(), attrgetter(*ways)
    except _ConflictError:
        return None


def kinds_of(schema: Schema) -> list[Any]:
    """Return the types of the features' values."""
    return [NAME if feature.is_nominal else NUMBER for feature in schema.features]


def struct_of(schema: Schema, extra: Mapping[str, Any]) -> Any:
    """Make the type of an object of features by name, then `extra`, and no others; None where a name cannot be."""
    if any(map(_ESCAPED.search, (*schema.feature_index, *extra))):
        return None
    node = _Node(strict=True)
    for j, (feature, kind) in enumerate(zip(schema.features, kinds_of(schema), strict=True)):
        node.members[feature.name] = f"f{j}", kind
    node.members |= {name: (f"u{k}", kind) for k, (name, kind) in enumerate(extra.items())}
    return node.struct()


def label_type(mapping: FieldMapping, skipped: Any, *, alone: bool) -> Compiled | None:
    """As `record_type`, for id, label and time; where `alone`, a record that has anything else is refused."""
    top = _Node()
    try:
        root = top.at(mapping.envelope)
        root.strict = alone
        ways = _own(top, mapping)
        for k, path in enumerate(mapping.drop if alone else ()):
            _put(top, mapping, path, f"d{k}", skipped)
        return top.struct(), attrgetter(*ways)
    except _ConflictError:
        return None


def _own(top: _Node, mapping: FieldMapping) -> list[str]:
    """Have id, label and time."""
    ways = []
    own = (("id", mapping.id or USUAL_ID, ID), ("label", mapping.label, LABEL), ("time", mapping.time, TIME))
    for name, path, kind in own:
        ways.append(name if path is None else _put(top, mapping, path, name, kind))
        if path is None:
            top.members[f"(no {name})"] = name, type(None)  # a member that no record has
    return ways


def _put(top: _Node, mapping: FieldMapping, path: str, attribute: str, kind: Any, *, exact: bool = False) -> str:
    if path.startswith(TOP):
        return top.put(path[len(TOP) :].split("."), attribute, kind)
    envelope = mapping.envelope.split(".") if mapping.envelope else []
    return top.put([*envelope, *([path] if exact else path.split("."))], attribute, kind)
