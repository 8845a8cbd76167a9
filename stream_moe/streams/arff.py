"""ARFF as a table: Weka's and MOA's attribute-relation file format, dense rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from stream_moe.errors import DataError
from stream_moe.streams.readers import empty, open_text
from stream_moe.streams.tables import Column, Table, gather

ATTRIBUTE = re.compile(r"""@attribute\s+('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s{]+)\s*(\S.*)""", re.IGNORECASE)
NUMERIC = frozenset(["numeric", "real", "integer"])


def read_arff(path: Path) -> Table:
    """Read an ARFF file; nominal attributes keep their declared order, strings and dates become nominal.

    DataError if the header is not one, or (while rows are read) a row is sparse or has too few values.
    """
    lines = _lines(path)
    columns: list[Column] = []
    for number, line in lines:
        keyword = line.split(None, 1)[0].lower()
        if keyword == "@attribute":
            columns.append(_attribute(path, number, line))
        elif keyword == "@data":
            return Table(path, columns, gather(path, _rows(path, lines), len(columns)))
        elif keyword != "@relation":
            raise DataError(
                f"{path}: line {number}: {line[:40]!r} is not ARFF; the header has @relation, @attribute and @data"
            )
    if not columns:
        raise empty(path)
    raise DataError(f"{path}: no @data line; the file may have been cut off")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if text and not text.startswith("%"):
                yield number, text


def _attribute(path: Path, number: int, line: str) -> Column:
    match = ATTRIBUTE.fullmatch(line)
    if match is None:
        raise DataError(f"{path}: line {number}: {line[:60]!r}; write @attribute NAME TYPE")
    name, kind = _unquote(match[1]), match[2].strip()
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"{path}: line {number}: the values of {name!r} do not end in '}}'; close the list")
        values = tuple(cell.strip() for cell in _split(path, number, kind[1:-1]))
        return Column(name, "nominal", tuple(dict.fromkeys(values)))
    word = kind.split()[0].lower()
    if word in NUMERIC:
        return Column(name, "numeric")
    if word in ("string", "date"):
        return Column(name, "nominal")
    raise DataError(f"{path}: line {number}: {name!r} has type {kind[:40]!r}; use numeric, {{a,b,...}} or string")


def _rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if line.startswith("{"):
            raise DataError(f"{path}: line {number}: a sparse row; write the file with dense rows")
        yield number, _split(path, number, line)


def _split(path: Path, number: int, line: str) -> list[str]:
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
