"""Turning the raw cells of one column into numbers, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_moe.errors import DataError
from stream_moe.streams.tables import MAX_EXACT, Chunk, Column, Table, is_missing, is_number, to_float32, vocabulary
from stream_moe.types import NEVER, Feature, Float32, Int32, Int64

MAX_CLASSES = 1000  # every event costs time and memory for each class


class Codes(dict[Any, int]):
    """Codes of tokens in the order they are first met; -1 for a missing one.

    A dict that fills itself, so that coding a column is one `map`. `tokens[code]` is the text.
    """

    def __init__(self, declared: Sequence[str] | None = None) -> None:
        super().__init__()
        self.declared = declared is not None
        self.tokens: list[str] = []
        self._code_of: dict[str, int] = {}
        for token in declared or ():
            self._add(token)

    def _add(self, token: str) -> int:
        code = self._code_of[token] = len(self.tokens)
        self.tokens.append(token)
        return code

    def __missing__(self, cell: Any) -> int:
        text = str(cell).strip()
        if text in self._code_of:
            code = self._code_of[text]
        elif is_missing(cell):
            code = -1
        elif self.declared:
            raise KeyError(text)
        else:
            code = self._add(text)
        if code >= 0 or isinstance(cell, str):  # a NaN equals no key: stored, it would be stored at every row
            self[cell] = code
        return code

    def encode(self, cells: Sequence[Any]) -> Int32:
        """Return int32 codes; KeyError for a token outside a declared vocabulary."""
        plain = cells.tolist() if isinstance(cells, np.ndarray) else cells
        return np.fromiter(map(self.__getitem__, plain), np.int32, len(plain))

    def finish(self) -> tuple[tuple[str, ...], Int32]:
        """Return the names in index order, and int32 index of each code."""
        if self.declared:
            return tuple(self.tokens), np.arange(len(self.tokens), dtype=np.int32)
        names, index = vocabulary(self.tokens)
        return names, np.array([index[token] for token in self.tokens], np.int32)


class NominalColumn:
    """Base of what feature and label share: codes, and the error for an undeclared token."""

    def __init__(self, table: Table, position: int) -> None:
        self.table, self.position = table, position
        self.column: Column = table.columns[position]
        self.codes = Codes(self.column.categories)

    def encode_codes(self, chunk: Chunk) -> Int32:
        cells = chunk.columns[self.position]
        try:
            return self.codes.encode(cells)
        except KeyError as error:
            where = next(i for i, cell in enumerate(cells) if str(cell).strip() == error.args[0])
            raise self.table.fail(
                chunk.lines[where],
                f"{error.args[0]!r} is not among the declared values of {self.column.name!r}; add it there",
            ) from None


class FeatureColumn(NominalColumn):
    """A feature: numeric or nominal as declared, as named, or as its first value is."""

    def __init__(self, table: Table, position: int, nominal: bool) -> None:
        super().__init__(table, position)
        self.kind = "nominal" if nominal else self.column.kind

    def encode(self, chunk: Chunk) -> Float32:
        """Return float32 [rows]; a nominal value as a code that `finish` maps to its index."""
        cells = chunk.columns[self.position]
        if self.kind is None:
            first = next((cell for cell in cells if not is_missing(cell)), None)
            if first is not None:
                text = isinstance(first, str) and self.table.typed
                self.kind = "numeric" if is_number(first) and not text else "nominal"
        if self.kind == "nominal":
            codes = self.encode_codes(chunk)
            return np.where(codes < 0, np.float32(np.nan), codes.astype(np.float32))
        if isinstance(cells, np.ndarray):
            return to_float32(cells)
        try:
            return to_float32(np.fromiter(map(float, cells), np.float64, len(cells)))
        except (ValueError, TypeError, OverflowError):  # a missing value or text: look at each cell
            return to_float32([self._number(cell, line) for cell, line in zip(cells, chunk.lines, strict=True)])

    def _number(self, cell: Any, line: int) -> float:
        if is_missing(cell):
            return np.nan
        try:
            return float(cell)
        except OverflowError:  # an integer beyond float64
            return np.nan
        except (ValueError, TypeError):
            raise self.table.fail(
                line,
                f"{str(cell)[:40]!r} in {self.column.name!r}, whose values before it are numbers; "
                "correct it, leave it empty, or name the column as nominal",
            ) from None

    def finish(self, values: Float32) -> Feature:
        """Map the codes of a nominal column to indices in place, and describe the feature."""
        if self.kind != "nominal":
            return Feature(self.column.name)
        names, index = self.codes.finish()
        present = ~np.isnan(values)
        values[present] = index[values[present].astype(np.int64)]
        return Feature(self.column.name, names)


class LabelColumn(NominalColumn):
    """The class labels; a missing one is -1."""

    def encode(self, chunk: Chunk) -> Int32:
        labels = self.encode_codes(chunk)
        if len(self.codes.tokens) > MAX_CLASSES:
            raise DataError(
                f"{self.table.path}: more than {MAX_CLASSES:,} different labels in {self.column.name!r}, "
                f"such as {self.codes.tokens[0]!r} and {self.codes.tokens[1]!r}: "
                "probably a number to predict, not a class; "
                "name another label column, or group the values into classes first"
            )
        return labels

    def finish(self, labels: Int32) -> tuple[str, ...]:
        """Map codes to class indices in place, and return the classes."""
        names, index = self.codes.finish()
        present = labels >= 0
        if not present.any():
            raise DataError(
                f"{self.table.path}: no row has a label in {self.column.name!r}; name another label column"
            )
        labels[present] = index[labels[present]]
        return names


class DelayColumn:
    """After how many more events each label arrives; -1 = never, where the value is missing."""

    def __init__(self, table: Table, position: int) -> None:
        self.table, self.position = table, position

    def encode(self, chunk: Chunk) -> Int64:
        """Return int64 [rows]; DataError at the first that is no whole number from 0."""
        cells = chunk.columns[self.position]
        return np.fromiter(map(self._delay, cells, chunk.lines), np.int64, len(chunk.lines))

    def _delay(self, cell: Any, line: int) -> int:
        if is_missing(cell):
            return NEVER
        try:
            delay = float(cell) if is_number(cell) else math.nan
        except (TypeError, OverflowError):
            delay = math.nan
        if not (0 <= delay < MAX_EXACT and delay.is_integer()):
            raise self.table.fail(
                line,
                f"{str(cell)[:40]!r} in {self.table.columns[self.position].name!r} is no delay of a label; give how "
                "many events later it arrives, a whole number from 0, or leave it empty where it never does",
            )
        return int(delay)
