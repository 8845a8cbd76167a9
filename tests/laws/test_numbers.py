"""The three laws for models and experts of a number: chunking, no leak, determinism; and what a state is good for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_moe import BlockRegressor, DriftMoERegressor, Feature, Schema, Target
from stream_moe.experts.numbers.base import NumberExpert
from stream_moe.models.regression.driftmoe import number_experts
from stream_moe.models.regression.rows import RowHistory
from stream_moe.types import Float32, Float64, Int64

SCHEMA = Schema(
    (Feature("a"), Feature("day", ("mon", "tue", "wed")), Feature("b"), Feature("c")), target=Target("load")
)
SEEDED = number_experts(4, 3)


def stream(n: int, seed: int = 1) -> tuple[Float32, Float64]:
    """A season of 24, features that tell something, 5 % missing, 10 % without a target, a new scale in the middle."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 1] = rng.integers(0, 3, n)
    x[:, 3] = 7.0
    y = 10 * np.sin(np.arange(n) * 2 * np.pi / 24) + 3 * x[:, 0] * x[:, 2] + x[:, 1] + rng.normal(size=n)
    y[n // 2 :] *= 300.0
    y[n // 3] = 1e30
    x[rng.random(x.shape) < 0.05] = np.nan
    y[rng.random(n) < 0.1] = np.nan
    return x, y


def late(x: Float32, y: Float64, delay: int) -> tuple[Float32, Float64, Int64]:
    """Rows, targets and tickets as a learner takes them where each target comes so many events later."""
    rows, targets, tickets = list[Any](), list[float](), list[int]()
    for t in range(len(x) + delay):
        if t < len(x):
            rows.append(x[t])
            targets.append(np.nan)
            tickets.append(t)
        if t >= delay and not np.isnan(y[t - delay]):
            rows.append(x[t - delay])
            targets.append(y[t - delay])
            tickets.append(t - delay)
    return np.array(rows), np.array(targets), np.array(tickets)


def run(model: BlockRegressor, x: Float32, y: Float64, size: int, tickets: Int64 | None = None) -> Float64:
    starts = range(0, len(x), size)
    found = [
        model.step(x[s : s + size], y[s : s + size], tickets=None if tickets is None else tickets[s : s + size])
        for s in starts
    ]
    return np.concatenate(found)


@pytest.mark.parametrize("delay", [0, 1, 30])
def test_blocks_of_any_size_give_the_same_bits(delay: int) -> None:
    x, y = stream(900)
    rows: tuple[Any, ...] = (x, y, None) if not delay else late(x, y, delay)
    whole = DriftMoERegressor(SCHEMA, seed=3)
    expected = run(whole, rows[0], rows[1], 10_000, rows[2])
    assert np.isfinite(expected).all()
    for size in (1, 7, 256):
        model = DriftMoERegressor(SCHEMA, seed=3)
        assert np.array_equal(run(model, rows[0], rows[1], size, rows[2]), expected), size
        assert model.digest == whole.digest, size


@pytest.mark.parametrize("delay", [0, 30])
def test_no_answer_depends_on_its_own_target_or_on_what_comes_later(delay: int) -> None:
    x, y = stream(600)
    at = 400
    other_x, other_y = x.copy(), y.copy()
    other_y[at:], other_x[at + 1 :] = -other_y[at:] * 7, 0
    answers = []
    for mine, targets in ((x, y), (other_x, other_y)):
        rows: tuple[Any, ...] = (mine, targets, None) if not delay else late(mine, targets, delay)
        found = run(DriftMoERegressor(SCHEMA, seed=3), rows[0], rows[1], 64, rows[2])
        events = np.ones(len(found), bool) if not delay else np.isnan(rows[1])
        answers.append(found[events][: at + 1])
    assert np.array_equal(*answers)


def test_seed_and_events_decide_the_state() -> None:
    x, y = stream(700)
    digests = []
    for seed in (3, 3, 4):
        model = DriftMoERegressor(SCHEMA, seed=seed)
        run(model, x, y, 100)
        digests.append(model.digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("delay", [0, 30])
def test_a_restored_model_goes_on_as_if_nothing_had_been(delay: int) -> None:
    x, y = stream(800)
    rows: tuple[Any, ...] = (x, y, np.full(len(x), -1)) if not delay else late(x, y, delay)
    first, second = DriftMoERegressor(SCHEMA, seed=3), DriftMoERegressor(SCHEMA, seed=3)
    half = len(rows[0]) // 2
    run(first, rows[0][:half], rows[1][:half], 100, rows[2][:half])
    second.restore(first.snapshot())
    rest = [part[half:] for part in rows]
    expected = run(first, rest[0], rest[1], 100, rest[2])
    assert np.array_equal(run(second, rest[0], rest[1], 100, rest[2]), expected)
    assert second.digest == first.digest


def test_predicting_changes_nothing_and_says_what_a_step_says() -> None:
    x, y = stream(500)
    model, begin = DriftMoERegressor(SCHEMA, seed=3), 0
    for end in (1, 2, 3, 9, 33, 130, 499):
        model.step(x[begin:end], y[begin:end])
        before = model.digest
        said = model.predict_interval_many(x[end : end + 1])
        assert model.digest == before
        assert np.array_equal(said, model.step(x[end : end + 1], np.array([np.nan])))
        begin = end + 1


@pytest.mark.parametrize("expert", range(len(SEEDED)), ids=lambda e: f"{e}-{SEEDED[e].kind}")
def test_each_expert_is_the_same_in_blocks_of_any_size_and_does_not_look_ahead(expert: int) -> None:
    x, y = stream(700)
    y[~(np.abs(y) < 1e20)] = 0.0

    def follow(size: int, targets: Float64) -> tuple[Float64, NumberExpert]:
        mine, history = number_experts(4, 3)[expert], RowHistory(SCHEMA)
        found = []
        for s in range(0, len(x), size):
            part = slice(s, s + size)
            n = len(x[part])
            rows = np.empty((n, history.width))
            view = history.follow(x[part], targets[part], np.full(n, -1), rows, np.ones(n))
            out = np.empty(n)
            mine.step(view, out)
            found.append(out)
        return np.concatenate(found), mine

    expected, whole = follow(10_000, y)
    for size in (1, 64):
        found, mine = follow(size, y)
        assert np.array_equal(found, expected)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(mine.snapshot()[0].values(), whole.snapshot()[0].values(), strict=True)
        )
    changed = y.copy()
    changed[500:] = -5.0
    assert np.array_equal(follow(64, changed)[0][:501], expected[:501])
