"""Experts in actors of a real Ray cluster, and experiments spread over it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream_moe.errors import ConfigError
from stream_moe.experts.executors.cluster import check_installed, connect

CLI = [sys.executable, "-m", "stream_moe"]
GRID = 'streams = ["sea_a"]\nmodels = ["no-change"]\nseeds = [1, 2, 3]\nevents = 2005\n'


def elsewhere(check: str, cluster: dict[str, str]) -> None:
    """Make a check of `tests.laws.executors` in a process that joins the cluster."""
    code = f"from tests.laws.executors import *\n{check}"
    done = subprocess.run([sys.executable, "-c", code], env=cluster, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "sizes"), [("driftmoe", (7, 256, 10_000)), ("driftmoe-task", (1, 256))])
def test_actors_change_nothing(name: str, sizes: tuple[int, ...], cluster: dict[str, str]) -> None:
    elsewhere(f"assert_same_bits('ray', {name!r}, {sizes}, 450)", cluster)


def test_growth_reaches_the_actors(cluster: dict[str, str]) -> None:
    elsewhere("assert_growth_is_the_same('ray', 'driftmoe-data')", cluster)


def experiment(folder: Path, *options: str) -> list[str]:
    (folder / "grid.toml").write_text(GRID)
    return [*CLI, "experiment", str(folder / "grid.toml"), "--out", str(folder / "out"), *options]


def digests(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]
    return {row["key"]: row["state_digest"] for row in rows if row["status"] == "done"}


def test_a_grid_on_the_cluster_is_resumed_and_equals_one_made_here(cluster: dict[str, str], tmp_path: Path) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    command = experiment(far, "--executor", "ray", "--jobs", "2")
    first = subprocess.Popen(command, env=cluster, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not (early := list(far.glob("out/runs/*.json"))):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    made = {path: path.stat().st_mtime_ns for path in early}
    while "--events 2005" in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < deadline, "the runs of a dead driver go on"
        time.sleep(0.05)
    second = subprocess.run(command, env=cluster, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "3 runs, 0 of them" not in second.stdout
    assert {path: path.stat().st_mtime_ns for path in early} == made
    subprocess.run(experiment(near), check=True, capture_output=True)
    assert digests(far) == digests(near)
    assert len(digests(near)) == 3


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_a_cluster_that_is_not_there_is_one_line(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    environment = {**os.environ, "RAY_ADDRESS": address, "RAY_TMPDIR": str(tmp_path)}
    done = subprocess.run(
        experiment(tmp_path, "--executor", "ray"), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "no Ray cluster" in done.stderr
    assert "RAY_ADDRESS" in done.stderr


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for ask in (check_installed, connect):
        with pytest.raises(ConfigError, match=r"pip install 'stream-moe\[ray\]'"):
            ask()
