"""The nouns of the engine: what a feature is, what an event is, and how a run of events is laid out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_moe.entries import JournalEntry
from stream_moe.errors import ConfigError
from stream_moe.target import Target
from stream_moe.values import name_of

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

UNLABELLED = -1
NEVER = -1  # the delay of a label that does not come
NO_TICKET = -1  # of an event whose label comes with it, or never
SHARED = b""  # the key of the model that records without a key have in common


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the features.

    Parameters
    ----------
    name
        Name of the feature, unique in its schema.
    categories
        None for a numeric feature. For a nominal one its categories in index order: column values
        are indices into it, and a category that is not in it counts as missing (NaN).
    base
        Of a numeric feature whose values are too large for float32 to keep apart, as times are: x holds the distance
        of each value from it.

    Examples
    --------
    >>> Feature("load").is_nominal, Feature("day", ("Mon", "Tue")).is_nominal
    (False, True)
    """

    name: str
    categories: tuple[str, ...] | None = None
    base: float = 0.0

    @property
    def is_nominal(self) -> bool:
        """Whether values are category indices."""
        return self.categories is not None


def _check_text(what: str, name: Any) -> None:
    if not isinstance(name, str):
        raise ConfigError(f"schema: {what} {name!r} is no text; names are texts: {str(name)!r}")


