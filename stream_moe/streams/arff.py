"""ARFF as a table: the attribute-relation file format as Weka and MOA write it, dense or sparse rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from stream_moe.errors import DataError
from stream_moe.streams.allowance import Allowance
from stream_moe.streams.readers import empty
from stream_moe.streams.tables import Column, Table, gather
from stream_moe.streams.text import open_text

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{]+)\s*(\S.*)", re.IGNORECASE | re.DOTALL)
VALUE = re.compile(rf"\s*({_QUOTED}|[^,'\"]*?)\s*(,|$)", re.DOTALL)
SPACED = re.compile(rf"({_QUOTED}|[^\s,'\"]+)(?:\s*,\s*|\s+|$)", re.DOTALL)
ENTRY = re.compile(rf"\s*(\d+)\s+({_QUOTED}|[^\s,'\"]+)\s*(,|$)", re.DOTALL)
WEIGHT = re.compile(r"(.*?)[\s,]*\{\s*[-+.\deE]+\s*\}", re.DOTALL)
ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
NUMERIC = frozenset(["numeric", "real", "integer"])
# Of Java's SimpleDateFormat what has its like in `strptime`.
DATE_LETTERS = {
    "yyyy": "%Y", "yy": "%y", "MMM": "%b", "MM": "%m", "M": "%m", "dd": "%d", "d": "%d", "HH": "%H", "H": "%H",
    "mm": "%M", "ss": "%S", "SSS": "%f", "Z": "%z", "a": "%p", "hh": "%I", "EEE": "%a",
}  # fmt: skip


def read_arff(path: Path, allowance: Allowance, encoding: str | None = None) -> Table:
    """Read an ARFF file; nominal attributes keep their declared order, strings become nominal, dates seconds.

    Raises
    ------
    DataError
        If the header is not one, or (while rows are read) a row does not fit it.
    """
    lines = _lines(path, allowance, encoding)
    columns: list[Column] = []
    notes: list[str] = []
    for number, line in lines:
        keyword = line.split(None, 1)[0].lower()
        if keyword == "@attribute":
            columns.append(_attribute(path, number, _whole(line, lines)))
        elif keyword == "@data":
            notes += [f"{c.name!r} is a date: read as seconds since 1970" for c in columns if c.time_format]
            rows = _rows(path, lines, columns, notes)
            return Table(path, columns, gather(path, rows, len(columns), allowance=allowance), notes=notes)
        elif keyword != "@relation":
            raise DataError(
                f"{path}: line {number}: {line[:40]!r} is not ARFF; the header has @relation, @attribute and @data"
            )
    if not columns:
        raise empty(path)
    raise DataError(f"{path}: no @data line; the file may have been cut off")


def _lines(path: Path, allowance: Allowance, encoding: str | None) -> Iterator[tuple[int, str]]:
    with open_text(path, encoding) as file:
        for number, line in enumerate(allowance.lines(file), 1):
            text = line.strip()
            if text and not text.startswith("%"):
                yield number, text


def _whole(line: str, lines: Iterator[tuple[int, str]]) -> str:
    """Return an attribute's line with those that its list of categories goes on in."""
    while "{" in (bare := re.sub(_QUOTED, "", line)) and not bare.rstrip().endswith("}"):
        _, more = next(lines, (0, "@"))
        if more.startswith("@"):  # the list never ends; `_attribute` says so
            break
        line = f"{line}\n{more}"
    return line


