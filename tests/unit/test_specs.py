"""Options of generated streams: what they mean, and one clear line for every mistake in them."""

from __future__ import annotations

import numpy as np
import pytest

from stream_moe.errors import ConfigError
from stream_moe.streams import open_stream
from stream_moe.streams.generated import GENERATORS as BUILT
from stream_moe.streams.specs import ALIASES, GENERATORS, parse
from stream_moe.types import Block


def first(name: str, events: int = 10_000, seed: int = 1) -> Block:
    return next(open_stream(name, seed=seed).blocks(events))


def test_every_name_parses_and_is_built() -> None:
    assert BUILT.keys() == GENERATORS.keys()
    for name in [*ALIASES, *GENERATORS]:
        assert parse(name).generator in BUILT


def test_a_benchmark_is_a_generator_with_options() -> None:
    one, other = (
        first(name, 300_000) for name in ("led_a", "led:drifting=1,3,5,7:positions=249975,499975,749975:width=50")
    )
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)


def test_options_after_a_benchmark_replace_its_own() -> None:
    spec = parse("sea_g:width=10,20,30:noise=0.2")
    assert (spec.drifts.positions, spec.drifts.widths) == ((225_000, 475_000, 725_000), (10, 20, 30))  # type: ignore[union-attr]
    assert [concept["noise"] for concept in spec.concepts] == [0.2] * 4
    assert [concept["function"] for concept in spec.concepts] == [1, 2, 4, 1]


def test_concepts_change_at_their_positions() -> None:
    """Without noise and at one seed the concepts differ in their labels alone, where the thresholds do."""
    mixed = first("sea:function=1,4:positions=4000:noise=0")
    old, new = first("sea:function=1:noise=0"), first("sea:function=4:noise=0")
    before, after = slice(0, 3999), slice(3999, None)
    np.testing.assert_array_equal(mixed.y[before], old.y[before])
    np.testing.assert_array_equal(mixed.y[after], new.y[: len(new.y) - 3999])
    assert (old.y != new.y).any()


def test_concepts_in_turn_are_the_nested_ones_without_end() -> None:
    """Where no concept has come back yet, `every` gives what drifts at its multiples give."""
    turns = first("sea:function=1,2,3,4:every=2000:width=600:seed=1,2,3,4", 7000)
    nested = first("sea:function=1,2,3,4:positions=2000,4000,6000:width=600:seed=1,2,3,4", 7000)
    np.testing.assert_array_equal(turns.x, nested.x)
    np.testing.assert_array_equal(turns.y, nested.y)


def test_a_concept_that_comes_back_goes_on_where_it_stopped() -> None:
    turns, one = first("sea:function=1,4:every=1000:seed=5,6"), first("sea:function=1:seed=5")
    at = np.arange(1, 10_001) // 1000 % 2 == 0
    np.testing.assert_array_equal(turns.x[at], one.x[: at.sum()])
    np.testing.assert_array_equal(turns.y[at], one.y[: at.sum()])


@pytest.mark.parametrize("name", ["tree:model=1,2:every=700:width=300", "rbf_f5:model=1,2,1:positions=900,1700"])
def test_a_composition_does_not_depend_on_the_block_size(name: str) -> None:
    whole = first(name, 3000)
    for rows in (1, 7, 1000):
        blocks = open_stream(name).blocks(rows)
        parts = [next(blocks) for _ in range(3000 // rows)]
        n = len(parts) * rows
        np.testing.assert_array_equal(np.concatenate([part.x for part in parts]), whole.x[:n])
        np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), whole.y[:n])


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("hyperplane:noise=0.2:speed=0.01", 0.8),
        ("sea:noise=0,0.3:function=1,2:every=10", None),  # not one figure
        ("sea:noise=0.25:function=1,2:every=10", 0.75),
        ("tree:model=1,2:every=10", 1.0),
        ("agrawal", None),
        ("agrawal:perturbation=0", 1.0),
        ("led:noise=0", 1.0),
    ],
)
def test_the_bayes_rate_follows_the_options(name: str, rate: float | None) -> None:
    assert open_stream(name).bayes_accuracy == rate


@pytest.mark.parametrize("function", [1, 2, 3])
def test_the_bayes_rate_of_sea_is_what_the_rule_scores(function: int) -> None:
    noisy, rule = (
        first(f"sea:function={function}:noise=0.2", 100_000),
        first(f"sea:function={function}:noise=0", 100_000),
    )
    np.testing.assert_array_equal(noisy.x, rule.x)
    assert (noisy.y == rule.y).mean() == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sea:functoin=1", "no option 'functoin'; did you mean 'function'"),
        ("sea:function=5", "function=5: must be a whole number from 1 to 4"),
        ("sea:function=1.5", "must be a whole number"),
        ("sea:function=one", "must be a whole number"),
        ("sea:noise=0.123", "must be a share in whole percents from 0 to 1"),
        ("sea:noise=nan", "must be a share"),
        ("rbf:speed=fast", "must be a number from 0 to 1"),
        ("rbf:speed=inf", "must be a number from 0 to 1"),
        ("sea:function", "'function' is not an option; write NAME:OPTION=VALUE"),
        ("sea::noise=0", "'' is not an option"),
        ("sea:function=1,,2:every=5", "function=: must be a whole number"),
        ("sea:noise=0:noise=0.1", "noise is given twice"),
        ("sea:function=1,2,4:noise=0,0.1:every=9", "noise has 2 values where another option has 3"),
        ("rbf:classes=2,5:every=9", "classes decides the shape"),
        ("sea:function=1,2,4", "3 concepts; say when they change"),
        ("sea:function=1,2:every=10:positions=10", "either positions=N or every=N"),
        ("sea:function=1,2:positions=10,20", "2 concepts need 1 positions, each after the one before; got 2"),
        ("sea:function=1,2,1:positions=20,10", "each after the one before"),
        ("sea:positions=10", "positions needs several concepts"),
        ("sea:function=1,2:every=10:width=11", "one width no larger"),
        ("sea:function=1,2,1:positions=10,20:width=1,2,3", "width has 3 values"),
        ("sea:function=1,2:positions=10:ramp=steep", "choose capymoa or moa"),
        ("sea:function=1,2:positions=10:ramp=moa", "ramp=moa needs width"),
        ("tree:nominal=0:numeric=0", "at least one"),
        ("tree:depth=12:values=20:first_leaf=12", "more than 100,000 nodes"),
    ],
)
def test_a_mistake_is_one_clear_line(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_stream(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
