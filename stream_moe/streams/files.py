"""A file as a stream: read whole, held as float32, handed out as views."""

from __future__ import annotations

import csv
import logging
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import zstandard

from stream_moe.errors import ConfigError, DataError, one_line
from stream_moe.streams.allowance import Allowance
from stream_moe.streams.arff import read_arff
from stream_moe.streams.encoders import DelayColumn, FeatureColumn, Kind
from stream_moe.streams.labels import LabelColumn
from stream_moe.streams.libsvm import SUFFIXES, read_libsvm
from stream_moe.streams.npz import read_npz
from stream_moe.streams.parquet import read_parquet
from stream_moe.streams.readers import read_csv, read_jsonl
from stream_moe.streams.reading import Reading
from stream_moe.streams.tables import Table
from stream_moe.streams.text import is_packed
from stream_moe.target import Target
from stream_moe.types import Block, Float32, Int32, Int64, Schema

_log = logging.getLogger(__name__)

TEXT_READERS: dict[str, Callable[[Path, Allowance, str | None], Table]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".arff": read_arff,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
}
READERS = {kind + packed: reader for kind, reader in TEXT_READERS.items() for packed in ("", ".gz", ".xz")}
LABEL_NAMES = frozenset(["label", "class", "target", "y"])  # as a column of labels is mostly called
OLDER = "cp1252"  # what spreadsheets wrote before UTF-8
PAIRED = {kind + packed for kind in SUFFIXES for packed in ("", ".gz", ".xz")}  # read by `read_libsvm`
FORMATS = ".csv, .tsv, .arff, .jsonl, .ndjson, .libsvm (each also .gz, .xz), .parquet, .npz"


@dataclass(frozen=True)
class FileStream:
    """A finite stream in memory: x float32 [n, d] or sparse rows, y int32 [n]; its blocks are parts of them.

    Where the schema's target is a number, y is float64 [n].
    """

    name: str
    schema: Schema
    x: Float32
    y: Int32
    delays: Int64 | None = None  # [n], where a column says when each label arrives
    notes: tuple[str, ...] = ()  # what was read another way than it stands
    label: str | None = None  # the column of the labels, where it has a name

    @property
    def n_events(self) -> int:
        """How many events the file has."""
        return len(self.y)

    @property
    def bayes_accuracy(self) -> None:
        """Nobody knows what real data were drawn from."""

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield blocks of `rows` events, the last maybe shorter; ConfigError if `rows` is below 1."""
        if rows < 1:
            raise ConfigError(f"blocks: rows must be at least 1, not {rows}")
        whole = Block(self.x, self.y, delays=self.delays)
        return (whole.part(slice(i, i + rows)) for i in range(0, len(whole), rows))


def suffix_of(path: Path) -> str:
    """Return '.csv', '.csv.gz', ...: the end of the name that says what the file is."""
    last = "".join(path.suffixes[-2:]).lower()
    return last if last in {*READERS, *PAIRED} else path.suffix.lower()


def is_known_format(path: Path) -> bool:
    """Whether the file's ending is one that `read_file` reads."""
    return suffix_of(path) in {*READERS, *PAIRED, ".parquet", ".npz"}


