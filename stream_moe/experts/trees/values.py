"""Numeric columns that have shown few values: a tree counts those, and takes a normal law for the others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import INPUT, expect, index
from stream_moe.types import Bool, Float32, Float64, Int64

MOST_VALUES = 4  # of a column that is counted


class Values(NamedTuple):
    """The values that each of d columns has shown, where they are counted.

    Examples
    --------
    >>> found = values_in(np.array([[0, 1], [1, 2], [0, 3], [0, 4], [0, 5]], np.float32), np.array([True, True]))
    >>> found.width.tolist(), found.value[0].tolist()
    ([2, 0], [0.0, 1.0, nan, nan])
    """

    width: Int64  # [d] places for values; 0 = not counted: nominal, or it has shown too many
    value: Float64  # [d, MOST_VALUES] in the order in which they appeared; NaN = none yet

    @property
    def in_places(self) -> Float64:
        """Every place's value, column after column."""
        return self.value[np.arange(MOST_VALUES) < self.width[:, None]]

    def of(self, columns: Int64) -> Values:
        """Return those of some columns."""
        return Values(self.width[columns], self.value[columns])

    def with_more(self, columns: int) -> Values:
        """Return them with columns behind that are not counted."""
        none = no_values(columns)
        return Values(np.append(self.width, none.width), np.concatenate([self.value, none.value]))

    def with_room(self, full: Bool) -> Values:
        """Return them with twice the places where a column is `full` [d]; it is not counted if those are too many."""
        width = np.where(full, 2 * self.width, self.width)
        return _counted(np.where(width <= MOST_VALUES, width, 0), self.value)


def no_values(columns: int) -> Values:
    """Count none of the columns."""
    return Values(np.zeros(columns, np.int64), np.full((columns, MOST_VALUES), np.nan))


def values_in(x: Float32, numeric: Bool) -> Values:
    """Find the numeric columns of x [n, d] that show at most MOST_VALUES, in the order in which those appear."""
    found = no_values(x.shape[1])
    for j in np.flatnonzero(numeric):
        column = x[:, j].astype(np.float64)
        values, first = np.unique(column[~np.isnan(column)], return_index=True)
        if 0 < len(values) <= MOST_VALUES:
            found.value[j, : len(values)] = values[np.argsort(first)]
            found.width[j] = 2 if len(values) <= 2 else MOST_VALUES
    return found


def joined(known: Values, seen: Values, columns: Int64) -> Values:
    """Add what a tree has seen in its columns; what it does not count any more is not counted."""
    mine, width = known.value[columns], known.width.copy()
    new = ~np.isnan(seen.value) & ~(seen.value[:, :, None] == mine[:, None, :]).any(2)
    width[columns] = np.where(seen.width > 0, np.maximum(width[columns], seen.width) * (width[columns] > 0), 0)
    value = known.value.copy()
    for i, k in zip(*new.nonzero(), strict=True):
        j = columns[i]
        free = np.flatnonzero(np.isnan(value[j, : width[j]]))
        if len(free):
            value[j, free[0]] = seen.value[i, k]
        else:
            width[j] = 0
    return _counted(width, value)


def checked_values(width: Int64, value: Float64, numeric: Bool) -> Values:
    """Return values found in a checkpoint, of columns of which some are `numeric` [d]."""
    d, found = len(numeric), {"width": width, "value": value}
    expect("tree", found, "width", np.int64, (d,), index(MOST_VALUES + 1))
    expect("tree", found, "value", np.float64, (d, MOST_VALUES), INPUT)
    counted = numeric & np.isin(width, [2, MOST_VALUES])
    some = ~np.isnan(value)
    in_order = (some[:, :-1] | ~some[:, 1:]).all() and (some <= (np.arange(MOST_VALUES) < width[:, None])).all()
    twice = (value[:, :, None] == value[:, None, :]).sum((1, 2)) > some.sum(1)
    if not (counted | (width == 0)).all() or not in_order or twice.any():
        raise CheckpointError(f"tree: values that do not fit its {d} columns, or stand there twice or with gaps")
    return Values(width, value)


def _counted(width: Int64, value: Float64) -> Values:
    """Forget the values of columns that are not counted."""
    return Values(width, np.where(width[:, None] > 0, value, np.nan))
