"""A stream is the same stream in whatever form it comes; what is read is what was meant."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.records.codec import RecordCodec
from stream_moe.engine.records.mapping import FieldMapping
from stream_moe.models.catalogue import build_model
from stream_moe.streams import export_npz, open_stream
from stream_moe.streams.files import FileStream
from stream_moe.types import RecordBatch, Schema
from stream_moe.values import is_missing

# 20,000 of each: STREAM_MOE_EXAMPLES=20000 python -m pytest tests/laws/test_forms.py
EXAMPLES = int(os.environ.get("STREAM_MOE_EXAMPLES", "150"))
MODEL = "hoeffding-tree"

Rows = list[dict[str, Any]]
TROUBLE = ["NA", "-", "+", "None", "1.10", "1.1", "007", "7", "1e2", "true", "True", "a,b", 'say "so"', "it's", "x;y"]
texts = st.one_of(
    st.sampled_from(TROUBLE),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(str.strip).filter(bool),
)
numbers = st.one_of(
    st.none(),
    st.floats(-1e6, 1e6, allow_nan=False, width=32),
    st.integers(-1000, 1000),
    st.integers(1_700_000_000_000, 1_700_000_100_000),
)
names = st.lists(
    st.one_of(st.sampled_from(["a", "size, cm", 'of "it"', "b c", "it's", "größe", "x\\y"]), texts)
    .map(str.strip)
    .filter(lambda name: name and not is_missing(name) and not name.replace(".", "").isnumeric()),
    min_size=3,
    max_size=4,
    unique=True,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], Rows]:
    """Two or three columns, numbers first, then text, and the label, which some rows lack."""
    columns = draw(names)
    n = draw(st.integers(2, 12))
    kinds = [numbers, *[texts] * (len(columns) - 2), st.one_of(st.just("yes"), texts)]
    cells = [draw(st.lists(kind, min_size=n, max_size=n)) for kind in kinds]
    cells[-1][0], cells[0][0] = "yes", 0.5
    return columns, [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]


def written_csv(columns: list[str], rows: Rows, separator: str = ",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *([row[name] for name in columns] for row in rows)])
    return out.getvalue()


def written_arff(columns: list[str], rows: Rows) -> str:
    def quoted(text: Any) -> str:
        return "'" + str(text).replace("\\", "\\\\").replace("'", "\\'") + "'"

    kinds = ["numeric", *["string"] * (len(columns) - 1)]
    head = "".join(f"@attribute {quoted(name)} {kind}\n" for name, kind in zip(columns, kinds, strict=True))
    cells = [["?" if row[name] is None else quoted(row[name]) for name in columns] for row in rows]
    return f"@relation t\n{head}@data\n" + "".join(",".join(row) + "\n" for row in cells)


def written_jsonl(columns: list[str], rows: Rows) -> str:
    return "".join(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n" for row in rows)


FORMS: dict[str, Callable[[list[str], Rows], str]] = {
    "t.csv": written_csv,
    "t.arff": written_arff,
    "t.jsonl": written_jsonl,
}


def opened(name: str, content: str, columns: list[str], encoding: str = "utf-8") -> FileStream:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content.encode(encoding))
        stream = open_stream(str(path), nominal=columns[1:-1])
    assert isinstance(stream, FileStream)
    return stream


def meant(columns: list[str], rows: Rows, stream: FileStream) -> bool:
    """Whether the stream has the values of the rows: numbers as float32, text as it stands, missing where it is."""
    schema = stream.schema
    if stream.n_events != len(rows) or [f.name for f in schema.features] != columns[:-1]:
        return False
    for j, name in enumerate(columns):
        known = [row[name] for row in rows if row[name] is not None]
        for i, row in enumerate(rows):
            value, gone = row[name], row[name] is None
            if isinstance(value, str):
                gone = is_missing(value) and not (value == "-" and "+" in known)
            if j == len(columns) - 1:
                found: Any = None if stream.y[i] < 0 else schema.classes[stream.y[i]]
            elif np.isnan(stream.x[i, j]):
                found = None
            else:
                categories = schema.features[j].categories
                found = float(stream.x[i, j]) if categories is None else categories[int(stream.x[i, j])]
            right = None if gone else value
            if right is not None and not isinstance(value, str):
                right = float(np.float32(value - schema.features[j].base))
            if found != right:
                return False
    return True


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables(), st.sampled_from(list(FORMS)))
def test_a_file_is_read_as_it_was_meant(table: tuple[list[str], Rows], form: str) -> None:
    columns, rows = table
    stream = opened(form, FORMS[form](columns, rows), columns)
    assert meant(columns, rows, stream), (form, stream.schema, stream.x, stream.y)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables(), st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_every_dialect_of_csv_is_the_same_table(table: tuple[list[str], Rows], separator: str, encoding: str) -> None:
    columns, rows = table
    stream = opened("t.csv", written_csv(columns, rows, separator), columns, encoding)
    assert meant(columns, rows, stream), (separator, stream.schema, stream.notes)


def records(columns: list[str], rows: Rows) -> list[bytes]:
    """The rows as a producer of another language may write them: numbers as text, in any order of names."""
    return [
        json.dumps(
            {"x": {name: row[name] for name in reversed(columns[:-1])}, "y": row[columns[-1]], "id": str(i)}
        ).encode()
        for i, row in enumerate(rows)
    ]


def digest(schema: Schema, learn: Callable[[Any], None]) -> str:
    model = build_model(MODEL, schema, seed=1)
    learn(model)
    return model.digest


@settings(max_examples=max(EXAMPLES // 3, 20), deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_the_same_stream_in_every_form_gives_the_same_model(table: tuple[list[str], Rows]) -> None:
    """CSV, ARFF, JSON Lines, Parquet, npz, records and dicts."""
    columns, rows = table
    first = opened("t.csv", written_csv(columns, rows), columns)
    schema = first.schema
    right = digest(schema, lambda model: model.learn_many(first.x, first.y))
    streams = {"jsonl": opened("t.jsonl", written_jsonl(columns, rows), columns)}
    streams["arff"] = opened("t.arff", written_arff(columns, rows), columns)
    with tempfile.TemporaryDirectory() as folder:
        export_npz(first, first.n_events, f"{folder}/t.npz")
        for form, path in {"npz": f"{folder}/t.npz", **parquet(folder, columns, rows)}.items():
            again = open_stream(path)
            assert isinstance(again, FileStream)
            streams[form] = again
    for name, stream in streams.items():
        assert [(f.name, f.base) for f in stream.schema.features] == [(f.name, f.base) for f in schema.features], name
        found = digest(schema, lambda model, s=stream: model.learn_many(s.x, s.y))  # type: ignore[misc]
        assert found == right, name
    values: list[bytes | None] = list(records(columns, rows))
    n = len(values)
    block, dead = JsonCodec(schema).decode(RecordBatch(np.arange(n), np.zeros(n, np.int64), [None] * n, values, n))
    assert not dead
    assert digest(schema, lambda model: model.learn_many(block.x, block.y)) == right
    label = columns[-1]
    if "." not in "".join(columns) and "id" not in columns:  # whose paths would lead elsewhere
        flat: list[bytes | None] = [json.dumps(row).encode() for row in rows]
        mapped = RecordCodec(schema, mapping=FieldMapping(label=label))
        block, dead = mapped.decode(RecordBatch(np.arange(n), np.zeros(n, np.int64), [b"k"] * n, flat, n))
        assert not dead
        assert digest(schema, lambda model: model.learn_many(block.x, block.y)) == right


def parquet(folder: str, columns: list[str], rows: Rows) -> dict[str, str]:
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    cells = {name: [row[name] for row in rows] for name in columns}
    kinds = [pa.float64(), *[pa.string()] * (len(columns) - 1)]
    table = pa.table({name: pa.array(cells[name], kind) for name, kind in zip(columns, kinds, strict=True)})
    pq.write_table(table, f"{folder}/t.parquet")
    return {"parquet": f"{folder}/t.parquet"}