def _attribute(path: Path, number: int, line: str) -> Column:
    match = ATTRIBUTE.fullmatch(line)
    if match is None:
        raise DataError(f"{path}: line {number}: {line[:60]!r}; write @attribute NAME TYPE")
    name, kind = _unquote(match[1]), match[2].strip()
    if kind.startswith("{"):
        if not kind.endswith("}"):
            raise DataError(f"{path}: line {number}: the values of {name!r} do not end in '}}'; close the list")
        values = _values(kind[1:-1].strip().removesuffix(",")) or _broken(path, number, kind)
        return Column(name, "nominal", tuple(dict.fromkeys(values)))
    word, _, form = kind.partition(" ")
    if word.lower() in NUMERIC:
        return Column(name, "numeric")
    if word.lower() == "date":
        return Column(name, "numeric", time_format=_date_format(_unquote(form.strip() or "'yyyy-MM-ddTHH:mm:ss'")))
    if word.lower() == "string":
        return Column(name, "nominal")
    raise DataError(f"{path}: line {number}: {name!r} has type {kind[:40]!r}; use numeric, {{a,b,...}} or string")


def _date_format(form: str) -> str:
    """Return the format of `strptime` that reads what Java's SimpleDateFormat writes.

    >>> _date_format("yyyy-MM-dd'T'HH:mm:ss.SSS")
    '%Y-%m-%dT%H:%M:%S.%f'
    """
    parts = re.finditer(r"'([^']*)'|(([A-Za-z])\3*)|(.)", form)
    return "".join(p[1] if p[1] is not None else DATE_LETTERS.get(p[2], p[2]) if p[2] else p[4] for p in parts)


def _rows(
    path: Path, lines: Iterator[tuple[int, str]], columns: Sequence[Column], notes: list[str]
) -> Iterator[tuple[int, Sequence[str]]]:
    width, weighted = len(columns), 0
    absent = [("0" if column.kind == "numeric" else (column.categories or ("?",))[0]) for column in columns]
    for number, line in lines:
        text = line
        if line.endswith("}") and (match := WEIGHT.fullmatch(line)) is not None and match[1]:
            text, weighted = match[1], weighted + 1
        if text.startswith("{"):
            yield number, _sparse(path, number, text, absent)
            continue
        row = _values(text)
        if len(row) < width and len(spaced := _spaced(text)) == width:  # blanks and tabs part values too
            row = spaced
        yield number, row or _broken(path, number, text)
    if weighted:
        notes.append(f"{weighted:,} rows have a weight: the weights are left out")


def _values(line: str) -> list[str]:
    """Take values apart that commas part, quoted ones too. Empty if the quotes of one do not end."""
    if "'" not in line and '"' not in line:
        return [value.strip() for value in line.split(",")]
    found, at = [], 0
    while (match := VALUE.match(line, at)) is not None:
        found.append(_unquote(match[1]))
        at = match.end()
        if not match[2]:
            return found
    return []


def _broken(path: Path, number: int, line: str) -> NoReturn:
    raise DataError(
        f"{path}: line {number}: the quotes of {line[:40]!r} do not end; correct them (or the file was cut off)"
    )


def _spaced(line: str) -> list[str]:
    found, at = [], 0
    while at < len(line) and (match := SPACED.match(line, at)) is not None:
        found.append(_unquote(match[1]))
        at = match.end()
    return found if at == len(line) else []


def _sparse(path: Path, number: int, line: str, absent: Sequence[str]) -> list[str]:
    """Return a sparse row in full: what it does not name is zero, or the first category."""
    row, inner, at = list(absent), line[1:-1], 0
    way_out = "write {INDEX VALUE, ...}, an index for each value (the file may have been cut off)"
    if not line.endswith("}"):
        raise DataError(f"{path}: line {number}: a sparse row without its end; {way_out}")
    while inner[at:].strip():
        match = ENTRY.match(inner, at)
        if match is None or int(match[1]) >= len(row):
            raise DataError(f"{path}: line {number}: {inner[at : at + 40]!r} in a sparse row; {way_out}")
        row[int(match[1])] = _unquote(match[2])
        at = match.end()
    return row


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] not in "'\"":
        return text
    return ESCAPE.sub(_character, text[1:-1]) if "\\" in text else text[1:-1]


def _character(escape: re.Match[str]) -> str:
    text = escape[1]
    return chr(int(text[1:], 16)) if len(text) == 5 else ESCAPES.get(text, text)
