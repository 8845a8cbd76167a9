"""The online gates: what they find, what they guarantee, and how they wait for labels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from stream_moe.errors import CheckpointError
from stream_moe.router.gates import kernel
from stream_moe.router.gates.online import OnlineGates
from stream_moe.router.gates.waiting import MOST_EVENTS, Waiting, put, take
from stream_moe.types import Float64, Int32, Int64

N = 3000


def opinions_of(y: Int32, right: Float64, n_classes: int = 3, seed: int = 1) -> Float64:
    """[E, n, C]: expert e gives 0.8 to the true class with probability right[e, t], else to another one."""
    rng = np.random.default_rng(seed)
    named = np.where(
        rng.random((len(right), len(y))) < right, y, (y + rng.integers(1, n_classes, len(y))) % n_classes
    )
    return np.where(np.arange(n_classes) == named[..., None], 0.8, 0.2 / (n_classes - 1))


def labels(n: int = N, n_classes: int = 3) -> Int32:
    return np.random.default_rng(0).integers(0, n_classes, n).astype(np.int32)


def step(
    gates: OnlineGates, opinions: Float64, y: Int32, waiting: Waiting | None = None, tickets: Int64 | None = None
) -> tuple[Float64, npt.NDArray[np.float32], npt.NDArray[np.float32], Int32]:
    tickets = np.full(len(y), -1) if tickets is None else tickets
    return gates.step(opinions, y, tickets, waiting or Waiting(gates.n_parts, opinions.shape[2]))


def loss(p: Float64, y: Int32) -> float:
    return float(-np.log(p[np.arange(len(y)), y]).sum())


def test_the_best_expert_is_found_and_its_share_says_so() -> None:
    y = labels()
    opinions = opinions_of(y, np.array([[0.5], [0.9], [0.5], [0.4]]))
    answers, shares, right, _ = step(OnlineGates(np.array([True, False, False, True]), 3), opinions, y)
    assert (answers.argmax(1) == y)[500:].mean() > 0.88
    assert shares[-1].argmax() == 1
    assert shares.sum(1) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(right.T > 0, opinions.argmax(2) == y)


def test_experts_that_err_apart_are_better_together() -> None:
    y = labels()
    opinions = opinions_of(y, np.full((7, 1), 0.6))
    answers, *_ = step(OnlineGates(np.zeros(7, np.bool_), 3), opinions, y)
    assert (answers.argmax(1) == y).mean() > (opinions.argmax(2) == y).mean(1).max() + 0.07


def test_it_follows_when_the_best_expert_changes() -> None:
    y = labels()
    first = np.arange(N) < N // 2
    opinions = opinions_of(y, np.stack([np.where(first, 0.9, 0.3), np.where(first, 0.3, 0.9)]))
    answers, shares, *_ = step(OnlineGates(np.zeros(2, np.bool_), 3), opinions, y)
    soon = slice(N // 2 + 50, N // 2 + 250)
    assert (answers.argmax(1) == y)[soon].mean() > 0.8
    assert shares[N // 2 - 1].argmax() == 0
    assert shares[-1].argmax() == 1


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("kind", ["noise", "one good", "adversary"])
def test_the_stated_bound_holds_against_every_expert(n_classes: int, kind: str) -> None:
    y = labels(n_classes=n_classes)
    rng = np.random.default_rng(5)
    if kind == "noise":
        opinions = rng.dirichlet(np.full(n_classes, 0.2), (5, N))
    elif kind == "one good":
        opinions = opinions_of(y, np.array([[0.99], *[[0.05]] * 4]), n_classes)
    else:  # whoever was right is wrong next
        turn = np.arange(N) % 2 == 0
        opinions = opinions_of(y, np.stack([turn, ~turn, turn, ~turn, np.full(N, 0.5)]).astype(float), n_classes)
    answers, *_ = step(OnlineGates(np.array([True, True, False, False, False]), n_classes), opinions, y)
    prior = (1 - kernel.FIRST_PRIOR) / (kernel.N_GATES + 6)
    slack = math.log(1 / prior) + N * (-math.log1p(-kernel.SWITCH) + n_classes * kernel.FLOOR)
    with np.errstate(divide="ignore"):
        best = min(loss(expert, y) for expert in opinions)
    assert loss(answers, y) <= best + slack
    assert slack / N < 0.005  # and it says something


def test_an_expert_that_says_nan_spoils_nothing() -> None:
    y = labels()
    opinions = opinions_of(y, np.array([[0.9], [0.5], [0.5]]))
    opinions[1:, ::7] = np.nan
    answers, *_ = step(OnlineGates(np.array([False, True, True]), 3), opinions, y)
    assert np.isfinite(answers).all()
    assert (answers.argmax(1) == y)[500:].mean() > 0.87


def test_unlabelled_events_teach_nothing_until_their_label_comes() -> None:
    y = labels(100)
    opinions = opinions_of(y, np.array([[0.9], [0.5]]))
    gates = OnlineGates(np.zeros(2, np.bool_), 3)
    before = {name: a.tobytes() for name, a in gates.snapshot()[0].items()}
    answers, *_ = step(gates, opinions, np.full(100, -1, np.int32))
    assert {name: a.tobytes() for name, a in gates.snapshot()[0].items()} == before
    assert np.array_equal(gates.answer(opinions), answers)


def test_late_labels_judge_what_was_said_at_the_time() -> None:
    """Expert 0 knows the label only once it has come; expert 1 knew a little at the time."""
    y = labels(600)
    then = opinions_of(y, np.array([[0.33], [0.7]]))
    now = opinions_of(y, np.array([[1.0], [0.7]]), seed=2)
    gates = OnlineGates(np.zeros(2, np.bool_), 3)
    waiting = Waiting(gates.n_parts, 3)
    for t in range(0, 600, 50):  # fifty events, then their labels
        rows, tickets = slice(t, t + 50), np.arange(t, t + 50)
        step(gates, then[:, rows], np.full(50, -1, np.int32), waiting, tickets)
        _, shares, right, _ = step(gates, now[:, rows], y[rows], waiting, tickets)
        assert np.array_equal(right.T > 0, then[:, rows].argmax(2) == y[rows])
    assert shares[-1].argmax() == 1


def test_a_waiting_event_is_found_by_its_ticket_and_the_oldest_is_forgotten_first() -> None:
    ring = Waiting(4, 2).ring
    assert [put(ring, ticket, 0) for ticket in (3, 5, 9)] == [0, 1, 2]
    assert [take(ring, ticket) for ticket in (9, 4, 9, 2, 3, 10, 5)] == [2, -1, -1, -1, 0, -1, 1]
    for k in range(MOST_EVENTS + 1):
        put(ring, 100 + k, 0)
    assert take(ring, 100) == -1
    assert take(ring, 101) >= 0
    assert take(ring, 100 + MOST_EVENTS) >= 0


def test_events_without_a_ticket_are_not_kept() -> None:
    y, gates = labels(20), OnlineGates(np.zeros(2, np.bool_), 3)
    waiting = Waiting(gates.n_parts, 3)
    step(gates, opinions_of(y, np.full((2, 1), 0.7)), np.full(20, -1, np.int32), waiting)
    assert waiting.ring.head[0] == 0


def test_waiting_events_survive_a_snapshot_and_more_classes() -> None:
    store = Waiting(2, 2)
    for k in range(5):
        slot = put(store.ring, 10 + k, k)
        store.ring.said[slot] = k
    take(store.ring, 11)
    other = Waiting(2, 2)
    other.restore(store.snapshot())
    for ring in (store, other):
        ring.grow(3)
        slot = take(ring.ring, 13)
        assert ring.ring.said[slot].tolist() == [[3, 3, 0], [3, 3, 0]]
        assert ring.ring.learnt[slot] == 3
        assert take(ring.ring, 11) == -1
    with pytest.raises(CheckpointError, match="waiting"):
        Waiting(3, 2).restore(store.snapshot())


def test_a_checkpoint_of_other_experts_is_refused() -> None:
    gates = OnlineGates(np.zeros(3, np.bool_), 2)
    with pytest.raises(CheckpointError, match="other experts"):
        OnlineGates(np.zeros(4, np.bool_), 2).restore(gates.snapshot())
    with pytest.raises(CheckpointError, match="other experts"):
        OnlineGates(np.array([True, False, False]), 2).restore(gates.snapshot())


@pytest.mark.parametrize("delay", [1, 20, 300])
@pytest.mark.parametrize("kind", ["noise", "one good", "takes turns", "turns with the delay"])
def test_late_answers_are_within_the_stated_bound_of_every_part(delay: int, kind: str) -> None:
    n, n_classes = 4000, 2
    y = labels(n, n_classes)
    turn = np.arange(n) // {"takes turns": 1, "turns with the delay": delay}.get(kind, n) % 2 == 0
    right = {
        "noise": np.full((5, n), 0.5),
        "one good": np.repeat([[0.95], *[[0.4]] * 4], n, 1),
    }.get(kind, np.stack([turn, ~turn, turn, ~turn, np.full(n, 0.5)]).astype(float))
    opinions = opinions_of(y, right, n_classes)
    gates = OnlineGates(np.array([True, True, False, False, False]), n_classes)
    waiting = Waiting(gates.n_parts, n_classes)
    prior = gates._late_row.prior
    drawn, parts = 0.0, np.zeros(len(prior))
    for t in range(n + delay):
        if t < n:
            step(gates, opinions[:, t : t + 1], np.full(1, -1, np.int32), waiting, np.array([t]))
        if t >= delay:
            s = t - delay
            said = waiting.ring.said[s % len(waiting.ring.ticket)].copy()
            drawn += 1.0 - said[len(parts), y[s]]
            parts += said[: len(parts)].argmax(1) != y[s]
            step(gates, opinions[:, s : s + 1], y[s : s + 1], waiting, np.array([s]))
    assert gates.late
    most, q = n * (1 + 2 * delay), math.log(len(parts))
    scale = float(gates._late.scale[0])
    assert (drawn <= parts + scale * (2 * q - np.log(prior)) + math.log2(scale)).all()
    assert scale <= max(1.0, 2 * math.sqrt(most / (8 * q)) + 2 * (delay + 1) / q)
    if kind == "one good":  # and it is far from the bound where there is something to be found
        assert drawn < parts.min() + 0.05 * n


def test_late_gates_rest_until_a_label_comes_late_and_again_when_none_does() -> None:
    y = labels(2000)
    opinions = opinions_of(y, np.array([[0.9], [0.5]]))
    gates = OnlineGates(np.zeros(2, np.bool_), 3)
    waiting = Waiting(gates.n_parts, 3)
    step(gates, opinions[:, :500], y[:500], waiting)
    assert not any(name.startswith("late_") for name in gates.snapshot()[0])
    for t in range(500, 700, 10):  # ten events, then their labels
        rows, tickets = slice(t, t + 10), np.arange(t, t + 10)
        step(gates, opinions[:, rows], np.full(10, -1, np.int32), waiting, tickets)
        step(gates, opinions[:, rows], y[rows], waiting, tickets)
    assert gates.late
    other = OnlineGates(np.zeros(2, np.bool_), 3)
    other.restore(gates.snapshot())
    assert np.array_equal(other.answer(opinions), gates.answer(opinions))
    step(gates, opinions[:, 700:], y[700:], waiting)
    assert not gates.late
    rests = gates.snapshot()[0]
    step(gates, opinions[:, :500], y[:500], waiting)
    assert np.array_equal(gates.snapshot()[0]["late_power"], rests["late_power"])


def test_a_part_whose_probabilities_are_too_sure_is_taken_less_sure() -> None:
    y = labels(2000, 2)
    opinions = np.repeat(opinions_of(y, np.array([[0.7]]), 2), 2, 0)
    opinions = np.where(opinions > 0.5, 0.999, 0.001)  # right in 7 of 10
    gates = OnlineGates(np.zeros(2, np.bool_), 2)
    waiting = Waiting(gates.n_parts, 2)
    answers = []
    for t in range(0, 2000, 50):
        rows, tickets = slice(t, t + 50), np.arange(t, t + 50)
        answers.append(step(gates, opinions[:, rows], np.full(50, -1, np.int32), waiting, tickets)[0])
        step(gates, opinions[:, rows], y[rows], waiting, tickets)
    said = np.concatenate(answers)[1000:].max(1).mean()
    assert 0.6 < said < 0.8


def test_waiting_events_move_into_a_ring_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Waiting(2, 2)
    for k in range(10):
        store.ring.said[put(store.ring, 10 + k, k)] = k
    for k in (4, 8):
        take(store.ring, 10 + k)
    for size in (6, 16):  # the latest six, and from there into a larger one
        monkeypatch.setattr("stream_moe.router.gates.waiting.MOST_EVENTS", size)
        other = Waiting(2, 2)
        other.restore(store.snapshot())
        assert int(other.ring.head[0]) == 10
        store = other
    put(store.ring, 20, 10)
    found = {ticket: take(store.ring, ticket) for ticket in range(10, 21)}
    assert [ticket for ticket, slot in found.items() if slot >= 0] == [15, 16, 17, 19, 20]
    assert [float(store.ring.said[found[ticket]].max()) for ticket in (15, 16, 17, 19)] == [5, 6, 7, 9]
    assert [int(store.ring.learnt[found[ticket]]) for ticket in (15, 19)] == [5, 9]
