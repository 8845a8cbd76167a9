"""ADWIN over groups of events: quiet where nothing changes, quick where it does."""

from __future__ import annotations

import numpy as np
import pytest
from river import drift

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.types import Float32


def errors(rates: list[float], each: int, streams: int, seed: int = 1) -> Float32:
    """0/1 errors, `each` events at each rate in turn, float32 [n, streams]."""
    p = np.repeat(rates, each)[:, None]
    return (np.random.default_rng(seed).random((len(p), streams)) < p).astype(np.float32)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3, 0.5])
def test_false_alarms_are_a_few_per_million_events(rate: float) -> None:
    monitor = DriftMonitor(20)
    monitor.update(errors([rate], 50_000, 20))  # a million events
    assert monitor.drifts.sum() <= 4
    assert monitor.drifts.sum() <= monitor.warnings.sum() + monitor.drifts.sum() <= 60


@pytest.mark.parametrize(("before", "after", "delay"), [(0.1, 0.5, 250), (0.1, 0.3, 600), (0.3, 0.5, 900)])
def test_a_jump_is_seen_once_and_soon(before: float, after: float, delay: int) -> None:
    monitor = DriftMonitor(10)
    monitor.update(errors([before, after], 5000, 10))
    found = monitor.last_drift - 5000
    assert ((monitor.drifts >= 1) & (monitor.drifts <= 2)).all()
    assert np.median(found) <= delay
    assert (found > 0).all()


def test_a_falling_error_is_no_drift() -> None:
    monitor = DriftMonitor(10)
    monitor.update(errors([0.5, 0.1], 5000, 10))
    assert monitor.drifts.sum() == 0


def test_a_fallen_error_is_the_new_measure() -> None:
    """After learning, 0.3 is a drift although the whole past was at 0.5: the window must have been cut."""
    monitor = DriftMonitor(10)
    monitor.update(errors([0.5, 0.1, 0.3], 5000, 10))
    assert (monitor.drifts >= 1).all()
    assert (monitor.last_drift > 10_000).all()


def test_a_warning_comes_no_later_than_the_drift() -> None:
    monitor, stream = DriftMonitor(1), errors([0.1, 0.22], 6000, 1)
    warned_at = None
    for t in range(0, len(stream), 32):
        monitor.update(stream[t : t + 32])
        if warned_at is None and t >= 6000 and monitor.warnings[0]:
            warned_at = t
        if monitor.drifts[0]:
            break
    assert monitor.drifts[0] == 1
    assert warned_at is not None
    assert warned_at <= monitor.last_drift[0]


def test_river_adwin_sees_the_same_jumps() -> None:
    stream = errors([0.1, 0.4, 0.1, 0.5], 4000, 1, seed=3)
    theirs = drift.ADWIN(delta=0.002)
    rises = []
    for t, error in enumerate(stream[:, 0]):
        before = theirs.estimation
        theirs.update(float(error))
        if theirs.drift_detected and theirs.estimation > before:
            rises.append(t)
    monitor, mine = DriftMonitor(1), []
    for t in range(0, len(stream), 32):
        known = int(monitor.drifts[0])
        monitor.update(stream[t : t + 32])
        if monitor.drifts[0] > known:
            mine.append(int(monitor.last_drift[0]))
    for start in (4000, 12_000):
        assert any(start < t < start + 400 for t in rises), "river"
        assert any(start < t < start + 400 for t in mine), "ours"
    for found in (rises, mine):
        assert all(any(start < t < start + 1500 for start in (4000, 12_000)) for t in found)


def test_streams_are_independent_and_blocks_do_not_matter() -> None:
    stream = errors([0.1, 0.4], 3000, 3)
    stream[:, 1] = errors([0.2, 0.2], 3000, 1, seed=7)[:, 0]
    whole, parts, alone = DriftMonitor(3), DriftMonitor(3), DriftMonitor(1)
    whole.update(stream)
    for t in range(0, 6000, 77):
        parts.update(stream[t : t + 77])
    alone.update(stream[:, 2:].copy())
    assert whole.drifts[1] == 0 < whole.drifts[0]
    assert (whole.drifts[2], whole.last_drift[2]) == (alone.drifts[0], alone.last_drift[0])
    for name, array in whole.snapshot()[0].items():
        assert np.array_equal(array, parts.snapshot()[0][name]), name


def test_growth_keeps_every_stream_and_the_mixture_last() -> None:
    stream = errors([0.1, 0.4], 3000, 3)
    grown, plain = DriftMonitor(3), DriftMonitor(3)
    for monitor in (grown, plain):
        monitor.update(stream[:2900])
    grown.grow(5)
    plain.update(stream[2900:])
    wide = np.zeros((3100, 5), np.float32)
    wide[:, [0, 1, 4]] = stream[2900:]
    grown.update(wide)
    assert grown.drifts.tolist() == [*plain.drifts[:2], 0, 0, plain.drifts[2]]
    assert grown.last_drift[4] == plain.last_drift[2] > 3000
