"""The examples of docs/extending.md do what the page says of them; tests/laws holds the expert to the laws too."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.fading_means import FadingMeans, WithFadingMeans
from examples.sqlite_log import SqliteLog, SqliteSink
from examples.sqlite_log import run as run_log
from stream_moe.errors import CheckpointError, FencedError, UnavailableError
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.types import Outputs, Schema
from tests.laws.cases import SCHEMA, mixed_stream, run

ROOT = Path(__file__).parents[2]
EVENTS = 6000


def test_an_expert_of_our_own_is_part_of_the_mixture_and_of_its_state() -> None:
    x, y = mixed_stream(400)
    model, restored = WithFadingMeans(SCHEMA, seed=3), WithFadingMeans(SCHEMA, seed=3)
    run(model, x[:300], y[:300], 64)
    assert [expert.kind for expert in model.report().experts][-1] == "fading-means"
    restored.restore(model.snapshot())
    assert restored.digest == model.digest
    (proba, weights), (found, found_weights) = (run(m, x[300:], y[300:], 7) for m in (model, restored))
    assert np.array_equal(found, proba)
    assert np.array_equal(found_weights, weights)
    assert weights[:, -1].max() > 0  # the router listens to it
    with pytest.raises(CheckpointError, match="1 x fading-means"):
        DriftMoE(SCHEMA, seed=3).restore(model.snapshot())


def test_it_forgets() -> None:
    schema, proba = Schema.numeric(1, ["low", "high"]), np.empty((1, 2))
    expert = FadingMeans(schema, fade=0.9)
    x = np.tile(np.array([[0], [1]], np.float32), (200, 1)) + np.random.default_rng(1).normal(
        0, 0.1, (400, 1)
    ).astype("f4")
    y = np.tile(np.array([0, 1], np.int32), 200)
    for labels, expected in ((y, "high"), (1 - y, "low")):
        expert.step(x, labels, np.ones(400), np.empty((400, 2)))
        expert.step(np.ones((1, 1), np.float32), np.array([-1], np.int32), np.zeros(1), proba)
        assert schema.classes[proba.argmax()] == expected


def killed_run(log: Path, fail_at: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.sqlite_log", "run", str(log)]
    environment = {**os.environ, **({"STREAM_MOE_FAIL_AT": fail_at} if fail_at else {})}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def rows(log: Path, query: str) -> list[Any]:
    return sqlite3.connect(log).execute(query).fetchall()


def test_a_log_of_our_own_is_answered_exactly_once_however_often_it_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole.db", tmp_path / "killed.db"
    for log in (whole, killed):
        SqliteLog(log).fill("electricity", EVENTS)
    run_log(str(whole))
    uninterrupted = capsys.readouterr().out
    for place in (
        "committed:4",
        "checkpoint-written:1",
    ):  # the page's is killed before a commit
        assert killed_run(killed, place).returncode == -9, place
    assert 0 < len(rows(killed, "select * from predictions")) < EVENTS
    last = killed_run(killed)
    assert last.returncode == 0, last.stderr
    assert last.stdout.splitlines()[-1] == uninterrupted.splitlines()[-1]  # accuracy and state
    assert rows(killed, "select * from predictions") == rows(whole, "select * from predictions")
    assert len(rows(killed, "select distinct id from predictions")) == EVENTS


def test_an_older_writer_is_fenced_and_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    old, new = (SqliteSink(SqliteLog(path), "group") for _ in range(2))
    old.open(0)
    new.open(0)
    with pytest.raises(FencedError, match="newer process"):
        old.commit(0, Outputs(1, [(b"1", b"{}")]))
    new.commit(0, Outputs(1, [(b"1", b"{}")]))
    assert rows(path, "select * from predictions") == [(b"1", b"{}")]
    other = SqliteLog(path)
    other._db.execute("pragma busy_timeout = 0")
    with SqliteLog(path).transaction(), pytest.raises(UnavailableError, match="locked"):
        SqliteSink(other, "group").open(0)
