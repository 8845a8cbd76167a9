"""The detector of changed inputs: silent while nothing changes, quick when something does, for blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest

from stream_moe.drift.distribution import DistributionMonitor, Shift
from stream_moe.errors import CheckpointError
from stream_moe.streams import open_stream
from stream_moe.types import Float32

CHANGE = 30_000


def shifts(x: Float32, categories: list[int] | None = None, rows: int = 4096) -> list[Shift]:
    monitor = DistributionMonitor(np.array(categories or [0] * x.shape[1], np.int32))
    return [shift for at in range(0, len(x), rows) for shift in monitor.update(x[at : at + rows])]


def test_no_alarm_in_stationary_events() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(400_000, 6)).astype(np.float32)
    x[:, 1] = np.exp(3 * x[:, 1])  # heavy tail
    x[:, 2] = np.round(x[:, 2])  # ties
    x[rng.random(400_000) < 0.3, 3] = np.nan
    x[:, 4], x[:, 5] = rng.integers(0, 40, 400_000), rng.random(400_000) < 0.01
    assert shifts(x, [0, 0, 0, 0, 40, 2]) == []


def times_ten(x: Float32) -> None:
    x[CHANGE:, 2] *= 10


def constant(x: Float32) -> None:
    x[CHANGE:, 2] = x[0, 2]


def missing(x: Float32) -> None:
    x[CHANGE:, 2] = np.nan


def other_category(x: Float32) -> None:
    x[CHANGE:, 2] = 7


@pytest.mark.parametrize(
    ("plant", "categories"), [(times_ten, 0), (constant, 0), (missing, 0), (missing, 9), (other_category, 9)]
)
def test_a_planted_change_of_one_feature_is_one_alarm_that_names_it(plant: object, categories: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80_000, 4)).astype(np.float32)
    if categories:
        x[:, 2] = rng.integers(0, categories, len(x))
    plant(x)  # type: ignore[operator]
    [found] = shifts(x, [0, 0, categories, 0])
    assert found.columns == [2]
    assert CHANGE < found.event < CHANGE + 3_000


def test_a_slow_ramp_is_noticed_against_the_fixed_reference() -> None:
    x = np.random.default_rng(5).normal(size=(200_000, 3)).astype(np.float32)
    x[:, 0] += np.linspace(0, 3, len(x))
    found = shifts(x)
    assert 1 <= len(found) <= 20
    assert {column for shift in found for column in shift.columns} == {0}


@pytest.mark.parametrize("rows", [1, 7, 256, 10_000])
def test_blocks_of_any_size_find_the_same(rows: int) -> None:
    x = next(open_stream("electricity").blocks(30_000)).x
    whole = shifts(x, rows=30_000)
    assert whole
    assert shifts(x, rows=rows) == whole


def test_a_restored_monitor_goes_on_as_if_nothing_had_happened() -> None:
    stream = open_stream("electricity")
    x, one = next(stream.blocks(40_000)).x, DistributionMonitor(stream.schema.n_categories)
    one.update(x[:17_001])
    other = DistributionMonitor(stream.schema.n_categories)
    other.restore(one.snapshot())
    assert other.update(x[17_001:]) == one.update(x[17_001:]) != []
    assert (other.drifts, other.warnings, other.seen) == (one.drifts, one.warnings, 40_000)


@pytest.mark.parametrize(("array", "value"), [("filled", 513), ("filled", -1), ("ring", 200), ("head", -1)])
def test_a_state_that_would_reach_beyond_its_arrays_is_refused(array: str, value: int) -> None:
    monitor = DistributionMonitor(np.zeros(3, np.int32))
    arrays, plain = monitor.snapshot()
    arrays[array].flat[0] = value
    with pytest.raises(CheckpointError):
        monitor.restore((arrays, plain))


def test_no_value_reaches_beyond_the_bins() -> None:
    x = np.array([[np.inf, -5], [-np.inf, 1e30], [np.nan, np.inf], [1e38, 2.5]], np.float32)
    assert shifts(np.tile(x, (10_000, 1)), [0, 3]) == []
