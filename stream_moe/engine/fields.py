"""One field of a record: its value as the schema has it, or why it cannot be used."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from stream_moe.types import SHARED
from stream_moe.values import Names, is_missing, number_of

MOST_KNOWN = 4096  # values of one column whose index is kept beside those of its names


class UnusableError(Exception):
    """A record that becomes a dead letter: (reason, message)."""


class KeyRule(Protocol):
    """Which keys a record with features may have, where each key has its own model."""

    @property
    def null_key(self) -> str:
        """Of a null or empty one: "shared" = all such have one model, "dead-letter"."""

    @property
    def max_key_bytes(self) -> int:
        """A longer key makes its record a dead letter."""


def reject(reason: str, message: str) -> NoReturn:
    raise UnusableError(reason, message)


class Index(dict[Any, float | None]):
    """Index of each value that is one of some names, filled as values come; None = it is none of them.

    `missing` stands for null and for a text that means "no value".
    """

    def __init__(self, names: Sequence[str], missing: float) -> None:
        super().__init__({name: i for i, name in enumerate(names)} | {None: missing})
        self._names, self._missing, self._texts = Names(names), missing, names

    def __missing__(self, value: str | int) -> float | None:
        found: float | None = self._names.find(value)
        if found is None and isinstance(value, str) and is_missing(value):
            found = self._missing
        if len(self) < MOST_KNOWN:
            self[value] = found
        return found

    @property
    def names(self) -> Sequence[str]:
        """The names themselves, in the order of their indices."""
        return self._texts

    def name(self, value: bool | float) -> str | None:
        """Return the name that a number or truth value is, or its text."""
        if isinstance(value, float) and math.isnan(value):
            return None
        found = self._names.find(value)
        return json.dumps(value) if found is None else self._texts[found]


def name_of_event(given: Any, is_label: bool, key: bytes | None, offset: int) -> str:
    if given not in (None, ""):
        return str(given)
    if key:
        try:
            return key.decode()
        except UnicodeDecodeError:
            pass  # bytes that are no text cannot be an id in the predictions' JSON
    if is_label:
        reject("no-id", "A label alone needs an id, or a key in UTF-8, to find its event.")
    return str(offset)


def checked_key(key: bytes | None, rule: KeyRule) -> bytes:
    if not key and rule.null_key == "dead-letter":
        reject("no-key", f"The record's key is {'null' if key is None else 'empty'}; each key has its own model.")
    if key and len(key) > rule.max_key_bytes:
        reject("key-too-large", f"The record's key has {len(key):,} bytes; the limit is {rule.max_key_bytes:,}.")
    return key or SHARED


def cell_of(value: Any, name: str, names: Index | None) -> Any:
    if value is None or (names is not None and isinstance(value, str | int) and not isinstance(value, bool)):
        return value
    if names is not None and isinstance(value, bool | float):
        return names.name(value)
    if names is None and isinstance(value, int | float | str) and (number := number_of(value)) is not None:
        return number
    expected = "a number" if names is None else "a category name"
    reject("bad-feature", f"Feature {shown(name)} is a {kind_of(value)}; it must be {expected}.")


def int_or_float(digits: str) -> int | float:
    # int() takes quadratic time and refuses more than 4,300 digits; float() is linear and may give infinity.
    return int(digits) if len(digits) <= 20 else float(digits)


def kind_of(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    return ascii(value)[:60]
