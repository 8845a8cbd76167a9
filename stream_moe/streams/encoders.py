"""Turning the raw cells of one column into numbers, chunk by chunk."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from stream_moe.streams.numbers import Form, base_of, distances, number_in
from stream_moe.streams.reading import Reading
from stream_moe.streams.tables import Chunk, Column, Table, is_number, to_float32, vocabulary
from stream_moe.types import NEVER, Feature, Float32, Float64, Int32, Int64
from stream_moe.values import (
    is_missing,
    is_missing_text,
    name_of,
    number_of_text,
    seconds_of_text,
    seconds_since_1970,
)

MAX_EXACT = 2**53  # integers beyond it are not distinct as float64
INDEX_NAMES = frozenset(["", "Unnamed: 0"])  # as pandas and R call the column of a frame's index
_DATE = re.compile(r"\d{1,4}[/.-](?:\d{1,2}|[A-Za-z]{3,9})[/.-]\d{1,4}(?!\d)")  # in another form than ISO 8601
LEAST_NUMBERS, MOST_TEXT = 64, 0.1  # a column of so many numbers and so few texts has a mistake in it


class Codes(dict[str, int]):
    """Codes of tokens in the order they are first met; -1 for a missing one.

    A dict that fills itself, so that coding a column is one `map`. `tokens[code]` is the text.
    """

    def __init__(self, declared: Sequence[str] | None = None, missing: Sequence[str] = ()) -> None:
        super().__init__()
        self.declared = declared is not None
        self.tokens: list[str] = []
        self._code_of: dict[str, int] = {}
        self._missing = frozenset(missing)
        for token in declared or ():
            self._add(token)

    def _add(self, token: str) -> int:
        code = self._code_of[token] = len(self.tokens)
        self.tokens.append(token)
        return code

    def __missing__(self, cell: str) -> int:
        text = cell.strip()
        if text in self._code_of:
            code = self._code_of[text]
        elif text in self._missing or (is_missing_text(text) and (text != "-" or self.declared)):
            code = -1
        elif self.declared:
            raise KeyError(text)
        else:
            code = self._add(text)
        self[cell] = code
        return code

    def encode(self, cells: Sequence[Any]) -> Int32:
        """Return int32 codes; KeyError for a token outside a declared vocabulary."""
        plain = cells.tolist() if isinstance(cells, np.ndarray) else cells
        texts = plain if set(map(type, plain)) <= {str} else map(_text_of, plain)
        return np.fromiter(map(self.__getitem__, texts), np.int32, len(plain))

    def finish(self) -> tuple[tuple[str, ...], Int32]:
        """Return the names in index order, and int32 index of each code; of "-" -1, unless there is a "+"."""
        if self.declared:
            return tuple(self.tokens), np.arange(len(self.tokens), dtype=np.int32)
        no_value = () if "+" in self._code_of else ("-",)
        names, index = vocabulary(token for token in self.tokens if token not in no_value)
        return names, np.array([index.get(token, -1) for token in self.tokens], np.int32)


def _text_of(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    return "" if is_missing(cell) else name_of(cell)


class NominalColumn:
    """Base of what feature and label share: codes, and the error for an undeclared token."""

    def __init__(self, table: Table, position: int, reading: Reading) -> None:
        self.table, self.position = table, position
        self.column: Column = table.columns[position]
        self.name = self.column.name
        self.codes = Codes(self.column.categories, reading.missing)

    def encode_codes(self, chunk: Chunk) -> Int32:
        cells = chunk.columns[self.position]
        try:
            return self.codes.encode(cells)
        except KeyError as error:
            where = next(i for i, cell in enumerate(cells) if _text_of(cell).strip() == error.args[0])
            raise self.table.fail(
                chunk.lines[where],
                f"{error.args[0]!r} is not among the declared values of {self.name!r}; add it there",
            ) from None


@dataclass(slots=True)
class Found:
    """What the values of a column were that had no declared kind."""

    numbers: int = 0
    times: int = 0
    dressed: int = 0  # numbers with separators, a currency or a per cent sign
    quoted: int = 0  # numbers that a typed file has as text
    texts: int = 0
    example: str = ""  # the first value that is no plain number
    line: int = 0
    forms: tuple[Form, ...] = ()  # that all dressed ones can have

    @property
    def present(self) -> int:
        return self.numbers + self.times + self.dressed + self.quoted + self.texts


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column is, where the file had to be read to its end to know."""

    kind: Literal["numeric", "nominal"]
    form: Form | None = None
    found: Found | None = None


