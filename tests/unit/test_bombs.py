"""A small file that stands for gigabytes is refused before it takes them, with the way to allow it."""

from __future__ import annotations

import gzip
import io
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe.errors import DataError
from stream_moe.streams import allowance, open_stream

OPEN = """
import resource, sys
from stream_moe.errors import DataError
from stream_moe.streams import open_stream
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print("read", open_stream(sys.argv[1]).x.shape)
except DataError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)
"""
MEGABYTES = 1100  # of growth; each of these takes several thousand, or more, without a bound


def repeated(path: Path, head: bytes, line: bytes, times: int) -> None:
    """Write a packed file whose lines after the head are all the same: streams of it, one behind the other."""
    pack = lzma.compress if path.suffix == ".xz" else gzip.compress
    lines = 10_000_000 // len(line)
    with path.open("wb") as file:
        file.write(pack(head))
        many = pack(line * lines)
        for _ in range(-(-times // lines)):
            file.write(many)


def jsonl_xz(folder: Path) -> Path:
    path = folder / "bomb.jsonl.xz"
    repeated(path, b"", b'{"a":1,"b":"' + b"x" * 50_000 + b'","y":"n"}\n', 80_000)
    return path


def csv_gz(folder: Path) -> Path:
    path = folder / "bomb.csv.gz"
    repeated(path, b"a,b,y\n", b"1," + b"x" * 50_000 + b",n\n", 12_000)
    return path


def one_line(folder: Path) -> Path:
    path = folder / "line.csv.gz"
    repeated(path, b"a,b,y\n", b"1" * 1000, 3_000_000)
    return path


def one_row(folder: Path) -> Path:
    path = folder / "row.csv.gz"
    repeated(path, b"a,b,y\n", b'"1\n",', 60_000_000)
    return path


def wide_jsonl(folder: Path) -> Path:
    path = folder / "wide.jsonl"
    names = ",".join(f'"f{n}":1' for n in range(10_000))
    path.write_text(f'{{{names},"y":"n"}}\n' + "{}\n" * 1_000)
    return path


def sparse_arff(folder: Path) -> Path:
    path = folder / "sparse.arff"
    names = "".join(f"@attribute f{n} numeric\n" for n in range(10_000))
    path.write_text(f"@relation r\n{names}@attribute y {{n,p}}\n@data\n" + "{}\n" * 1_000)
    return path


def wide_libsvm(folder: Path) -> Path:
    path = folder / "wide.libsvm"
    path.write_text("1 256:1\n" + "0\n" * 10_000)
    return path


def npz(folder: Path) -> Path:
    path = folder / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((2_000_000, 200), np.int8), y=np.zeros(2_000_000, np.int8))
    return path


def parquet(folder: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = folder / "bomb.parquet"
    ones = pa.array(np.ones(20_000_000, np.int8))
    pq.write_table(pa.table({f"f{n}": ones for n in range(20)}), path)
    return path


BOMBS: list[Callable[[Path], Path]] = [jsonl_xz, csv_gz, npz, parquet]


def opened(path: Path) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-500:]
    said, grown = done.stdout.strip().splitlines()
    return said, int(grown)


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_a_bomb_is_refused(bomb: Callable[[Path], Path], tmp_path: Path) -> None:
    path = bomb(tmp_path)
    assert path.stat().st_size < 3_000_000
    said, grown = opened(path)
    assert "--unpacked MB" in said
    assert "more than 256 MiB" in said
    assert grown < MEGABYTES


@pytest.mark.parametrize("bomb", [one_line, one_row], ids=lambda bomb: bomb.__name__)
def test_a_row_without_end_is_refused(bomb: Callable[[Path], Path], tmp_path: Path) -> None:
    said, grown = opened(bomb(tmp_path))
    assert "a row of more than 16,777,216 characters" in said
    assert grown < MEGABYTES


def test_a_long_text_that_comes_often_is_held_once(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    codes = pa.array(np.zeros(60_000, np.int32))
    column = pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 1_000_000]))
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"a": column, "b": np.arange(60_000), "y": pa.array(["n", "p"] * 30_000)}), path)
    said, grown = opened(path)
    assert said == "read (60000, 2)"
    assert grown < MEGABYTES


def entry(shape: str, content: bytes) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize("shape", ["(1099511627776, 8)", "(4611686018427387904, 4)", "(-1, 8)", "(2, 3)"])
def test_an_array_is_not_larger_than_its_bytes(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "claim.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", entry(shape, bytes(8)))
        labels = io.BytesIO()
        np.save(labels, np.zeros(2, np.int32))
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(DataError, match=r"not a readable \.npz archive"):
        open_stream(str(path))


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "FREE", 1 << 20)
    monkeypatch.setattr(allowance, "TIMES", 1)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("sparse", [wide_jsonl, sparse_arff, wide_libsvm], ids=lambda sparse: sparse.__name__)
def test_rows_that_stand_for_many_values_are_counted(sparse: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="becomes a table of more than 1 MiB"):
        open_stream(str(sparse(tmp_path)))


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.xz", "arff", "npz"])
def test_what_is_allowed_is_read(kind: str, tmp_path: Path) -> None:
    path, n = tmp_path / f"fine.{kind}", 300_000
    if kind == "csv.gz":
        repeated(path, b"a,y\n", b"1,n\n", n)
    elif kind == "jsonl.xz":
        repeated(path, b"", b'{"a":1,"y":"n"}\n', n)
    elif kind == "arff":
        path.write_text("@relation r\n@attribute a numeric\n@attribute y {n,p}\n@data\n" + "{}\n" * n)
    else:
        np.savez_compressed(path, x=np.zeros((n, 1), np.float32), y=np.zeros(n, np.int32))
    with pytest.raises(DataError, match="if it may, allow it: --unpacked MB"):
        open_stream(str(path))
    assert len(next(open_stream(str(path), unpacked=100).blocks(10 * n))) >= n


def test_what_is_not_packed_may_be_as_large_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "FREE", 1 << 10)
    monkeypatch.setattr(allowance, "MOST", 1 << 12)
    path: Any = tmp_path / "plain.csv"
    path.write_text("a,y\n" + "1,n\n" * 10_000)
    assert open_stream(str(path)).n_events == 10_000