@dataclass(frozen=True)
class Schema:
    """Names and kinds of the features, and the class labels, or the number that is to be predicted.

    Parameters
    ----------
    features
        In the order of the columns of x.
    classes
        Labels in the order of the class indices.
    sparse
        Whether rows are sparse (`stream_moe.sparse_rows`): then any name may come, and no feature is listed.
    target
        The number to predict; there are no classes then.

    Raises
    ------
    ConfigError
        If two features, or two classes, have one name.

    Examples
    --------
    >>> schema = Schema.numeric(2, ["no", "yes"])
    >>> schema.n_features, schema.n_classes, schema.class_index["yes"]
    (2, 2, 1)
    >>> Schema.from_dict(schema.to_dict()) == schema
    True
    """

    features: tuple[Feature, ...]
    classes: tuple[str, ...] = ()
    sparse: bool = False
    target: Target | None = None

    def __post_init__(self) -> None:
        if self.target is not None and (self.classes or self.sparse):
            raise ConfigError(f"schema: {self.target.name!r} is a number; leave the classes out, and sparse")
        for what, names in (("feature", [f.name for f in self.features]), ("class", list(self.classes))):
            if len(set(names)) < len(names):
                repeated = sorted(name for name, times in Counter(names).items() if times > 1)
                raise ConfigError(f"schema: {what} {repeated[0]!r} appears twice; give each {what} its own name")
            for name in names:
                _check_text(what, name)
        for feature in self.features:
            for category in feature.categories or ():
                _check_text(f"category of {feature.name!r}:", category)

    @classmethod
    def numeric(cls, n_features: int, classes: Sequence[str], names: Sequence[str] | None = None) -> Schema:
        """Make a schema of numeric features only, named x0, x1, ... unless named."""
        names = names or [f"x{j}" for j in range(n_features)]
        return cls(tuple(Feature(name) for name in names), tuple(classes))

    @property
    def n_features(self) -> int:
        """d, the columns of x."""
        return len(self.features)

    @property
    def n_classes(self) -> int:
        """C, the classes."""
        return len(self.classes)

    @property
    def width(self) -> int:
        """Numbers in an answer: a probability for each class; of a number itself, its bounds and its scale."""
        return len(self.classes) if self.target is None else 4

    @cached_property
    def n_categories(self) -> Int32:
        """int32 [d]: how many categories each feature has, 0 for a numeric one."""
        return np.array([len(f.categories or ()) for f in self.features], np.int32)

    @cached_property
    def class_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    @cached_property
    def feature_index(self) -> dict[str, int]:
        return {f.name: index for index, f in enumerate(self.features)}

    @cached_property
    def category_index(self) -> tuple[dict[str, int] | None, ...]:
        """For each feature None (numeric) or the index of each category."""
        return tuple(
            None if f.categories is None else {name: i for i, name in enumerate(f.categories)} for f in self.features
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` reads them."""
        return {
            "features": [_described(f) for f in self.features],
            "classes": list(self.classes),
            **({"sparse": True} if self.sparse else {}),
            **({"target": self.target.to_dict()} if self.target is not None else {}),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Schema:
        """Read what `to_dict` wrote; ConfigError when it is not that."""
        if not isinstance(plain, dict) or not plain.keys() >= {"features", "classes"}:
            raise ConfigError(
                f"schema: {str(plain)[:80]!r}; it needs 'features' (list of objects with 'name' and, for a nominal "
                "one, 'categories') and 'classes' (list of names)"
            )
        found = plain["features"]
        if not isinstance(found, list):
            raise ConfigError(f"schema: features: {str(found)[:60]!r}; give a list of objects with a 'name'")
        if (sparse := plain.get("sparse", False)) not in (True, False) or (sparse and found):
            raise ConfigError(f"schema: sparse {str(sparse)[:60]!r}; give true where no feature is listed, or false")
        features = tuple(_feature(j, each) for j, each in enumerate(found))
        if "target" in plain and plain["classes"] == []:
            return cls(features, (), bool(sparse), Target.from_dict(plain["target"]))
        if "target" in plain:
            raise ConfigError(f"schema: target {str(plain['target'])[:60]!r} beside classes; a number has none: []")
        return cls(features, _names("classes", plain["classes"]), bool(sparse))

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over names, kinds, categories and classes: equal schemas, equal digests."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _described(feature: Feature) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": feature.name}
    if feature.categories is not None:
        plain["categories"] = list(feature.categories)
    return plain | ({"base": feature.base} if feature.base else {})


def _feature(j: int, plain: Any) -> Feature:
    where = f"features[{j}]"
    if not isinstance(plain, dict) or not isinstance(plain.get("name"), str | int | float):
        raise ConfigError(f"schema: {where}: {str(plain)[:60]!r}; give an object with a 'name'")
    if unknown := plain.keys() - {"name", "categories", "base"}:
        raise ConfigError(
            f"schema: {where}: {min(unknown)!r} in {str(plain)[:60]!r}; it takes 'name' and, if it is nominal, "
            "'categories'"
        )
    base = plain.get("base", 0.0)
    if isinstance(base, bool) or not isinstance(base, int | float) or not np.isfinite(base):
        raise ConfigError(f"schema: {where}: base {str(base)[:60]!r}; give a number")
    categories = _names(f"{where}: categories", plain["categories"]) if "categories" in plain else None
    return Feature(str(plain["name"]), categories, float(base))


def _names(where: str, plain: Any) -> tuple[str, ...]:
    """Return names of categories or classes; ConfigError unless they are a list of different names."""
    if not isinstance(plain, list) or not plain:
        raise ConfigError(f"schema: {where}: {str(plain)[:60]!r}; give a list of names")
    for name in plain:
        if not isinstance(name, str | int | float) or name == "":
            raise ConfigError(f"schema: {where}: {str(name)[:60]!r} is no name; give texts")
    names = tuple(map(name_of, plain))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"schema: {where}: {twice[:60]!r} appears twice; give each its own name")
    return names


def has_label(y: npt.NDArray[Any]) -> Bool:
    """Which of class indices int32 [n], or of numbers float64 [n], are there: bool [n]."""
    return ~np.isnan(y) if y.dtype.kind == "f" else y != UNLABELLED


@dataclass(slots=True)
class Block:
    """A run of consecutive events as columns.

    Attributes
    ----------
    x
        float32 [n, d]; a nominal feature as its category index; NaN = missing. Never infinite. Under a sparse schema
        `stream_moe.sparse_rows.SparseRows`, which is cut and picked as an array is.
    y
        int32 [n], class index; -1 = no label (yet). Of a number float64 [n]; NaN = none.
    ids
        n event ids, or an empty list where the position is the id (replay).
    has_features
        bool [n]; False for a record that carries only a label. None = all True.
    offsets
        int64 [n], position in the log.
    timestamps
        int64 [n], event time in milliseconds since 1970; -1 = unknown.
    keys
        n record keys, where each key has its own model; None = not asked for.
    delays
        int64 [n], after how many more events of a replay each label arrives, -1 = never; None = they do not say.

    Examples
    --------
    >>> block = Block(np.float32([[0.5], [0.1]]), np.int32([1, -1]), ["e1", "e2"])
    >>> len(block), block.rest(1).y.tolist()
    (2, [-1])
    """

    x: Float32
    y: Int32
    ids: list[str] = field(default_factory=list)
    has_features: Bool | None = None
    offsets: Int64 | None = None
    timestamps: Int64 | None = None
    keys: list[bytes] | None = None
    delays: Int64 | None = None

    def __len__(self) -> int:
        return len(self.y)

    def first(self, end: int) -> Block:
        """Return the first `end` events, without their ids and offsets."""
        return self.part(slice(end))

    def rest(self, begin: int) -> Block:
        """Return what follows the first `begin` events, without their ids and offsets."""
        return self.part(slice(begin, None))

    def part(self, rows: slice) -> Block:
        """Return some of its events, without their ids and offsets."""
        times, delays = (None if each is None else each[rows] for each in (self.timestamps, self.delays))
        return Block(self.x[rows], self.y[rows], timestamps=times, delays=delays)


@dataclass(slots=True)
class RecordBatch:
    """Raw records of one partition, in log order, as a log hands them out.

    Attributes
    ----------
    offsets, timestamps
        int64 [n]; timestamps in milliseconds since 1970.
    keys, values
        n byte strings or None each.
    corrupt
        Offsets that the log itself could not read (bad checksum, bad batch): each is a dead letter.
    next_offset
        The position after this batch. It may lie beyond offsets[-1] + 1 where the log holds control records.
    headers
        Headers of the FIRST record only, (key, value) pairs; a producer puts its schema there.
    partition
        Whose records they are.
    labels
        Where labels have a topic of their own: what of it belongs to the same block.
    entry
        In a replay from a journal: what the block said of itself when it was committed.
    """

    offsets: Int64
    timestamps: Int64
    keys: list[bytes | None]
    values: list[bytes | None]
    next_offset: int
    corrupt: list[int] = field(default_factory=list)
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = 0
    labels: RecordBatch | None = None
    entry: JournalEntry | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def end(self) -> int:
        """The partition's position after this batch: with two topics the sum of theirs."""
        return self.next_offset + (self.labels.next_offset if self.labels is not None else 0)

    def split(self, offset: int) -> tuple[RecordBatch, RecordBatch]:
        """Part what lies before an offset from the rest; for a batch of one topic."""
        n = int(np.searchsorted(self.offsets, offset))
        head, tail = (
            replace(
                self,
                offsets=self.offsets[part],
                timestamps=self.timestamps[part],
                keys=self.keys[part],
                values=self.values[part],
                corrupt=[bad for bad in self.corrupt if (bad < offset) == before],
            )
            for part, before in ((slice(n), True), (slice(n, None), False))
        )
        head.next_offset = offset
        return head, tail


@dataclass(slots=True)
class DeadLetter:
    """A record that could not be used: its original bytes and why.

    `stage` is where it failed ("log", "decode", "join"), `reason` a short constant for counting
    ("bad-json", "unknown-class", ...), `message` the sentence for a person, `topic` where it was read, if not in
    the input topic.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    stage: str
    reason: str
    message: str
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What one block of a partition gives to the world, all of it in one commit.

    Parameters
    ----------
    next_offset
        The input position behind the block: of the next record to read.
    predictions
        (key, value) of each.
    dead_letters
        Records that could not be used.
    drifts
        JSON objects.
    entry
        What the block says of itself, beside the position and in the journal where there is one.
    """

    next_offset: int
    predictions: Sequence[tuple[bytes | None, bytes]] = ()
    dead_letters: Sequence[DeadLetter] = ()
    drifts: Sequence[bytes] = ()
    entry: JournalEntry | None = None