class FeatureColumn(NominalColumn):
    """A feature: numeric or nominal as declared, as named, or as its values are.

    A column of plain numbers, or of times alone, is numeric; one that begins with text is nominal. Where its kind
    shows only later, `kind_found` says it at the end of the file, and the file is read again.
    """

    def __init__(self, table: Table, position: int, reading: Reading, known: Kind | None = None) -> None:
        super().__init__(table, position, reading)
        self.kind: Literal["numeric", "nominal"] | None = known.kind if known else self.column.kind
        self.form: Form | None = known.form if known else None
        if reading.decimal == "," or reading.thousands:
            self.form = "decimal" if reading.decimal == "," else "thousands"
        named = self.name in reading.nominal or self.name in reading.usually_nominal
        self.kind = "nominal" if named else self.kind
        self._by_values = self.column.kind is None and not named
        self._free = self._by_values and known is None  # its values decide, from here on
        self._missing = frozenset(reading.missing)
        self._found = (known.found if known else None) or Found(forms=table.forms)
        self.base: float | None = None
        self.merged = self.beyond = 0
        self._rows = 0
        self._counts_up = self.name in INDEX_NAMES
        self._first_row: float | None = None

    def encode(self, chunk: Chunk) -> Float32:
        """Return float32 [rows]; a nominal value as a code that `finish` maps to its index."""
        cells = chunk.columns[self.position]
        if self.kind != "nominal":
            before = self._found.present
            wide = self._numbers(cells, chunk.lines)
            if not (self._found.texts and before == 0 and self._free):
                return self._narrow(wide, cells)
            self.kind = "nominal"  # it begins with text
        codes = self.encode_codes(chunk)
        return np.where(codes < 0, np.float32(np.nan), codes.astype(np.float32))

    def _numbers(self, cells: Sequence[Any], lines: Sequence[int]) -> Float64:
        """Return float64 [rows], NaN where there is no number."""
        if isinstance(cells, np.ndarray):
            self._found.numbers += len(cells)
            return cells  # integers stay what they are until the base is known
        with suppress(ValueError, TypeError, OverflowError):  # a missing value or text: look at each cell
            if self._plain(cells):
                wide = np.fromiter(map(float, cells), np.float64, len(cells))
                self._found.numbers += len(cells) - int(np.isnan(wide).sum())
                return wide
        return np.array([self._number(cell, line) for cell, line in zip(cells, lines, strict=True)], np.float64)

    def _plain(self, cells: Sequence[Any]) -> bool:
        """Whether what `float` takes is what we call a number: no text of a typed file, no underscore, no bool."""
        kinds = set(map(type, cells))
        if kinds == {str}:
            return not self.table.typed and self.form != "decimal" and "_" not in "".join(cells)
        return not kinds & {str, bool}

    def _number(self, cell: Any, line: int) -> float:
        if cell is None or (isinstance(cell, str) and (is_missing_text(cell) or cell.strip() in self._missing)):
            return math.nan
        if isinstance(cell, str) and (not self.table.typed or not self._free):
            number = number_in(cell, "decimal") if self.form == "decimal" else None
            number = number_of_text(cell) if number is None else number
            if number is not None:
                self._found.numbers += 1
                return number
        elif not isinstance(cell, (str, bool)) or not self._free:
            self._found.numbers += 1
            with suppress(OverflowError):  # an integer beyond float64
                return float(cell)
            return math.nan
        return self._other(name_of(cell).strip(), line)

    def _other(self, text: str, line: int) -> float:
        """Read what is no plain number: a time, a number in another form, or text."""
        found = self._found
        if not found.example:
            found.example, found.line = text, line
        if self.column.time_format is not None:
            with suppress(ValueError):
                return seconds_since_1970(datetime.strptime(text, self.column.time_format))
        elif (seconds := seconds_of_text(text)) is not None and self._free:
            found.times += 1
            return seconds
        if self.form is not None and (number := number_in(text, self.form)) is not None:
            found.numbers += 1
            return number
        if number_of_text(text) is not None and self._free:  # of a typed file, where it is text
            found.quoted += 1
            return math.nan
        forms = tuple(form for form in found.forms if number_in(text, form) is not None)
        if forms and self.form is None and self._free:
            found.forms, found.dressed = forms, found.dressed + 1
            return math.nan
        if not self._free:
            raise self.table.fail(
                line, f"{text[:40]!r} in {self.name!r}, which is numeric; correct it, leave it empty, or name the "
                "column as nominal"
            )  # fmt: skip
        found.texts += 1
        return math.nan

    def _narrow(self, wide: Float64, cells: Sequence[Any]) -> Float32:
        """Return float32 of the distances from the base, and count what became the same or infinite by that."""
        if self._counts_up:
            self._first_row = float(wide[0]) if self._first_row is None and len(wide) else self._first_row
            begin = self._rows + (self._first_row or 0.0)
            self._counts_up = self._first_row in (0.0, 1.0) and bool(
                (wide == np.arange(begin, begin + len(wide))).all()
            )
        self._rows += len(wide)
        if wide.dtype.kind not in "fiu":
            wide = wide.astype(np.float64)
        if self.base is None and np.isfinite(wide).any():
            self.base = base_of(wide)
        away = self._away(wide, cells)
        narrow = to_float32(away)
        if not np.array_equal(narrow, away, equal_nan=True):
            lost = np.isnan(narrow) & ~np.isnan(away)
            self.beyond += int(lost.sum())
            kept = away[~np.isnan(narrow)]
            self.merged += len(np.unique(kept)) - len(np.unique(narrow[~np.isnan(narrow)]))
        return narrow

    def _away(self, wide: Float64, cells: Sequence[Any]) -> Float64:
        """Return how far each value lies from the base; whole numbers beyond float64 exactly."""
        base = self.base or 0.0
        if wide.dtype.kind == "f" and abs(base) >= MAX_EXACT / 2:
            with suppress(ValueError, TypeError):  # a value that is no whole number
                return np.array([math.nan if is_missing(cell) else int(cell) - int(base) for cell in cells], float)
        return distances(wide, base)

    @property
    def is_index(self) -> bool:
        """Whether it only counts the rows, under a name that pandas and R give to that; or has no name, no value."""
        void = self.name == "" and not self._found.present and self.kind is None
        return void or (self._counts_up and self._rows > 1 and self.kind != "nominal")

    @property
    def kind_found(self) -> Kind | None:
        """What it is, where it has to be read again."""
        found = self._found
        if not self._free or self.kind is not None or self.is_index:
            return None
        kinds = sum(map(bool, (found.numbers, found.times, found.texts)))
        alone = found.quoted and not found.numbers  # as a column of texts that all look like numbers
        if found.texts or kinds > 1 or alone or ((found.dressed or found.quoted) and found.times):
            return Kind("nominal", None, found)
        return (
            Kind("numeric", found.forms[0] if found.dressed else None, found)
            if found.dressed or found.quoted
            else None
        )

    def finish(self, values: Float32) -> Feature:
        """Map the codes of a nominal column to indices in place, and describe the feature."""
        if self.kind != "nominal":
            return Feature(self.name, base=self.base or 0.0)
        self._check_mixed()
        names, index = self.codes.finish()
        if not names:  # a column without any value is numeric, whatever it was named
            values[:] = np.nan
            return Feature(self.name)
        present = ~np.isnan(values)
        found = index[values[present].astype(np.int64)].astype(np.float32)
        found[found < 0] = np.nan
        values[present] = found
        return Feature(self.name, names)

    def _check_mixed(self) -> None:
        """Refuse a column of many different numbers with a few texts among them, unless it was named nominal."""
        texts = [token for token in self.codes.tokens if number_of_text(token) is None]
        numbers = len(self.codes.tokens) - len(texts)
        if (
            self._by_values
            and not self.table.typed
            and numbers >= LEAST_NUMBERS
            and 0 < len(texts) <= MOST_TEXT * numbers
        ):
            raise self.table.fail(
                self._found.line,
                f"{texts[0][:40]!r} in {self.name!r}, whose other values are numbers; correct it, leave it empty, "
                "name it as missing (--missing), or name the column as nominal",
            )

    def notes(self) -> list[str]:
        """Say what was read another way than it stands."""
        found, name, said = self._found, self.name, []
        if self.kind == "nominal":
            numbers = sum(number_of_text(token) is not None for token in self.codes.tokens)
            if found.texts and 0 < numbers < len(self.codes.tokens):
                said.append(
                    f"{name!r} holds numbers and text such as {found.example[:40]!r}: taken as nominal; --missing "
                    "TEXT makes a text mean nothing"
                )
            elif found.texts and _DATE.match(found.example):
                said.append(
                    f"{name!r} holds dates such as {found.example[:40]!r}: taken as nominal; written as 2024-12-31 "
                    "they would be times"
                )
            return said
        if found.times:
            since = "1970" if "-" in found.example else "midnight"
            said.append(f"{name!r} holds times such as {found.example[:40]!r}: read as seconds since {since}")
        elif found.quoted:
            said.append(f"{name!r} holds numbers, and texts such as {found.example[:40]!r}: all read as numbers")
        elif self.form and found.example:
            value = number_in(found.example, self.form)
            said.append(
                f"{name!r} holds numbers such as {found.example[:40]!r}: read as {value}; --decimal and --thousands "
                f"read them otherwise, --nominal takes them as text"
            )
        if self.merged:
            said.append(
                f"{name!r} has values that float32 does not keep apart ({self.merged:,} fall together with others); "
                "subtract what they have in common, --nominal takes them as text"
            )
        if self.beyond:
            said.append(f"{name!r} has {self.beyond:,} values that are infinite or beyond float32: taken as missing")
        return said


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
