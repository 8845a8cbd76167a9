"""Records and schemas in one line, for the log."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from stream_moe.engine.fields import shown
from stream_moe.types import UNLABELLED, Block, Schema

MOST = 8  # features of a record, or names, in one line


def understood(block: Block, row: int, schema: Schema) -> str:
    """Say how a record of a block was read.

    >>> import numpy as np
    >>> schema = Schema.numeric(2, ["no", "yes"], ["amount", "age"])
    >>> place = {"offsets": np.int64([7]), "timestamps": np.int64([0])}
    >>> block = Block(np.float32([[9.5, np.nan]]), np.int32([1]), ["o-1"], **place)
    >>> understood(block, 0, schema)
    "offset 7: id 'o-1', label 'yes', time 1970-01-01T00:00:00Z; amount=9.5; missing: age"
    """
    label = "none" if block.y[row] == UNLABELLED else shown(schema.classes[block.y[row]])
    offset = -1 if block.offsets is None else int(block.offsets[row])
    at = -1 if block.timestamps is None else int(block.timestamps[row])
    said = f"offset {offset}: id {shown(block.ids[row])}, label {label}, time {_moment(at)}"
    if block.has_features is not None and not block.has_features[row]:
        return f"{said}; a label alone"
    if schema.sparse:
        return f"{said}; sparse"
    values, missing = [], []
    for feature, value in zip(schema.features, block.x[row].tolist(), strict=True):
        if math.isnan(value):
            missing.append(feature.name)
        elif feature.categories is not None:
            values.append(f"{_name(feature.name)}={_name(feature.categories[int(value)])}")
        else:
            values.append(f"{_name(feature.name)}={value + feature.base:.7g}")
    said += f"; {_some(values)}" if values else ""
    return said + (f"; missing: {_some([_name(name) for name in missing])}" if missing else "")


def schema_in_short(schema: Schema, records: int) -> str:
    """Say what was learnt from so many records.

    >>> schema_in_short(Schema.numeric(2, ["no", "yes"]), 100)
    'schema learnt from the first 100 records: 2 features (x0, x1), classes no, yes'
    """
    names = _some([_name(feature.name) + _kind(feature.categories) for feature in schema.features])
    many = f"{schema.n_features:,} feature{'s' * (schema.n_features != 1)}"
    classes = _some(list(schema.classes))
    return f"schema learnt from the first {records:,} records: {many} ({names}), classes {classes}"


def _kind(categories: tuple[str, ...] | None) -> str:
    return "" if categories is None else f" of {len(categories):,} categories"


def _name(text: str) -> str:
    return text[:40] if text.isprintable() and text else ascii(text)[:40]


def _some(each: list[str]) -> str:
    left = len(each) - MOST
    return ", ".join(each[:MOST]) + (f" and {left:,} more" if left > 0 else "")


def _moment(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
