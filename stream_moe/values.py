"""What a value of a stranger's data means: one rule for files, dicts, frames, records and labels.

- *Missing* are None, NaN, NaT, pandas' NA, and the texts of `MISSING`, which are pandas' own, "-" and "?". A
  category or class that a schema lists by such a name is that one.
- A *number* is a number of Python or numpy, a Decimal or Fraction, a truth value (1 or 0), or a text that Python
  reads as a float. A date or time is the seconds since 1970, UTC unless it says otherwise; a duration is seconds.
- A *name*, of a category or a class, is a text. A text is the name that is written the same; "true" is "True", and
  "1.0" is "1" where only one of the two is a name, but "1.10" is not "1.1" and "007" is not "7". A number is the name
  that is written like it, so 1 and 1.0 are "1" or "1.0"; a truth value is the name "true" or "True", or else 1 or 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

MISSING = frozenset(
    [
        "", "?", "-", "nan", "-nan", "null", "none", "na", "n/a", "<na>", "nat", "#n/a", "#n/a n/a", "#na",
        "-1.#ind", "1.#ind", "-1.#qnan", "1.#qnan",
    ]
)  # fmt: skip
LONGEST_EXACT = 2**24  # float32 holds every whole number up to here

_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(?:Z|UTC|[+-]\d\d(?::?\d\d)?)?)?"
    r"|\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?"
)
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_TRUTH = frozenset(["true", "false"])


def is_missing_text(text: str) -> bool:
    """Tell whether a text says that there is no value."""
    return text.strip().lower() in MISSING


def is_missing(value: Any) -> bool:
    """Tell whether a value says that there is none.

    Examples
    --------
    >>> [is_missing(value) for value in (None, float("nan"), " NA ", "-", np.datetime64("NaT"), 0, "no")]
    [True, True, True, True, True, False, False]
    """
    if isinstance(value, str):
        return is_missing_text(value)
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124  # NaN, NaT
    except (TypeError, ValueError):  # pandas' NA has no truth value; an array has many
        return type(value).__name__ == "NAType"


def number_of_text(text: str) -> float | None:
    """Read a text as a number; None where it is not one ('1_000', which Python accepts, is not)."""
    try:
        number = float(text)
    except ValueError:
        return None
    return None if "_" in text else number


def seconds_of_text(text: str) -> float | None:
    """Read a date, a time of day or both, as ISO 8601 writes them, as seconds since 1970 (of the day).

    Examples
    --------
    >>> seconds_of_text("1970-01-02"), seconds_of_text("1970-01-01 00:01:30.5Z"), seconds_of_text("01:00")
    (86400.0, 90.5, 3600.0)
    >>> seconds_of_text("2024-13-01"), seconds_of_text("12/31/2024")
    (None, None)
    """
    text = text.strip()
    if _TIME.fullmatch(text) is None:
        return None
    if text[4:5] != "-":
        parts = [float(part) for part in text.split(":")]
        hours, minutes, seconds = (*parts, 0.0)[:3]
        return hours * 3600 + minutes * 60 + seconds if hours < 24 and minutes < 60 and seconds < 60 else None
    try:
        return seconds_since_1970(
            datetime.fromisoformat(text.replace(" UTC", "Z").replace("UTC", "Z").replace(" Z", "Z"))
        )
    except ValueError:
        return None


def seconds_since_1970(moment: datetime) -> float:
    """Seconds since 1970, as exact as float64 is; a moment without a zone is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86400 + since.seconds + since.microseconds / 1e6


def plain(value: Any) -> Any:
    """Return a scalar of numpy, an array of one value or a member of an enumeration as what it stands for."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 and value.dtype.kind not in "Mm":
        return value.item()
    return value


def number_of(value: Any) -> float | None:
    """Read a value as a number; None where it is not one. NaN is missing; an integer beyond any float too.

    Examples
    --------
    >>> from datetime import timedelta
    >>> [number_of(v) for v in (True, "2.5", Decimal("0.1"), np.datetime64("1970-01-02"), timedelta(minutes=1))]
    [1.0, 2.5, 0.1, 86400.0, 60.0]
    >>> number_of("red"), number_of([1])
    (None, None)
    """
    value = plain(value)
    if isinstance(value, str):
        number = number_of_text(value)
        if number is None and is_missing_text(value):
            return math.nan
        return seconds_of_text(value) if number is None else number
    if isinstance(value, (bool, int, float, Decimal, Fraction)):
        try:
            return float(value)
        except (OverflowError, ValueError):  # beyond any float; a signalling NaN
            return math.nan
    if is_missing(value):
        return math.nan
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return float(value.astype(f"{value.dtype.kind}8[ns]").astype(np.int64)) / 1e9
    if isinstance(value, datetime):
        return seconds_since_1970(value)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days * 86400.0
    if isinstance(value, time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if isinstance(value, timedelta):
        return value.total_seconds()
    return None


def name_of(value: Any) -> str:
    """Return the name that a value has as a category or class: a text as it stands, 1.0 as "1", True as "true".

    Examples
    --------
    >>> [name_of(value) for value in ("1.10", 1.0, 7, 0.5, True, Decimal("2.50"))]
    ['1.10', '1', '7', '0.5', 'true', '2.50']
    """
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


class Names:
    """Finds which of some names a value is.

    Parameters
    ----------
    names
        Of the categories of a feature, or of the classes, in the order of their indices.

    Examples
    --------
    >>> names = Names(["1", "true", "1.10", "007"])
    >>> [names.find(value) for value in (1, 1.0, "1.0", True, "True", 1.1, "1.1", 7, "007", None)]
    [0, 0, 0, 1, 1, None, None, None, 3, None]
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._index = {name: i for i, name in enumerate(names)}
        # What is not written like a name may still be one: each of these ways only where it leads to one name.
        self._folded = _unique((name.strip().lower(), i) for i, name in enumerate(names))
        self._found = dict[Hashable, int | None](self._index.items())

    def find(self, value: Any) -> int | None:
        """Return the index of the name that a value is; None where it is none of them."""
        try:
            key = (type(value), value) if not isinstance(value, str) else value
            if key in self._found:
                return self._found[key]
        except TypeError:  # what has no hash has no name
            return None
        found = self._look(plain(value))
        if len(self._found) < 4096:  # as many as a stream has again and again
            self._found[key] = found
        return found

    def _look(self, value: Any) -> int | None:
        if isinstance(value, str):
            return self._look_for_text(value.strip())
        if isinstance(value, bool):
            found = self._folded.get("true" if value else "false")
            return self._look_for_text("1" if value else "0") if found is None else found
        if isinstance(value, float) and not math.isfinite(value):
            return self._index.get(str(value))
        found = self._look_for_text(name_of(value))
        if found is None and isinstance(value, (int, float)):
            found = self._index.get(str(value))
        if found is None and isinstance(value, (int, float)) and value in (0, 1):
            found = self._folded.get("true" if value else "false")
        return found

    def _look_for_text(self, text: str) -> int | None:
        if (found := self._index.get(text)) is not None:
            return found
        if text.lower() in _TRUTH:
            return self._folded.get(text.lower())
        if (whole := _WHOLE.fullmatch(text)) is not None:
            return self._index.get(whole[1])
        return self._index.get(f"{text}.0") if _WHOLE.fullmatch(f"{text}.0") else None


def _unique(pairs: Any) -> dict[str, int]:
    """Keep what has one index only."""
    found: dict[str, int | None] = {}
    for text, index in pairs:
        found[text] = None if text in found else index
    return {text: index for text, index in found.items() if index is not None}
