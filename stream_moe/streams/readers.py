"""CSV, ARFF, JSON Lines and Parquet as tables; NumPy's archive is in `npz`."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import lzma
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from stream_moe.errors import DataError, one_line
from stream_moe.streams.tables import Chunk, Column, Table, gather, is_number

ATTRIBUTE = re.compile(r"""@attribute\s+('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s{]+)\s*(\S.*)""", re.IGNORECASE)
NUMERIC = frozenset(["numeric", "real", "integer"])
_log = logging.getLogger(__name__)


def open_text(path: Path) -> IO[str]:
    """Open a text file, decompressing .gz and .xz; a byte order mark is skipped."""
    kinds: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    opener = kinds.get(path.suffix.lower(), open)
    return cast(IO[str], opener(path, "rt", encoding="utf-8-sig", newline=""))


def empty(path: Path) -> DataError:
    return DataError(f"{path}: the file is empty; it needs a header and at least one row")


def read_csv(path: Path) -> Table:
    """Read comma-separated values with a header line."""
    rows = _csv_rows(path)
    _, names = next(rows, (0, None))
    if names is None:
        raise empty(path)
    names = [name.strip() for name in names]
    if len(names) == 1:
        raise DataError(f"{path}: one column, {names[0][:60]!r}; it needs features and a label, separated by commas")
    if all(is_number(name) for name in names):
        raise DataError(f"{path}: line 1 holds numbers, not names of columns; put a header line before it")
    numbers = [name for name in names if name and is_number(name)]
    if numbers and numbers != [str(n) for n in range(len(numbers))]:  # as pandas writes columns without names
        said = "%s: line 1 is taken as names of columns, %r among them; put a header line before it if it is an event"
        _log.warning(said, path, numbers[0])
    return Table(path, [Column(name) for name in names], gather(path, rows, len(names)))


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    with open_text(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise DataError(
                f"{path}: line {reader.line_num}: {error}; correct the quotes or save the file as plain CSV "
                "(the file may have been cut off)"
            ) from None


def read_arff(path: Path) -> Table:
    """Read an ARFF file; nominal attributes keep their declared order, strings and dates become nominal.

    DataError if the header is not one, or (while rows are read) a row is sparse or has too few values.
    """
    lines = _arff_lines(path)
    columns: list[Column] = []
    for number, line in lines:
        keyword = line.split(None, 1)[0].lower()
        if keyword == "@attribute":
            columns.append(_arff_column(path, number, line))
        elif keyword == "@data":
            return Table(path, columns, gather(path, _arff_rows(path, lines), len(columns)))
        elif keyword != "@relation":
            raise DataError(
                f"{path}: line {number}: {line[:40]!r} is not ARFF; the header has @relation, @attribute and @data"
            )
    if not columns:
        raise empty(path)
    raise DataError(f"{path}: no @data line; the file may have been cut off")


def _arff_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if text and not text.startswith("%"):
                yield number, text


def _arff_column(path: Path, number: int, line: str) -> Column:
    match = ATTRIBUTE.fullmatch(line)
    if match is None:
        raise DataError(f"{path}: line {number}: {line[:60]!r}; write @attribute NAME TYPE")
    name, kind = _unquote(match[1]), match[2].strip()
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"{path}: line {number}: the values of {name!r} do not end in '}}'; close the list")
        values = tuple(cell.strip() for cell in _arff_cells(path, number, kind[1:-1]))
        return Column(name, "nominal", tuple(dict.fromkeys(values)))
    word = kind.split()[0].lower()
    if word in NUMERIC:
        return Column(name, "numeric")
    if word in ("string", "date"):
        return Column(name, "nominal")
    raise DataError(f"{path}: line {number}: {name!r} has type {kind[:40]!r}; use numeric, {{a,b,...}} or string")


def _arff_rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if line.startswith("{"):
            raise DataError(f"{path}: line {number}: a sparse row; write the file with dense rows")
        yield number, _arff_cells(path, number, line)


def _arff_cells(path: Path, number: int, line: str) -> list[str]:
    quotes = [quote for quote in "'\"" if quote in line]
    if not quotes:
        return line.split(",")
    quote = min(quotes, key=line.index)
    try:
        return next(csv.reader([line], quotechar=quote, escapechar="\\", skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path}: line {number}: {error}; correct the quotes (the file may have been cut off)"
        ) from None


def _unquote(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name[0] in "'\"" else name


def read_jsonl(path: Path) -> Table:
    """Read one JSON object a line; the first names the columns, a later one may lack some of them."""
    objects = _json_objects(path)
    line, first = next(objects, (0, None))
    if first is None:
        raise empty(path)

    def rows() -> Iterator[tuple[int, list[Any]]]:
        yield line, list(first.values())
        for number, plain in objects:
            if new := plain.keys() - first.keys():
                raise DataError(
                    f"{path}: line {number}: {min(new)!r} is not in the first object; "
                    "give the first object every key, null where it has no value"
                )
            yield number, [plain.get(key) for key in first]

    return Table(path, [Column(name) for name in first], gather(path, rows(), len(first)), typed=True)


def _json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(plain := dict(pairs)) < len(pairs):
            raise ValueError("a key appears twice")
        return plain

    with open_text(path) as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                plain = json.loads(text, object_pairs_hook=unique)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path}: line {number}: {error}; "
                    "each line must be one JSON object (the file may have been cut off)"
                ) from None
            if not isinstance(plain, dict):
                raise DataError(
                    f"{path}: line {number}: {text.strip()[:40]!r} is not a JSON object; write one object a line"
                )
            for key, value in plain.items():
                if isinstance(value, bool):
                    plain[key] = str(value).lower()
                elif isinstance(value, (dict, list)):
                    raise DataError(
                        f"{path}: line {number}: {key!r} is nested; give each of its values a key of its own"
                    )
            yield number, plain


def read_parquet(path: Path) -> Table:
    """Read Parquet; strings, booleans and dictionaries are nominal, numbers numeric."""
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
    kinds = [_arrow_kind(path, field, pa.types) for field in file.schema_arrow]

    def chunks() -> Iterator[Chunk]:
        row = 1
        try:
            for batch in file.iter_batches():
                cells = [_arrow_cells(column, kind, pa) for column, kind in zip(batch.columns, kinds, strict=True)]
                yield Chunk(range(row, row + batch.num_rows), cells)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: after row {row - 1}: {one_line(error)}; write the file again") from None

    columns = [Column(field.name, kind) for field, kind in zip(file.schema_arrow, kinds, strict=True)]
    return Table(path, columns, chunks(), "row", typed=True)


def _arrow_kind(path: Path, field: Any, types: Any) -> Any:
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind):
        return "nominal"
    if types.is_dictionary(field.type) and types.is_integer(kind):
        return "nominal"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return "numeric"
    raise DataError(f"{path}: column {field.name!r} holds {field.type}; cast it to a number or a string, or drop it")


def _arrow_cells(column: Any, kind: str, pa: Any) -> Sequence[Any]:
    if kind == "nominal":
        return [str(cell).lower() if isinstance(cell, bool) else cell for cell in column.to_pylist()]
    if pa.types.is_integer(column.type) and column.null_count:
        return cast(list[Any], column.to_pylist())  # as an array the integers would become floats
    if pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.float64())
    cells: Sequence[Any] = column.to_numpy(zero_copy_only=False)
    return cells
