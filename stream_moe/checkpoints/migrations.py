"""What each version of a checkpoint has that the one before had not; older ones are brought up to date when read.

Whoever renames or reshapes an array of a learner, or gives one a new parameter, raises VERSION in
`stream_moe.checkpoints.format` and adds the step here. It sees the state (offset, fingerprint, plain, ...) and the
arrays by their full names. From version 5 on the state may be a learner's alone (`stream_moe.models.state`): `plain`
has no join and no counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from stream_moe.snapshot import Arrays
from stream_moe.types import NO_TICKET

Array = np.ndarray[Any, Any]
State = tuple[dict[str, Any], Arrays]


def _name_the_source(state: dict[str, Any], arrays: Arrays) -> State:
    """1 -> 2: whose state it is was not written down, only a hash of the parameters."""
    return state | {"source": "", "parameters": {}}, arrays


def _account_for_labels(state: dict[str, Any], arrays: Arrays) -> State:
    """2 -> 3: labels learnt were not counted, and duplicates held those of another class."""
    join, others = state["plain"]["join"], dict(state["plain"]["counts"])
    received = others.pop("labels", 0)
    events_expired, orphan, again, conflicting = join["counts"]
    counts = {
        "received": received,
        "applied": received - orphan - again - len(join["labels"]),
        "duplicate": again - conflicting,
        "conflicting": conflicting,
        "orphan": orphan,
        "events_expired": events_expired,
    }
    join = {"events": join["events"], "labels": join["labels"], "done": join["joined"], "counts": counts}
    state = state | {"plain": state["plain"] | {"join": join, "counts": others}}
    return _wake_everyone(state, arrays)


def _wake_everyone(state: dict[str, Any], arrays: Arrays) -> State:
    """Give a mixture, of which no expert slept yet, the state of that."""
    learner = state["plain"]["learner"]
    if "gates" in learner and "sleep" not in learner:
        n = len(arrays["learner/gates/accuracy"])
        learner["sleep"] = {}
        sleep = {"total": np.zeros(n), "share": np.full(n, 1.0 / n), "asleep": np.zeros(n, np.bool_)}
        sleep |= {name: np.zeros(n, np.int64) for name in ("asked", "awake", "wakes", "missed")}
        sleep |= {name: np.zeros(1, np.int64) for name in ("learnt", "drifts")}
        arrays |= {f"learner/sleep/{name}": array for name, array in sleep.items()}
    return state, arrays


def _give_trees_an_archive(state: dict[str, Any], arrays: Arrays) -> State:
    """3 -> 4: an adaptive tree has kept nothing yet, and knows no recent events."""

    def mend(node: Any) -> None:
        for part in node.values() if type(node) is dict else ():
            mend(part)
        if type(node) is dict and {"counts", "fore", "monitor"} <= node.keys():
            node["counts"]["returns"], node["recent"] = 0, {}

    mend(state["plain"])
    for name in [name for name in arrays if name.endswith("fore/columns")]:
        recent = name.removesuffix("fore/columns") + "recent/"
        arrays[recent + "x"], arrays[recent + "y"] = np.zeros((0, 0), np.float32), np.zeros(0, np.int32)
    return state, arrays


def _begin_to_watch(state: dict[str, Any], arrays: Arrays) -> State:
    """4 -> 5: nothing watched inputs and labels; the detectors begin with the next event."""
    return state | {"plain": state["plain"] | {"watch": None}}, arrays


def _give_tickets(state: dict[str, Any], arrays: Arrays) -> State:
    """5 -> 6: a mixture found an event again by a hash of its features; now the label brings the event's ticket."""
    plain, join, found, given = state["plain"], state["plain"].get("join"), dict[int, deque[int]](), 0
    if "waiting" in plain["learner"]:
        ring = {name: arrays.pop(f"learner/waiting/{name}") for name in ("key", "open", "learnt", "said", "head")}
        used, given = len(ring["key"]), int(ring["head"][0])
        numbers = np.arange(given - used, given)
        slots = numbers % max(used, 1)  # of a ring that is not full yet, number i lies in slot i
        for number, slot in zip(numbers.tolist(), slots.tolist(), strict=True):
            if ring["open"][slot]:
                found.setdefault(int(ring["key"][slot]), deque()).append(number)
        ring["ticket"] = np.empty(used, np.int64)
        ring["ticket"][slots] = numbers
        del ring["key"]
        ring |= {"learnt": ring["learnt"][ring["open"]], "said": ring["said"][ring["open"]], "head": ring["head"][:1]}
        arrays |= {f"learner/waiting/{name}": array for name, array in ring.items()}
    if "keys" in plain["learner"]:
        plain["learner"]["keys"]["next_ticket"] = 0
    if join is not None:
        join["next_ticket"] = given
        waiting = (found.get(key) for key in hashes(arrays["join/x"]))  # the oldest first, there and here
        tickets = [numbers.popleft() if numbers else NO_TICKET for numbers in waiting]
        arrays["join/tickets"] = np.array(tickets, np.int64)
    return state, arrays


def _count_no_values(state: dict[str, Any], arrays: Arrays) -> State:
    """6 -> 7: what names no values counts none; its numeric columns stay under their normal laws."""
    return state, arrays


def _keep_votes(state: dict[str, Any], arrays: Arrays) -> State:
    """7 -> 8: a waiting event keeps what the gates for late labels said, and how their parts voted."""
    if "waiting" in state["plain"]["learner"]:
        name = "learner/waiting/said"
        arrays[name] = with_votes(arrays[name], len(arrays["learner/gates/last"]))
    return state, arrays


def with_votes(said: Array, parts: int) -> Array:
    """7 -> 8 of float32 [k, parts + 1, C]: where there were no late gates, they all say the answer, and vote it."""
    if said.shape[1] != parts + 1:
        return said
    answer = said[:, -1:]
    votes = np.equal(np.arange(said.shape[2]), answer.argmax(2)[..., None]).astype(said.dtype)
    return np.concatenate([said, answer, answer, votes, answer], 1)


def forget_waiting(arrays: Arrays) -> Arrays:
    """5 -> 6 of one key's model: its label brings no ticket, and counts as one that comes with its event."""
    waiting = {"ticket": np.int64, "open": np.bool_, "learnt": np.int64}
    nothing: Arrays = {f"waiting/{name}": np.zeros(0, dtype) for name, dtype in waiting.items()}
    nothing |= {"waiting/said": arrays["waiting/said"][:0], "waiting/head": np.zeros(1, np.int64)}
    return {name: array for name, array in arrays.items() if name != "waiting/key"} | nothing


def hashes(x: Array) -> list[int]:
    """Return the 64-bit hash of each row of x float32 [n, d] by which a mixture up to version 5 knew its event.

    FNV-1a over the words, each mixed.
    """
    bits = np.where(np.isfinite(x), x, np.float32(np.nan)).view(np.uint32)
    z = np.full(len(x), 0xCBF29CE484222325, np.uint64)
    for j in range(x.shape[1]):
        z = (z ^ bits[:, j]) * np.uint64(0x100000001B3)
        z ^= z >> np.uint64(29)
    return [int(key) for key in z]


# Version n -> n + 1.
MIGRATIONS: dict[int, Callable[[dict[str, Any], Arrays], State]] = {
    1: _name_the_source,
    2: _account_for_labels,
    3: _give_trees_an_archive,
    4: _begin_to_watch,
    5: _give_tickets,
    6: _count_no_values,
    7: _keep_votes,
}
