"""The default mixture as a whole: drift, late labels, bad input, its account of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.base import Expert
from stream_moe.experts.kinds import current_kind
from stream_moe.experts.no_change import NoChange
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.types import Float32, Float64, Int32, Schema

SCHEMA = Schema.numeric(4, ["no", "yes"])


def turning(n: int = 4000, seed: int = 1) -> tuple[Float32, Int32]:
    """Two classes on the first two features; halfway they change places."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0) ^ (np.arange(n) >= n // 2)
    return x, y.astype(np.int32)


def replay(model: DriftMoE, x: Float32, y: Int32, rows: int = 1000) -> Float64:
    return np.concatenate([model.step(x[s : s + rows], y[s : s + rows]) for s in range(0, len(y), rows)])


def accuracy(model: DriftMoE, x: Float32, y: Int32, part: slice = slice(None)) -> float:
    return float((replay(model, x, y).argmax(1) == y)[part].mean())


def test_it_is_back_soon_after_the_classes_change_places() -> None:
    x, y = turning()
    model = DriftMoE(SCHEMA)
    right = replay(model, x, y).argmax(1) == y
    assert right[1000:2000].mean() > 0.93
    assert right[2300:3000].mean() > 0.85
    report = model.report()
    assert 2000 < report.last_drift_event <= 4000
    trees = [e for e in report.experts if e.kind == "adaptive-tree"]
    assert sum(e.resets > 0 for e in trees) > len(trees) // 2
    assert 0 < report.router_loss < 0.5


def test_it_is_no_worse_than_its_best_expert() -> None:
    rng = np.random.default_rng(2)
    y = (np.arange(3000) // 40 % 2).astype(np.int32)  # only no-change and history know
    x = rng.normal(size=(3000, 4)).astype(np.float32)
    model = DriftMoE(SCHEMA)
    found = accuracy(model, x, y)
    assert found > max(e.accuracy for e in model.report().experts) - 0.01
    assert found > 0.95


@pytest.mark.parametrize("delay", [20, 300])
def test_late_labels_do_not_make_it_trust_experts_that_know_too_late(delay: int) -> None:
    """The label comes in runs, so an expert with the latest labels is right afterwards, and wrong beforehand."""
    rng = np.random.default_rng(3)
    n = 3000
    y = (np.arange(n) // 10 % 2).astype(np.int32)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 0] = np.where(rng.random(n) < 0.8, y, 1 - y)
    model, said = DriftMoE(SCHEMA), np.empty(n)
    for t in range(0, n, 10):
        rows, unlabelled = np.arange(t, t + 10), np.full(10, -1, np.int32)
        said[rows] = model.step(x[rows], unlabelled, tickets=rows).argmax(1)
        if t >= delay:
            known = rows - delay
            model.step(x[known], y[known], tickets=known)
    report = model.report()
    assert (said == y)[1000:].mean() > 0.7
    assert (said == y).mean() > max(e.accuracy for e in report.experts) - 0.04


def test_waiting_events_are_in_a_checkpoint_though_not_in_the_digest() -> None:
    x, y = turning(800)
    model, other = DriftMoE(SCHEMA, trees=2), DriftMoE(SCHEMA, trees=2)
    replay(model, x[:400], y[:400])
    before = model.digest
    tickets = np.arange(400)
    model.step(x[400:], np.full(400, -1, np.int32), tickets=tickets)
    assert model.digest == before
    arrays, plain = model.snapshot()
    other.restore((arrays, json.loads(json.dumps(plain))))
    late = [learner.step(x[400:], y[400:], tickets=tickets) for learner in (model, other)]
    assert np.array_equal(late[0], late[1])
    assert model.digest == other.digest
    fresh = DriftMoE(SCHEMA, trees=2)
    replay(fresh, x[:400], y[:400])
    replay(fresh, x[400:], y[400:])
    assert fresh.digest != model.digest  # it learnt the same events, but prompt


def test_bad_columns_do_not_harm_the_rest() -> None:
    x, y = turning(3000)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int32)
    clean = accuracy(DriftMoE(Schema.numeric(2, ["no", "yes"])), x[:, :2].copy(), y)
    bad = np.column_stack([x[:, :2], np.full(3000, 7.0), np.full(3000, np.nan)]).astype(np.float32)
    bad[::100, 3] = np.inf
    assert accuracy(DriftMoE(SCHEMA), bad, y) > clean - 0.01


def test_one_wild_value_does_not_hide_its_feature() -> None:
    x, _ = turning(3000)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int32)  # neighbours and products know
    spiked = x.copy()
    spiked[1000, 0] = 3e38
    late = slice(1500, None)
    for without in ("adaptive-tree", ""):
        clean = accuracy(DriftMoE(SCHEMA, without=without), x, y, late)
        assert accuracy(DriftMoE(SCHEMA, without=without), spiked, y, late) > clean - 0.04


