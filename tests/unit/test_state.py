"""State as bytes: whole, and of its learner alone."""

from __future__ import annotations

import numpy as np
import pytest

from stream_moe import build_model, restore_state, state_to_bytes
from stream_moe.errors import CheckpointError
from stream_moe.models.published.data import DriftMoEData
from tests import golden
from tests.laws.cases import SCHEMA, mixed_stream


@pytest.mark.parametrize("name", ["driftmoe", "driftmoe-data", "hoeffding-tree"])
def test_a_learner_goes_on_from_bytes_as_if_nothing_had_been(name: str) -> None:
    x, y = mixed_stream(600)
    whole, first, second = (build_model(name, SCHEMA, seed=3) for _ in range(3))
    expected = whole.step(x, y)
    first.learn_many(x[:301], y[:301])
    second.learn_many(x[:50], y[:50])  # forgotten
    restore_state(second, state_to_bytes(first))
    assert np.array_equal(second.step(x[301:], y[301:]), expected[301:])
    assert second.digest == whole.digest


@pytest.mark.parametrize("name", [name for name, mixture in golden.MIXTURES.items() if mixture.state_digest])
def test_bytes_of_a_mixture_from_before_it_was_renamed_are_continued(name: str) -> None:
    mixture = golden.MIXTURES[name]
    learner = build_model(mixture.model, golden.STREAM.schema, options=mixture.options)
    restore_state(learner, golden.kept(f"state-5-{name}.bin"))
    block = next(golden.STREAM.blocks(golden.LEARNT + golden.ON))
    learner.learn_many(block.x[golden.LEARNT :], block.y[golden.LEARNT :])
    assert learner.digest == mixture.state_digest


def test_where_the_experts_lived_is_no_part_of_it() -> None:
    x, y = mixed_stream(60)
    there = DriftMoEData(SCHEMA, n_experts=2, top_k=1, executor="processes", shards=1)
    there.learn_many(x, y)
    here = DriftMoEData(SCHEMA, n_experts=2, top_k=1)
    restore_state(here, state_to_bytes(there))
    assert here.digest == there.digest


def test_bytes_of_another_learner_or_damaged_ones_are_refused_with_the_way_out() -> None:
    content = state_to_bytes(build_model("driftmoe-data", SCHEMA, seed=3))
    with pytest.raises(CheckpointError, match=r"a: made by .* \(seed was 3, is 4\); build the learner as it was"):
        restore_state(build_model("driftmoe-data", SCHEMA, seed=4), content, "a")
    with pytest.raises(CheckpointError, match="another model"):
        restore_state(build_model("driftmoe", SCHEMA, seed=3), content)
    for bad in (b"", content[:-1], content[:1000] + b"!" + content[1001:]):
        with pytest.raises(CheckpointError, match=r"empty|damaged"):
            restore_state(build_model("driftmoe-data", SCHEMA, seed=3), bad)
