"""A few hundred schedules of the simulation, and its mutants; `python -m tests.simulation` runs thousands."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation import run
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import STEPS

SCHEDULES = 150


def test_nothing_is_lost_or_done_twice() -> None:
    deaths: Counter[str] = Counter()
    for seed, outcome in run(range(100)):
        assert not outcome.violations, f"python -m tests.simulation --schedules 1 --seed {seed}"
        deaths += outcome.deaths
    assert set(deaths) >= set(STEPS) - {"leaving", "in a replay"}  # rare: thousands of schedules hit those, too


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_mistake_is_found(mutant: str) -> None:
    assert any(outcome.violations for _, outcome in run(range(SCHEDULES), mutant))


def test_a_seed_decides_everything() -> None:
    first, second = (next(run([7]))[1] for _ in range(2))
    assert (first.seen, first.deaths) == (second.seen, second.deaths)
