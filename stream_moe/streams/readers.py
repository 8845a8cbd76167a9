"""CSV and JSON Lines as tables. ARFF is in `arff`, Parquet in `parquet`, NumPy's archive in `npz`."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from stream_moe.errors import DataError
from stream_moe.streams.allowance import MOST_LINE, Allowance
from stream_moe.streams.numbers import Form
from stream_moe.streams.tables import Column, Table, gather, is_number
from stream_moe.streams.text import open_text

SEPARATORS = ",;\t|"  # the first that gives as many columns as any other is taken
SAMPLE_LINES = 50  # by which it is chosen
_SHOWN = {"\t": "tab"}
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?\s*', re.IGNORECASE)  # as spreadsheets write it


def empty(path: Path) -> DataError:
    return DataError(f"{path}: the file is empty; it needs a header and at least one row")


def read_csv(path: Path, allowance: Allowance, encoding: str | None = None, separator: str | None = None) -> Table:
    """Read values in columns, parted by commas, semicolons, tabs or bars, with a header line."""
    notes: list[str] = []
    separator, begin, stray = _dialect(path, encoding, separator, notes)
    rows = _csv_rows(path, allowance, encoding, separator, begin, stray)
    _, names = next(rows, (0, None))
    if names is None:
        raise empty(path)
    header, names = names, [name.strip() for name in names]
    if len(names) == 1:
        raise DataError(f"{path}: one column, {names[0][:60]!r}; it needs features and a label, separated by commas")
    if all(is_number(name) for name in names):
        raise DataError(f"{path}: line 1 holds numbers, not names of columns; put a header line before it")
    numbers = [name for name in names if name and is_number(name)]
    if numbers and numbers != [str(n) for n in range(len(numbers))]:  # as pandas writes columns without names
        notes.append(
            f"line 1 is taken as names of columns, {numbers[0]!r} among them; put a header line before it if it is "
            "an event"
        )
    chunks = gather(path, rows, len(names), notes, allowance, header)
    # Where a comma is the decimal point, it is no separator.
    forms: tuple[Form, ...] = ("thousands", "decimal") if separator == "," else ("decimal", "thousands")
    return Table(path, [Column(name) for name in names], chunks, notes=notes, forms=forms)


def _dialect(path: Path, encoding: str | None, wanted: str | None, notes: list[str]) -> tuple[str, int, bool]:
    """Find the separator, how many lines come before the header, and whether a stray semicolon ends the rows."""
    with open_text(path, encoding) as file:
        lines, left = list[str](), MOST_LINE
        for line in islice(Allowance(path, None).lines(file), SAMPLE_LINES):
            left -= len(line)
            if left < 0 and lines:
                break
            if line.strip():
                lines.append(line)
    if lines and (named := _SEPARATOR_LINE.fullmatch(lines[0])):
        return wanted or named[1], 1, False
    widths = {each: _width(lines, each) for each in SEPARATORS}
    best = max(SEPARATORS, key=lambda each: widths[each])
    separator = wanted or (best if widths[best] > 1 else ",")
    others = [_SHOWN.get(each, each) for each in SEPARATORS if widths[each] > 1 and each != separator]
    if wanted is None and widths[separator] > 1 and (separator != "," or others):
        or_else = f", or by {others[0]!r}: --separator says which" if others else ""
        notes.append(f"its columns are parted by {_SHOWN.get(separator, separator)!r}{or_else}")
    ends = [line.rstrip("\r\n").endswith(";") for line in lines[1:]]
    stray = separator == "," and bool(ends) and all(ends) and ";" not in lines[0]
    if stray:
        notes.append("a semicolon ends the rows: left out")
    return separator, 0, stray


def _width(lines: list[str], separator: str) -> int:
    """Return how many columns the lines have by a separator; 0 where that differs, but for one at a row's end."""
    try:
        rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return 0
    if len(lines) == SAMPLE_LINES:
        del rows[-1]  # which may go on
    width = len(rows[0]) if rows else 0
    fits = all(len(row) in (0, width) or (len(row) == width + 1 and not row[-1]) for row in rows)
    return width if fits else 0


def _csv_rows(
    path: Path, allowance: Allowance, encoding: str | None, separator: str, begin: int, stray: bool
) -> Iterator[tuple[int, list[str]]]:
    with open_text(path, encoding) as file:
        lines = allowance.lines(file, rows_go_on=True)
        for _ in range(begin):
            next(lines)
        reader = csv.reader(lines, strict=True, skipinitialspace=True, delimiter=separator)
        try:
            for row in reader:
                allowance.row = 0
                if row:
                    if stray:
                        row[-1] = row[-1].removesuffix(";")
                    yield reader.line_num + begin, row
        except csv.Error as error:
            raise DataError(
                f"{path}: line {reader.line_num + begin}: {error}; correct the quotes or save the file as plain CSV "
                "(the file may have been cut off)"
            ) from None


def read_jsonl(path: Path, allowance: Allowance, encoding: str | None = None) -> Table:
    """Read one JSON object a line; the first names the columns, a later one may lack some of them."""
    objects = _json_objects(path, allowance, encoding)
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

    chunks = gather(path, rows(), len(first), allowance=allowance)
    return Table(path, [Column(name) for name in first], chunks, typed=True)


def _json_objects(path: Path, allowance: Allowance, encoding: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(plain := dict(pairs)) < len(pairs):
            raise ValueError("a key appears twice")
        return plain

    with open_text(path, encoding) as file:
        for number, text in enumerate(allowance.lines(file), 1):
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
                if isinstance(value, (dict, list)):
                    raise DataError(
                        f"{path}: line {number}: {key!r} is nested; give each of its values a key of its own"
                    )
            yield number, plain
