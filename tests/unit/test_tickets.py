"""Tickets: from a prediction to its label, for every model, and what is no ticket."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stream_moe import BlockClassifier, DriftMoE, build_model, open_stream, replay, restore_state, state_to_bytes
from stream_moe.errors import DataError
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.memory import KeyMemory
from stream_moe.models.tickets import REMEMBERED, Tickets
from stream_moe.types import Schema
from tests.laws.cases import SCHEMA, mixed_stream
from tests.unit.keyed import Memory

ROWS, UNKNOWN = np.ones((2, 1), np.float32), np.full(2, -1, np.int32)
MODELS: dict[str, Callable[[], BlockClassifier]] = {
    "driftmoe": lambda: DriftMoE(SCHEMA, trees=2, window=100, prototypes=8),
    "driftmoe-data": lambda: build_model("driftmoe-data", SCHEMA, options={"n_experts": "2", "top_k": "1"}),
    "driftmoe-task": lambda: build_model("driftmoe-task", SCHEMA),
    "naive-bayes": lambda: build_model("naive-bayes", SCHEMA),
    "keyed": lambda: KeyedLearner(SCHEMA, make=lambda s: DriftMoE(s, trees=1, window=50), key_feature="colour"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_late_labels_by_ticket_in_whatever_order_and_blocks(name: str) -> None:
    x, y = mixed_stream(300)
    y = np.abs(y)
    one, other = MODELS[name](), MODELS[name]()
    one.learn_many(x[:100], y[:100])
    other.learn_many(x[:100], y[:100])
    tickets, proba = one.predict_tickets(x[100:])
    parts = [other.predict_tickets(x[rows]) for rows in (slice(100, 107), slice(107, 300))]
    assert np.array_equal(np.concatenate([found for found, _ in parts]), tickets)
    assert np.allclose(np.concatenate([found for _, found in parts]), proba)
    order = np.random.default_rng(1).permutation(200)
    one.learn_many(x[100:][order], y[100:][order], tickets=tickets[order])
    for rows in np.array_split(order, 7):
        other.learn_many(x[100:][rows], y[100:][rows], tickets=tickets[rows])
    assert other.digest == one.digest


def test_late_labels_of_keys_do_not_depend_on_where_the_models_are_nor_on_the_blocks() -> None:
    x, y = mixed_stream(400)
    y = np.abs(y)
    event = np.arange(400).repeat(2)
    event[1::2] -= 30
    comes = (np.arange(800) % 2 == 1)[event >= 0]
    event = event[event >= 0]
    labels = np.where(comes, y[event], -1).astype(np.int32)
    keys = [b"k%d" % (each % 7) for each in event]
    found = []
    for memory, rows in ((1 << 30, 1), (1 << 30, 100), (1, 10)):
        learner = KeyedLearner(
            SCHEMA, make=lambda s: DriftMoE(s, trees=1, window=20, prototypes=4), memory=KeyMemory(memory)
        )
        if memory == 1:
            learner.attach(Memory())
        parts = [slice(start, start + rows) for start in range(0, len(event), rows)]
        proba = [learner.step(x[event[p]], labels[p], tickets=event[p], keys=keys[p]) for p in parts]
        found.append((np.concatenate(proba), learner.digest))
        assert learner.keys.evicted > 50 or memory > 1
    assert all(np.array_equal(proba, found[0][0]) for proba, _ in found)
    assert len({digest for _, digest in found}) == 1


def test_a_ticket_makes_a_mixture_learn_from_what_it_predicted() -> None:
    """Events of equal features, whose labels come in another order: each gets back its own prediction."""
    x, y = mixed_stream(400)
    y = np.abs(y)
    x[300:] = x[300]
    found = []
    for order in (np.arange(100), np.arange(100)[::-1]):
        for with_tickets in (True, False):
            model = MODELS["driftmoe"]()
            model.learn_many(x[:300], y[:300])
            tickets, _ = model.predict_tickets(x[300:])
            late = tickets[order] if with_tickets else None
            model.learn_many(x[300:][order], y[300:][order], tickets=late)
            assert not model.waiting.ring.open.any() or not with_tickets
            found.append(model.digest)
    assert len(set(found)) == 4


def test_by_hand_it_is_what_a_replay_does() -> None:
    stream, delay = open_stream("sea_a"), 40
    block = next(stream.blocks(300))
    model = DriftMoE(stream.schema, trees=2)
    names = [feature.name for feature in stream.schema.features]
    events = [dict(zip(names, row.tolist(), strict=True)) for row in block.x]
    labels = [stream.schema.classes[label] for label in block.y]
    right, tickets = 0, []
    for t, event in enumerate(events):
        tickets.append(model.predict_ticket(event))
        right += tickets[t].prediction == labels[t]
        if t >= delay:
            model.learn_one(events[t - delay], labels[t - delay], ticket=tickets[t - delay])
    found = replay(stream, lambda schema: DriftMoE(schema, trees=2), events=300, label_delay=delay)
    assert right / 300 == found.quality.accuracy
    for t in range(300 - delay, 300):
        model.learn_one(events[t], labels[t], ticket=tickets[t].number)
    assert model.digest == found.state_digest


def test_what_waits_goes_along_with_a_copy_and_a_file(tmp_path: Path) -> None:
    x, y = mixed_stream(300)
    y = np.abs(y)
    model = MODELS["driftmoe"]()
    model.learn_many(x[:200], y[:200])
    tickets, _ = model.predict_tickets(x[200:])
    model.learn_many(x[200:250], y[200:250], tickets=tickets[:50])
    model.save(tmp_path / "a.model")
    others = [copy.deepcopy(model), DriftMoE.load(tmp_path / "a.model")]
    for learner in (model, *others):
        learner.learn_many(x[250:], y[250:], tickets=tickets[50:])
        assert learner.digest == model.digest
        assert learner.predict_tickets(x[:1])[0].tolist() == [100]


@pytest.mark.parametrize("name", ["naive-bayes", "driftmoe-data", "driftmoe"])
def test_a_restored_state_gives_no_ticket_twice(name: str) -> None:
    model = build_model(name, Schema.numeric(1, ["a", "b"]))
    tickets = [model.predict_ticket({"x0": float(x)}).number for x in range(3)]
    again = build_model(name, Schema.numeric(1, ["a", "b"]))
    restore_state(again, state_to_bytes(model))
    assert again.predict_ticket({"x0": 3.0}).number == 3
    for x, ticket in enumerate(tickets):
        again.learn_one({"x0": float(x)}, "a", ticket=ticket)


def test_before_anything_is_learnt_there_is_nothing_to_predict() -> None:
    model = DriftMoE(seed=1)
    ticket = model.predict_ticket({"load": 1.0})
    assert (ticket.number, ticket.prediction, ticket.probabilities) == (-1, None, {})
    model.learn_one({"load": 1.0}, "busy", ticket=ticket)
    assert model.predict_one({"load": 1.0}) == "busy"


def test_no_ticket_and_the_wrong_one_is_one_line_and_learns_nothing() -> None:
    model, other = (build_model("naive-bayes", Schema.numeric(1, ["a", "b"])) for _ in range(2))
    first, foreign = model.predict_ticket({"x0": 1}), other.predict_ticket({"x0": 1})
    before = model.digest
    with pytest.raises(DataError, match="ticket 0: another model gave it"):
        model.learn_one({"x0": 1}, "a", ticket=foreign)
    for wrong in (7, -3):
        with pytest.raises(DataError, match=f"ticket {wrong}: this model never gave it; its next one is 1"):
            model.learn_one({"x0": 1}, "a", ticket=wrong)
    with pytest.raises(DataError, match="ticket 0: its label was learnt before"):
        model.learn_many(ROWS, np.zeros(2, np.int32), tickets=np.array([0, 0]))
    assert model.digest == before
    model.learn_one({"x0": 1}, "a", ticket=first)
    with pytest.raises(DataError, match="ticket 0: its label was learnt before"):
        model.learn_one({"x0": 1}, "a", ticket=first.number)
    with pytest.raises(DataError, match="tickets: 1 for 2 rows"):
        model.step(ROWS, UNKNOWN, tickets=np.array([4]))
    for text in ("0", 0.5):
        with pytest.raises(DataError, match=f"ticket {text!r}: a [a-z]+; give the Ticket, or its number"):
            model.learn_one({"x0": 1}, "a", ticket=text)  # type: ignore[arg-type]
    for numbers in (np.array([0.0, 1.0]), np.array([0])):
        with pytest.raises(DataError, match="give int64, one per row"):
            model.learn_many(ROWS, np.zeros(2, np.int32), tickets=numbers)
    with pytest.raises(DataError, match="ticket 4: stands behind 4"):
        model.step(ROWS, UNKNOWN, tickets=np.array([4, 4]))


def test_a_ticket_that_was_forgotten_is_learnt_as_one_that_comes_with_its_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_moe.router.gates.waiting.MOST_EVENTS", 200)
    x, y = mixed_stream(100)
    y = np.abs(y)
    forgetful, prompt = MODELS["driftmoe"](), MODELS["driftmoe"]()
    for model in (forgetful, prompt):
        model.learn_many(x[:50], y[:50])
    tickets, _ = forgetful.predict_tickets(x[50:])
    forgetful.predict_tickets(np.resize(x, (200, x.shape[1])))
    forgetful.learn_many(x[50:], y[50:], tickets=tickets)
    prompt.learn_many(x[50:], y[50:])
    assert forgetful.digest == prompt.digest


def test_of_the_oldest_tickets_nothing_is_remembered() -> None:
    tickets, unlabelled = Tickets(), np.array([-1])
    for number in (0, 1, REMEMBERED + 1):
        tickets.give(unlabelled, np.array([number]))
    tickets.use(np.array([0, 1]))
    tickets.check(np.array([0]))
    tickets.check(np.array([REMEMBERED + 1]))  # its place is that of ticket 1
    assert tickets.next == REMEMBERED + 2