def read_file(path: Path, name: str | None = None, reading: Reading = Reading()) -> FileStream:  # noqa: B008
    """Read a CSV, ARFF, JSON Lines, libsvm, Parquet or NumPy file as a stream.

    A file is finite, so it is read to its end when it is opened, and kinds, categories and classes are those found
    anywhere in it (in ARFF, those declared, in their declared order).

    - Numeric or nominal: as the format declares; a column named as nominal is nominal; else all its values decide.
      Plain numbers are numeric, and so are times in ISO 8601 (seconds since 1970) and numbers with a currency, a per
      cent sign or separators of thousands; all else is nominal. Among many numbers a few texts are an error.
    - Categories and classes are texts, and sorted, as numbers if all of them are numbers.
    - What `stream_moe.values.MISSING` lists is missing: NaN in x, -1 in y.
    - Infinities, and numbers beyond float32, become NaN. A column whose values are all above 2**24 is kept as the
      distance from its first value, `Feature.base`.
    - In libsvm files what a line does not list is 0; with other names than whole numbers up to 256 the rows stay
      sparse, `Schema.sparse`, and x is `stream_moe.sparse_rows.SparseRows`.
    - In .npz, integer labels 0..C-1 keep their index and are named "0".."C-1"; -1 and 1 alone are two classes.

    What is read another way than it stands is said once in the log, and in `FileStream.notes`.

    Parameters
    ----------
    path
        The file; its suffix says the format.
    name
        Name of the stream; the file's name if None.
    reading
        How it is to be read, where it does not say so itself.

    Returns
    -------
    FileStream
        With contiguous x float32 [n, d] and y int32 [n].

    Raises
    ------
    DataError
        If the file is not there, damaged, cut off, empty or not a table of events; the message names the
        path, the line or value, and the way out.
    """
    name = name or path.name
    suffix = suffix_of(path)
    if path.is_dir():
        raise DataError(f"{path}: is a directory; name a file in it")
    if not is_known_format(path):
        raise DataError(f"{path}: unknown format {path.suffix!r}; the formats are {FORMATS}")
    try:
        if suffix == ".npz":
            stream = FileStream(name, *read_npz(path, reading))
        elif suffix in PAIRED:
            stream = FileStream(name, *read_libsvm(path, reading))
        else:
            stream = _read_columns(path, suffix, name, reading)
    except (EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(
            f"{path}: cannot be decompressed ({error}); it was cut off or damaged, get it again"
        ) from None
    except UnicodeError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        wanted = reading.encoding or "UTF-8"
        raise DataError(f"{path}: not {wanted} text ({reason}); convert it, or say what it is: --encoding") from None
    except csv.Error as error:
        raise DataError(f"{path}: {error}; save the file as plain CSV") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or one_line(error)}); check the path and the file"
        ) from None
    for note in stream.notes:
        _log.warning("%s: %s", path, note)
    return stream


def _read_columns(path: Path, suffix: str, name: str, reading: Reading) -> FileStream:
    """Read a file that has columns; text of another encoding than it must have as spreadsheets of old write it."""
    try:
        return read_table(lambda: _open(path, suffix, reading), name, reading)
    except UnicodeDecodeError:
        if reading.encoding is not None or not suffix.startswith((".csv", ".tsv", ".arff")):
            raise
    older = replace(reading, encoding=OLDER)
    stream = read_table(lambda: _open(path, suffix, older), name, older)
    said = f"not UTF-8 text: read as {OLDER} (Windows, western Europe); --encoding says otherwise"
    return replace(stream, notes=(said, *stream.notes))


def _open(path: Path, suffix: str, reading: Reading) -> Table:
    packed = suffix == ".parquet" or is_packed(path)
    allowance = Allowance(path, reading.unpacked, packed=packed)
    if suffix.startswith((".csv", ".tsv")):
        return read_csv(path, allowance, reading.encoding, reading.separator)
    if reading.separator is not None:
        raise DataError(f"{path}: separator {reading.separator!r} is for .csv and .tsv; leave it out")
    if suffix == ".parquet":
        return read_parquet(path, allowance)
    return READERS[suffix](path, allowance, reading.encoding)


def read_table(open_table: Callable[[], Table], name: str, reading: Reading) -> FileStream:
    """Read a table to its end as a stream, twice where a column's kind shows only at the end; see `read_file`."""
    known: dict[str, Kind] = {}
    while True:
        table = open_table()
        names = [column.name for column in table.columns]
        target = _check_names(table, names, reading)
        columns = _Columns(table, target, reading, known)
        columns.read()
        more = {feature.name: kind for feature in columns.features if (kind := feature.kind_found) is not None}
        if not more:
            return columns.finish(name)
        known |= more


