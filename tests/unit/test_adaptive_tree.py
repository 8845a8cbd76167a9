"""The adaptive tree: bagging, subsets, detector and successor, in any blocks and across a checkpoint."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.trees.adaptive import AdaptiveTree
from stream_moe.runtime.draws import choose, poisson, poisson_steps, uniform
from stream_moe.types import Feature, Float32, Float64, Int32, Schema

SCHEMA = Schema.numeric(6, ["no", "yes"])


def turning_stream(n: int = 4000, seed: int = 1) -> tuple[Float32, Int32]:
    """A threshold on the first three features whose direction turns round every 1,000 events."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6)).astype(np.float32)
    y = (x[:, :3].sum(1) > 1.5) ^ (np.arange(n) // 1000 % 2 == 1)
    return x, y.astype(np.int32)


def replay(tree: AdaptiveTree, x: Float32, y: Int32, rows: int = 10_000) -> Float64:
    proba = np.empty((len(y), tree.n_classes))
    for s in range(0, len(y), rows):
        tree.step(x[s : s + rows], y[s : s + rows], np.ones(len(y[s : s + rows])), proba[s : s + rows])
    return proba


def same(one: AdaptiveTree, other: AdaptiveTree) -> bool:
    (mine, plain), (theirs, other_plain) = one.snapshot(), other.snapshot()
    return (
        plain == other_plain
        and mine.keys() == theirs.keys()
        and all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)
    )


@pytest.mark.parametrize("rows", [1, 7, 500])
@pytest.mark.parametrize("group", [1, 8, 32])
def test_blocks_change_nothing_though_trees_are_swapped(rows: int, group: int) -> None:
    x, y = turning_stream()
    y[::9] = -1
    whole, parts = AdaptiveTree(SCHEMA, group=group), AdaptiveTree(SCHEMA, group=group)
    assert np.array_equal(replay(whole, x, y), replay(parts, x, y, rows))
    assert whole.n_swaps >= (3 if group < 32 else 1)
    assert same(whole, parts)


def test_a_swap_brings_the_accuracy_back_and_without_a_detector_it_stays_away() -> None:
    x, y = turning_stream()
    late = np.arange(len(y)) % 1000 >= 400

    def accuracy(**settings: Any) -> float:
        return float((replay(AdaptiveTree(SCHEMA, share=1.0, **settings), x, y).argmax(1) == y)[late].mean())

    assert accuracy() > 0.85
    assert accuracy(drift_delta=1e-300, warning_delta=1e-300) < 0.75


def test_a_falling_error_is_no_alarm() -> None:
    x, _ = turning_stream()
    y = (x[:, 0] > 0.5).astype(np.int32)
    tree = AdaptiveTree(SCHEMA, share=1.0, drift_delta=1e-3, warning_delta=1e-3)
    replay(tree, x, y)
    assert tree.n_swaps == 0


def test_restored_between_a_warning_and_its_drift_it_goes_on_the_same() -> None:
    x, y = turning_stream()
    tree = AdaptiveTree(SCHEMA)
    stop = next(
        s for s in range(1, 3000) if tree._back is not None or replay(tree, x[s - 1 : s], y[s - 1 : s]).size < 0
    )
    arrays, plain = tree.snapshot()
    assert any(name.startswith("back/") for name in arrays)
    other = AdaptiveTree(SCHEMA)
    other.restore((arrays, json.loads(json.dumps(plain))))
    assert np.array_equal(replay(tree, x[stop:], y[stop:]), replay(other, x[stop:], y[stop:], 100))
    assert same(tree, other)


@pytest.mark.parametrize("group", [1, 2, 8])
def test_restored_after_any_number_of_events_it_goes_on_the_same(group: int) -> None:
    """At its hundredth event a tree looks at its columns, and a group that is full waits for the next block."""
    x, y = turning_stream(300)
    for stop in (99, 100, 101, 104):
        tree, other = AdaptiveTree(SCHEMA, group=group), AdaptiveTree(SCHEMA, group=group)
        replay(tree, x[:stop], y[:stop])
        other.restore(tree.snapshot())
        assert np.array_equal(replay(tree, x[stop:], y[stop:]), replay(other, x[stop:], y[stop:]))
        assert same(tree, other)


