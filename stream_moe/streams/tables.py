"""A file as columns of raw cells: what every format's reader hands to `files.read_file`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stream_moe.errors import DataError
from stream_moe.streams.allowance import Allowance
from stream_moe.streams.numbers import Form
from stream_moe.types import Float32
from stream_moe.values import number_of_text

CHUNK_CELLS = 1 << 20  # of a chunk at most, as each is an object of Python
CHUNK_ROWS = 1024  # few enough that a chunk's strings stay in cache: 8 s for covtype, 13 s at 16,384


@dataclass(frozen=True, slots=True)
class Column:
    """What a format says about a column; kind None = its values decide."""

    name: str
    kind: Literal["numeric", "nominal"] | None = None
    categories: tuple[str, ...] | None = None
    time_format: str | None = None  # of `strptime`, where its texts are times in a form of their own


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
    number; `forms` are those of numbers, the likelier first; `notes` say what was read another way than it stands,
    all of them when the chunks are at their end.
    """

    path: Path
    columns: list[Column]
    chunks: Iterator[Chunk]
    line: str = "line"
    typed: bool = False
    notes: list[str] = field(default_factory=list)
    forms: tuple[Form, ...] = ("thousands", "decimal")

    def fail(self, line: int, message: str) -> DataError:
        return DataError(f"{self.path}: {self.line} {line}: {message}")


def gather(
    path: Path,
    rows: Iterable[tuple[int, Sequence[Any]]],
    width: int,
    notes: list[str] | None = None,
    allowance: Allowance | None = None,
    header: Sequence[str] | None = None,
) -> Iterator[Chunk]:
    """Turn numbered rows into chunks; DataError at the first row that has not `width` cells, or is not allowed.

    A separator that ends a row, and with `notes` a row of nothing but separators or the header again, is left out;
    `notes` say so.
    """
    lines: list[int] = []
    cells: list[Sequence[Any]] = []
    void, longer, again = 0, 0, 0
    most = min(CHUNK_ROWS, CHUNK_CELLS // max(width, 1) + 1)
    for line, found in rows:
        row = found
        if len(row) == width + 1 and row[-1] in ("", None):
            row, longer = row[:-1], longer + 1
        if len(row) != width:
            way_out = "remove what is too much, or put a value that has a comma into quotes"
            if len(row) < width:
                way_out = "complete the row or remove it (the file may have been cut off)"
            raise DataError(f"{path}: line {line}: {len(row)} values where the header has {width}; {way_out}")
        if notes is not None and not any(row):
            void += 1
            continue
        if row == header:
            again += 1
            continue
        lines.append(line)
        cells.append(row)
        if len(lines) >= most:
            if allowance is not None:
                allowance.values(width * len(lines))
            yield Chunk(lines, list(zip(*cells, strict=True)))
            lines, cells = [], []
    if lines:
        yield Chunk(lines, list(zip(*cells, strict=True)))
    if notes is not None and void:
        notes.append(f"{void:,} rows hold nothing but separators: left out")
    if notes is not None and again:
        notes.append(f"{again:,} rows are the header again, as where files were put together: left out")
    if notes is not None and longer:
        notes.append(f"{longer:,} rows end with one separator too many: it is left out")


def is_number(cell: Any) -> bool:
    """Tell whether a cell that is not missing reads as a number ('1_000', which Python accepts, does not)."""
    return not isinstance(cell, str) or number_of_text(cell) is not None


def to_float32(values: Any) -> Float32:
    """Return numbers as float32, NaN where they are infinite or beyond float32."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(values).astype(np.float32)
    narrow[np.isinf(narrow)] = np.nan
    return narrow


def vocabulary(tokens: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the sorted names of categories or classes, and the index of each: as numbers if all of them are.

    Examples
    --------
    >>> vocabulary(["10", "2.0", "2"])
    (('2', '2.0', '10'), {'2': 0, '2.0': 1, '10': 2})
    >>> vocabulary(["up", "down"])
    (('down', 'up'), {'down': 0, 'up': 1})
    """
    names = sorted(tokens)
    numbers = [number_of_text(name) for name in names]
    if not any(number is None or math.isnan(number) for number in numbers):
        names = sorted(names, key=lambda name: (float(name), len(name)))
    return tuple(names), {name: i for i, name in enumerate(names)}