class _Columns:
    """The columns of a table, as they are read."""

    def __init__(self, table: Table, target: int, reading: Reading, known: dict[str, Kind]) -> None:
        names = [column.name for column in table.columns]
        self.table = table
        self.labels = LabelColumn(table, target, reading)
        self.features = [
            FeatureColumn(table, j, reading, known.get(name))
            for j, name in enumerate(names)
            if j != target and name not in (*reading.drop, reading.delay)
        ]
        asked, given = reading.label is not None, self.labels.name.lower() in LABEL_NAMES
        self.likelier = [f.name for f in self.features if f.name.lower() in LABEL_NAMES and not (asked or given)]
        if not self.features:
            raise DataError(f"{table.path}: no column besides the label {names[target]!r}; it needs features")
        self._delays = DelayColumn(table, names.index(reading.delay)) if reading.delay is not None else None
        self._x: list[Float32] = []
        self._y: list[Int32] = []
        self._delay_parts: list[Int64] = []

    def read(self) -> None:
        for chunk in self.table.chunks:
            part = np.empty((len(chunk.lines), len(self.features)), np.float32)
            for j, feature in enumerate(self.features):
                part[:, j] = feature.encode(chunk)
            self._x.append(part)
            self._y.append(self.labels.encode(chunk))
            if self._delays is not None:
                self._delay_parts.append(self._delays.encode(chunk))
        if not self._x:
            raise DataError(f"{self.table.path}: there are no rows after the header; it needs at least one")

    def finish(self, name: str) -> FileStream:
        notes = list(self.table.notes)
        if self.likelier:
            notes.append(
                f"the label is the last column, {self.labels.name!r}; {self.likelier[0]!r} is a feature: --label "
                f"{self.likelier[0]} takes it"
            )
        index = [j for j, feature in enumerate(self.features) if feature.is_index]
        if len(index) == len(self.features):
            raise DataError(f"{self.table.path}: no column besides an index of the rows; it needs features")
        x, y = _joined(self._x), cast("Any", np.concatenate(self._y))
        if index:
            numbered = ", ".join(str(self.features[j].position + 1) for j in index)
            notes.append(f"column {numbered} has no name and only counts the rows, or is empty: left out")
            x = np.delete(x, index, axis=1)
            self.features = [feature for feature in self.features if not feature.is_index]
        classes = self.labels.finish(y)
        features = tuple(f.finish(x[:, j]) for j, f in enumerate(self.features))
        if self.labels.is_number:
            y, schema = self.labels.numbers(y), Schema(features, target=Target(self.labels.name))
            notes += [f"the label {self.labels.name!r} holds {said}"] if (said := self.labels.said) else []
        else:
            schema = Schema(features, classes)
        notes += [note for feature in self.features for note in feature.notes()] + self.labels.notes()
        delays = np.concatenate(self._delay_parts) if self._delay_parts else None
        return FileStream(name, schema, x, y, delays, tuple(notes), self.labels.name)


def _check_names(table: Table, names: list[str], reading: Reading) -> int:
    """Return which column is the label; DataError where the names do not go together."""
    path, label, delay = table.path, reading.label, reading.delay
    if not names:
        raise DataError(f"{path}: declares no columns; it needs features and a label")
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"{path}: {repeated[0]!r} names {names.count(repeated[0])} columns; rename all but one")
    wanted = (name for name in (label, delay) if name is not None)
    for name in (*reading.nominal, *wanted, *reading.drop):
        if name not in names:
            quoted = [f'"{each}"' if "," in each else each for each in names[:20]]
            shown = ", ".join(quoted) + (", ..." if len(names) > 20 else "")
            raise DataError(f"{path}: no column {name!r}; the columns are {shown}")
    if delay is not None and delay in (label, *reading.nominal):
        raise DataError(f"{path}: {delay!r} is the label or a feature already; name another column as the delay")
    others = [name for name in names if name != delay and (name == label or name not in reading.drop)]
    if not others:
        raise DataError(f"{path}: no column besides the delay {delay!r}; it needs features and a label")
    return names.index(label if label is not None else others[-1])


def _joined(parts: list[Float32]) -> Float32:
    """Concatenate, freeing each part when it is copied: the peak is one copy of the data, not two."""
    x = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.float32)
    at = len(x)
    while parts:
        part = parts.pop()
        x[at - len(part) : at] = part
        at -= len(part)
    return x
