"""Parquet as a table, as pandas, polars and Arrow write it; needs the extra `parquet`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from stream_moe.errors import DataError, one_line
from stream_moe.streams.allowance import Allowance
from stream_moe.streams.tables import CHUNK_CELLS, Chunk, Column, Table

BATCH_ROWS = 65_536
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a time, in a second


def read_parquet(path: Path, allowance: Allowance) -> Table:
    """Read Parquet; strings, booleans and dictionaries are nominal, numbers and times numeric."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: install stream-moe[parquet], or convert the file to CSV"
        ) from None
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the file system's word, not Parquet's
        raise DataError(f"{path}: not a readable Parquet file ({one_line(error)}); write it again") from None
    # Its head says so, before anything of it is unpacked; and a text that comes a million times is there once.
    groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
    allowance.text(sum(max(group.total_byte_size, 0) for group in groups))
    allowance.values(max(file.metadata.num_rows, 0) * max(file.metadata.num_columns, 1))
    texts = [field.name for field in file.schema_arrow if _is_text(field.type, pa.types)]
    file = pq.ParquetFile(path, read_dictionary=texts)
    rows = max(1, min(BATCH_ROWS, CHUNK_CELLS // max(file.metadata.num_columns, 1)))
    index = _index_columns(file.schema_arrow)
    fields = [field for field in file.schema_arrow if field.name not in index]
    kinds = [_kind(path, field, pa.types) for field in fields]
    notes = [f"{name!r} is a frame's index: left out" for name in index]
    notes += [f"{f.name!r} holds times: read as seconds since 1970" for f in fields if _is_time(f.type, pa.types)]

    def chunks() -> Iterator[Chunk]:
        row = 1
        try:
            for batch in file.iter_batches(rows):
                wanted = [
                    column
                    for name, column in zip(file.schema_arrow.names, batch.columns, strict=True)
                    if name not in index
                ]
                cells = [_cells(column, kind, pa) for column, kind in zip(wanted, kinds, strict=True)]
                yield Chunk(range(row, row + batch.num_rows), cells)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: after row {row - 1}: {one_line(error)}; write the file again") from None

    columns = [Column(field.name, kind) for field, kind in zip(fields, kinds, strict=True)]
    return Table(path, columns, chunks(), "row", True, notes)


def _index_columns(schema: Any) -> list[str]:
    """Return the columns that hold the index of a pandas frame."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
        return [name for name in stored if isinstance(name, str) and name in schema.names]
    except (ValueError, KeyError, TypeError):
        return []


def _kind(path: Path, field: Any, types: Any) -> Any:
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if (
        _is_text(kind, types)
        or types.is_boolean(kind)
        or (types.is_dictionary(field.type) and types.is_integer(kind))
    ):
        return "nominal"
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    if number or _is_time(kind, types):
        return "numeric"
    raise DataError(f"{path}: column {field.name!r} holds {field.type}; cast it to a number or a string, or drop it")


def _is_text(kind: Any, types: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_time(kind: Any, types: Any) -> bool:
    return bool(types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind) or types.is_duration(kind))


def _cells(column: Any, kind: str, pa: Any) -> Sequence[Any]:
    if kind == "nominal" and pa.types.is_dictionary(column.type):
        known = column.dictionary.to_pylist()
        return [None if code is None else known[code] for code in column.indices.to_pylist()]
    if kind == "nominal":
        return cast(list[Any], column.to_pylist())
    if _is_time(column.type, pa.types):
        return _seconds(column, pa)
    if pa.types.is_integer(column.type) and column.null_count:
        return cast(list[Any], column.to_pylist())  # as an array the integers would become floats
    if pa.types.is_decimal(column.type) or pa.types.is_null(column.type) or pa.types.is_float16(column.type):
        column = column.cast(pa.float64())
    cells: Sequence[Any] = column.to_numpy(zero_copy_only=False)
    return cells


def _seconds(column: Any, pa: Any) -> Sequence[Any]:
    """Return dates, times and durations as float64 seconds, NaN where there is none."""
    types = pa.types
    if types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    per_second = UNITS[column.type.unit]
    wide = types.is_time32(column.type)
    whole = column.cast(pa.int32()).cast(pa.int64()) if wide else column.cast(pa.int64())
    return [None if value is None else value / per_second for value in whole.to_pylist()]
