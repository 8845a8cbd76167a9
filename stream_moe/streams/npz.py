"""Streams as NumPy archives: x float32 [n, d], y int32 [n], and in those we write the schema as JSON text."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError, DataError, one_line
from stream_moe.ports import Stream
from stream_moe.runtime.files import whole_file
from stream_moe.streams.allowance import Allowance
from stream_moe.streams.blocks import labelled_blocks
from stream_moe.streams.labels import MAX_CLASSES
from stream_moe.streams.numbers import base_of, distances
from stream_moe.streams.reading import Reading
from stream_moe.streams.tables import to_float32, vocabulary
from stream_moe.types import Feature, Float32, Int32, Schema
from stream_moe.values import is_missing_text

WRITE_ROWS = 65_536
DAMAGED = (ValueError, EOFError, KeyError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def write_npz(stream: Stream, events: int, path: Path) -> int:
    """Write the first `events` of a stream; see `stream_moe.streams.export_npz`."""
    if events < 1:
        raise ConfigError(f"export: events must be at least 1, not {events}")
    if path.suffix != ".npz":
        raise ConfigError(f"export: {str(path)!r} must end in .npz, or it could not be opened again")
    if (target := stream.schema.target) is not None:
        raise ConfigError(
            f"export: the label {target.name!r} of {stream.name} is a number, which .npz files hold not yet"
        )
    if stream.schema.sparse:
        raise ConfigError(f"export: {stream.name} has sparse rows, which an array [n, d] has no columns for")
    n = events if stream.n_events is None else min(events, stream.n_events)
    x, y = np.empty((n, stream.schema.n_features), np.float32), np.empty(n, np.int32)
    filled = 0
    for block in labelled_blocks(stream, n, min(n, WRITE_ROWS)):
        end = filled + len(block)
        x[filled:end], y[filled:end] = block.x, block.y
        filled = end
    try:
        with whole_file(path) as file:
            np.savez_compressed(file, x=x, y=y, schema=np.array(json.dumps(stream.schema.to_dict())))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); give another path") from None
    return n


def read_npz(path: Path, reading: Reading) -> tuple[Schema, Float32, Int32, None, tuple[str, ...]]:
    """Return schema, x float32 [n, d], y int32 [n] of an archive, no delays, and what was read otherwise.

    Without a stored schema the features are x0, x1, ... and the classes "0".."C-1", C = largest label + 1; labels
    that are -1 and 1 alone are two classes, and texts are classes by name.
    """
    if reading.label is not None:
        raise DataError(f"{path}: the labels of an .npz file are its array y; leave label out")
    if reading.delay is not None:
        raise DataError(f"{path}: an .npz file has no column {reading.delay!r}; give one delay for all labels")
    nominal, notes = reading.nominal, list[str]()
    classes: tuple[str, ...]
    stored, names = _arrays(path, Allowance(path, reading.unpacked))
    x, y = stored.get("x"), stored.get("y")
    if x is None or y is None:
        raise DataError(f"{path}: holds {', '.join(names) or 'no array'}; it needs arrays x [n, d] and y [n]")
    if x.ndim != 2 or x.dtype.kind not in "fiub" or y.shape != x.shape[:1] or not x.shape[1]:
        raise DataError(
            f"{path}: x is {x.dtype} {list(x.shape)}, y is {y.dtype} {list(y.shape)}; "
            "it needs numbers x [n, d] with d at least 1, and y [n]"
        )
    if not len(y):
        raise DataError(f"{path}: there are no rows; it needs at least one")
    if y.dtype.kind not in "iubU":
        raise DataError(f"{path}: y is {y.dtype}; labels must be integers 0..C-1 (-1 for none) or texts")
    if y.dtype.kind == "U":
        if "schema" in stored:
            raise DataError(f"{path}: y is text; beside a schema labels are the indices of its classes")
        classes, y = _classes_of(y)
    elif "schema" not in stored and set(np.unique(y).tolist()) == {-1, 1}:
        notes.append(
            "labels are -1 and 1: two classes; store a schema, or 0 for the first class, if -1 means no label"
        )
        y = (y > 0).astype(np.int32)
        classes = ("-1", "1")
    else:
        classes = tuple(str(k) for k in range(int(y.max()) + 1)) if y.max() < MAX_CLASSES else ()
    low, high = int(y.min()), int(y.max())
    if low < -1 or high >= MAX_CLASSES or high < 0:
        raise DataError(
            f"{path}: labels go from {low} to {high}; they must be 0..C-1 (-1 for none), "
            f"with at least one row labelled and at most {MAX_CLASSES:,} classes"
        )
    values = np.ascontiguousarray(to_float32(x))
    if beyond := int((np.isnan(values) & ~np.isnan(x)).sum()):
        notes.append(f"x has {beyond:,} values that are infinite or beyond float32: taken as missing")
    labels = y.astype(np.int32)
    if "schema" in stored:
        if nominal:
            raise DataError(f"{path}: says itself which columns are nominal; leave nominal out")
        schema = _checked(path, stored["schema"], values, high)
        return _without(path, reading.drop, schema, values, labels, notes)
    names = [f"x{j}" for j in range(values.shape[1])]
    if unknown := set(nominal) - set(names):
        raise DataError(f"{path}: no column {min(unknown)!r}; the columns of x are x0..x{len(names) - 1}")
    features = []
    for j, name in enumerate(names):
        if name in nominal:
            features.append(_nominal(name, values[:, j]))
        else:
            base = base_of(x[:, j])
            values[:, j] = to_float32(distances(x[:, j], base))
            features.append(Feature(name, base=base))
    return _without(path, reading.drop, Schema(tuple(features), classes), values, labels, notes)


def _without(
    path: Path, drop: Sequence[str], schema: Schema, x: Float32, y: Int32, notes: list[str]
) -> tuple[Schema, Float32, Int32, None, tuple[str, ...]]:
    """Leave columns out."""
    names = [feature.name for feature in schema.features]
    if unknown := [name for name in drop if name not in names]:
        raise DataError(f"{path}: no column {unknown[0]!r}; the columns are {', '.join(names[:20])}")
    kept = [j for j, name in enumerate(names) if name not in drop]
    if not kept:
        raise DataError(f"{path}: no column is left; it needs features")
    if drop:
        schema, x = Schema(tuple(schema.features[j] for j in kept), schema.classes), np.ascontiguousarray(x[:, kept])
    return schema, x, y, None, tuple(notes)


def _classes_of(y: Any) -> tuple[tuple[str, ...], Int32]:
    """Return the classes of labels that are texts, and their indices; of what means no label -1."""
    tokens = [str(token).strip() for token in y.tolist()]
    classes, index = vocabulary({token for token in tokens if not is_missing_text(token)})
    return classes, np.array([index.get(token, -1) for token in tokens], np.int32)


def _arrays(path: Path, allowance: Allowance) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays that are read, and the names of all."""
    with path.open("rb") as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path}: a single array; it needs an archive (numpy.savez) of x [n, d] and y [n]")
    try:
        _check_sizes(path, allowance)
        archive = np.load(path, allow_pickle=False)
        with archive:
            found = {name: archive[name] for name in ("x", "y", "schema") if name in archive.files}
            return found, archive.files
    except DAMAGED as error:
        raise DataError(
            f"{path}: not a readable .npz archive of plain numbers ({one_line(error)}); "
            "write it again with numpy.savez"
        ) from None


