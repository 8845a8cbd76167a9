"""A file as columns of raw cells: what every format's reader hands to `files.read_file`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stream_moe.errors import DataError
from stream_moe.types import Float32

CHUNK_ROWS = 1024  # few enough that a chunk's strings stay in cache: 8 s for covtype, 13 s at 16,384
MISSING = frozenset(["", "?", "nan", "null"])
MAX_EXACT = 2**53  # integers beyond it are not distinct as float64


@dataclass(frozen=True, slots=True)
class Column:
    """What a format says about a column; kind None = its first value decides."""

    name: str
    kind: Literal["numeric", "nominal"] | None = None
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of rows: for each its line (or row) number, and the cells of each column.

    A cell is a str, a number or None; a column of numbers may be an array.
    """

    lines: Sequence[int]
    columns: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file and its chunks, read as they are asked for.

    `line` is what the numbers of a chunk count; `typed` says that a str is text even where it looks like a
    number.
    """

    path: Path
    columns: list[Column]
    chunks: Iterator[Chunk]
    line: str = "line"
    typed: bool = False

    def fail(self, line: int, message: str) -> DataError:
        return DataError(f"{self.path}: {self.line} {line}: {message}")


def gather(path: Path, rows: Iterable[tuple[int, Sequence[Any]]], width: int) -> Iterator[Chunk]:
    """Turn numbered rows into chunks; DataError at the first row that has not `width` cells."""
    lines: list[int] = []
    cells: list[Sequence[Any]] = []
    for line, row in rows:
        if len(row) != width:
            way_out = "remove what is too much, or put a value that has a comma into quotes"
            if len(row) < width:
                way_out = "complete the row or remove it (the file may have been cut off)"
            raise DataError(f"{path}: line {line}: {len(row)} values where the header has {width}; {way_out}")
        lines.append(line)
        cells.append(row)
        if len(lines) == CHUNK_ROWS:
            yield Chunk(lines, list(zip(*cells, strict=True)))
            lines, cells = [], []
    if lines:
        yield Chunk(lines, list(zip(*cells, strict=True)))


def is_missing(cell: Any) -> bool:
    """Tell whether a cell is None, NaN, or one of '', '?', 'nan', 'null' in any case."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_number(cell: Any) -> bool:
    """Tell whether a cell that is not missing reads as a number ('1_000', which Python accepts, does not)."""
    if not isinstance(cell, str):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def to_float32(values: Any) -> Float32:
    """Return numbers as float32, NaN where they are infinite or beyond float32."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(values).astype(np.float32)
    narrow[np.isinf(narrow)] = np.nan
    return narrow


def vocabulary(tokens: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the sorted names of categories or classes, and the index of each token.

    If every token is a number they sort as numbers, and tokens of equal value are one name, the shortest.

    Examples
    --------
    >>> vocabulary(["10", "2.0", "2"])
    (('2', '10'), {'2': 0, '10': 1, '2.0': 0})
    >>> vocabulary(["up", "down"])
    (('down', 'up'), {'down': 0, 'up': 1})
    """
    ordered = sorted(tokens, key=lambda token: (len(token), token))
    if all(is_number(token) and abs(float(token)) < MAX_EXACT for token in ordered):
        name_of: dict[float, str] = {}
        for token in ordered:
            name_of.setdefault(float(token), token)
        index_of = {value: i for i, value in enumerate(sorted(name_of))}
        return tuple(name_of[value] for value in index_of), {token: index_of[float(token)] for token in ordered}
    names = sorted(ordered)
    return tuple(names), {name: i for i, name in enumerate(names)}
