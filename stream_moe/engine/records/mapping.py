"""Which fields of a record are its id, its label, its time and its features: for records of any shape.

A record is an object of JSON, or the dict that another format was read as. Paths are names between dots. They begin
at the envelope, or with ``$.`` at the record's top. A member whose own name has dots is found by that name first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from stream_moe.engine.fields import kind_of, reject, shown
from stream_moe.errors import ConfigError
from stream_moe.values import number_of

TOP = "$."  # begins a path at the record's top, whatever the envelope
DEEPEST = 16  # objects inside objects; what is deeper is no feature
ABSENT: Any = object()
USUAL_ID = "id"  # the id's member, unless one is named: then a record may go without

# A moment since 1970 is in the unit in which it lies in the years 1973 to 5138 (the one above: to 2286).
_UNITS = ((1e17, 1e-6), (1e14, 1e-3), (1e11, 1.0), (0.0, 1e3))  # from this number on: milliseconds of one


class Picked(NamedTuple):
    """What a record holds, not yet looked at: `ABSENT` where there is no such member."""

    id: Any
    label: Any
    time: Any
    features: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Where in a record its parts stand.

    Parameters
    ----------
    id
        Path of the id; None = the member `id` if there is one, else the record's key, else its offset.
    label
        Path of the label; None = the records of this topic have none.
    time
        Path of the event's time: since 1970, in seconds to nanoseconds, or a text of ISO 8601. None = the record's.
    features
        Paths of features, or of objects of which each member is one; empty = all members.
    drop
        Paths of members, or of objects, that are no features.
    envelope
        Path of the object in which all of these stand.

    Examples
    --------
    >>> mapping = FieldMapping(id="order", label="fraud", time="$.ts_ms", envelope="payload.after", drop=("note",))
    >>> row = {"order": 7, "fraud": False, "amount": 9.5, "note": "gift", "from": {"country": "DE"}}
    >>> picked = mapping.pick({"payload": {"after": row}, "ts_ms": 1700000000000})
    >>> picked.id, picked.label, picked.features
    (7, False, {'amount': 9.5, 'from.country': 'DE'})
    >>> milliseconds_of(picked.time)
    1700000000000
    """

    id: str | None = None
    label: str | None = None
    time: str | None = None
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    envelope: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "label", "time"):
            path = getattr(self, name)
            if path is not None:
                _checked(name, path.removeprefix(TOP))
        for path in (*self.features, *self.drop, *([self.envelope] if self.envelope else [])):
            _checked("features, drop and envelope", path)
        named = [path for path in (self.id, self.label, self.time) if path is not None]
        for path in named:
            if named.count(path) > 1:
                raise ConfigError(
                    f"mapping: {path!r} is named twice as id, label or time; each is a field of its own"
                )
            if path in self.features:
                raise ConfigError(f"mapping: {path!r} is a feature, and id, label or time too; take it out of one")

    @property
    def own(self) -> frozenset[str]:
        """Names, below the envelope, of members that are no features as they are something else."""
        paths = [path for path in (self.id or USUAL_ID, self.label, self.time) if path and not path.startswith(TOP)]
        return frozenset(paths)

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the usual, as plain values."""
        usual = {each.name: each.default for each in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    def pick(self, record: Mapping[str, Any]) -> Picked:
        """Take a record apart; `UnusableError` where the envelope is not there."""
        root = record
        if self.envelope:
            root = found(record, self.envelope)
            if not isinstance(root, Mapping):
                what = "is not there" if root is ABSENT else f"is a {kind_of(root)}"
                reject("no-envelope", f"{shown(self.envelope)} {what}; it must be the object that holds the fields.")
        id, label, time = (
            ABSENT if path is None else found(record, path[2:]) if path.startswith(TOP) else found(root, path)
            for path in (self.id or USUAL_ID, self.label, self.time)
        )
        if self.id is None and isinstance(id, Mapping):  # an object of features by that name
            id = ABSENT
        return Picked(id, label, time, dict(self._features(root)))

    def _features(self, root: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        taken: Mapping[str, Any] = root
        if self.features:
            taken = {path: value for path in self.features if (value := found(root, path)) is not ABSENT}
        own = self.own
        for name, value in leaves(taken):
            if name not in own and not self.drops(name):
                yield name, value

    def drops(self, name: str) -> bool:
        """Whether a member is dropped, by its own path or that of an object around it."""
        return any(name == path or name.startswith(f"{path}.") for path in self.drop)


def leaves(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the members of a record, those of objects inside it under the names of both.

    >>> dict(leaves({"a": 1, "b": {"c": None, "d": {}}}))
    {'a': 1, 'b.c': None}
    """
    for name, value in record.items():
        if not isinstance(value, Mapping):
            yield prefix + name, value
        elif depth < DEEPEST:
            yield from leaves(value, f"{prefix}{name}.", depth + 1)


def found(record: Any, path: str) -> Any:
    """Return what stands at a path, `ABSENT` where nothing does.

    >>> found({"a": {"b.c": 1}}, "a.b.c"), found({"a": 1}, "a.b") is ABSENT
    (1, True)
    """
    if not isinstance(record, Mapping):
        return ABSENT
    if path in record:
        return record[path]
    at = path.find(".")
    while at >= 0:
        if path[:at] in record and (value := found(record[path[:at]], path[at + 1 :])) is not ABSENT:
            return value
        at = path.find(".", at + 1)
    return ABSENT


def milliseconds_of(value: Any) -> int | None:
    """Return a moment as milliseconds since 1970; None where it is none.

    >>> [milliseconds_of(v) for v in (1700000000, 1700000000000, "2023-11-14T22:13:20Z", "soon", None, True)]
    [1700000000000, 1700000000000, 1700000000000, None, None, None]
    """
    if value is None or value is ABSENT or isinstance(value, bool):
        return None
    number = number_of(value)
    if number is None or not abs(number) < 9.2e18:
        return None
    if isinstance(value, str) and not _is_plain(value):  # a time of day is a number of seconds, too
        return round(number * 1000) if number >= 86400 else None
    return next(round(number * unit) for least, unit in _UNITS if abs(number) >= least)


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _checked(what: str, path: str) -> None:
    if not path or not all(path.split(".")):
        raise ConfigError(f"mapping: {what}: {path!r} is no path; write names between dots, as payload.after")


NATIVE_LABELS = FieldMapping(label="y")  # of a topic of labels alone