def _check_sizes(path: Path, allowance: Allowance) -> None:
    """Raise DataError, or what a damaged archive raises, before memory is taken for what an array claims to be."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename not in {"x.npy", "y.npy", "schema.npy"}:
                continue
            allowance.text(entry.file_size)  # no more of it is unpacked, whatever it holds
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
            if dtype.hasobject:
                raise ValueError(f"{entry.filename} holds objects of Python, not numbers or text")
            values = math.prod(shape)
            if values * dtype.itemsize > entry.file_size:
                raise ValueError(f"{entry.filename} says that it is larger than it is")
            allowance.values(values)  # of a byte each, maybe; they become float32


def _nominal(name: str, column: Float32) -> Feature:
    present = ~np.isnan(column)
    tokens = [str(int(v)) if v.is_integer() else repr(v) for v in column[present].tolist()]
    names, index = vocabulary(set(tokens))
    column[present] = [index[token] for token in tokens]
    return Feature(name, names)


def _checked(path: Path, text: Any, x: Float32, high: int) -> Schema:
    try:
        schema = Schema.from_dict(json.loads(str(text)))
    except (ValueError, ConfigError) as error:
        raise DataError(f"{path}: damaged schema ({error}); export the stream again") from None
    if schema.n_features != x.shape[1] or high >= schema.n_classes:
        raise DataError(
            f"{path}: the schema has {schema.n_features} features and {schema.n_classes} classes, the arrays "
            f"{x.shape[1]} features and labels up to {high}; export the stream again"
        )
    for j, count in enumerate(schema.n_categories):
        codes = x[:, j][~np.isnan(x[:, j])]
        # Kernels index by these values, so a wrong one would reach outside their arrays.
        if count and not (np.isin(codes, np.arange(count))).all():
            raise DataError(
                f"{path}: {schema.features[j].name!r} has values outside its {count} categories; "
                "export the stream again"
            )
    return schema
