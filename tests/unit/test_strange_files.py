"""Files as other programs and people write them: read right, and what was read otherwise is said."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from stream_moe.errors import StreamMoeError
from stream_moe.streams import open_stream
from stream_moe.streams.described import describe
from stream_moe.streams.files import FileStream


def opened(path: Path, content: str | bytes, **options: Any) -> FileStream:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    stream = open_stream(str(path), **options)
    assert isinstance(stream, FileStream)
    return stream


def kinds(stream: FileStream) -> dict[str, tuple[str, ...] | None]:
    return {feature.name: feature.categories for feature in stream.schema.features}


def csv(column: list[str], labels: str = "uv") -> str:
    return "a,y\n" + "".join(f"{value},{labels[i % len(labels)]}\n" for i, value in enumerate(column))


# A column's values, the kind they make, the numbers or indices they become (None = missing), a part of what is said.
COLUMNS: list[tuple[list[str], tuple[str, ...] | None, list[float | None], str]] = [
    (["NA", "1.5", "-", "2"], None, [None, 1.5, None, 2], ""),
    (["<NA>", "#N/A", "n/a", "7"], None, [None, None, None, 7], ""),
    (["", "NA", "red", "blue"], ("blue", "red"), [None, None, 1, 0], ""),
    (["", "", "2", "1"], None, [None, None, 2, 1], ""),
    (["1", "2", "A7", "1"], ("1", "2", "A7"), [0, 1, 2, 0], "numbers and text such as 'A7': taken as nominal"),
    (["+", "-", "+", "-"], ("+", "-"), [0, 1, 0, 1], ""),
    (["x", "-", "x", "z"], ("x", "z"), [0, None, 0, 1], ""),
    (['"1,500"', '"2,000,000.5"', "7"], None, [1500, 2000000.5, 7], "read as 1500.0; --decimal and --thousands"),
    (['"3,14"', '"0,5"', '"1.234,5"'], None, [3.14, 0.5, 1234.5], "read as 3.14"),
    (["$12.50", "$7", "3"], None, [12.5, 7, 3], "'$12.50': read as 12.5"),
    (["12%", "7.5 %", "3"], None, [12, 7.5, 3], "'12%': read as 12.0"),
    (["1970-01-02", "1970-01-01", ""], None, [86400, 0, None], "times such as '1970-01-02'"),
    (["1970-01-01 00:00:10", "1970-01-01T00:01Z"], None, [10, 60], "times such as"),
    (["10:30", "00:00:01"], None, [37800, 1], "times such as '10:30': read as seconds since midnight"),
    (["12/31/2024", "01/05/2024"], ("01/05/2024", "12/31/2024"), [1, 0], "written as 2024-12-31 they would be times"),
    (['"0,095"', '"-0,931"', '"7,500"'], None, [0.095, -0.931, 7.5], "'0,095': read as 0.095"),
    (["$1234.50", "$7"], None, [1234.5, 7], "'$1234.50': read as 1234.5"),
    (["1e400", "inf", "1"], None, [None, None, 1], "2 values that are infinite or beyond float32"),
    (["1_000", "2"], ("1_000", "2"), [0, 1], "taken as nominal"),
]


@pytest.mark.parametrize(("column", "categories", "values", "said"), COLUMNS, ids=lambda v: str(v)[:30])
@pytest.mark.parametrize("begin", [0, 3000])
def test_the_values_decide_what_a_column_is(
    tmp_path: Path, column: list[str], categories: Any, values: list[float | None], said: str, begin: int
) -> None:
    """Wherever in the file they come: first, or after thousands of missing ones."""
    stream = opened(tmp_path / "t.csv", csv([""] * begin + column))
    feature = stream.schema.features[0]
    assert feature.categories == categories
    right = np.array([np.nan if v is None else v - feature.base for v in values], np.float32)
    np.testing.assert_array_equal(stream.x[begin:, 0], right)
    assert said in " ".join(stream.notes)
    assert bool(stream.notes) == bool(said)


def test_a_decimal_comma_where_a_comma_parts_nothing(tmp_path: Path) -> None:
    """1,500 may be read two ways; in a file parted by semicolons it is one and a half."""
    stream = opened(tmp_path / "t.csv", "a;y\n1,500;u\n2,250;v\n")
    assert stream.x[:, 0].tolist() == [1.5, 2.25]
    assert "'1,500': read as 1.5; --decimal and --thousands read them otherwise" in " ".join(stream.notes)
    assert opened(tmp_path / "t.csv", "a;y\n1,500;u\n2,250;v\n", thousands=",").x[:, 0].tolist() == [1500, 2250]


def test_files_that_were_put_together(tmp_path: Path) -> None:
    stream = opened(tmp_path / "t.tsv", "a\ty\n1\tu\n" * 3)
    assert (stream.n_events, stream.schema.classes, stream.label) == (3, ("u",), "y")
    assert "2 rows are the header again" in " ".join(stream.notes)


def test_a_label_that_is_not_the_last_column(tmp_path: Path) -> None:
    content = "Label,a\nu,1\nv,2\n"
    assert "'Label' is a feature: --label Label takes it" in " ".join(opened(tmp_path / "t.csv", content).notes)
    assert not opened(tmp_path / "t.csv", content, label="a").notes
    assert not opened(tmp_path / "t.csv", "class,y\nu,1\nv,2\n").notes


@pytest.mark.parametrize(
    ("cells", "categories", "said"),
    [
        ([1, "2", None, 2.5], None, "numbers, and texts such as '2': all read as numbers"),
        (["2", 1, "3"], None, "all read as numbers"),
        (["1", "2", None], ("1", "2"), ""),
        ([1, "2", "red"], ("1", "2", "red"), "numbers and text such as '2'"),
    ],
)
def test_numbers_in_quotes(tmp_path: Path, cells: list[Any], categories: Any, said: str) -> None:
    """Text in a typed file is text, unless it is a number among numbers."""
    lines = "".join(json.dumps({"a": cell, "y": "u"}) + "\n" for cell in cells)
    stream = opened(tmp_path / "t.ndjson", lines)
    assert kinds(stream) == {"a": categories}
    assert said in " ".join(stream.notes)
    assert bool(said) == bool(stream.notes)


def test_examples_are_exact(tmp_path: Path) -> None:
    first = 2**53 + 1
    stream = opened(tmp_path / "t.csv", csv([str(first + i) for i in range(3)]))
    assert describe(stream)[0].examples == tuple(str(first + i) for i in range(3))


def test_text_far_down_a_column_of_numbers(tmp_path: Path) -> None:
    """A few kinds of numbers and a text are categories; many numbers and a text are a mistake, unless it is named."""
    stream = opened(tmp_path / "t.csv", csv([str(i % 5) for i in range(3000)] + ["none of these"]))
    assert kinds(stream) == {"a": ("0", "1", "2", "3", "4", "none of these")}
    assert stream.x[:6, 0].tolist() == [0, 1, 2, 3, 4, 0]
    many = csv([str(i) for i in range(3000)] + ["broken"])
    with pytest.raises(StreamMoeError, match="line 3002: 'broken' in 'a', whose other values are numbers"):
        opened(tmp_path / "t.csv", many)
    assert np.isnan(opened(tmp_path / "t.csv", many, missing=["broken"]).x[-1, 0])
    assert len(opened(tmp_path / "t.csv", many, nominal=["a"]).schema.features[0].categories or ()) == 3001


@pytest.mark.parametrize(
    ("options", "value"),
    [({"decimal": ","}, 1.234), ({"thousands": ","}, 1234), ({}, 1234), ({"nominal": ["a"]}, 0)],
)
def test_where_two_readings_are_possible_an_option_chooses(
    tmp_path: Path, options: dict[str, Any], value: float
) -> None:
    stream = opened(tmp_path / "t.csv", csv(['"1,234"', '"5,678"']), **options)
    assert stream.x[0, 0] == pytest.approx(value)


def test_numbers_that_float32_cannot_hold_are_kept_apart(tmp_path: Path) -> None:
    """Milliseconds since 1970 and long identifiers, as distances from the first."""
    first = 1_700_000_000_000
    stream = opened(tmp_path / "t.csv", csv([str(first + 7 * i) for i in range(2000)]))
    assert stream.schema.features[0].base == first
    assert stream.x[:, 0].tolist() == [7.0 * i for i in range(2000)]
    longer = opened(tmp_path / "t.csv", csv([str(90_000_000_000_000_001 + i) for i in range(2000)]))
    assert len(np.unique(longer.x)) == 2000
    mixed = opened(tmp_path / "t.csv", csv(["1", *(str(first + i) for i in range(1, 2000))]))
    assert "float32 does not keep apart" in mixed.notes[0]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(tmp_path: Path, separator: str) -> None:
    text = 'a,b;"the, label"\n1,5;u\n2,5;v\n3;u\n'.replace(";", separator)
    stream = opened(tmp_path / "t.csv", text)
    assert (kinds(stream), stream.schema.classes) == ({"a,b": None}, ("u", "v"))
    assert stream.x[:, 0].tolist() == [1.5, 2.5, 3]
    assert "its columns are parted by" in stream.notes[0]


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path: Path, encoding: str, mark: bool) -> None:
    marks = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    text = "".join(f"{i},{'uv'[i % 2]}\n" for i in range(100))
    stream = opened(tmp_path / "t.csv", marks[encoding] * mark + f"größe,y\n{text}".encode(encoding))
    assert kinds(stream) == {"größe": None} if mark or encoding == "utf-8" else stream.n_events == 100


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, zstandard.compress], ids=["gzip", "bzip2", "zstd"])
def test_packed_under_another_name(tmp_path: Path, pack: Any) -> None:
    assert opened(tmp_path / "t.csv", pack(b"a,y\n1,u\n2,v\n")).x.tolist() == [[1], [2]]


def test_what_other_programs_add(tmp_path: Path) -> None:
    index = opened(tmp_path / "t.csv", ",a,y\n0,5,u\n1,6,v\n2,7,u\n")
    assert (kinds(index), index.x.tolist()) == ({"a": None}, [[5], [6], [7]])
    assert index.notes == ("column 1 has no name and only counts the rows, or is empty: left out",)
    named = opened(tmp_path / "t.csv", "Unnamed: 0,a,y\n1,5,u\n2,6,v\n")
    assert kinds(named) == {"a": None}
    ends = opened(tmp_path / "t.csv", "a,y\n1,u,\n2,v,\n")
    assert (ends.x.tolist(), ends.notes) == (
        [[1], [2]], ("2 rows end with one separator too many: it is left out",),
    )  # fmt: skip
    void = opened(tmp_path / "t.csv", "a,b,y\n1,2,u\n,,\n3,4,v\n")
    assert (void.n_events, void.notes) == (2, ("1 rows hold nothing but separators: left out",))
    spreadsheet = opened(tmp_path / "t.csv", "sep=;\na;y\n1,5;u\n")
    assert spreadsheet.x.tolist() == [[1.5]]
    blanks = opened(tmp_path / "t.csv", 'a, "b", "y"\n1, "2", "u"\n3, "4", "v"\n')
    assert (kinds(blanks), blanks.x.tolist()) == ({"a": None, "b": None}, [[1, 2], [3, 4]])


def test_labels_are_text_and_may_be_missing(tmp_path: Path) -> None:
    codes = opened(tmp_path / "t.csv", "a,y\n1,007\n2,7\n3,1e2\n4,100\n5,NA\n6,\n")
    assert set(codes.schema.classes) == {"007", "7", "1e2", "100"}
    assert codes.y.tolist().count(-1) == 2
    assert "the label 'NA' in 'y' is taken as missing" in codes.notes
    versions = opened(tmp_path / "t.csv", "v,y\n1.1,a\n1.10,b\n1.1,a\n", nominal=["v"])
    assert kinds(versions) == {"v": ("1.1", "1.10")}


ARFF = "@relation r\n@attribute a numeric\n@attribute 'the b' {'x y','it\\'s'}\n@attribute y {u,v}\n@data\n"


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ("1.5,'x y',u", [1.5, 0, 0]),
        ("1.5,'x y',u,", [1.5, 0, 0]),
        ('1.5 "x y"\tv', [1.5, 0, 1]),
        ("1.5,'it\\'s',v,{0.5}", [1.5, 1, 1]),
        ("{0 1.5, 2 v}", [1.5, 0, 1]),
        ("{1 'it\\'s'}, {3}", [0, 1, 0]),
        ("{ }", [0, 0, 0]),
        ("?,?,v", [None, None, 1]),
    ],
)
def test_rows_of_weka_and_moa(tmp_path: Path, row: str, values: list[float | None]) -> None:
    stream = opened(tmp_path / "t.arff", f"{ARFF}{row}\n9,'x y',u\n")
    found = [*stream.x[0].tolist(), float(stream.y[0])]
    assert [None if np.isnan(v) else v for v in found] == values
    assert stream.n_events == 2


def test_headers_of_weka(tmp_path: Path) -> None:
    text = (
        "@relation r\n@attribute t date \"yyyy-MM-dd'T'HH:mm:ss\"\n@attribute d date 'dd/MM/yyyy'\n"
        "@attribute\tc { one,\n  % a comment\n  'two,\\n2' }\n@attribute s string\n@attribute y {u,v}\n@data\n"
        "'1970-01-01T00:01:00','02/01/1970',one,'A\\tB',u\n?,?,'two,\\n2','\\u00e4',v\n"
    )
    stream = opened(tmp_path / "t.arff", text)
    assert kinds(stream) == {"t": None, "d": None, "c": ("one", "two,\n2"), "s": ("A\tB", "ä")}
    assert stream.x[0].tolist() == [60, 86400, 0, 0]


def test_frames_in_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    moment = np.array(["2024-01-01T00:00:00.5", "2024-01-01T00:00:02"], "datetime64[us]")
    table = pa.table(
        {
            "a": pa.array([1, None]), "when": pa.array(moment), "text": pa.array(["x", "y"], pa.string_view()),
            "wide": pa.array(["p", "q"], pa.large_string()), "coded": pa.array(["g", "h"]).dictionary_encode(),
            "y": ["u", "v"], "__index_level_0__": [4, 9],
        }
    )  # fmt: skip
    about = json.dumps({"index_columns": ["__index_level_0__"], "columns": []}).encode()
    pq.write_table(table.replace_schema_metadata({b"pandas": about}), tmp_path / "t.parquet")
    stream = open_stream(str(tmp_path / "t.parquet"))
    assert isinstance(stream, FileStream)
    assert kinds(stream) == {"a": None, "when": None, "text": ("x", "y"), "wide": ("p", "q"), "coded": ("g", "h")}
    assert stream.x[:, 1].tolist() == [0, 1.5]
    assert len(stream.notes) == 2


@pytest.mark.parametrize("kind", ["uint64", "int64", "uint32", "float64"])
def test_large_whole_numbers_of_every_width(tmp_path: Path, kind: str) -> None:
    values = np.array([4_000_000_005, 4_000_000_000, 4_000_000_009], kind)
    np.savez(tmp_path / "t.npz", x=values[:, np.newaxis], y=np.array([0, 1, 0]))
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": values, "y": ["u", "v", "u"]}), tmp_path / "t.parquet")
    for name in ("t.npz", "t.parquet"):
        stream = open_stream(str(tmp_path / name))
        assert isinstance(stream, FileStream)
        assert stream.schema.features[0].base == 4_000_000_005
        assert stream.x[:, 0].tolist() == [0, -5, 4]


def test_a_pair_of_labels_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.array([[1.0], [2.0]]), y=np.array([-1, 1]))
    stream = open_stream(str(path))
    assert isinstance(stream, FileStream)
    assert (stream.schema.classes, stream.y.tolist()) == (("-1", "1"), [0, 1])
    np.savez(path, x=np.array([[1.0], [2.0], [3.0]]), y=np.array([-1, 1, 0]))
    assert [block.y.tolist() for block in open_stream(str(path)).blocks(9)] == [[-1, 1, 0]]


def test_columns_may_be_left_out(tmp_path: Path) -> None:
    stream = opened(tmp_path / "t.csv", "a,b,y,note\n1,2,u,hm\n3,4,v,oh\n", drop=["a", "note"])
    assert (kinds(stream), stream.schema.classes) == ({"b": None}, ("u", "v"))
    with pytest.raises(StreamMoeError, match="no column 'c'"):
        opened(tmp_path / "t.csv", "a,y\n1,u\n", drop=["c"])


def cases() -> list[dict[str, Any]]:
    folder = os.environ.get("STREAM_MOE_DATA")
    path = Path(folder).parent / "cases" / "cases.json" if folder else None
    return json.loads(path.read_text()) if path is not None and path.is_file() else []


def test_cases_that_were_read_wrongly() -> None:
    """A collection of inputs that lies beside the real data."""
    if not (found := cases()):
        pytest.skip("no cases beside STREAM_MOE_DATA, which names a directory with the real data sets")
    folder = Path(os.environ["STREAM_MOE_DATA"]).parent / "cases" / "files"
    for case in found:
        options = {"label": case.get("label"), **case.get("options", {})}
        try:
            stream = open_stream(str(folder / case["file"]), **options)
        except StreamMoeError:
            assert case.get("or_refused"), case["file"]
            continue
        assert isinstance(stream, FileStream)
        columns = {feature.name: stream.x[:, j] for j, feature in enumerate(stream.schema.features)}
        # Of the file with both kinds of quotes the collection counts one row, and it has two.
        assert stream.n_events == case.get("rows", stream.n_events) + (case["file"] == "mixedquotes.arff"), case
        assert set(stream.schema.classes) == set(case.get("classes", stream.schema.classes)), case
        for name, kind in case.get("kinds", {}).items():
            right = None if isinstance(kind, str) else sorted(kind)
            assert kinds(stream)[name] is None if right is None else sorted(kinds(stream)[name] or ()) == right, case
        for name, n in case.get("missing", {}).items():
            assert np.isnan(columns[name]).sum() == n, case
        for name, n in case.get("distinct", {}).items():
            assert len(np.unique(columns[name])) == n, case
        assert (stream.y < 0).sum() == case.get("unlabelled", (stream.y < 0).sum()), case


def test_whole_numbers_beyond_int64_in_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    numbers = pa.array([2**63 + i for i in range(4)], pa.uint64())
    pq.write_table(pa.table({"a": numbers, "y": ["u", "v"] * 2}), tmp_path / "t.parquet")
    stream = open_stream(str(tmp_path / "t.parquet"))
    assert isinstance(stream, FileStream)
    assert stream.x[:, 0].tolist() == [0, 1, 2, 3]


def test_labels_as_text_in_npz(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.ones((5, 1)), y=np.array(["v", "u", "", " v", "NA"]))
    stream = open_stream(str(path))
    assert isinstance(stream, FileStream)
    assert (stream.schema.classes, stream.y.tolist()) == (("u", "v"), [1, 0, -1, 1, -1])
    np.savez(path, X=np.ones((5, 1)), target=np.zeros(5, int))
    with pytest.raises(StreamMoeError, match=r"holds X, target; it needs arrays x \[n, d\] and y \[n\]"):
        open_stream(str(path))
    np.savez(path, x=np.ones((5, 1), object), y=np.zeros(5, int))
    with pytest.raises(StreamMoeError, match="holds objects of Python"):
        open_stream(str(path))


@pytest.mark.parametrize("ending", ["csv", "tsv", "arff"])
def test_text_that_is_not_utf_8(tmp_path: Path, ending: str) -> None:
    head = "@relation r\n@attribute city string\n@attribute y {u}\n@data\n" if ending == "arff" else "city,y\n"
    path = tmp_path / f"t.{ending}"
    stream = opened(path, (head + "Köln,u\nBonn,u\n").encode("cp1252"))
    assert kinds(stream) == {"city": ("Bonn", "Köln")}
    assert "not UTF-8 text: read as cp1252" in stream.notes[0]
    named = open_stream(str(path), encoding="cp1252")
    assert isinstance(named, FileStream)
    assert not named.notes
    assert kinds(named) == kinds(stream)
    with pytest.raises(StreamMoeError, match="not utf-8 text"):
        open_stream(str(path), encoding="utf-8")
    for unknown in ("klingon", "zlib"):
        with pytest.raises(StreamMoeError, match=f"encoding '{unknown}': Python knows none of that name"):
            open_stream(str(path), encoding=unknown)
