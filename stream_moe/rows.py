"""From river's dicts to rows: the vocabulary of features, categories and classes, growing where it may."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Literal

import numpy as np

from stream_moe.errors import DataError
from stream_moe.runtime.compiled import compiled
from stream_moe.types import UNLABELLED, Feature, Float32, Int32, Schema

LARGEST = 3.4028235677973366e38  # what is as large becomes infinite as a float32
MAX_CATEGORIES = 1024  # of one feature whose categories are not declared; later ones count as missing
GrowthNeeded = Literal["", "started", "grown"]


class RowEncoder:
    """Encode events given as dicts.

    With a schema the vocabulary is fixed. Without one it is learnt: a feature is nominal if its first value
    is text, numeric if it is a number or a bool.

    Examples
    --------
    >>> rows = RowEncoder(None)
    >>> rows.encode({"colour": "red", "size": 2}, "yes")[0].tolist()
    [[0.0, 2.0]]
    >>> rows.encode({"colour": "blue"}, "no")
    (array([[ 1., nan]], dtype=float32), 'grown')
    >>> rows.schema.classes
    ('yes', 'no')
    """

    def __init__(self, schema: Schema | None) -> None:
        self._fixed = schema is not None
        # River's targets may be bools and ints, and so may names of features: they are kept here as they came, the
        # schema has them as text.
        self.labels: list[Any] = list(schema.classes) if schema else []
        self._names: list[Any] = [feature.name for feature in schema.features] if schema else []
        self._class_index: dict[Hashable, int] = {label: i for i, label in enumerate(self.labels)}
        self._take(schema)

    def to_dict(self) -> dict[str, Any]:
        """Return the vocabulary as JSON values; DataError for a label or a name that cannot be one."""
        return {
            "given": self._fixed,
            "labels": [_plain("label", label) for label in self.labels],
            "names": [_plain("feature", name) for name in self._names],
        }

    @classmethod
    def from_dict(cls, schema: Schema, found: dict[str, Any], *, given: bool | None = None) -> RowEncoder:
        """Undo `to_dict`, with the schema as it was; `given` says instead whether that was given or learnt.

        Examples
        --------
        >>> rows = RowEncoder(None)
        >>> _ = rows.encode({1: 2.5}, True)
        >>> again = RowEncoder.from_dict(rows.schema, rows.to_dict())
        >>> again.labels, again.encode_known({1: 7}).tolist(), again.schema.classes
        ([True], [[7.0]], ('True',))
        """
        rows = cls(schema)
        labels, names = list(found["labels"]), list(found["names"])
        texts = tuple(map(str, labels)), [str(name) for name in names]
        if texts != (schema.classes, [feature.name for feature in schema.features]):
            raise ValueError("labels or names that are not the schema's")
        rows.labels, rows._names, rows._fixed = labels, names, found["given"] if given is None else given
        rows._class_index = {label: i for i, label in enumerate(labels)}
        rows._take(schema)
        return rows

    @property
    def started(self) -> bool:
        return self._schema is not None

    @property
    def schema(self) -> Schema:
        if self._schema is None:
            raise DataError("no schema yet: nothing was learnt; learn one event first or give a schema")
        return self._schema

    def class_of(self, y: Hashable) -> int:
        """Class index of a label; DataError for an unknown one under a fixed schema."""
        index = self._class_index.get(y)
        if index is None:
            index = self._class_index.get(str(y))
        if index is None:
            raise DataError(f"label: {y!r} is none of the schema's classes {self.schema.classes[:8]}")
        return index

    def encode(self, x: dict[Any, Any], y: Hashable) -> tuple[Float32, GrowthNeeded]:
        """Return the row float32 [1, d] of an event about to be learnt, and whether the schema grew for it."""
        grown: GrowthNeeded = ""
        if not (self._fixed or self._brings_nothing_new(x, y)):
            grown = self._extend(x, y)
        return self.encode_known(x), grown

    def encode_known(self, x: dict[Any, Any]) -> Float32:
        """Return the row float32 [1, d]; what the vocabulary does not know is missing."""
        row = list[float]()
        for name, categories, base in self._columns:
            value = x.get(name, _ABSENT)
            if value is _ABSENT:
                value = x.get(_otherwise(name))
            if type(value) is float and categories is None:
                number = value - base
                row.append(number if -LARGEST < number < LARGEST else math.nan)
            elif value is None:
                row.append(math.nan)
            elif categories is not None:
                row.append(categories.get(value if type(value) is str else str(value), math.nan))
            else:
                row.append(_as_float(value, base))
        return np.array([row], np.float32).reshape(1, len(row))

    def _brings_nothing_new(self, x: dict[Any, Any], y: Hashable) -> bool:
        """Whether an event surely has no new name, category or label: a quick look before the thorough one."""
        if y not in self._class_index:
            return False
        for name, value in x.items():
            categories = self._by_name.get(name, _ABSENT)
            if categories is not None and (
                type(value) is not str or categories is _ABSENT or value not in categories
            ):
                return False
        return True

    def _take(self, schema: Schema | None) -> None:
        """Go by this schema, whose names are in place."""
        self._schema = schema
        features = zip(schema.category_index, schema.features, strict=True) if schema else ()
        self._columns = [
            (name, index, feature.base) for name, (index, feature) in zip(self._names, features, strict=True)
        ]
        self._by_name: dict[Any, Any] = {name: index for name, index, _ in self._columns}

    def _extend(self, x: dict[Any, Any], y: Hashable) -> GrowthNeeded:
        features, names = list(self._schema.features) if self._schema else [], list[Any]()
        known = self._schema.feature_index if self._schema else {}
        changed = False
        for key in sorted(x, key=str):  # the order of a dict's keys must not matter
            name, value = str(key), x[key]
            j = known.get(name)
            if j is None:
                features.append(Feature(name, (value,) if isinstance(value, str) else None))
                names.append(key)
                changed = True
                continue
            categories, index = features[j].categories, self.schema.category_index[j]
            unseen = isinstance(value, str) and index is not None and value not in index
            if unseen and categories is not None and len(categories) < MAX_CATEGORIES:
                features[j] = Feature(name, (*categories, value))
                changed = True
        labels = [] if y in self._class_index else [y]
        if not (changed or labels):
            return ""
        grown: GrowthNeeded = "grown" if self._schema else "started"
        # The schema refuses what does not fit before anything is taken up of this event.
        schema = Schema(tuple(features), tuple(map(str, [*self.labels, *labels])))
        self._names += names
        self._take(schema)
        self._class_index |= {label: len(self.labels) for label in labels}
        self.labels += labels
        return grown


_ABSENT = object()


def _as_float(value: Any, base: float) -> float:
    """Return a number as a float from its base, NaN for what is none, or beyond any float32."""
    if not isinstance(value, (int, float, np.number, np.bool_)):
        return math.nan
    try:
        found = float(value - base if base else value)
    except OverflowError:  # an int beyond any float
        return math.nan
    return found if -LARGEST < found < LARGEST else math.nan


def _otherwise(name: Any) -> Any:
    """Return a feature's name as a number where it is the text of one, and else as text: river's data have ints."""
    return int(name) if isinstance(name, str) and name.isdecimal() else str(name)


def _plain(what: str, value: Any) -> Any:
    """Return a text, a number or a truth value as JSON has it."""
    found = value.item() if isinstance(value, np.generic) else value
    if type(found) not in (str, bool, int, float) or str(found) != str(value):
        raise DataError(
            f"{what} {value!r}: a {type(value).__name__} cannot be kept; use texts, numbers or truth values"
        )
    return found


def as_event(schema: Schema, row: Float32) -> dict[str, Any]:
    """Return a row float32 [d] as river's dict by feature name; a missing value has no key.

    Examples
    --------
    >>> schema = Schema((Feature("colour", ("blue", "red")), Feature("size"), Feature("age")), ("no", "yes"))
    >>> as_event(schema, np.float32([1, 2, np.nan]))
    {'colour': 'red', 'size': 2.0}
    """
    return {
        feature.name: value + feature.base if feature.categories is None else feature.categories[int(value)]
        for feature, value in zip(schema.features, row.tolist(), strict=True)
        if not math.isnan(value)
    }


@compiled(_nrt=False)
def clean(x: Float32, n_categories: Int32) -> int:
    """Make every value usable in place: infinite, or no index of a category -> NaN. Return how many were not."""
    mended = 0
    for t in range(x.shape[0]):
        for j in range(x.shape[1]):
            value = x[t, j]
            if math.isnan(value):
                continue
            if math.isinf(value) or (
                n_categories[j] > 0 and not (0 <= value < n_categories[j] and value == math.floor(value))
            ):
                x[t, j] = np.nan
                mended += 1
    return mended


@compiled(_nrt=False)
def are_labels(y: Int32, n_classes: int) -> bool:
    """Whether every label is the index of a class, or UNLABELLED."""
    fits = True
    for t in range(y.shape[0]):
        fits &= UNLABELLED <= y[t] < n_classes
    return fits
