"""Generated and named streams: what `open_stream` promises of every one of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stream_moe.errors import ConfigError, DataError
from stream_moe.streams import GENERATED, benchmark_names, export_npz, open_stream
from stream_moe.streams.java_random import doubles, next_gaussian, next_int, seeded
from stream_moe.streams.specs import DRIFTS_OF_MOA
from stream_moe.types import Float32, Int32

ALL_GENERATED = [*GENERATED, *DRIFTS_OF_MOA]
SHAPES = {
    "led": (24, 10), "sea": (3, 2), "rbf": (10, 2), "agr": (9, 2), "hyp": (10, 2), "tre": (10, 2), "sin": (4, 2),
    "mix": (4, 2), "sta": (3, 2),
}  # fmt: skip


def take(name: str, rows: int, events: int, seed: int = 1) -> tuple[Float32, Int32]:
    """Return the first events, collected from blocks of `rows`."""
    blocks = list(itertools.islice(open_stream(name, seed=seed).blocks(rows), -(-events // rows)))
    x, y = np.concatenate([b.x for b in blocks]), np.concatenate([b.y for b in blocks])
    return x[:events], y[:events]


def test_java_random_gives_the_documented_sequences() -> None:
    """The first draws of `new Random(42)`, as any JDK prints them."""
    state = seeded(42)
    assert [int(next_int(state, 0, 10)) for _ in range(6)] == [0, 3, 8, 4, 0, 5]
    assert doubles(seeded(42), 2).tolist() == [0.7275636800328681, 0.6832234717598454]
    state, spare = seeded(42), np.full(1, np.nan)
    drawn = [next_gaussian(state, 0, spare) for _ in range(2)]
    assert drawn == pytest.approx([1.1419053154730547, 0.9194079489827879], rel=1e-15)


@pytest.mark.parametrize("name", ALL_GENERATED)
def test_events_do_not_depend_on_the_block_size(name: str) -> None:
    x, y = take(name, 3000, 3000)
    for rows in (1, 7, 256, 1000):
        other_x, other_y = take(name, rows, 3000)
        np.testing.assert_array_equal(other_x, x)
        np.testing.assert_array_equal(other_y, y)


@pytest.mark.parametrize("name", ["led_a", "sea_g", "sea_g_moa"])
def test_events_do_not_depend_on_the_block_size_in_a_drift(name: str) -> None:
    x, y = take(name, 251_000, 251_000)
    other_x, other_y = take(name, 777, 251_000)
    np.testing.assert_array_equal(other_x, x)
    np.testing.assert_array_equal(other_y, y)


@pytest.mark.parametrize("name", ALL_GENERATED)
def test_blocks_start_anew_and_seeds_differ(name: str) -> None:
    stream = open_stream(name, seed=3)
    one, two, other = next(stream.blocks(500)), next(stream.blocks(500)), take(name, 500, 500, seed=4)
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
    assert not np.array_equal(one.x, other[0])


@pytest.mark.parametrize("name", ALL_GENERATED)
def test_blocks_fit_the_schema(name: str) -> None:
    stream = open_stream(name)
    d, classes = SHAPES[name[:3]]
    classes = 5 if name.endswith("5") else classes
    assert (stream.name, stream.n_events) == (name, None)
    assert (stream.schema.n_features, stream.schema.n_classes) == (d, classes)
    block = next(stream.blocks(2000))
    assert block.x.shape == (2000, d)
    assert block.x.dtype == np.float32
    assert block.x.flags.c_contiguous
    assert block.y.dtype == np.int32
    assert np.isfinite(block.x).all()
    assert set(block.y.tolist()) == set(range(classes))
    for j, count in enumerate(stream.schema.n_categories):
        if count:
            assert set(block.x[:, j].tolist()) <= set(range(count))


@pytest.mark.parametrize(
    ("name", "rate"), [("led_a", 0.74), ("sea_g_moa", 0.9), ("rbf_f", None), ("electricity", None)]
)
def test_a_stream_tells_the_bayes_rate_where_it_is_known(name: str, rate: float | None) -> None:
    known = open_stream(name).bayes_accuracy
    assert known == (None if rate is None else pytest.approx(rate, abs=1e-4))


def test_led_is_nominal() -> None:
    schema = open_stream("led").schema
    assert {feature.categories for feature in schema.features} == {("0", "1")}
    assert schema.classes == tuple("0123456789")


@pytest.mark.parametrize("name", ["sea", "electricity"])
def test_blocks_need_a_row(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        open_stream(name).blocks(0)


def test_electricity_comes_with_the_package() -> None:
    stream, wide = open_stream("electricity"), open_stream("electricity8")
    assert (stream.n_events, stream.schema.n_features, stream.schema.classes) == (45_312, 6, ("DOWN", "UP"))
    assert [feature.name for feature in wide.schema.features][:3] == ["date", "day", "period"]
    [block], [all_columns] = stream.blocks(100_000), wide.blocks(100_000)
    np.testing.assert_array_equal(all_columns.x[:, 2:], block.x)
    assert np.bincount(block.y).tolist() == [26_075, 19_237]
    assert block.x[0].tolist() == pytest.approx([0.0, 0.056443, 0.439155, 0.003467, 0.422915, 0.414912])


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(ConfigError, match="did you mean 'covtype'"):
        open_stream("covtyp")
    with pytest.raises(ConfigError, match="led_g"):
        open_stream("nothing-like-it")


def test_a_generated_stream_takes_no_label() -> None:
    with pytest.raises(ConfigError, match="leave them out"):
        open_stream("led", label="class")


def test_a_named_set_is_found_and_knows_its_nominal_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "flights.csv").write_text("carrier,day_of_week,length,class\nUA,2,10,late\nAA,10,20,on_time\n")
    monkeypatch.setenv("STREAM_MOE_DATA", str(tmp_path))
    schema = open_stream("flights", label="class").schema
    assert [feature.categories for feature in schema.features] == [("AA", "UA"), ("2", "10"), None]


def test_names_are_unique() -> None:
    assert len(set(benchmark_names())) == len(benchmark_names())


def test_importing_streams_loads_nothing_heavy() -> None:
    heavy = "{'numba', 'pyarrow', 'river', 'sklearn'}"
    code = f"import sys, stream_moe.streams; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_export_comes_back_with_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "led.npz"
    assert export_npz(open_stream("led_g", seed=5), 1000, path) == 1000
    stream, (x, y) = open_stream(str(path)), take("led_g", 1000, 1000, seed=5)
    assert stream.schema == open_stream("led_g").schema
    [block] = stream.blocks(1000)
    np.testing.assert_array_equal(block.x, x)
    np.testing.assert_array_equal(block.y, y)
    assert [entry.name for entry in tmp_path.iterdir()] == ["led.npz"]
    with np.load(path, allow_pickle=False) as arrays:
        assert (arrays["x"].dtype, arrays["y"].dtype) == (np.float32, np.int32)


def test_export_of_a_finite_stream_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,class\n1,x\n2,y\n3,x\n")
    assert export_npz(open_stream(str(path)), 1000, tmp_path / "table.npz") == 3


@pytest.mark.parametrize("events", [0, -1])
def test_export_needs_an_event(tmp_path: Path, events: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        export_npz(open_stream("sea"), events, tmp_path / "sea.npz")


def test_export_names_a_path_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.npz"):
        export_npz(open_stream("sea"), 10, tmp_path / "sea.npy")
    with pytest.raises(DataError, match="cannot be written"):
        export_npz(open_stream("sea"), 10, tmp_path / "nowhere" / "sea.npz")