def test_a_feature_that_vanishes_and_a_class_that_comes_late() -> None:
    x, y = turning(3000)
    y = (x[:, 0] > 0).astype(np.int32)
    x[:, 1] = x[:, 0]
    x[1500:, 0] = np.nan
    y[2000:] = np.where(x[2000:, 2] > 1, 2, y[2000:])
    right = replay(DriftMoE(Schema.numeric(4, ["a", "b", "c"])), x, y).argmax(1) == y
    assert right[1600:2000].mean() > 0.95
    assert right[2600:].mean() > 0.9


def test_one_class_only_and_the_same_event_over_and_over() -> None:
    x = np.tile(np.array([1, 2, 3, 4], np.float32), (500, 1))
    proba = replay(DriftMoE(SCHEMA), x, np.ones(500, np.int32))
    assert np.isfinite(proba).all()
    assert proba[-1, 1] > 0.95


def test_the_budget_scales_the_pool() -> None:
    full, half = DriftMoE(SCHEMA).report(), DriftMoE(SCHEMA, budget=0.5).report()
    kinds = [[e.kind for e in report.experts] for report in (full, half)]
    assert [k.count("adaptive-tree") for k in kinds] == [12, 6]
    assert half.model_bytes < full.model_bytes


def test_kinds_can_be_left_out_but_not_all_of_them() -> None:
    model = DriftMoE(SCHEMA, without="adaptive-tree, knn")
    assert not {"adaptive-tree", "knn"} & {e.kind for e in model.report().experts}
    x, y = turning(1000)
    assert accuracy(model, x, y) > 0.7  # and without a committee it works
    with pytest.raises(ConfigError, match="without 'trees'"):
        DriftMoE(without="trees")


def test_a_pool_from_before_a_kind_was_there_goes_on_without_it() -> None:
    x, y = turning(2000)
    older, newer = DriftMoE(SCHEMA, trees=2, without="averaged-softmax"), DriftMoE(SCHEMA, trees=2)
    replay(older, x[:1000], y[:1000])
    newer.restore(older.snapshot())
    assert np.array_equal(replay(older, x[1000:], y[1000:]), replay(newer, x[1000:], y[1000:]))
    assert newer.digest == older.digest
    assert newer.without == ""  # its owner's parameters are the same


def test_the_former_name_of_a_kind_goes_on_working(caplog: pytest.LogCaptureFixture) -> None:
    current_kind.cache_clear()
    former, now = (DriftMoE(SCHEMA, trees=1, without=kind) for kind in ("value-rates", "target-encoding"))
    assert former.digest == now.digest
    assert [record.getMessage() for record in caplog.records] == [
        "value-rates is now called target-encoding; use the new name"
    ]
    model, (arrays, plain) = DriftMoE(SCHEMA, trees=1), DriftMoE(SCHEMA, trees=1).snapshot()
    plain["pool"]["experts"] = plain["pool"]["experts"].replace("target-encoding", "value-rates")
    model.restore((arrays, plain))


def test_an_expert_joins_the_committee_and_may_sleep_by_saying_so() -> None:
    class Guest(NoChange):
        kind, expensive, in_committee = "guest", True, True

    class WithGuest(DriftMoE):
        def make_experts(self, schema: Schema) -> list[Expert]:
            return [*super().make_experts(schema), Guest(schema)]

    model = WithGuest(SCHEMA, trees=2)
    kinds = [expert.kind for expert in model.report().experts]
    expensive = {"adaptive-tree", "knn", "prototypes", "guest"}
    assert model.sleep.may_sleep.tolist() == [kind in expensive for kind in kinds]
    committee = model.gates.snapshot()[0]["member"].tolist()
    assert committee == [kind in {"adaptive-tree", "guest"} for kind in kinds]


def test_wrong_settings_and_another_pools_checkpoint_are_refused() -> None:
    with pytest.raises(ConfigError, match="budget"):
        DriftMoE(SCHEMA, budget=0)
    with pytest.raises(CheckpointError, match="2 x adaptive-tree"):
        DriftMoE(SCHEMA, trees=3).restore(DriftMoE(SCHEMA, trees=2).snapshot())
