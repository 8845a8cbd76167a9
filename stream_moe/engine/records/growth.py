"""Schemas that grow at a position of the log: what is new is taken in where it first appears, within bounds.

The record that brings a new feature, category or class is read with it. So a schema is a function of the log up to a
record, and of the schema that it began with; a replay grows it at the same record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from stream_moe.engine.fields import shown
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.models.contract import BlockClassifier
from stream_moe.types import Block, Feature, Schema
from stream_moe.values import LONGEST_EXACT, is_missing, name_of, number_of, seconds_of_text

UNKNOWN = ("grow", "ignore", "dead-letter")
Unknown = Literal["grow", "ignore", "dead-letter"]
MOST_FEATURES = 512  # up to which a schema grows: as many as every expert of the default model sees
MOST_CLASSES = 256
MOST_TOLD = 5  # names in one line of the log
_RANK = {"feature": 0, "category": 1, "class": 2}
_PLURAL = {"feature": "features", "category": "categories", "class": "classes"}


@dataclass(frozen=True, slots=True)
class New:
    """What a record brought that the schema did not have.

    Parameters
    ----------
    row
        Of the block.
    kind
        What it is.
    name
        Of the feature, category or class.
    column
        Of a category: the index of its feature.
    feature
        Of a feature: itself.
    """

    row: int
    kind: Literal["feature", "category", "class"]
    name: str
    column: int = -1
    feature: Feature | None = None


def feature_of(name: str, value: Any) -> Feature | None:
    """Return a feature by its first value that is not missing; None where that is no value of one.

    A number or truth value makes a number of it, and so does a date or time; any other text makes a category.

    >>> feature_of("a", 2.5), feature_of("b", "red"), feature_of("c", [1]), feature_of("d", "NA")
    (Feature(name='a', categories=None, base=0.0), Feature(name='b', categories=('red',), base=0.0), None, None)
    """
    if is_missing(value) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and seconds_of_text(value) is None:
        return Feature(name, (name_of(value),))
    number = number_of(value)
    if number is None:
        return None
    return Feature(name, base=number if LONGEST_EXACT <= abs(number) < 1e300 else 0.0)


def schemas_along(schema: Schema, news: Sequence[New]) -> list[tuple[int, Schema]]:
    """Return from which row on which schema holds, where rows of a block brought something new.

    >>> news = [New(7, "class", "maybe"), New(3, "feature", "b", feature=Feature("b"))]
    >>> [(row, s.n_features, s.classes) for row, s in schemas_along(Schema.numeric(1, ["no"], ["a"]), news)]
    [(3, 2, ('no',)), (7, 2, ('no', 'maybe'))]
    """
    found = []
    ordered = sorted(news, key=lambda new: (new.row, _RANK[new.kind], new.column))
    for row, here in groupby(ordered, key=lambda new: new.row):
        features, classes = list(schema.features), list(schema.classes)
        for new in here:
            if new.feature is not None:
                features.append(new.feature)
            elif new.kind == "class":
                classes.append(new.name)
            else:
                grown = features[new.column]
                features[new.column] = replace(grown, categories=(*(grown.categories or ()), new.name))
        schema = Schema(tuple(features), tuple(classes))
        found.append((row, schema))
    return found


def cut(block: Block, before: Schema, grown: Sequence[tuple[int, Schema]]) -> Iterator[tuple[Block, Schema | None]]:
    """Part a block where its schema grew: each part with the schema to grow to before it, None = it stays.

    A part's x has the columns of its schema alone: those that came later are missing in it anyway.
    """
    if not grown:
        yield block, None
        return
    steps: list[tuple[int, Schema | None]] = [(0, None), *grown]
    width = before.n_features
    for (start, schema), stop in zip(steps, [*(row for row, _ in grown), len(block)], strict=True):
        width = width if schema is None else schema.n_features
        if schema is not None or stop > start:
            yield _part(block, slice(start, stop), width), schema


def _part(block: Block, rows: slice, width: int) -> Block:
    def some(column: Any) -> Any:
        return None if column is None else column[rows]

    x = np.ascontiguousarray(block.x[rows, :width])
    return Block(
        x, block.y[rows], block.ids[rows], some(block.has_features), some(block.offsets), some(block.timestamps),
        some(block.keys),
    )  # fmt: skip


def growing(make: Callable[[Any], BlockClassifier], schema: Schema) -> BlockClassifier:
    """Make a model that may grow, and begins with a schema; ConfigError where that is too wide."""
    if schema.n_features > MOST_FEATURES:
        raise ConfigError(
            f"schema: {schema.n_features:,} features; one that grows has {MOST_FEATURES} at most: choose some of "
            "them (--features, --drop), or leave out what is new (--unknown ignore)"
        )
    model = make(None)
    names = [feature.name for feature in schema.features]
    model.take_vocabulary(schema, {"given": False, "labels": list(schema.classes), "names": names})
    return model


def growth(first: Schema, now: Schema) -> dict[str, int]:
    """Count by kind what a schema has more than the one that it began as.

    >>> growth(Schema.numeric(1, ["no"]), Schema.numeric(3, ["no", "yes"]))
    {'feature': 2, 'category': 0, 'class': 1}
    """
    categories = int(now.n_categories[: first.n_features].sum() - first.n_categories.sum())
    return {
        "feature": now.n_features - first.n_features,
        "category": categories,
        "class": now.n_classes - first.n_classes,
    }


def check_grown(first: Schema, now: Schema, name: str) -> None:
    """Raise CheckpointError unless the schema of checkpoint `name` is what the first one may have grown to."""
    pairs = zip(first.features, now.features, strict=False)
    same = all(
        (a.name, a.base, a.is_nominal) == (b.name, b.base, b.is_nominal)
        and (a.categories or ()) == (b.categories or ())[: len(a.categories or ())]
        for a, b in pairs
    )
    if not same or now.n_features < first.n_features or now.classes[: first.n_classes] != first.classes:
        raise CheckpointError(f"{name}: whole, but its schema is none that the one it began with can grow to")


def in_words(news: Sequence[New], schema: Schema, offsets: Sequence[int]) -> Iterator[str]:
    """Say what was taken in, a line for each kind; `offsets` are those of the block's rows."""
    for kind in _RANK:
        found = [new for new in news if new.kind == kind]
        if not found:
            continue
        names = [shown(new.name) + _about(new, schema) for new in found]
        left = f" and {len(names) - MOST_TOLD:,} more" if len(names) > MOST_TOLD else ""
        places = sorted({offsets[new.row] for new in found})
        where = f"offset {places[0]}" + (f" to {places[-1]}" if len(places) > 1 else "")
        total = schema.n_classes if kind == "class" else schema.n_features
        of = "" if kind == "category" else f", of which there are now {total:,}"
        yield f"{where}: new {_PLURAL[kind]} taken in{of}: {', '.join(names[:MOST_TOLD])}{left}"


def _about(new: New, schema: Schema) -> str:
    if new.feature is not None:
        return " (a category)" if new.feature.is_nominal else " (a number)"
    return f" of {shown(schema.features[new.column].name)}" if new.kind == "category" else ""
