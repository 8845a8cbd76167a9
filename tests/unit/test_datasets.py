"""Named data sets: found, downloaded and held against the registry. Downloads are river's and scikit-learn's own,
from a file server on this machine in place of the public ones.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import river.datasets
import sklearn.datasets._covtype
import sklearn.datasets._openml
from typer.testing import CliRunner

from stream_moe.cli import app
from stream_moe.errors import DataError
from stream_moe.streams import open_stream
from stream_moe.streams.datasets import cached, checksum, whereabouts
from stream_moe.streams.files import FileStream, read_file
from stream_moe.streams.registry import DATA_SETS

GRADUAL = "insects_gradual_balanced"
WEATHER = "temperature,rain,class\n1,2,dry\n3,4,rain\n5,6,dry\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache, a data directory and a river of this test's own."""
    for variable, folder in (
        ("XDG_CACHE_HOME", "cache"), ("STREAM_MOE_DATA", "data"), ("RIVER_DATA", "river"),
    ):  # fmt: skip
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / folder))
    return tmp_path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in tmp_path / "www"."""
    (tmp_path / "www").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as http:
        thread = Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a data set of the registry other facts, those of a small file."""
    return lambda name, **facts: monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], **facts))


def fails(name: str) -> str:
    with pytest.raises(DataError) as caught:
        open_stream(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def insects(path: Path, monkeypatch: pytest.MonkeyPatch, server: str, size: int | None = None) -> str:
    """Put a small file of river's INSECTS on the server, and have river expect it (or `size` bytes)."""
    rows = ["\n".join(",".join([*(f"{i}.{j}" for j in range(33)), f"species-{i % 6}"]) for i in range(30)), ""]
    (path / "www" / "insects.csv").write_text("\n".join(rows))
    size = size or (path / "www" / "insects.csv").stat().st_size
    config = {"n_samples": 30, "size": size, "url": f"{server}/insects.csv", "filename": "gradual_balanced.csv"}
    monkeypatch.setitem(river.datasets.Insects.variant_configs, "gradual_balanced", config)
    return rows[0]


def openml_at(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have scikit-learn ask this server in place of OpenML."""
    for name in ("_DATA_INFO", "_DATA_FEATURES", "_DATA_QUALITIES"):
        url = getattr(sklearn.datasets._openml, name)
        monkeypatch.setattr(sklearn.datasets._openml, name, re.sub("https://[^/]*", server, url))


def test_a_set_in_the_data_directory_is_found_and_held_against_the_registry(
    places: Path, known: Callable[..., None]
) -> None:
    (places / "data" / "weather.csv").write_text(WEATHER)
    said = fails("weather")
    assert "weather.csv: holds 3 events x 2 features, 2 classes, where weather has 18,159 events x 8" in said
    assert said.endswith("get it again, or open the file by its path")
    right = checksum(read_file(places / "data" / "weather.csv"))
    known("weather", events=3, features=2, classes=2, sha256=right)
    assert open_stream("weather").n_events == 3
    (places / "data" / "weather.csv").write_text(WEATHER.replace("5,6", "5,7"))
    assert re.search(r"weather\.csv: not the weather known here \(SHA-256 .* get it again", fails("weather"))
    assert open_stream("weather", label="rain").n_events == 3  # another table


def test_a_set_that_is_nowhere_says_how_to_get_it(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "weather: not here, and no loader has it; put weather.csv.xz (or .csv.gz, " in fails("weather")
    assert f"in STREAM_MOE_DATA={places / 'data'}" in fails("weather")
    monkeypatch.delenv("STREAM_MOE_DATA")
    assert "in a directory that STREAM_MOE_DATA names; it is NOAA" in fails("weather")


def test_river_downloads_once(
    places: Path, server: str, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    insects(places, monkeypatch, server)
    known(GRADUAL, events=30)
    first = open_stream(GRADUAL)
    assert isinstance(first, FileStream)
    assert (first.n_events, first.schema.n_features) == (30, 33)
    assert first.schema.classes == tuple(f"species-{i}" for i in range(6))
    assert first.x[7, 3] == np.float32(7.3)
    assert cached(DATA_SETS[GRADUAL]).parent == places / "cache" / "stream_moe" / "data"
    monkeypatch.setitem(river.datasets.Insects.variant_configs, "gradual_balanced", {})  # no more asked for it
    again = open_stream(GRADUAL)
    assert isinstance(again, FileStream)
    assert (again.schema, checksum(again)) == (first.schema, checksum(first))


def test_a_download_cut_off_is_refused_and_tried_again(
    places: Path, server: str, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known(GRADUAL, events=30)
    insects(places, monkeypatch, server, size=14_151_769)
    assert "its download failed (what came is not the 14,151,769 bytes that river expects)" in fails(GRADUAL)
    insects(places, monkeypatch, server)
    assert open_stream(GRADUAL).n_events == 30


def test_a_download_of_another_shape_or_checksum_is_refused_and_not_kept(
    places: Path, server: str, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    insects(places, monkeypatch, server)
    assert "as river gave it: holds 30 events x 33 features, 6 classes, where" in fails(GRADUAL)
    known(GRADUAL, events=30, sha256="0" * 64)
    assert f"{GRADUAL}, as river gave it: not the {GRADUAL} known here" in fails(GRADUAL)
    assert not cached(DATA_SETS[GRADUAL]).exists()


@pytest.mark.parametrize("name", [GRADUAL, "covtype", "airlines"])
def test_without_a_network_one_line_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "http://127.0.0.1:9"
    config = river.datasets.Insects.variant_configs["gradual_balanced"] | {"url": nobody}
    monkeypatch.setitem(river.datasets.Insects.variant_configs, "gradual_balanced", config)
    archive = sklearn.datasets._covtype.ARCHIVE
    monkeypatch.setattr(sklearn.datasets._covtype, "ARCHIVE", archive._replace(url=nobody))
    openml_at(nobody, monkeypatch)
    said = fails(name)
    assert f"{name}: not here, and its download failed (" in said
    assert "refused" in said
    assert f"put {name}.csv.xz" in said


def test_a_loader_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "its download needs sklearn" in fails("covtype")
    assert "install stream-moe[datasets]" in fails("covtype")


def covtype(path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> str:
    """Put a small covtype on the server and have scikit-learn expect it; return its bytes' SHA-256."""
    content = gzip.compress(
        "".join(",".join([*["5"] * 53, str(i), str(i % 7 + 1)]) + "\n" for i in range(21)).encode()
    )
    (path / "www" / "covtype.data.gz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    archive = sklearn.datasets._covtype.ARCHIVE
    new = archive._replace(url=f"{server}/covtype.data.gz", checksum=digest)
    monkeypatch.setattr(sklearn.datasets._covtype, "ARCHIVE", new)
    return digest


def test_sklearn_downloads_covtype(
    places: Path, server: str, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    covtype(places, monkeypatch, server)
    known("covtype", events=21, sha256=None)
    stream = open_stream("covtype")
    assert isinstance(stream, FileStream)
    assert stream.schema.classes == tuple("1234567")
    assert stream.schema.features[0].name == "Elevation"
    assert stream.x[:, 53].tolist() == list(range(21))
    assert stream.y.tolist() == [i % 7 for i in range(21)]


def test_a_wrong_checksum_of_an_archive_is_one_line(
    places: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = covtype(places, monkeypatch, server)
    damaged = (places / "www" / "covtype.data.gz").read_bytes()[:-9] + b"\x00" * 9
    (places / "www" / "covtype.data.gz").write_bytes(damaged)
    said = fails("covtype")
    assert "its download failed" in said
    assert re.search(f"checksum of covtype.data.gz .* differs from expected .{digest}", said)


def test_openml_gives_airlines_with_its_categories(
    places: Path, server: str, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenML's answers for one small data set, as files."""
    api = places / "www" / "api" / "v1" / "json" / "data"
    for folder in ("features", "qualities"):
        (api / folder).mkdir(parents=True)
    arff = "@relation a\n@attribute Airline {UA,AA}\n@attribute Time numeric\n@attribute Delay {0,1}\n@data\n"
    arff += "UA,10,1\nAA,20,0\nUA,?,1\n"
    (places / "www" / "airlines.arff").write_text(arff)
    description = {
        "id": "1169", "name": "airlines", "description": "small",
        "version": "1", "format": "ARFF", "status": "active", "file_id": "1",
        "url": f"{server}/airlines.arff", "default_target_attribute": "Delay",
        "md5_checksum": hashlib.md5(arff.encode(), usedforsecurity=False).hexdigest(),
    }  # fmt: skip
    kinds = {"Airline": "nominal", "Time": "numeric", "Delay": "nominal"}
    features = [
        {"index": str(i), "name": name, "data_type": kind, "is_target": str(name == "Delay").lower(),
         "is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
        for i, (name, kind) in enumerate(kinds.items())
    ]  # fmt: skip
    (api / "1169").write_text(json.dumps({"data_set_description": description}))
    (api / "features" / "1169").write_text(json.dumps({"data_features": {"feature": features}}))
    (api / "qualities" / "1169").write_text(json.dumps({"data_qualities": {"quality": []}}))
    openml_at(server, monkeypatch)
    known("airlines", events=3, features=2)
    stream = open_stream("airlines")
    assert isinstance(stream, FileStream)
    assert [(f.name, f.categories) for f in stream.schema.features] == [("Airline", ("AA", "UA")), ("Time", None)]
    np.testing.assert_array_equal(stream.x, np.array([[1, 10], [0, 20], [1, np.nan]], np.float32))
    assert (stream.schema.classes, stream.y.tolist()) == (("0", "1"), [1, 0, 1])


@pytest.mark.parametrize("name", ["phishing", "bananas", "segments"])
def test_data_inside_river_needs_no_network_and_has_its_checksum(name: str) -> None:
    assert DATA_SETS[name].sha256 is not None
    assert whereabouts(DATA_SETS[name]) == "comes with river"
    assert open_stream(name).n_events == DATA_SETS[name].events
    assert whereabouts(DATA_SETS[name]) == f"found at {cached(DATA_SETS[name])}"


def test_a_data_set_read_from_the_command_line_is_the_one_that_is_known() -> None:
    """Options that are not given are empty lists there: the set is then held against the registry as anywhere."""
    stream = open_stream("phishing", nominal=[], drop=[], missing=[])
    assert (stream.n_events, stream.schema.n_features) == (1250, 9)
    with pytest.raises(DataError, match="comes with its labels"):
        open_stream("phishing", drop=["x"])


def test_what_ships_has_its_checksum() -> None:
    for name in ("electricity", "electricity8"):
        stream = open_stream(name)
        assert isinstance(stream, FileStream)
        assert checksum(stream) == DATA_SETS[name].sha256


def test_the_command_lists_them(places: Path) -> None:
    (places / "data" / "airlines.arff").write_text("")
    result = CliRunner().invoke(app, ["datasets", "--json", str(places / "list.json")])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads((places / "list.json").read_text())["streams"]}
    where = {name: row["where"] for name, row in rows.items()}
    assert (where["led_g"], where["electricity"]) == ("generated", "shipped")
    assert where["airlines"] == f"found at {places / 'data' / 'airlines.arff'}"
    assert where["covtype"] == "can be downloaded (scikit-learn)"
    assert where[GRADUAL] == "can be downloaded (river)"
    assert where["flights"].startswith("not here: put flights.csv where STREAM_MOE_DATA points (nycflights13")
    assert rows["covtype"] | {"where": ""} == {
        "name": "covtype", "events": 581_012, "features": 54, "classes": 7, "licence": "CC BY 4.0", "where": "",
    }  # fmt: skip
    [line] = [line for line in result.output.splitlines() if line.startswith("covtype")]
    assert line.split() == ["covtype", "581,012", "54", "7", "CC", "BY", "4.0", *where["covtype"].split()]
