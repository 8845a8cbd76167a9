"""Experts that carry no weight sleep: who, when they wake, and that nothing else depends on it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.router.gates import kernel
from stream_moe.router.gates.online import OnlineGates
from stream_moe.router.gates.sleep import AWAKE_PERIODS, PERIOD, THIN, SleepSchedule
from stream_moe.router.gates.waiting import Waiting
from stream_moe.types import Bool, Float32, Float64, Int32, Schema

SCHEMA = Schema.numeric(3, ["no", "yes"])


def blobs(n: int, seed: int = 1) -> tuple[Float32, Int32]:
    """Naive Bayes is best here; one label in ten is unknown. After 17,000 events labels are noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n).astype(np.int32)
    x = rng.normal(y[:, None] * 1.2, 1.0, (n, 3)).astype(np.float32)
    y[17_000:] = rng.integers(0, 2, max(n - 17_000, 0))
    y[rng.random(n) < 0.1] = -1
    return x, y


def small() -> DriftMoE:
    return DriftMoE(SCHEMA, trees=8, window=200, prototypes=32, budget=0.25)


def replay(model: DriftMoE, x: Float32, y: Int32, rows: int) -> tuple[Float64, Float32]:
    shares = np.empty((len(x), model.n_experts), np.float32)
    cuts = [slice(s, s + rows) for s in range(0, len(y), rows)]
    return np.concatenate([model.step(x[c], y[c], shares[c]) for c in cuts]), shares


def turns(schedule: SleepSchedule, share: list[float], periods: int, drifts: int = 0) -> Bool:
    y = np.zeros(PERIOD, np.int32)
    shares = np.tile(np.array(share, np.float32), (PERIOD, 1))
    for _ in range(periods):
        schedule.update(shares, np.zeros_like(shares), schedule.sample(y), y, drifts)
    return schedule.asleep.copy()


def test_any_split_of_the_stream_gives_the_same_sleepers_and_the_same_bits() -> None:
    x, y = blobs(17_000)
    whole = small()
    proba, shares = replay(whole, x, y, 20_000)
    assert whole.sleep.asleep.any(), "or this test says nothing"
    assert np.isfinite(proba).all()
    for rows in (100, 1024, 3000):
        other = small()
        found, weights = replay(other, x, y, rows)
        assert np.array_equal(found, proba), rows
        assert np.array_equal(weights, shares), rows
        assert other.digest == whole.digest, rows


def test_a_snapshot_taken_while_some_sleep_goes_on_as_if_never_stopped() -> None:
    x, y = blobs(17_000)
    model, restored = small(), small()
    replay(model, x[:15_500], y[:15_500], 1000)
    assert model.sleep.asleep.any()
    arrays, plain = model.snapshot()
    restored.restore((arrays, json.loads(json.dumps(plain))))
    assert [e.asleep for e in restored.report().experts] == [e.asleep for e in model.report().experts]
    assert np.array_equal(
        replay(model, x[15_500:], y[15_500:], 300)[0], replay(restored, x[15_500:], y[15_500:], 500)[0]
    )
    assert model.digest == restored.digest


def test_predictions_ask_who_a_step_would_ask_and_change_nothing() -> None:
    x, y = blobs(16_000)
    model = small()
    replay(model, x[:-200], y[:-200], 1000)
    assert model.sleep.asleep.any()
    for row in range(len(x) - 200, len(x)):
        before = model.digest if row % 50 == 0 else ""
        said = model.predict_proba_many(x[row : row + 1])
        assert not before or model.digest == before
        assert np.array_equal(model.step(x[row : row + 1], y[row : row + 1]), said)


def test_a_sleeper_learns_a_thin_sample_and_a_drift_wakes_it() -> None:
    x, y = blobs(19_000)
    model = small()
    replay(model, x[:17_000], y[:17_000], 1000)
    before = model.report()
    sleepers = [e for e, told in enumerate(before.experts) if told.asleep]
    assert sleepers
    assert {before.experts[e].kind for e in sleepers} <= {"adaptive-tree", "knn", "prototypes"}
    replay(model, x[17_000:], y[17_000:], 1000)
    after = model.report()
    assert after.mixture_drifts > before.mixture_drifts
    assert all(after.experts[e].wakes > before.experts[e].wakes for e in sleepers)
    for e in sleepers:
        assert before.experts[e].accuracy > 0.55, "of the events it answered"
    awake = max(told.trained for told in before.experts)
    assert all(before.experts[e].trained < awake for e in sleepers)


@pytest.mark.parametrize(("budget", "sleep"), [(0.25, True), (1.0, False), (4.0, False)])
def test_a_small_budget_lets_more_sleep(budget: float, sleep: bool) -> None:
    schedule = DriftMoE(SCHEMA, budget=budget).sleep
    share = [0.02] * len(schedule.asleep)
    share[-1] = 1 - sum(share[:-1])
    assert turns(schedule, share, 2 * AWAKE_PERIODS).any() == sleep


