"""From river's dicts to rows: the vocabulary of features, categories and classes, growing where it may."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Literal

import numpy as np

from stream_moe.errors import ConfigError, DataError
from stream_moe.runtime.compiled import compiled
from stream_moe.types import UNLABELLED, Feature, Float32, Int32, Schema
from stream_moe.values import LONGEST_EXACT, Names, is_missing, name_of, number_of, plain

_log = logging.getLogger(__name__)

LARGEST = 3.4028235677973366e38  # what is as large becomes infinite as a float32
MAX_CATEGORIES = 1024  # of one feature whose categories are not declared; later ones count as missing
GrowthNeeded = Literal["", "started", "grown"]


class RowEncoder:
    """Encode events given as dicts.

    With a schema the vocabulary is fixed. Without one it is learnt: a feature is nominal if its first value that is
    not missing is text, numeric if it is a number, a truth value or a time. `stream_moe.values` says which value is
    which number or name, and what is missing; what is none of it counts as missing, and is told once of each feature.

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

    sparse = False
    """Whether the rows are sparse, and their names no features."""

    def __init__(self, schema: Schema | None) -> None:
        self._fixed = schema is not None
        # River's targets may be bools and ints, and so may names of features: they are kept here as they came, the
        # schema has them as text.
        self.labels: list[Any] = list(schema.classes) if schema else []
        self._names: list[Any] = [feature.name for feature in schema.features] if schema else []
        self._class_index: dict[Hashable, int] = {label: i for i, label in enumerate(self.labels)}
        self._told: set[str] = set()
        self._before: dict[str, Any] | None = None  # what it knew before the latest event
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
        classes = Names(schema.classes)
        same = [classes.find(label) for label in labels] == list(range(schema.n_classes))
        if not same or [str(name) for name in names] != [feature.name for feature in schema.features]:
            raise ValueError("labels or names that are not the schema's")
        rows.labels, rows._names, rows._fixed = labels, names, found["given"] if given is None else given
        rows._class_index = {label: i for i, label in enumerate(labels)}
        rows._take(schema)
        return rows

    @property
    def fixed(self) -> bool:
        """Whether the schema was given, and stays."""
        return self._fixed

    def undo(self) -> None:
        """Forget what the latest event brought, if it brought anything: it could not be learnt."""
        if self._before is not None:
            vars(self).update(self._before)

    def knows_label(self, y: Any) -> bool:
        """Whether a label is one of the classes."""
        return self._known_class(y) is not None

    @property
    def started(self) -> bool:
        return self._schema is not None

    @property
    def schema(self) -> Schema:
        if self._schema is None:
            raise DataError("no schema yet: nothing was learnt; learn one event first or give a schema")
        return self._schema

    def class_of(self, y: Any) -> int:
        """Class index of a label, -1 where it is missing; DataError for an unknown one under a fixed schema."""
        index = self._known_class(y)
        if index is None and is_missing(y):
            return UNLABELLED
        if index is None:
            raise DataError(f"label: {y!r} is none of the schema's classes {self.schema.classes[:8]}")
        return index

    def classes_of(self, y: Iterable[Any]) -> Int32:
        """Class index int32 [n] of n labels, by value; see `class_of`."""
        values = y.tolist() if hasattr(y, "tolist") else list(y)
        return np.array([self.class_of(value) for value in values], np.int32)

    def encode(self, x: dict[Any, Any], y: Hashable) -> tuple[Float32, GrowthNeeded]:
        """Return the row float32 [1, d] of an event about to be learnt, and whether the schema grew for it."""
        grown: GrowthNeeded = ""
        self._before = None
        _check_event(x)
        if not (self._fixed or self.brings_nothing_new(x, y)):
            grown = self._extend(x, y)
        if type(y) is not str:
            self._answer_as_given(y)
        return self.encode_known(x), grown

    def encode_known(self, x: dict[Any, Any]) -> Float32:
        """Return the row float32 [1, d]; what the vocabulary does not know is missing."""
        _check_event(x)
        row = list[float]()
        for j, (name, categories, base) in enumerate(self._columns):
            value = x.get(name, _ABSENT)
            if value is _ABSENT:
                value = _under_another_name(x, name)
            kind = type(value)
            if kind is float and categories is None:
                number = value - base
                row.append(number if -LARGEST < number < LARGEST else math.nan)
            elif kind is int and categories is None:
                row.append(_as_float(value, base))
            elif kind is str and categories is not None and (index := categories.get(value)) is not None:
                row.append(index)
            else:
                row.append(self._of(j, value))
        return np.array([row], np.float32).reshape(1, len(row))

    def encode_many(self, columns: Mapping[Any, Sequence[Any]], n: int) -> Float32:
        """Return n rows float32 [n, d] of columns by name; an absent one is missing, an unknown one is left out."""
        x = np.full((n, self.schema.n_features), np.nan, np.float32)
        by_text = {str(name): name for name in columns}
        for j, (name, categories, base) in enumerate(self._columns):
            if (key := by_text.get(str(name))) is None:
                continue
            column = columns[key]
            kind = column.dtype.kind if isinstance(column, np.ndarray) else "O"
            if categories is None and kind in "fiu":
                with np.errstate(over="ignore"):
                    x[:, j] = np.asarray(column, np.float64) - base
            else:
                x[:, j] = [self._of(j, value) for value in column]
        x[np.isinf(x)] = np.nan
        return x

    def _of(self, j: int, value: Any) -> float:
        """Return what a value is in column j; NaN where it is missing, or nothing that the column knows."""
        if value is None or value is _ABSENT:
            return math.nan
        name, categories, base = self._columns[j]
        if categories is None:
            number = number_of(value)
            if number is None:
                self._tell(name, f"{value!r:.60} is no number: taken as missing, and so is all of its kind")
                return math.nan
            return _as_float(number, base)
        index = self._names_of(j).find(value)
        if index is None and not is_missing(value):
            full = not self._fixed and len(categories) >= MAX_CATEGORIES
            if self._fixed or full:
                why = f"it has {len(categories):,} categories already" if full else "the schema does not list it"
                self._tell(name, f"category {value!r:.60} is taken as missing, as {why}")
        return math.nan if index is None else index

    def _tell(self, name: Any, what: str) -> None:
        """Say something of a feature, once."""
        if str(name) not in self._told:
            self._told.add(str(name))
            _log.warning("feature %r: %s", name, what)

    def _names_of(self, j: int) -> Names:
        """Return the names of a nominal feature, made when a value is first met that is not written like one."""
        if (names := self._names_by_column.get(j)) is None:
            names = self._names_by_column[j] = Names(self.schema.features[j].categories or ())
        return names

    def _known_class(self, y: Any) -> int | None:
        try:
            index = self._class_index.get(y)
        except TypeError:  # what has no hash is no label
            return None
        return self._classes.find(y) if index is None else index

    def _answer_as_given(self, y: Any) -> None:
        """Answer with labels of the kind that was given, where a schema has them as text: 1 is not "1"."""
        value = plain(y)
        index = self._known_class(value)
        if index is None or self.labels[index] == value or type(self.labels[index]) is not str:
            return
        self.labels[index] = value
        self._class_index[value] = index
        for other, text in enumerate(self.labels):
            if type(text) is str and (same := _of_kind(type(value), text)) is not None:
                self.labels[other] = same
                self._class_index.setdefault(same, other)

    def brings_nothing_new(self, x: dict[Any, Any], y: Hashable) -> bool:
        """Whether an event surely has no new name, category or label: a quick look before the thorough one."""
        try:
            if y not in self._class_index:
                return False
        except TypeError:  # what has no hash
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
        self._names_by_column: dict[int, Names] = {}
        self._classes = Names(schema.classes if schema else ())

    def _extend(self, x: dict[Any, Any], y: Hashable) -> GrowthNeeded:
        features, names = list(self._schema.features) if self._schema else [], list[Any]()
        known = dict(self._schema.feature_index) if self._schema else {}
        changed = False
        for key in sorted(x, key=str):  # the order of a dict's keys must not matter
            name, value = str(key), x[key]
            if is_missing(value):  # the first value that is not decides what a feature is
                continue
            j = known.get(name)
            if j is None:
                if (feature := _feature(name, value)) is None:
                    self._tell(key, f"a {type(value).__name__} is neither a number nor a text: taken as missing")
                    continue
                known[name] = len(features)
                features.append(feature)
                names.append(key)
                changed = True
                continue
            categories = features[j].categories
            if j >= len(self._columns):
                raise ConfigError(
                    f"feature {name!r} appears twice in an event, as {key!r} too; give each its own name"
                )
            if categories is None or self._names_of(j).find(value) is not None or len(categories) >= MAX_CATEGORIES:
                continue
            features[j] = Feature(name, (*categories, name_of(value)))
            changed = True
        labels = [] if self._known_class(y) is not None or is_missing(y) else [plain(y)]
        if labels and not isinstance(labels[0], Hashable):
            raise DataError(f"label: a {type(y).__name__} is no label; give a text, a number or a truth value")
        if not (changed or labels):
            return ""
        grown: GrowthNeeded = "grown" if self._schema else "started"
        # The schema refuses what does not fit before anything is taken up of this event.
        schema = Schema(tuple(features), tuple(map(str, [*self.labels, *labels])), self.sparse)
        self._before = {name: copy(value) for name, value in vars(self).items() if name != "_before"}
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


