"""Turning the cells of the label's column into classes, or into numbers to predict."""

from __future__ import annotations

import math

import numpy as np

from stream_moe.errors import DataError
from stream_moe.streams.encoders import NominalColumn
from stream_moe.streams.reading import Reading
from stream_moe.streams.tables import Chunk, Table
from stream_moe.types import Float64, Int32
from stream_moe.values import number_of_text

MAX_CLASSES = 1000  # every event costs time and memory for each class
# Different numbers among the labels above which they are a number to predict, not classes: where some are no whole
# numbers, and where all are. Above the last it is told that they are taken as classes.
MANY_FRACTIONS, MANY_WHOLE, SOME_NUMBERS = 30, 100, 20


class LabelColumn(NominalColumn):
    """The labels: classes, a missing one -1; or numbers, a missing one NaN."""

    def __init__(self, table: Table, position: int, reading: Reading) -> None:
        super().__init__(table, position, reading)
        self.classes = reading.classes
        self.is_number = False
        self._by_values = False  # it is a number because of its values, and nobody said so
        self._infinite = 0

    def encode(self, chunk: Chunk) -> Int32:
        labels = self.encode_codes(chunk)
        if len(self.codes.tokens) > MAX_CLASSES and (self.classes or not self._may_be_number()):
            raise DataError(
                f"{self.table.path}: more than {MAX_CLASSES:,} different labels in {self.name!r}, "
                f"such as {self.codes.tokens[0]!r} and {self.codes.tokens[1]!r}: "
                "probably a number to predict, not a class; name another label column, group the values into classes "
                "first, or, if all are numbers, leave --classes out"
            )
        return labels

    def _may_be_number(self) -> bool:
        """Whether the first values that came are all plain numbers."""
        first = self.codes.tokens[: MAX_CLASSES + 1]
        return not self.codes.declared and all(number_of_text(token) is not None for token in first)

    def finish(self, labels: Int32) -> tuple[str, ...]:
        """Map codes to class indices in place, and return the classes; none where the labels are numbers."""
        if not (labels >= 0).any():
            raise DataError(f"{self.table.path}: no row has a label in {self.name!r}; name another label column")
        if self._decide(labels):
            return ()
        names, index = self.codes.finish()
        present = labels >= 0
        if len(index):
            labels[present] = index[labels[present]]
        if not (labels >= 0).any():
            raise DataError(f"{self.table.path}: no row has a label in {self.name!r}; name another label column")
        return names

    def _decide(self, labels: Int32) -> bool:
        """Decide whether the labels are numbers; DataError where they were to be, and one is none."""
        if self.classes:
            return False
        used = np.unique(labels[labels >= 0]).tolist()
        found = {code: number_of_text(self.codes.tokens[code]) for code in used}
        texts = [
            text for code, number in found.items() if number is None and (text := self.codes.tokens[code]) != "-"
        ]
        if self.classes is False and (texts or self.codes.declared):
            shown = texts[0] if texts else self.codes.tokens[0]
            raise DataError(
                f"{self.table.path}: the label {shown[:40]!r} in {self.name!r} is no number; correct it, say that it "
                "means no value (--missing), or leave --number out"
            )
        if texts or self.codes.declared:
            if len(self.codes.tokens) > MAX_CLASSES:
                raise DataError(
                    f"{self.table.path}: {len(self.codes.tokens):,} different labels in {self.name!r}, and "
                    f"{texts[0][:40]!r} is no number; correct it, or say that it means no value (--missing)"
                )
            return False
        known = [number for number in found.values() if number is not None and math.isfinite(number)]
        fraction = any(number != int(number) for number in known)
        self._by_values = len(used) > (MANY_FRACTIONS if fraction else MANY_WHOLE)
        self.is_number = self._by_values or self.classes is False
        return self.is_number

    def numbers(self, labels: Int32) -> Float64:
        """Return the number of each code, float64; NaN where there is none or it is infinite."""
        values = np.array([number_of_text(token) for token in self.codes.tokens], np.float64)
        self._infinite = int(np.isinf(values).sum())
        values[np.isinf(values)] = np.nan
        found = np.full(len(labels), np.nan)
        found[labels >= 0] = values[labels[labels >= 0]]
        return found

    def notes(self) -> list[str]:
        """Say which labels mean that there is none, which look alike, and whether they are numbers."""
        texts = sorted(
            text for text in {cell.strip() for cell, code in self.codes.items() if code < 0} if text != "?"
        )
        said = [f"the label {text!r} in {self.name!r} is taken as missing" for text in texts if text]
        if self.is_number:
            if self._infinite:
                said.append(f"labels in {self.name!r} are infinite: taken as missing")
            return said
        numbers = [number for token in self.codes.tokens if (number := number_of_text(token)) is not None]
        if len(set(numbers)) < len(numbers):
            said.append(f"labels in {self.name!r} are equal as numbers, and different classes as they are written")
        if self.classes is None and len(numbers) == len(self.codes.tokens) > SOME_NUMBERS:
            said.append(
                f"the label {self.name!r} holds {len(numbers):,} different numbers: taken as classes; --number "
                "predicts the number"
            )
        return said

    @property
    def said(self) -> str:
        """What to tell of a label that was taken for a number by its values; empty otherwise."""
        n = len([text for text in self.codes.tokens if text != "-"])
        return (
            f"{n:,} different numbers, so a number is predicted; --classes takes them as classes"
            if self._by_values
            else ""
        )
