"""What the numbers of a state may be: compiled code checks no index, so whatever comes from a file is checked first.

Each part of a state says beside its arrays which range each of them has. A range is as narrow as what is looked up,
looped over or allocated by the number needs; of a number that only enters sums it may be `ANY`, because a state may
have run off to infinity by itself (a learning rate of 1e300) and must be restored all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_moe.errors import CheckpointError

Array = np.ndarray[Any, Any]
_LARGEST, _LARGEST32 = float(np.finfo(np.float64).max), float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """From which number to which the numbers of an array may lie.

    Attributes
    ----------
    low, high
        Both allowed; `high` may be an array that broadcasts, where each place has a bound of its own.
    nan
        Whether NaN is allowed.

    Examples
    --------
    >>> index(3), str(index(3, none=True)), str(ANY)
    (Range(low=0, high=2, nan=False), '-1 to 2', '-inf to inf or NaN')
    """

    low: float = -math.inf
    high: float | Array = math.inf
    nan: bool = False

    def __str__(self) -> str:
        return f"{_shown(self.low)} to {_shown(np.max(self.high, initial=self.low))}{' or NaN' if self.nan else ''}"


MOST = 2**53  # events: no log has more, and a float still counts them one by one
ANY = Range(nan=True)  # nothing is looked up by it
FINITE = Range(-_LARGEST, _LARGEST)
AMOUNT = Range(0.0, _LARGEST)  # a sum of weights, none of which is below 0
COUNT = Range(0, MOST)
SHARE = Range(0.0, 1.0)
INPUT = Range(-_LARGEST32, _LARGEST32, nan=True)  # of a feature, as a model gets it


def index(n: int, *, none: bool = False) -> Range:
    """Give the range of what is an index below n; with `none`, or -1."""
    return Range(-1 if none else 0, n - 1)


def named(kind: type[tuple[Any, ...]], **ranges: Range) -> dict[str, Range]:
    """Name the range of each field of a NamedTuple of arrays; TypeError unless each has one."""
    fields = tuple(kind._fields)  # type: ignore[attr-defined]
    if set(fields) != set(ranges):
        raise TypeError(f"{kind.__name__}: ranges of {sorted(set(fields) ^ set(ranges))} are missing or too many")
    return ranges


def check(part: str, name: str, array: Array, allowed: Range) -> None:
    """Raise CheckpointError where an array holds what its range does not allow.

    Examples
    --------
    >>> check("no-change", "last", np.array([9]), index(3, none=True))
    Traceback (most recent call last):
    stream_moe.errors.CheckpointError: no-change: array 'last' holds 9, and -1 to 2 is allowed
    """
    if allowed is ANY or not array.size:
        return
    least, most = (np.fmin, np.fmax) if allowed.nan else (np.minimum, np.maximum)
    low, high = least.reduce(array, axis=None), most.reduce(array, axis=None)
    if isinstance(allowed.high, np.ndarray):
        over = array[array > allowed.high]
        fits, worst = low >= allowed.low and not over.size, low if not low >= allowed.low else over[:1].sum()
    else:
        fits, worst = low >= allowed.low and high <= allowed.high, high if low >= allowed.low else low
    if not fits and not (allowed.nan and np.isnan(low)):  # all of them are NaN
        raise CheckpointError(f"{part}: array {name!r} holds {_shown(worst)}, and {allowed} is allowed")


def expect(
    part: str, found: Mapping[str, Array], name: str, dtype: Any, shape: tuple[int | None, ...], allowed: Range
) -> Array:
    """Return an array of a checkpoint; CheckpointError unless type, shape (None = any length) and range fit."""
    array = found.get(name)
    if array is None or array.dtype != dtype or not (array.shape == shape or _fits(array.shape, shape)):
        is_ = "absent" if array is None else f"{array.dtype} {array.shape}"
        needed = f"({', '.join('any' if n is None else str(n) for n in shape)}{',' if len(shape) == 1 else ''})"
        raise CheckpointError(f"{part}: array {name!r} is {is_}, this schema needs {np.dtype(dtype)} {needed}")
    check(part, name, array, allowed)
    return array


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(found) == len(shape) and all(n is None or n == m for n, m in zip(shape, found, strict=True))


def number(part: str, found: Mapping[Any, Any], name: str | int, allowed: Range = COUNT) -> int:
    """Return a whole number of a checkpoint's JSON values; CheckpointError unless it lies in its range.

    Examples
    --------
    >>> number("tree", {"splits": -1}, "splits")
    Traceback (most recent call last):
    stream_moe.errors.CheckpointError: tree: number 'splits' is -1, and 0 to 9,007,199,254,740,992 is allowed
    """
    value = found.get(name)
    if type(value) is not int or not allowed.low <= value <= allowed.high:
        raise CheckpointError(f"{part}: number {name!r} is {ascii(value)[:40]}, and {allowed} is allowed")
    return value


@contextmanager
def of(part: str) -> Iterator[None]:
    """Begin the message of a CheckpointError with the name of a part."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{part}: {error}") from None


def _shown(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    return f"{plain:,}" if isinstance(plain, int) else f"{plain:g}"
