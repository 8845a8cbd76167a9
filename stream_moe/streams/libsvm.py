"""Files in libsvm's format, `LABEL NAME:VALUE NAME:VALUE ...` a line: sparse rows, or columns where names are few.

Names are numbers as a rule, but any text without a blank will do. What a line does not list is 0. A `#` begins a
comment. Where all names are whole numbers up to 256 the rows become columns, as of any other file.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np

from stream_moe.errors import DataError
from stream_moe.sparse_rows import SparseRows, bucket_of
from stream_moe.streams.allowance import Allowance
from stream_moe.streams.labels import MAX_CLASSES
from stream_moe.streams.reading import Reading
from stream_moe.streams.tables import vocabulary
from stream_moe.streams.text import is_packed, open_text
from stream_moe.types import UNLABELLED, Float32, Int32, Int64, Schema
from stream_moe.values import is_missing_text, number_of_text

SUFFIXES = (".libsvm", ".svmlight", ".svm")
MOST_COLUMNS = 256  # numbers up to here become columns
LINES = 1024  # read together
QUERY = "qid"  # which query a line belongs to, in files for ranking
LARGEST = float(np.finfo(np.float32).max)


def read_libsvm(path: Path, reading: Reading) -> tuple[Schema, Float32, Int32, None, tuple[str, ...]]:
    """Return schema, rows, y int32 [n] of a file, no delays, and what was read otherwise.

    Where the rows are sparse they are `SparseRows`, and the schema says so.
    """
    others = (reading.label, *reading.nominal, reading.delay, reading.decimal, reading.thousands, reading.separator)
    if given := [each for each in others if each is not None]:
        raise DataError(
            f"{path}: {given[0]!r}: a libsvm file says itself what is what; of the options leave all but drop and "
            "missing out"
        )
    entries = _Entries(path, {QUERY, *reading.drop})
    allowance = Allowance(path, reading.unpacked, packed=is_packed(path))
    with open_text(path) as file:
        numbered = enumerate(allowance.lines(file), 1)
        while chunk := list(islice(numbered, LINES)):
            entries.read(chunk)
    if not entries.labels:
        raise DataError(f"{path}: the file is empty; it needs a line for each event")
    if unknown := set(reading.drop) - entries.codes.keys():
        raise DataError(f"{path}: no line has a {min(unknown)!r}; leave it out of drop")
    notes = list[str]()
    y, classes = _classes(path, entries.labels, reading.missing, notes)
    x, names = entries.rows(notes, allowance)
    schema = Schema.numeric(len(names), classes, names) if names else Schema((), classes, sparse=True)
    return schema, x, y, None, tuple(notes)


class _Entries:
    """The entries of all lines so far, as codes of their names, and values."""

    def __init__(self, path: Path, drop: set[str]) -> None:
        self._path, self._drop = path, drop
        self.codes: dict[str, int] = {}
        self.labels: list[str] = []
        self._lengths: list[int] = []
        self._parts: list[tuple[Int64, np.ndarray[tuple[int], np.dtype[np.float64]]]] = []

    def read(self, chunk: list[tuple[int, str]]) -> None:
        """Take lines, with their numbers."""
        rests = list[str]()
        for _, full in chunk:
            line = full.partition("#")[0].strip()
            if not line:
                continue
            first, *rest = line.split(None, 1)
            label = "" if ":" in first else first  # a line may have none
            self.labels.append(label.removeprefix("+"))
            rests.append("".join(rest) if label else line)
        self._lengths += [len(rest.split()) for rest in rests]
        tokens = " ".join(rests).split()
        flat = " ".join(tokens).replace(":", " ").split()
        names, values = flat[::2], flat[1::2]
        if len(flat) != 2 * len(tokens) or not all(":" in token for token in tokens):
            names, values = self._one_by_one(chunk)
        try:
            numbers = np.array(list(map(float, values)))
        except ValueError:
            raise self._wrong(chunk) from None
        if any("_" in value for value in values):
            raise self._wrong(chunk)
        codes = self.codes
        for name in set(names) - codes.keys():
            codes[name] = len(codes)
        self._parts.append((np.array([codes[name] for name in names], np.int64), numbers))

    def _one_by_one(self, chunk: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
        """Part the tokens of lines of which some have names with a colon in them, or none."""
        names, values = list[str](), list[str]()
        for number, full in chunk:
            for place, token in enumerate(full.partition("#")[0].split()):
                name, colon, value = token.rpartition(":")
                if place == 0 and not colon:
                    continue
                if not (name and value):
                    raise self._bad(number, token)
                names.append(name)
                values.append(value)
        return names, values

    def _wrong(self, chunk: list[tuple[int, str]]) -> DataError:
        """Find the line with a value that is no number."""
        for number, full in chunk:
            for token in full.partition("#")[0].split():
                _, colon, value = token.rpartition(":")
                if colon and number_of_text(value) is None:
                    return self._bad(number, token)
        return DataError(f"{self._path}: a value is no number")

    def _bad(self, line: int, token: str) -> DataError:
        return DataError(f"{self._path}: line {line}: {token[:40]!r} is no NAME:NUMBER; mend or remove it")

    def rows(self, notes: list[str], allowance: Allowance) -> tuple[Float32, tuple[str, ...]]:
        """Return the rows, sparse or as columns, and the names of the columns, () where they are sparse."""
        code = np.concatenate([part for part, _ in self._parts])
        value = np.concatenate([part for _, part in self._parts])
        row = np.repeat(np.arange(len(self._lengths)), self._lengths)
        left_out = [code_ for name, code_ in self.codes.items() if name in self._drop]
        kept = ~np.isin(code, left_out)
        if QUERY in self.codes:
            notes.append(f"{QUERY} says to which query a line belongs: left out")
        unusable = ~(np.abs(value) <= LARGEST)
        if n := int((unusable & kept).sum()):
            notes.append(f"{n:,} values are missing, infinite or beyond float32: taken as 0")
        kept &= ~unusable & (value != 0)
        row, code, value = row[kept], code[kept], value[kept]
        if twice := len(row) - len(np.unique(row * len(self.codes) + code)):
            notes.append(f"{twice:,} entries name what their line has already: added up")
        names = [name for name in self.codes if name not in self._drop]
        n = len(self._lengths)
        if names and all(name.isdecimal() and name.isascii() and int(name) <= MOST_COLUMNS for name in names):
            numbers = sorted({int(name) for name in names})
            first = min(1, numbers[0])
            allowance.values(n * (numbers[-1] + 1 - first))
            x = np.zeros((n, numbers[-1] + 1 - first), np.float32)
            places = np.array([int(name) - first if name.isdecimal() else 0 for name in self.codes], np.int64)
            np.add.at(x, (row, places[code]), value.astype(np.float32))
            return x, tuple(str(first + j) for j in range(x.shape[1]))
        buckets = np.fromiter(map(bucket_of, self.codes), np.int32, len(self.codes))
        bucket = buckets[code]
        order = np.lexsort((value, bucket, row))
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(row, minlength=n))])
        rows = SparseRows(start, bucket[order], value[order].astype(np.float32)).without_zeros()
        return cast("Float32", rows), ()  # which is cut and picked as an array is


def _classes(
    path: Path, labels: list[str], missing: Sequence[str], notes: list[str]
) -> tuple[Int32, tuple[str, ...]]:
    """Return class indices int32 [n], -1 = no label, and the classes."""
    found = {label for label in labels if not (is_missing_text(label) or label in missing)}
    if not found:
        raise DataError(f"{path}: no line has a label; it stands before the first blank")
    if len(found) > MAX_CLASSES:
        raise DataError(
            f"{path}: more than {MAX_CLASSES:,} different labels, such as {min(found)!r}: probably a number to "
            "predict, not a class; group the values into classes first"
        )
    names, index = vocabulary(found)
    if any("," in name for name in names):
        notes.append("labels with a comma in them are each taken as one class")
    numbers = [number for name in names if (number := number_of_text(name)) is not None]
    if len(set(numbers)) < len(numbers):
        notes.append("labels are equal as numbers, and different classes as they are written")
    return np.array([index.get(label, UNLABELLED) for label in labels], np.int32), names
