"""The samples a replay keeps of its way: bounded, true to the events between them, the same for any chunks."""

from __future__ import annotations

import numpy as np
import pytest
from river import metrics

from stream_moe.engine.replay import replay
from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.timeline import SAMPLES, Timeline
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.streams import open_stream
from stream_moe.types import Schema


def small(schema: Schema) -> BlockClassifier:
    return build_model("driftmoe-data", schema, options={"n_experts": "4"})


def test_any_chunks_give_the_same_bounded_samples() -> None:
    found = [replay(open_stream("sea_a"), small, events=110_003, chunk=chunk).timeline for chunk in (997, 50_000)]
    assert found[0] == found[1]
    assert found[0] is not None
    events = found[0]["events"]
    assert len(events) == SAMPLES
    assert (events[0], events[-1]) == (551, 110_003)
    assert sum(found[0]["labels"]) == 110_003
    assert {len(column) for column in found[0].values() if isinstance(column, list)} == {len(events)}
    assert {len(row) for column in found[0]["experts"].values() for row in column} == {4}
    assert all(abs(sum(share) - 1) < 1e-3 for share in found[0]["experts"]["share"])


def test_a_sample_scores_the_labels_since_the_one_before() -> None:
    rng = np.random.default_rng(1)
    proba, y = rng.dirichlet(np.ones(3), 3000), rng.integers(0, 3, 3000).astype(np.int32)
    quality, timeline = Prequential(3), Timeline(3000)
    learner = small(Schema.numeric(2, ["a", "b", "c"])).report()
    for part in (slice(0, 1000), slice(1000, 3000)):
        quality.update(proba[part], y[part])
        timeline.sample(part.stop, quality, learner)
    told = timeline.to_dict()
    kappa, right = metrics.CohenKappa(), proba.argmax(1) == y
    for label, predicted in zip(y[1000:].tolist(), proba[1000:].argmax(1).tolist(), strict=True):
        kappa.update(label, predicted)
    no_change = (y[1000:] == y[999:-1]).mean()
    assert told["accuracy"] == pytest.approx([right[:1000].mean(), right[1000:].mean()], abs=1e-5)
    assert told["accuracy_since_start"][-1] == pytest.approx(right.mean(), abs=1e-5)
    assert told["kappa"][-1] == pytest.approx(kappa.get(), abs=1e-5)
    assert told["kappa_temporal"][-1] == pytest.approx((right[1000:].mean() - no_change) / (1 - no_change), abs=1e-5)


def test_labels_that_are_still_on_their_way_come_with_the_last_sample() -> None:
    told = replay(open_stream("electricity"), small, events=2000, label_delay=700).timeline
    assert told is not None
    assert told["events"] == [500, 1000, 1500, 2000, 2000]
    assert told["labels"] == [0, 300, 500, 500, 700]
    assert told["accuracy"][0] is None


def test_an_alarm_of_the_mixture_keeps_its_event() -> None:
    """SEA changes its concept at 250,000; the published mixture over it notices soon after."""
    told = replay(open_stream("sea_a", seed=3), small, events=300_000).timeline
    assert told is not None
    alarms = [event for event in told["drift_event"] if event is not None and event > 249_000]
    assert alarms
    assert 249_900 < alarms[0] < 260_000
