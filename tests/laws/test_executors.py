"""Experts in processes learn what they learn in threads, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe.errors import CheckpointError, ConfigError, ExecutorError
from stream_moe.experts.executors import check_executor, sharded
from tests.laws.cases import SCHEMA, mixed_stream, run
from tests.laws.executors import MODELS, assert_growth_is_the_same, assert_same_bits, at, stop


@pytest.mark.parametrize("name", MODELS)
def test_processes_change_nothing(name: str) -> None:
    assert_same_bits("processes", name, (1, 7, 256, 10_000), 700)
    assert not [child for child in active_children() if child.name == "experts"]


def test_growth_reaches_the_processes() -> None:
    assert_growth_is_the_same("processes", "driftmoe-task")


def test_the_journal_is_bounded_and_what_is_behind_it_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "JOURNAL_BYTES", 10_000)
    x, y = mixed_stream(600)
    here, there = at("threads", "driftmoe-data"), at("processes", "driftmoe-data")
    pool = there.pool
    try:
        run(here, x, y, 64)
        barriers = [id(pool._barrier)]
        for start in range(0, 600, 48):
            there.step(x[start : start + 48], y[start : start + 48])
            barriers.append(id(pool._barrier))
            assert pool._bytes <= pool._limit
        assert len(set(barriers)) > 2
        os.kill(pool.workers[1].pid, signal.SIGKILL)
        assert there.digest == here.digest
    finally:
        stop(there)


def test_an_interrupted_run_leaves_no_answer_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = mixed_stream(200)
    here, there = at("threads", "driftmoe-data"), at("processes", "driftmoe-data")
    try:
        for model in (here, there):
            model.step(x[:100], y[:100])
        with monkeypatch.context() as patch:
            patch.setattr(type(there.pool), "_gathered", lambda *_: pytest.fail("not asked"))
            patch.setattr(type(there.pool.workers[1]), "finish", interrupted)
            with pytest.raises(KeyboardInterrupt):
                there.pool.predict(x)
        assert np.array_equal(there.predict_proba_many(x[:50]), here.predict_proba_many(x[:50]))
        assert there.digest == here.digest
    finally:
        stop(there)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_shard_that_dies_of_its_work_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = mixed_stream(100)
    model = at("processes", "driftmoe-data")
    begin = type(model.pool.workers[0]).begin

    def fatal(worker: Any, method: str, arguments: Any) -> None:
        if method == "step_shared":
            os.kill(worker.pid, signal.SIGKILL)
        begin(worker, method, arguments)

    monkeypatch.setattr(type(model.pool.workers[0]), "begin", fatal)
    try:
        with pytest.raises(
            ExecutorError, match=r"^executor processes: shard 0 \(3 of 5 experts\) died 3 times[^\n]*$"
        ):
            model.step(x, y)
    finally:
        stop(model)


def test_an_error_in_a_process_is_the_error_it_is_in_threads() -> None:
    model, other = at("processes", "driftmoe-data"), at("threads", "driftmoe-data")
    arrays, plain = other.snapshot()
    try:
        with pytest.raises(CheckpointError, match="threshold"):
            model.restore(({k: v for k, v in arrays.items() if not k.endswith("1/threshold")}, plain))
        model.restore(other.snapshot())
        x, y = mixed_stream(100)
        assert np.array_equal(run(model, x, y, 50)[0], run(other, x, y, 50)[0])
    finally:
        stop(model)


def test_the_processes_of_a_killed_parent_end(tmp_path: Path) -> None:
    """And the memory they shared goes with them."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\nfrom tests.laws.executors import at\nfrom tests.laws.cases import mixed_stream, run\n"
        "if __name__ == '__main__':\n"
        "    model = at('processes', 'driftmoe-data')\n    run(model, *mixed_stream(50), 50)\n"
        "    print(*(worker.pid for worker in model.pool.workers), model.pool._memory.name, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stdout is not None
    *pids, memory = parent.stdout.readline().split()
    assert Path("/dev/shm", memory).exists()
    parent.kill()
    parent.wait()
    left = [Path("/dev/shm", memory), *(Path("/proc", pid) for pid in pids)]
    deadline = time.monotonic() + 20
    while any(path.exists() for path in left):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("executor", "shards", "threads", "said"),
    [
        ("cloud", 0, 1, "'cloud'; choose one of threads, processes, ray"),
        ("processes", -1, 1, "shards: -1"),
        ("processes", 5000, 1, "1..1024"),
        ("threads", 2, 1, "executor=processes"),
        ("processes", 2, 2, "give shards instead"),
    ],
)
def test_a_home_that_cannot_be_is_refused(executor: str, shards: int, threads: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_executor(executor, shards, threads)


def test_the_home_is_no_part_of_what_a_checkpoint_belongs_to() -> None:
    from stream_moe.models.published.data import DriftMoEData

    model = DriftMoEData(SCHEMA)
    assert {"executor", "shards"} <= model._get_params().keys()
    assert not {"executor", "shards"} & model.learning_parameters().keys()
