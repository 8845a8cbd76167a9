"""Experiments: refused before they run, killed and resumed, on a full disk, and what their table says."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stream_moe.errors import ConfigError
from stream_moe.evaluation.comparison import cells, friedman_ranks
from stream_moe.experiments.plan import Run, load, shipped
from stream_moe.experiments.runner import make_runs
from stream_moe.experiments.store import RunStore, StoreFullError, read_result
from stream_moe.experiments.table import summary

CLI = [sys.executable, "-m", "stream_moe"]
GRID = """
streams = ["sea_a", "airlines"]
models = ["no-change"]
seeds = [1, 2]
events = 2000
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sedes = [1]", "unknown key 'sedes'"),
        ("seeds = [1, 2, 1]", "seeds: 1 is there twice"),
        ("seeds = ['1']", "seeds[0] = '1': give a whole number"),
        ("seeds = []", "seeds"),
        ("events = 1.5", "events"),
        ("folds = 1", "folds"),
        ("label_delay = [0, -1]", "label_delay"),
        ("settings = [{top_k = 2}, {top_k = [1, 2]}]", "settings: top_k=2 is there twice; leave one out"),
        ("settings = {top_k = 2}", "give a list"),
        ("settings = [{top_q = 2}]", "no setting 'top_q'"),
        ("settings = [{top_k = 99}]", "top_k 99"),
        ("published = {sea_b = {x = 1}}", "published.sea_b"),
        ("settings = [{top_k = [1, 2, 3], n_experts = [" + "6, " * 9999 + "]}]", "29,997 runs"),
        ("seeds = [1", "not TOML"),
        ("name = '../up'", "name"),
    ],
)
def test_a_mistake_in_the_file_is_told_before_anything_runs(line: str, said: str, tmp_path: Path) -> None:
    text = f'streams = ["sea_a"]\nmodels = ["driftmoe-data"]\n{"" if "events" in line else "events = 100"}\n{line}\n'
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path / "x.toml", text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"streams": ["sea_q"]}, "sea_q"),
        ({"streams": ["no/such/file.csv"]}, "no/such/file.csv"),
        ({"streams": ["sea_a", "sea_a"]}, "there twice"),
        ({"models": ["forest"]}, "forest"),
        ({"events": 0}, "events"),
        ({"seeds": [-1]}, "seeds"),
    ],
)
def test_an_unknown_name_is_told_before_anything_runs(replaced: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load(written(tmp_path / "x.toml", GRID), **replaced)  # type: ignore[arg-type]
    endless = 'streams = ["sea_a"]\nmodels = ["no-change"]\n'
    with pytest.raises(ConfigError, match="endless"):
        load(written(tmp_path / "x.toml", endless))


def test_the_shipped_experiments_are_what_they_say() -> None:
    runs = {name: load(name).runs() for name in shipped()}
    assert len(runs["paper-table"]) == 9 * 2 * 10
    ablation = {tuple(int(value) for _, value in run.settings) for run in runs["ablation"]}
    assert ablation == {(e, k) for e in (6, 8, 10, 12, 15, 20) for k in range(1, 7) if k <= e / 2}
    assert {run.label_delay for run in runs["label-delay"]} == {0, 1000}
    assert {run.folds for run in runs["cross-validation"]} == {10}
    assert {"driftmoe", "driftmoe-data"} < {run.model for run in runs["ours"]}


def test_all_that_defines_a_run_is_in_its_key() -> None:
    base = {"stream": "s", "model": "m", "settings": (), "seed": 1, "events": None, "label_delay": 0, "folds": None}
    other = {
        "stream": "t",
        "model": "n",
        "settings": (("a", "1"),),
        "seed": 2,
        "events": 9,
        "label_delay": 1,
        "folds": 2,
    }
    keys = [Run(**base).key, *(Run(**base | {name: value}).key for name, value in other.items())]  # type: ignore[arg-type]
    assert len(set(keys)) == len(keys)
    assert Run(**base).key == keys[0]  # type: ignore[arg-type]


def children() -> list[str]:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in found if "stream_moe.cli.child" in line and "--events 2003" in line]


