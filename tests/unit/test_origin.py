"""No code is taken from the folder that a process stands in, where the data of whoever wrote it may lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANTED = "import pathlib\npathlib.Path({mark!r}).write_text('taken')\n"
MODULES = ("typer", "numpy", "numba", "multiprocessing", "msgspec", "connectors", "typing_extensions", "river")
PLAN = 'streams = ["sea_a"]\nmodels = ["no-change"]\nseeds = [1]\nevents = 200\n'
POOL = """
from stream_moe.experts.executors.processes import Process

if __name__ == "__main__":
    worker = Process([])
    worker.begin("__class__", ())
    worker.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plan, and modules that leave a mark when they run."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(PLANTED.format(mark=str(tmp_path / "mark")))
    (folder / "plan.toml").write_text(PLAN)
    return folder


def python(folder: Path, *arguments: object, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = path + str(ROOT)
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def test_a_module_beside_the_data_is_not_the_library(folder: Path) -> None:
    done = python(folder, "-m", "stream_moe", "--version")
    assert done.returncode == 0, done.stderr
    assert not (folder.parent / "mark").exists()


def test_the_runs_of_an_experiment_take_nothing_from_there(folder: Path) -> None:
    done = python(folder, "-P", "-m", "stream_moe", "experiment", "plan.toml", "--out", folder.parent / "out")
    assert done.returncode == 0, done.stderr
    assert not (folder.parent / "mark").exists()


def test_processes_of_experts_take_nothing_from_there(folder: Path) -> None:
    script = folder.parent / "script.py"
    script.write_text(POOL)
    done = python(folder, script)
    assert not (folder.parent / "mark").exists(), done.stderr
    assert done.returncode == 0, done.stderr


def test_connectors_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "connectors"
    package.mkdir()
    (package / "__init__.py").write_text(PLANTED.format(mark=str(tmp_path / "mark")))
    done = python(tmp_path, "-P", "-m", "stream_moe", "--version", path=f"{tmp_path}{os.pathsep}")
    assert done.returncode == 2
    assert done.stderr.startswith("stream-moe: the package connectors is not ours: found ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mark").exists()
