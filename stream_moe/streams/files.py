"""A file as a stream: read whole, held as float32, handed out as views."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_moe.errors import ConfigError, DataError, one_line
from stream_moe.streams.encoders import DelayColumn, FeatureColumn, LabelColumn
from stream_moe.streams.npz import read_npz
from stream_moe.streams.readers import read_arff, read_csv, read_jsonl, read_parquet
from stream_moe.streams.tables import Table
from stream_moe.types import Block, Float32, Int32, Int64, Schema

TEXT_READERS: dict[str, Callable[[Path], Table]] = {".csv": read_csv, ".arff": read_arff, ".jsonl": read_jsonl}
READERS = {kind + packed: reader for kind, reader in TEXT_READERS.items() for packed in ("", ".gz", ".xz")}
READERS[".parquet"] = read_parquet
FORMATS = ".csv, .arff, .jsonl (each also .gz, .xz), .parquet, .npz"


@dataclass(frozen=True)
class FileStream:
    """A finite stream in memory: x float32 [n, d], y int32 [n]; its blocks are views of them."""

    name: str
    schema: Schema
    x: Float32
    y: Int32
    delays: Int64 | None = None  # [n], where a column says when each label arrives

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
    return last if last in READERS else path.suffix.lower()


def is_known_format(path: Path) -> bool:
    """Whether the file's ending is one that `read_file` reads."""
    return suffix_of(path) in READERS or suffix_of(path) == ".npz"


def read_file(
    path: Path,
    name: str | None = None,
    *,
    label: str | None = None,
    nominal: Sequence[str] = (),
    delay: str | None = None,
    drop: Sequence[str] = (),
    usually_nominal: Sequence[str] = (),
) -> FileStream:
    """Read a CSV, ARFF, JSON Lines, Parquet or NumPy file as a stream.

    A file is finite, so it is read to its end when it is opened, and categories and classes are those found
    anywhere in it (in ARFF, those declared, in their declared order).

    - Numeric or nominal: as the format declares; a column named in `nominal` is nominal; else the first value
      decides, a number meaning numeric. Text further down a numeric column is an error, not a category.
    - Categories and classes are sorted, as numbers if all of them are numbers.
    - '', '?', 'NaN', 'null' (in any case) are missing: NaN in x, -1 in y.
    - Infinities, and numbers beyond float32, become NaN.
    - In .npz, integer labels 0..C-1 keep their index and are named "0".."C-1".

    Parameters
    ----------
    path
        The file; its suffix says the format.
    name
        Name of the stream; the file's name if None.
    label
        Column of the labels; the last column if None. Not for .npz.
    nominal
        Columns that are nominal although they hold numbers.
    delay
        Column that says after how many more events each label arrives, no feature then; see `open_stream`. Not for
        .npz.
    drop
        Columns to leave out.
    usually_nominal
        As `nominal`, but a column that is not there is no error.

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
            if label is not None:
                raise DataError(f"{path}: the labels of an .npz file are its array y; leave label out")
            if delay is not None:
                raise DataError(f"{path}: an .npz file has no column {delay!r}; give one delay for all labels")
            return FileStream(name, *read_npz(path, nominal))
        table = READERS[suffix](path)
        return read_table(
            table, name, label=label, nominal=nominal, delay=delay, drop=drop, usually_nominal=usually_nominal
        )
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be decompressed ({error}); it was cut off or damaged, get it again"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); convert it to UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: {error}; save the file as plain CSV") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or one_line(error)}); check the path and the file"
        ) from None


def read_table(
    table: Table,
    name: str,
    *,
    label: str | None = None,
    nominal: Sequence[str] = (),
    delay: str | None = None,
    drop: Sequence[str] = (),
    usually_nominal: Sequence[str] = (),
) -> FileStream:
    """Read a table to its end as a stream; see `read_file`."""
    names = [column.name for column in table.columns]
    if not names:
        raise DataError(f"{table.path}: declares no columns; it needs features and a label")
    _check_names(table.path, names, [*nominal, *(name for name in (label, delay) if name is not None)])
    if delay is not None and delay in (label, *nominal):
        raise DataError(
            f"{table.path}: {delay!r} is the label or a feature already; name another column as the delay"
        )
    others = [name for name in names if name != delay]
    if not others:
        raise DataError(f"{table.path}: no column besides the delay {delay!r}; it needs features and a label")
    target = names.index(label if label is not None else others[-1])
    labels = LabelColumn(table, target)
    features = [
        FeatureColumn(table, j, column in nominal or column in usually_nominal)
        for j, column in enumerate(names)
        if j != target and column not in (*drop, delay)
    ]
    if not features:
        raise DataError(f"{table.path}: no column besides the label {names[target]!r}; it needs features")
    waits = DelayColumn(table, names.index(delay)) if delay is not None else None
    x_parts: list[Float32] = []
    y_parts: list[Int32] = []
    delay_parts: list[Int64] = []
    for chunk in table.chunks:
        part = np.empty((len(chunk.lines), len(features)), np.float32)
        for j, feature in enumerate(features):
            part[:, j] = feature.encode(chunk)
        x_parts.append(part)
        y_parts.append(labels.encode(chunk))
        if waits is not None:
            delay_parts.append(waits.encode(chunk))
    if not x_parts:
        raise DataError(f"{table.path}: there are no rows after the header; it needs at least one")
    x, y = _joined(x_parts), np.concatenate(y_parts)
    classes = labels.finish(y)
    schema = Schema(tuple(f.finish(x[:, j]) for j, f in enumerate(features)), classes)
    return FileStream(name, schema, x, y, np.concatenate(delay_parts) if delay_parts else None)


def _check_names(path: Path, names: list[str], wanted: list[str]) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"{path}: {repeated[0]!r} names {names.count(repeated[0])} columns; rename all but one")
    for name in wanted:
        if name not in names:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise DataError(f"{path}: no column {name!r}; the columns are {shown}")


def _joined(parts: list[Float32]) -> Float32:
    """Concatenate, freeing each part when it is copied: the peak is one copy of the data, not two."""
    x = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.float32)
    at = len(x)
    while parts:
        part = parts.pop()
        x[at - len(part) : at] = part
        at -= len(part)
    return x