def test_who_sleeps_and_who_wakes() -> None:
    schedule = SleepSchedule(np.array([True, True, False]), least_share=0.1)
    low = [0.98, 0.01, 0.01]
    assert not turns(schedule, low, AWAKE_PERIODS - 1).any()
    assert turns(schedule, low, 3).tolist() == [False, True, False]  # the third may not sleep
    assert turns(schedule, [0.8, 0.12, 0.08], 3).tolist() == [False, True, False]  # not enough to wake
    assert not turns(schedule, [0.5, 0.3, 0.2], 2).any()
    assert schedule.wakes.tolist() == [0, 1, 0]
    assert turns(schedule, low, AWAKE_PERIODS + 2).tolist() == [False, True, False]
    assert not turns(schedule, low, 1, drifts=1).any()
    assert not turns(schedule, low, AWAKE_PERIODS - 1, drifts=1).any()  # it is given time to find back
    assert turns(schedule, low, 1, drifts=1).tolist() == [False, True, False]


def test_somebody_always_stays_awake() -> None:
    schedule = SleepSchedule(np.ones(3, np.bool_), least_share=10.0)
    assert turns(schedule, [0.3, 0.4, 0.3], AWAKE_PERIODS).tolist() == [True, False, True]


def test_the_sample_is_a_function_of_the_number_of_labels() -> None:
    schedule = SleepSchedule(np.ones(1, np.bool_), seed=3)
    y = np.zeros(20_000, np.int32)
    sampled = schedule.sample(y)
    assert sampled.mean() == pytest.approx(1 / THIN, abs=0.01)
    assert abs(np.corrcoef(sampled[:-THIN], sampled[THIN:])[0, 1]) < 0.03  # a stream with a period loses no phase
    y[::2] = -1
    mixed = schedule.sample(y)
    assert np.array_equal(mixed[1::2], mixed[::2])  # an unlabelled event is asked as the labelled one after it
    assert np.array_equal(mixed[1::2], sampled[: len(y) // 2])
    assert (schedule.sample(np.full(100, -1, np.int32)) == sampled[0]).all()


def test_a_run_ends_where_a_decision_falls() -> None:
    schedule = SleepSchedule(np.ones(1, np.bool_))
    assert schedule.before_decision(np.zeros(3 * PERIOD, np.int32)) == PERIOD
    y = np.where(np.arange(3 * PERIOD) % 2, 0, -1).astype(np.int32)
    assert schedule.before_decision(y) == 2 * PERIOD
    assert schedule.before_decision(y[:100]) == 100


def test_a_detector_passes_over_events_without_an_answer() -> None:
    errors = (np.random.default_rng(1).random((4000, 2)) < 0.2).astype(np.float32)
    gaps = np.repeat(errors, 2, axis=0)
    gaps[1::2, 0] = np.nan
    one, other = DriftMonitor(2), DriftMonitor(2)
    one.update(errors)
    other.update(gaps)
    for name in ("total", "width", "waiting"):
        assert np.array_equal(one.snapshot()[0][name][0], other.snapshot()[0][name][0])


def test_gates_leave_an_abstainers_weights_alone_and_keep_the_bound() -> None:
    """Expert 0 is good, and silent half of the time; the bound counts the events it spoke on."""
    rng = np.random.default_rng(4)
    n, c = 3000, 3
    y = rng.integers(0, c, n).astype(np.int32)
    named = np.where(rng.random((4, n)) < np.array([[0.95], [0.4], [0.4], [0.4]]), y, (y + 1) % c)
    opinions = np.where(np.arange(c) == named[..., None], 0.8, 0.1)
    spoke = np.arange(n) // 250 % 2 == 0
    opinions[0, ~spoke] = np.nan
    gates = OnlineGates(np.array([False, True, True, True]), c)
    answers, shares, right, _ = gates.step(opinions, y, np.full(n, -1), Waiting(gates.n_parts, c))
    assert np.isnan(right[~spoke, 0]).all()
    assert not np.isnan(right[:, 1:]).any()
    assert (shares[~spoke, 0] == 0).all()
    assert shares.sum(1) == pytest.approx(1.0, abs=1e-5)
    back = np.flatnonzero(spoke[1:] & ~spoke[:-1]) + 1
    assert (shares[back, 0] > 0.5).all(), "its weight has waited for it"
    prior = (1 - kernel.FIRST_PRIOR) / (kernel.N_GATES + 5)
    slack = math.log(1 / prior) + spoke.sum() * (-math.log1p(-kernel.SWITCH) + c * kernel.FLOOR)
    mine = -np.log(answers[np.arange(n), y])[spoke].sum()
    assert mine <= -np.log(opinions[0, np.arange(n), y])[spoke].sum() + slack


def test_when_nobody_speaks_every_class_is_as_likely() -> None:
    gates = OnlineGates(np.array([True, False]), 4)
    assert gates.answer(np.full((2, 3, 4), np.nan)) == pytest.approx(0.25)
