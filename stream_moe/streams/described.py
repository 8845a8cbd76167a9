"""What was read of a file: its columns, their kinds and values, and what looks wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from stream_moe.sparse_rows import SparseRows
from stream_moe.streams.files import FileStream
from stream_moe.types import UNLABELLED, Feature, Float32, Int32, has_label

EXAMPLES = 3
LEAST_ROWS = 20  # of fewer rows all may differ by chance
SHORTEST = 40  # characters of a value that are shown


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What a feature's column holds.

    Attributes
    ----------
    name, kind
        "numeric", or "nominal (n)" with the number of its categories.
    examples
        Its first different values.
    missing
        Share of rows without a value, 0 to 1.
    distinct
        How many different values it has.
    warnings
        What looks wrong with it: an identifier, a constant, a copy of the label.
    """

    name: str
    kind: str
    examples: tuple[str, ...]
    missing: float
    distinct: int
    warnings: tuple[str, ...]


def describe(stream: FileStream) -> list[ColumnFacts]:
    """Describe each feature of a file.

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> x, y = np.float32([[5, 0], [6, 0], [np.nan, 0]]), np.int32([0, 1, 1])
    >>> stream = FileStream("t", Schema((Feature("a"), Feature("b", ("u",))), ("no", "yes")), x, y)
    >>> [(facts.name, facts.kind, facts.examples, facts.distinct, facts.warnings) for facts in describe(stream)]
    [('a', 'numeric', ('5', '6'), 2, ()), ('b', 'nominal (1)', ('u',), 1, ('a constant: it says nothing',))]
    """
    return [_facts(feature, stream.x[:, j], stream.y) for j, feature in enumerate(stream.schema.features)]


def _facts(feature: Feature, column: Float32, y: Int32) -> ColumnFacts:
    present = ~np.isnan(column)
    values, first = np.unique(column[present], return_index=True)
    examples = tuple(_text(feature, float(column[present][at])) for at in np.sort(first)[:EXAMPLES])
    kind = "numeric" if feature.categories is None else f"nominal ({len(feature.categories)})"
    warnings = tuple(_warnings(feature, column, y, values, present))
    missing = 1.0 - float(present.mean()) if len(column) else 0.0
    return ColumnFacts(feature.name, kind, examples, missing, len(values), warnings)


def _text(feature: Feature, value: float) -> str:
    if feature.categories is not None:
        return feature.categories[int(value)][:SHORTEST]
    if feature.base and feature.base.is_integer() and value.is_integer():
        return str(int(feature.base) + int(value))  # exact beyond float64
    return f"{value + feature.base:.16g}" if feature.base else str(np.float32(value)).removesuffix(".0")


def _warnings(
    feature: Feature, column: Float32, y: Int32, values: Float32, present: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Iterator[str]:
    rows = int(present.sum())
    if rows == 0:
        yield "no value at all"
    elif len(values) == 1:
        yield "a constant: it says nothing"
    whole = bool((values == np.floor(values)).all())
    if rows >= LEAST_ROWS and len(values) == rows and (feature.is_nominal or whole):
        yield "as many values as rows: an identifier or a time? It says nothing of rows to come; --drop leaves it out"
    known = present & has_label(y)
    classes = np.unique(y[known])
    if rows >= LEAST_ROWS and len(classes) > 1 and len(np.unique(column[known])) == len(classes):
        pairs = np.unique(np.column_stack([column[known], y[known].astype(np.float32)]), axis=0)
        if len(pairs) == len(classes):
            yield "a copy of the label: is it known when the prediction is wanted? --drop leaves it out"


def in_short(stream: FileStream) -> str:
    """Say in one line what was read.

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> x, y = np.float32([[5], [6], [np.nan]]), np.int32([0, 1, -1])
    >>> in_short(FileStream("t.csv", Schema.numeric(1, ["no", "yes"]), x, y))  # doctest: +ELLIPSIS
    't.csv: 3 events, 1 feature (1 numeric), 33.3 % of the values missing; classes no 50 %, yes 50 %...'
    """
    if stream.schema.sparse:
        rows = cast("SparseRows", stream.x)
        a_row = len(rows.bucket) / max(len(rows), 1)
        return (
            f"{stream.name}: {stream.n_events:,} events, sparse rows of {a_row:,.0f} entries on average; classes "
            f"{', '.join(_shares(stream))}"
        )
    features, d = stream.schema.features, stream.schema.n_features
    nominal = sum(feature.is_nominal for feature in features)
    kinds = [f"{n} {kind}" for n, kind in ((d - nominal, "numeric"), (nominal, "nominal")) if n]
    missing = float(np.isnan(stream.x).mean()) if stream.x.size else 0.0
    return (
        f"{stream.name}: {stream.n_events:,} events, {d} feature{'s' * (d != 1)} ({', '.join(kinds)})"
        + (f", {missing:.1%} of the values missing".replace("%", " %") if missing else "")
        + (f"; label {stream.label!r}" if stream.label is not None else "")
        + f"; {_of_labels(stream)}"
        + (f"; {without:,} without a label" if (without := int((~has_label(stream.y)).sum())) else "")
    )


def _of_labels(stream: FileStream) -> str:
    """Say in short what the labels are."""
    if (target := stream.schema.target) is None:
        return f"classes {', '.join(_shares(stream))}"
    known = stream.y[has_label(stream.y)]
    low, middle, high = (f"{q:.6g}" for q in np.quantile(known, [0.0, 0.5, 1.0])) if len(known) else ("-", "-", "-")
    name = f"label {target.name[:SHORTEST]!r}, " if stream.label is None else ""
    return f"{name}a number from {low} to {high}, median {middle}"


def _shares(stream: FileStream) -> Iterator[str]:
    """Yield the classes with their shares of the labels, the largest first; of many only some."""
    counts = np.bincount(stream.y[stream.y != UNLABELLED], minlength=stream.schema.n_classes)
    for c in np.argsort(-counts, kind="stable")[:5]:
        share = 100 * counts[c] / max(counts.sum(), 1)
        yield f"{stream.schema.classes[c][:SHORTEST]} {share:.{3 if share >= 99 else 2}g} %"
    if len(counts) > 5:
        yield f"and {len(counts) - 5} more"
