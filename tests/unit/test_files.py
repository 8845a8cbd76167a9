"""Files as streams: every format gives the same events, and every bad file one clear sentence."""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from stream_moe.errors import DataError
from stream_moe.streams import export_npz, open_stream
from stream_moe.streams.files import FileStream
from stream_moe.types import Feature, Schema

NAMES = ["width", "colour", "weekday", "class"]
ROWS: list[list[float | str | int | None]] = [
    [1.5, "red", 2, "yes"],
    [None, "blue", 10, "no"],
    [-3e-3, None, 2, "yes"],
    [1e300, "red", 1, None],
    [float("-inf"), "red", None, "yes"],
]
NAN = float("nan")
X = np.array([[1.5, 1, 1], [NAN, 0, 2], [-3e-3, NAN, 1], [NAN, 1, 0], [NAN, 1, NAN]], np.float32)
Y = np.array([1, 0, 1, -1, 1], np.int32)
SCHEMA = Schema(
    (Feature("width"), Feature("colour", ("blue", "red")), Feature("weekday", ("1", "2", "10"))),
    ("no", "yes"),
)


def csv_text(missing: str = "") -> str:
    rows = [",".join(missing if cell is None else str(cell) for cell in row) for row in ROWS]
    return "\n".join([",".join(NAMES), *rows]) + "\n"


def arff_text() -> str:
    header = (
        "% a comment\n@RELATION 'a table'\n\n@attribute width numeric\n@attribute 'colour' {blue, red}\n"
        "@attribute weekday{1,2,10}\n@attribute class {no,yes}\n@DATA\n"
    )
    return header + "\n".join(csv_text("?").splitlines()[1:])


def jsonl_text() -> str:
    # A key may be missing after the first line; infinity is written as Python's json writes it.
    objects = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
    return "\n".join(json.dumps({k: v for k, v in o.items() if v is not None}) for o in objects)


def write_parquet(path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({name: [row[j] for row in ROWS] for j, name in enumerate(NAMES)}), path)


