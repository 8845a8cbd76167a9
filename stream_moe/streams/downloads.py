"""Data sets by the loaders of river and scikit-learn, as tables. Each does its own downloading and unpacking."""

from __future__ import annotations

import csv
import itertools
import socket
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from stream_moe.errors import DataError, one_line
from stream_moe.streams.files import FileStream, read_table
from stream_moe.streams.reading import Reading
from stream_moe.streams.registry import NOMINAL, DataSet, by_hand
from stream_moe.streams.tables import Column, Table, gather

# No network, a refusal, an answer of another kind, a file that is cut off.
FAILURES = (OSError, RuntimeError, ValueError, KeyError, EOFError, BadZipFile, HTTPException, csv.Error)
SILENCE = 60.0  # seconds without a byte after which a server is given up


def load(data_set: DataSet) -> FileStream:
    """Return a data set from its loader; DataError if that is not installed, or cannot get the data set."""
    try:
        with _patience():
            table = _from_river(data_set) if data_set.loader == "river" else _from_sklearn(data_set)
            return read_table(lambda: table, data_set.name, Reading(usually_nominal=NOMINAL))
    except ImportError as error:
        raise DataError(
            f"{data_set.name}: not here, and its download needs {error.name}: install stream-moe[datasets], "
            f"or {by_hand(data_set)}"
        ) from None
    except FAILURES as error:
        raise DataError(
            f"{data_set.name}: not here, and its download failed ({one_line(error)[:240]}); {by_hand(data_set)}"
        ) from None


@contextmanager
def _patience() -> Iterator[None]:
    """Neither loader has a deadline of its own for a server that says nothing."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _table(name: str, columns: list[Column], rows: Iterator[Sequence[Any]]) -> Table:
    path = Path(name)  # what messages name
    return Table(path, columns, gather(path, enumerate(rows, 1), len(columns)), "event")


def _from_river(data_set: DataSet) -> Table:
    from river import datasets

    source = getattr(datasets, data_set.key[0])(*data_set.key[1:])
    if hasattr(source, "download"):
        source.download(verbose=False)  # a copy of the right size that river has already is taken
        if not source.is_downloaded:
            source.path.unlink(missing_ok=True)
            raise RuntimeError(f"what came is not the {source.size:,} bytes that river expects")
    events = iter(source)
    first = next(events, None)
    if first is None:
        raise RuntimeError("it holds no events")
    names = list(first[0])
    rows = ([*(x[name] for name in names), str(y)] for x, y in itertools.chain([first], events))
    return _table(data_set.name, [*map(Column, names), Column("class", "nominal")], rows)


def _from_sklearn(data_set: DataSet) -> Table:
    import sklearn.datasets

    with tempfile.TemporaryDirectory(prefix="stream-moe-") as folder, warnings.catch_warnings():
        # In a folder that goes: its own cache is a pickle. It warns before it tries again.
        warnings.simplefilter("ignore")
        if data_set.key[0] == "covtype":
            bunch = sklearn.datasets.fetch_covtype(data_home=folder, n_retries=1)
            categories: dict[str, list[str]] = {}
        else:
            bunch = sklearn.datasets.fetch_openml(
                data_id=int(data_set.key[1]), data_home=folder, as_frame=False, parser="liac-arff", n_retries=1
            )
            categories = bunch.categories
    names = list(bunch.feature_names)
    columns = [Column(name, "nominal" if name in categories else "numeric") for name in names]
    coded = [(j, categories[name]) for j, name in enumerate(names) if name in categories]

    def rows() -> Iterator[Sequence[Any]]:
        for x, y in zip(bunch.data, bunch.target, strict=True):
            row: list[Any] = x.tolist()
            for j, values in coded:
                row[j] = values[int(row[j])] if row[j] == row[j] else None
            yield [*row, str(y)]

    return _table(data_set.name, [*columns, Column("class", "nominal")], rows())
