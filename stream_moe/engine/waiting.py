"""Events that wait for their labels, as arrays, and the rows that a learner takes of a block.

How a label finds its event is not decided here: by id in a daemon (`stream_moe.engine.join`), by the time at which it
arrives in a replay (`stream_moe.engine.delays`). Everything after that is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_moe.sparse_rows import SparseRows, SparseSlots
from stream_moe.types import NO_TICKET, Block, Float32, Float64, Int32, Int64


@dataclass(slots=True)
class Matches:
    """Which labels of a block found which events.

    A *place* tells where an event is: below n, the length of the block, it is that row of the block; above, n + a
    slot of `WaitingEvents`.

    Attributes
    ----------
    rows, y
        int64 [m] places and int32 [m] labels, in the order in which the learner is to take them: an event where it
        is read (-1 = no label yet), and once more where its label comes later.
    answers
        int64, the indices of those rows that are events being read.
    began
        int64, rows of the block whose events begin to wait.
    kept
        int64, those of them that still wait when the block ends.
    due, labels
        int64 [k] places and int32 [k] labels: which events are scored now, in this order.
    gone
        int64, slots whose events wait no longer.
    """

    rows: Int64
    y: Int32
    answers: Int64
    began: Int64
    kept: Int64
    due: Int64
    labels: Int32
    gone: Int64


class WaitingEvents:
    """Features, predictions and tickets of the events that wait, each in a slot of its own.

    Parameters
    ----------
    n_features, n_classes
        d and C.
    sparse
        Whether rows are `SparseRows`.

    Attributes
    ----------
    x, proba, tickets
        By slot: float32 [d] or a sparse row, float64 [C] what was predicted, int64 the learner's number of it.
    next_ticket
        Of the next event that begins to wait.
    """

    def __init__(self, n_features: int, n_classes: int, *, sparse: bool = False) -> None:
        self.x: Any = SparseSlots() if sparse else np.empty((0, n_features), np.float32)
        self.proba: Float64 = np.empty((0, n_classes))
        self.tickets: Int64 = np.empty(0, np.int64)
        self.next_ticket = 0
        self._free: Int64 = np.empty(0, np.int64)  # a stack
        self._n_free = 0

    def put(self, x: Float32, tickets: Int64) -> Int64:
        """Take events in, float32 [n, d] and int64 [n]; return their slots. What is predicted for them follows."""
        if not (n := len(x)):
            return np.empty(0, np.int64)
        if n > self._n_free:
            self._grow(n)
        self._n_free -= n
        slots = self._free[self._n_free : self._n_free + n].copy()
        self.x[slots], self.tickets[slots] = x, tickets
        return slots

    def free(self, slots: Int64) -> None:
        """Let go of events."""
        self._free[self._n_free : self._n_free + len(slots)] = slots
        self._n_free += len(slots)

    def widen(self, n_features: int, n_classes: int) -> None:
        """Go on with more features, which those that wait lack, and classes, of which nothing was predicted."""
        more = n_features - self.x.shape[1], n_classes - self.proba.shape[1]
        self.x = np.pad(self.x, ((0, 0), (0, more[0])), constant_values=np.nan)
        self.proba = np.pad(self.proba, ((0, 0), (0, more[1])))

    def _grow(self, n: int) -> None:
        old = len(self.tickets)
        new = max(2 * old, old + n, 64)
        for name in ("x", "proba", "tickets"):
            if isinstance(getattr(self, name), SparseSlots):  # which grow by themselves
                continue
            mine: npt.NDArray[Any] = getattr(self, name)
            grown = np.zeros((new, *mine.shape[1:]), mine.dtype)
            grown[:old] = mine
            setattr(self, name, grown)
        free = self._free[: self._n_free]
        self._free = np.empty(new, np.int64)
        self._n_free += new - old
        self._free[: self._n_free] = np.concatenate([np.arange(new - 1, old - 1, -1), free])


class Joined:
    """A block as the learner takes it.

    Attributes
    ----------
    x, y, tickets
        Rows in the order of the log: float32 [m, d], int32 [m], int64 [m]. An event that waits has y = -1 and a new
        ticket; a label that found its event is a row of its own, with the event's features and ticket.
    answers
        int64, the rows that answer the block's events, in their order.
    events
        float32 [n, d], the rows of the block's events.
    slots
        int64, where the events wait that are kept beyond the block.
    keys
        m record keys, where each key has its own model: a late label's is its event's.
    delays
        Milliseconds from each event's timestamp to that of its label, of those that did not come together; below zero
        where the label was early.
    scored, seen
        int32 [k], the labels that are scored; and all that came, where not all of them are scored.
    """

    def __init__(self, block: Block, found: Matches | None, waiting: WaitingEvents) -> None:
        self.keys: list[bytes] | None = None
        self.delays: Sequence[int] = ()
        self.seen: Int32 | None = None
        self.tickets: Int64 | None = None
        self._found, self._waiting = found, waiting
        if found is None:  # every event brings its label, if it has one at all
            self.x, self.y, self.answers, self.scored = block.x, block.y, np.arange(len(block)), block.y
            self.events = block.x
            return
        n = len(block)
        self.y, self.answers, self.scored = found.y, found.answers, found.labels
        tickets = np.full(n, NO_TICKET)
        tickets[found.began] = np.arange(waiting.next_ticket, waiting.next_ticket + len(found.began))
        waiting.next_ticket += len(found.began)
        self.x, self.tickets = _picked(block.x, waiting.x, found.rows), _picked(tickets, waiting.tickets, found.rows)
        self.events, self._n = self.x[self.answers], n
        self.slots = waiting.put(block.x[found.kept], tickets[found.kept])

    def reached(self, rows: Int64) -> Int64:
        """How many of the block's events were read when these rows were learnt, int64."""
        return rows + 1 if self._found is None else np.searchsorted(self.answers, rows, side="right")

    def settle(self, proba: Float64) -> tuple[Float64, Int32]:
        """Take what the learner predicted, float64 [m, C]; return what is scored: predictions [k, C], labels [k].

        An event whose label came late is scored with what was predicted when it was read.
        """
        if (found := self._found) is None:
            return proba, self.scored
        said = np.empty((self._n, proba.shape[1]))
        said[found.rows[found.answers]] = proba[found.answers]
        scored = _picked(said, self._waiting.proba, found.due)
        self._waiting.proba[self.slots] = said[found.kept]
        self._waiting.free(found.gone)
        return scored, self.scored


def _picked(block: Any, waiting: Any, places: Int64) -> Any:
    """Return the rows at these places, see `Matches`."""
    n = len(block)
    late = places >= n
    if isinstance(block, SparseRows):
        both = SparseRows.joined([block, waiting[places[late] - n]])
        return both[np.where(late, n + np.cumsum(late) - 1, places)]
    if not late.any():
        return block[places]
    picked = np.empty((len(places), *block.shape[1:]), block.dtype)
    picked[~late], picked[late] = block[places[~late]], waiting[places[late] - n]
    return picked