def _check_event(x: Any) -> None:
    """Raise DataError for what has no values by name."""
    if type(x) is not dict and not (hasattr(x, "items") and hasattr(x, "get")):
        way_out = "give a dict of values by feature name (many events: learn_many, predict_many)"
        raise DataError(f"event: a {type(x).__name__}; {way_out}")


def _under_another_name(x: dict[Any, Any], name: Any) -> Any:
    """Return the value under the text of a name, or under what has this name as its text: river's data have ints."""
    value = x.get(int(name) if isinstance(name, str) and name.isdecimal() else str(name), _ABSENT)
    if value is _ABSENT:
        for key, other in x.items():
            if type(key) is not str and str(key) == str(name):
                return other
    return value


def _feature(name: str, value: Any) -> Feature | None:
    """Return a feature by its first value; None where that is no value of one."""
    value = plain(value)
    if isinstance(value, str):
        return Feature(name, (str(value),))
    number = number_of(value)
    if number is None:
        return None
    return Feature(name, base=number if LONGEST_EXACT <= abs(number) < math.inf else 0.0)


def _of_kind(kind: type, text: str) -> Any:
    """Return the label of this kind that a class is, None where it is none."""
    if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower())
    if kind in (int, float) and (number := number_of(text)) is not None and math.isfinite(number):
        return kind(number) if name_of(number) in (text, text.removesuffix(".0")) else None
    return None


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