def test_a_grid_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 after the first runs; the second start makes the rest, and notes the stream that is not here."""
    grid, out = written(tmp_path / "grid.toml", GRID.replace("2000", "2003")), tmp_path / "out"
    command = [*CLI, "experiment", grid, "--jobs", "2", "--out", str(out)]
    environment = {key: value for key, value in os.environ.items() if key != "STREAM_MOE_DATA"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (early := list(out.glob("runs/*.json"))):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = {path: (path.stat().st_mtime_ns, read_result(path)["state_digest"]) for path in early}
    while children():
        assert time.monotonic() < deadline, "the runs of a dead parent go on"
        time.sleep(0.01)

    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert "2 runs failed: airlines" in second.stderr
    assert "4 runs, 0 of them" not in second.stdout
    for path, (made, digest) in before.items():
        assert (path.stat().st_mtime_ns, read_result(path)["state_digest"]) == (made, digest)
    rows = list(csv.DictReader((out / "results.csv").open()))
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows].count("done") == 2
    assert [(row["stream"], row["model"], row["seed"]) for row in rows] == [
        (line["stream"], line["model"], str(line["seed"])) for line in lines
    ]
    assert len({row["key"] for row in rows}) == 4
    assert all("airlines" in row["reason"] for row in rows if row["status"] == "failed")
    assert not list(out.glob("**/*.part"))


def test_runs_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    run = Run("sea_a", "no-change", (), 1, 100, 0, None)
    first, second = RunStore(tmp_path), RunStore(tmp_path)
    first.add(run, {"accuracy": 0.5, "model": "no-change", "stream": "sea_a", "events": 100})

    def nothing(outcome: object) -> None:
        pytest.fail(f"made again: {outcome}")

    found = make_runs([run], second, 1, nothing)[run].result
    assert found is not None
    assert found["accuracy"] == 0.5
    with first.lock(), pytest.raises(ConfigError, match="another experiment"), second.lock():
        pass


def test_the_table_is_the_same_before_and_after_a_restart(tmp_path: Path) -> None:
    """Settings are told apart in runs just made, too: they are no seeds."""
    runs = [Run("sea_a", "softmax", (("learning_rate", rate),), 1, 600, 0, None) for rate in ("0.1", "0.001")]
    tables = []
    for _ in range(2):
        outcomes = make_runs(runs, RunStore(tmp_path), 2, lambda _: None)
        results = [found for run in runs if (found := outcomes[run].result) is not None]
        tables.append([(cell.variant, cell.scores) for cell in cells(results)])
    assert [variant for variant, _ in tables[0]] == ["learning_rate=0.1", "learning_rate=0.001"]
    assert tables[0] == tables[1]


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path) -> None:
    """On a file system of 64 kB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        store, result = RunStore(tmp_path), {"model": "m", "stream": "s", "events": 9, "accuracy": 0.5}
        result |= {"timeline": "x" * 20_000}
        runs = [Run("s", "m", (), seed, None, 0, None) for seed in range(5)]
        for run in runs[:3]:
            store.add(run, result)
        with pytest.raises(StoreFullError, match="No space left on device; the runs finished before are kept"):
            store.add(runs[3], result)
        kept = [run for run in runs if RunStore(tmp_path).find(run)]
        assert kept == runs[:3]
        assert sorted(path.stem for path in tmp_path.glob("runs/*")) == sorted(run.key for run in kept)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_tensorboard_logs_hold_the_timeline(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from stream_moe.experiments.tensorboard import write_logs

    names = ("accuracy", "kappa", "kappa_majority", "kappa_temporal", "accuracy_since_start", "drift_count")
    timeline = {"events": [500, 1000], **{name: [None, 0.5] for name in names}, "experts": {"share": [[0.25], [1.0]]}}
    result = {"stream": "a/b", "model": "m", "seed": 1, "key": "k", "timeline": timeline}
    write_logs(tmp_path, [result, {key: value for key, value in result.items() if key != "timeline"}])
    (folder,) = tmp_path.iterdir()
    assert folder.name == "a_b m seed 1 k"
    log = event_accumulator.EventAccumulator(str(folder)).Reload()
    assert [(each.step, each.value) for each in log.Scalars("mixture/accuracy")] == [(1000, 0.5)]
    assert [(each.step, each.value) for each in log.Scalars("expert share/00")] == [(500, 0.25), (1000, 1.0)]


def test_the_table_has_intervals_and_published_figures() -> None:
    one = {"stream": "sea_a", "model": "m", "events": 9, "cpu_seconds": 1.0}
    text = summary(
        [one | {"seed": s, "accuracy": a} for s, a in ((1, 0.88), (2, 0.90))], {"sea_a": {"m": 89.5, "b": 90}}
    )
    assert text.splitlines()[1].split() == ["sea_a", "m", "2", "9", "89.00", "12.71", "89.50", "-0.50", "1.0"]
    assert text.splitlines()[2].split() == ["b", "90.00"]
    late = summary([one | {"accuracy": 0.88, "label_delay": 500}], {"sea_a": {"m": 89.5}})
    assert "delay 500" in late  # another task than the published figure's, which is left out
    assert "89.5" not in late
    (folds,) = cells([one | {"accuracy": 0.9, "folds": 10, "intervals": {"accuracy": {"low": 0.89, "high": 0.91}}}])
    assert folds.variant == "10 folds"
    assert folds.half_width == pytest.approx(0.01)


def test_ranks_are_those_of_demsar() -> None:
    """Table 6 of the paper: the ranks of its four classifiers over 14 data sets (one tie broken as there)."""
    scores = np.array([
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ])  # fmt: skip
    names = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
    found = friedman_ranks({str(n): dict(zip(names, row, strict=True)) for n, row in enumerate(scores.tolist())})
    assert found is not None
    assert dict(zip(found.models, found.ranks, strict=True)) == pytest.approx(
        {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=0.001
    )
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.p_value < 0.05
    assert found.groups == [(0, 3)]  # as the paper finds: Nemenyi's test at 5 % tells none of them apart