def write_npz(path: Path) -> None:
    export_npz(FileStream("table", SCHEMA, X, Y), len(Y), path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: path.write_text(csv_text()),
    "csv.gz": lambda path: path.write_bytes(gzip.compress(csv_text("?").encode())),
    "csv.xz": lambda path: path.write_bytes(lzma.compress(csv_text("NaN").encode("utf-8-sig"))),
    "arff": lambda path: path.write_text(arff_text()),
    "arff.gz": lambda path: path.write_bytes(gzip.compress(arff_text().encode())),
    "jsonl": lambda path: path.write_text(jsonl_text()),
    "parquet": write_parquet,
    "npz": write_npz,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_events(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    WRITERS[suffix](path)
    stream = open_stream(str(path), nominal=[] if suffix == "npz" else ["weekday"])
    assert stream.schema == SCHEMA
    assert stream.n_events == 5
    for rows in (1, 2, 5, 100):
        blocks = list(stream.blocks(rows))
        np.testing.assert_array_equal(np.concatenate([block.x for block in blocks]), X)
        np.testing.assert_array_equal(np.concatenate([block.y for block in blocks]), Y)
    assert [blocks[0].x.dtype.name, blocks[0].y.dtype.name] == ["float32", "int32"]
    assert blocks[0].x.flags.c_contiguous
    assert blocks[0].x.base is not None


def opened(path: Path, content: str | bytes, **options: str) -> FileStream:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    stream = open_stream(str(path), label=options.get("label"))
    assert isinstance(stream, FileStream)
    return stream


def test_label_may_be_any_column(tmp_path: Path) -> None:
    stream = opened(tmp_path / "t.csv", "a,class,b\n1,x,2\n3,y,4\n", label="class")
    assert [feature.name for feature in stream.schema.features] == ["a", "b"]
    assert stream.x.tolist() == [[1, 2], [3, 4]]


def test_numeric_labels_sort_as_numbers_and_keep_their_text(tmp_path: Path) -> None:
    stream = opened(tmp_path / "t.csv", "a,class\n0,10\n0,9\n0,-1\n0,9.0\n")
    assert stream.schema.classes == ("-1", "9", "9.0", "10")
    assert stream.y.tolist() == [3, 1, 0, 2]
    assert stream.notes == ("labels in 'class' are equal as numbers, and different classes as they are written",)


def test_zero_padded_labels_keep_their_zeros(tmp_path: Path) -> None:
    assert opened(tmp_path / "t.csv", "a,class\n0,02\n0,01\n").schema.classes == ("01", "02")


def test_arff_keeps_the_declared_order(tmp_path: Path) -> None:
    text = "@relation r\n@attribute 'my a' {z,'y y'}\n@attribute c {UP,DOWN,SAME}\n@data\n'y y',DOWN\nz, UP\n"
    stream = opened(tmp_path / "t.arff", text)
    assert stream.schema == Schema((Feature("my a", ("z", "y y")),), ("UP", "DOWN", "SAME"))
    assert (stream.x.tolist(), stream.y.tolist()) == ([[1], [0]], [1, 0])


def test_a_json_string_is_text_even_if_it_looks_like_a_number(tmp_path: Path) -> None:
    stream = opened(tmp_path / "t.jsonl", '{"zip": null, "ok": true}\n{"zip": "02139", "ok": false}\n')
    assert stream.schema == Schema((Feature("zip", ("02139",)),), ("false", "true"))


def test_one_class_is_allowed(tmp_path: Path) -> None:
    assert opened(tmp_path / "t.csv", "a,class\n1,x\n2,x\n").schema.classes == ("x",)


def test_a_column_without_any_value_is_numeric(tmp_path: Path) -> None:
    stream = opened(tmp_path / "t.csv", "a,b,class\n,1,x\n?,2,y\n")
    assert stream.schema.features[0].categories is None
    assert np.isnan(stream.x[:, 0]).all()


def test_the_vocabulary_spans_the_whole_file(tmp_path: Path) -> None:
    """Rows of different chunks share categories, and a late one sorts first."""
    rows = "".join(f"v{i % 3},{i},m\n" for i in range(3000))
    stream = opened(tmp_path / "t.csv", f"a,b,class\n{rows}a-first,0,late\n")
    assert stream.schema.features[0].categories == ("a-first", "v0", "v1", "v2")
    assert stream.x[:3000, 0].tolist() == [1 + i % 3 for i in range(3000)]
    assert stream.x[:3000, 1].tolist() == list(range(3000))
    assert (stream.x[3000, 0], stream.y[3000], stream.schema.classes) == (0, 0, ("late", "m"))


GOOD = b"a,b,class\n" + b"1,2,x\n" * 2000
BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("t.csv", "", "the file is empty"),
    ("t.jsonl", "\n", "the file is empty"),
    ("t.arff", "% only\n", "the file is empty"),
    ("t.csv", "a,b,class\n", "no rows"),
    ("t.arff", "@relation r\n@attribute a numeric\n@attribute c {x,y}\n@data\n", "no rows"),
    ("t.arff", "@relation r\n@attribute a numeric\n", "no @data line"),
    ("t.csv", "a,b,class\n1,2,x\n1,2\n", "line 3: 2 values where the header has 3; complete the row"),
    ("t.csv", "a,b,class\n1,2,x\n1,2,x,y\n", "line 3: 4 values where the header has 3; remove what is too much"),
    ("t.csv", "a,b,class\n\n1,2,3,4\n", "line 3: 4 values"),
    (
        "t.csv",
        "a,b,class\n" + "".join(f"1,{i},x\n" for i in range(100)) + "1,two,x\n",
        "line 102: 'two' in 'b', whose other values are numbers",
    ),
    ("t.csv", 'a,b,class\n1,2,x\n1,"2,x\n', "line 3: unexpected end of data"),
    ("t.csv", "a,a,class\n1,2,x\n", "'a' names 2 columns"),
    ("t.csv", "1,2,3\n4,5,6\n", "line 1 holds numbers"),
    ("t.csv", "a b class\n1 2 x\n", "one column"),
    ("t.csv", b"PK\x03\x04", "a zip archive"),
    ("t.csv", b"PAR1", "a Parquet file"),
    ("t.csv", b"\x00\x01\x02\x00\x01\x02" * 20, "not UTF-8|cannot be read|NUL|one column"),
    ("t.csv", "a,class\n1,\n2,?\n", "no row has a label in 'class'"),
    (
        "t.csv",
        "a,class\n" + "".join(f"1,n{i}\n" for i in range(10_000)),
        "more than 1,000 different labels in 'class', .*name another label column",
    ),
    ("t.csv", b"a,class\n1,\xff\x81\n", "not UTF-8"),
    ("t.csv", "a,class\n" + "x" * 200_000 + ",y\n", "line 2: field larger than field limit"),
    ("t.csv.gz", gzip.compress(GOOD, mtime=0)[:-20], "cut off"),
    ("t.csv.gz", b"not gzip at all", "cannot be read"),
    ("t.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 50, "cannot be decompressed"),
    ("t.csv.xz", lzma.compress(GOOD)[:-40], "cut off"),
    ("t.csv.xz", b"not xz at all", "cannot be decompressed"),
    ("t.jsonl", '{"a": 1, "class": "x"}\n{"a": 1, "cla', "line 2: .*one JSON object"),
    ("t.jsonl", '{"a": 1, "class": "x"}\n[1, 2]\n', "line 2: .*not a JSON object"),
    ("t.jsonl", '{"a": 1, "a": 2}\n', "a key appears twice"),
    ("t.jsonl", '{"a": 1, "class": "x"}\n{"b": 1, "class": "x"}\n', "line 2: 'b' is not in the first object"),
    ("t.jsonl", '{"a": {"b": 1}, "class": "x"}\n', "line 1: 'a' is nested"),
    ("t.jsonl", '{"a": 1, "class": "x"}\n' + "[" * 100_000 + "\n", "line 2: "),
    ("t.jsonl", '{"a": ' + "1" * 5000 + ', "class": "x"}\n', "line 1: "),
    ("t.jsonl", '{"class": "x"}\n', "no column besides the label"),
    ("t.jsonl", "{}\n", "declares no columns"),
    ("t.arff", "@relation r\n@data\n", "declares no columns"),
    ("t.arff", "width,class\n1,x\n", "line 1: .*not ARFF"),
    ("t.arff", "@relation r\n@attribute a\n@data\n", "line 2: .*@attribute NAME TYPE"),
    ("t.arff", "@relation r\n@attribute a relational\n@data\n", "line 2: 'a' has type 'relational'"),
    ("t.arff", "@relation r\n@attribute a {x,y\n@data\n", "do not end in"),
    (
        "t.arff",
        "@relation r\n@attribute a numeric\n@attribute c {x}\n@data\n{0 1, 2 x}\n",
        "line 5: .* in a sparse row",
    ),
    (
        "t.arff",
        "@relation r\n@attribute a numeric\n@attribute c {x}\n@data\n1,x\n1,z\n",
        "line 6: 'z' is not among",
    ),
    ("t.arff", "@relation r\n@attribute a numeric\n@attribute c {x}\n@data\nred,x\n", "line 5: 'red' in 'a'"),
    ("t.arff", "@relation r\n@attribute a {x}\n@attribute c {x}\n@data\n'x,x\n", "line 5: the quotes of"),
    ("t.txt", "a,class\n1,x\n", "unknown format '.txt'"),
    ("t.npz", b"", "not a readable .npz"),
    ("t.npz", b"PK\x03\x04 cut off", "not a readable .npz"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=lambda v: str(v)[:40])
def test_a_bad_file_gives_one_clear_error(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path / name, content)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", WRITERS)
def test_any_damage_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    """Bytes changed, removed, inserted or cut off at random places: never another kind of error."""
    path = tmp_path / f"table.{suffix}"
    WRITERS[suffix](path)
    good, random = path.read_bytes(), Random(1)
    for _ in range(100):
        content = bytearray(good)
        for _ in range(random.randrange(4)):
            at = random.randrange(len(content))
            content[at : at + random.randrange(8)] = random.choice(
                [b"", b"\xff", b"\n", b"'", b'"', b"{", b",", b"0"]
            )
        if random.random() < 0.3:
            del content[random.randrange(len(content)) :]
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert sum(len(block) for block in open_stream(str(path)).blocks(2)) > 0


@pytest.mark.parametrize("suffix", ["csv", "arff", "jsonl", "parquet", "npz"])
def test_a_file_that_is_not_there(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="No such file"):
        open_stream(str(tmp_path / f"none.{suffix}"))


@pytest.mark.parametrize("column", ["klass", "Class"])
def test_an_unknown_column_lists_the_columns(tmp_path: Path, column: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,class\n1,x\n")
    with pytest.raises(DataError, match=f"no column '{column}'; the columns are a, class"):
        open_stream(str(path), label=column)
    with pytest.raises(DataError, match=f"no column '{column}'"):
        open_stream(str(path), nominal=[column])


def test_parquet_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_stream(str(path))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"stream-moe\[parquet\]"):
        open_stream(str(tmp_path / "t.parquet"))


def test_parquet_of_an_unusable_type(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [[1, 2]], "class": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'a' holds list"):
        open_stream(str(tmp_path / "t.parquet"))


def test_plain_npz(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.array([[1.0, np.inf], [7.0, 2.0]]), y=np.array([2, 0]))
    stream = open_stream(str(path), nominal=["x0"])
    assert stream.schema == Schema((Feature("x0", ("1", "7")), Feature("x1")), ("0", "1", "2"))
    [block] = stream.blocks(10)
    np.testing.assert_array_equal(block.x, np.array([[0, NAN], [1, 2]], np.float32))
    assert block.y.tolist() == [2, 0]


ONE = np.zeros((1, 1))
SCHEMA_TEXT = json.dumps(Schema((Feature("a", ("u", "v")),), ("n",)).to_dict())
BAD_ARCHIVES: list[tuple[dict[str, object], str]] = [
    ({"x": ONE}, "needs arrays x"),
    ({"x": ONE, "y": np.array([0, 1])}, "it needs numbers x"),
    ({"x": np.zeros(3), "y": np.zeros(3, int)}, "it needs numbers x"),
    ({"x": np.array([["a"]]), "y": np.array([0])}, "it needs numbers x"),
    ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "no rows"),
    ({"x": ONE, "y": np.array([0.5])}, "labels must be integers"),
    ({"x": ONE, "y": np.array([-2])}, "labels go from -2"),
    ({"x": ONE, "y": np.array([-1])}, "at least one row labelled"),
    ({"x": ONE, "y": np.array([9_999])}, "at most 1,000"),
    ({"x": np.array([[object()]]), "y": np.array([0])}, "not a readable .npz"),
    ({"x": ONE, "y": np.array([0]), "schema": np.array("{")}, "damaged schema"),
    ({"x": ONE, "y": np.array([0]), "schema": np.array('{"features": 3}')}, "damaged schema"),
    ({"x": ONE, "y": np.array([1]), "schema": np.array(SCHEMA_TEXT)}, "labels up to 1"),
    ({"x": ONE + 2, "y": np.array([0]), "schema": np.array(SCHEMA_TEXT)}, "outside its 2 categories"),
    ({"x": ONE + 0.5, "y": np.array([0]), "schema": np.array(SCHEMA_TEXT)}, "outside its 2 categories"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARCHIVES, ids=[message for _, message in BAD_ARCHIVES])
def test_a_bad_archive_gives_one_clear_error(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        open_stream(str(path))


def test_an_archive_takes_no_label_and_knows_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=ONE, y=np.array([0]))
    with pytest.raises(DataError, match="leave label out"):
        open_stream(str(path), label="y")
    with pytest.raises(DataError, match="no column 'x5'"):
        open_stream(str(path), nominal=["x5"])
    write_npz(path)
    with pytest.raises(DataError, match="leave nominal out"):
        open_stream(str(path), nominal=["width"])


REAL = {
    "covtype": (581_012, 54, 7),
    "flights": (327_346, 7, 2),
    "weather": (18_159, 8, 2),
    "powersupply": (29_928, 2, 24),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data(name: str) -> None:
    if not os.environ.get("STREAM_MOE_DATA"):
        pytest.skip("STREAM_MOE_DATA is not set: it names a directory with the real data sets")
    stream = open_stream(name)
    assert (stream.n_events, stream.schema.n_features, stream.schema.n_classes) == REAL[name]
    [block] = stream.blocks(1_000_000)
    assert set(np.unique(block.y)) == set(range(stream.schema.n_classes))
    assert np.isfinite(block.x).all()


@pytest.mark.parametrize(
    ("header", "warned"),
    [("0.5,1.2,UP", True), ("a,2,class", True), ("a,b,class", False), ("0,1,class", False), (",a,class", False)],
)
def test_a_header_that_may_be_an_event_is_told(
    header: str, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,2,x\n3,4,y\n")
    open_stream(str(path))
    said = [record.getMessage() for record in caplog.records]
    assert [f"{path}: line 1 is taken as names of columns" in line for line in said] == [True] * warned