def test_members_differ_and_equal_keys_agree() -> None:
    x, y = turning_stream(1000)
    first, again, second, other = (
        replay(AdaptiveTree(SCHEMA, seed=seed, member=member), x, y)
        for seed, member in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def recurring_stream(n: int = 24_000, every: int = 2000, seed: int = 1) -> tuple[Float32, Int32]:
    """Three concepts in turn, each on other features and of borders that take a tree many events to learn."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6)).astype(np.float32)
    turn = np.arange(n) // every % 3
    a, b, c = (x[np.arange(n), turn + k] for k in range(3))
    return x, (np.where(b > 0.6, a > 0.3, np.where(c > 0.4, a < 0.7, c > 0.1)) ^ (turn == 1)).astype(np.int32)


def test_a_tree_of_the_archive_comes_back_with_its_concept() -> None:
    x, y = recurring_stream()
    kept, forgetful = AdaptiveTree(SCHEMA, share=1.0), AdaptiveTree(SCHEMA, share=1.0, archive=0)
    right = [(replay(tree, x, y).argmax(1) == y)[6000:].mean() for tree in (kept, forgetful)]
    assert kept.n_returns >= 3
    assert forgetful.n_returns == 0
    assert right[0] > right[1] + 0.03
    assert kept.memory_bytes > kept._fore.tree.memory_bytes


def test_an_archive_survives_blocks_checkpoints_and_growth() -> None:
    x, y = recurring_stream(14_000)
    y[::9] = -1
    whole, parts = AdaptiveTree(SCHEMA, share=1.0), AdaptiveTree(SCHEMA, share=1.0)
    replay(whole, x, y)
    replay(parts, x[:9000], y[:9000], 7)
    arrays, plain = parts.snapshot()
    assert any(name.startswith("archive") for name in arrays)
    other = AdaptiveTree(SCHEMA, share=1.0)
    other.restore((arrays, json.loads(json.dumps(plain))))
    for tree in (parts, other):
        replay(tree, x[9000:], y[9000:], 500)
        assert same(tree, whole)
    assert whole.n_returns > 0
    whole.grow(Schema(SCHEMA.features, ("no", "yes", "late")))
    whole.grow(Schema((*SCHEMA.features, Feature("late")), ("no", "yes", "late")))
    late = np.column_stack([x, np.zeros(len(x))]).astype(np.float32)
    replay(whole, late[:2000], np.full(2000, 2, np.int32))
    arrays, plain = whole.snapshot()
    for wrong in ({"recent/y": np.full(100, 3, np.int32)}, {"recent/x": np.zeros((100, 3), np.float32)}):
        with pytest.raises(CheckpointError, match="recent event"):
            whole.restore((arrays | wrong, plain))


def test_a_big_archive_keeps_the_trees_with_the_most_nodes_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = recurring_stream(16_000)
    tree = AdaptiveTree(SCHEMA, share=1.0)
    replay(tree, x, y)
    used = [planted.bytes_used for planted in tree._archive]
    assert len(used) == 3
    monkeypatch.setattr("stream_moe.experts.trees.adaptive.ARCHIVE_BYTES", min(used) + max(used))
    tight = AdaptiveTree(SCHEMA, share=1.0)
    replay(tight, x, y)
    assert 0 < sum(planted.bytes_used for planted in tight._archive) <= min(used) + max(used) < sum(used)


def test_growth_keeps_what_was_learnt() -> None:
    x, y = turning_stream(1500)
    tree = AdaptiveTree(SCHEMA)
    replay(tree, x, y)
    before = replay(tree, x, np.full(len(x), -1, np.int32))
    wide = Schema((*SCHEMA.features, *(Feature(f"late{j}") for j in range(20))), ("no", "yes"))
    tree.grow(wide)
    late = np.column_stack([x, np.full((len(x), 20), np.nan)]).astype(np.float32)
    after = replay(tree, late, np.full(len(x), -1, np.int32))
    assert np.allclose(after, before, atol=1e-6)
    assert 10 <= (tree._fore.columns >= 6).sum() <= 20  # about the share of the new ones
    tree.grow(Schema(wide.features, ("no", "yes", "late")))
    late[:, 6:] = 1.0
    replay(tree, late, np.where(np.arange(len(y)) % 2, y, 2).astype(np.int32))
    assert replay(tree, late, np.full(len(y), -1, np.int32))[:, 2].mean() > 0.2


def test_a_wide_nominal_feature_becomes_a_number_and_a_narrow_one_stays() -> None:
    schema = Schema(
        (Feature("wide", tuple(map(str, range(40)))), Feature("narrow", tuple("abc")), Feature("size")), ("no", "yes")
    )
    tree = AdaptiveTree(schema, share=1.0, wide=16)
    assert tree._fore.as_number.tolist() == [True, False, False]
    x = np.column_stack([np.arange(2000) % 40, np.arange(2000) % 3, np.zeros(2000)]).astype(np.float32)
    y = (x[:, 0] >= 20).astype(np.int32)
    assert (replay(tree, x, y).argmax(1) == y)[500:].mean() > 0.95


def test_a_feature_that_becomes_wide_stays_nominal_for_the_tree_that_knows_it() -> None:
    narrow, wide = (Schema((Feature("kind", tuple(map(str, range(k)))),), ("no", "yes")) for k in (10, 40))
    tree, restored = AdaptiveTree(narrow), AdaptiveTree(wide)
    x = (np.arange(1000) % 10).astype(np.float32)[:, None]
    y = (x[:, 0] % 2).astype(np.int32)
    replay(tree, x, y)
    tree.grow(wide)
    restored.restore(tree.snapshot())
    for grown in (tree, restored):
        assert (replay(grown, x, y).argmax(1) == y).all()
        assert grown._fore.as_number.tolist() == [False]
    assert tree._plant().as_number.tolist() == [True]


def test_the_poisson_law_and_the_choice_of_columns() -> None:
    steps = poisson_steps(6.0)
    drawn = np.array([poisson(steps, uniform(1, 2, i)) for i in range(20_000)])
    assert drawn.mean() == pytest.approx(6.0, abs=0.1)
    assert drawn.var() == pytest.approx(6.0, abs=0.3)
    assert [len(choose(1, m, 10, 0.7)) for m in range(3)] == [7, 7, 7]
    counts = np.bincount(np.concatenate([choose(1, m, 10, 0.5) for m in range(400)]), minlength=10)
    assert counts.min() > 150
    assert counts.max() < 250


def test_wrong_settings_and_wrong_checkpoints_are_refused() -> None:
    with pytest.raises(ConfigError, match="share"):
        AdaptiveTree(SCHEMA, share=0.0)
    with pytest.raises(ConfigError, match="archive -1"):
        AdaptiveTree(SCHEMA, archive=-1)
    with pytest.raises(ConfigError, match="ascend"):
        AdaptiveTree(SCHEMA, drift_delta=0.1, warning_delta=0.05)
    with pytest.raises(CheckpointError, match="5 features"):
        AdaptiveTree(SCHEMA).restore(AdaptiveTree(Schema.numeric(5, ["no", "yes"])).snapshot())
