"""The gates over numbers as a part of a model: their state, and what is reported of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.experts.numbers.rows import EXTRA, NUMBER
from stream_moe.ranges import ANY, COUNT, MOST, Range, expect, number
from stream_moe.router.numbers.gates import (
    ANSWERS,
    GATES,
    STACK_PRIOR,
    Gates,
    foresee_gates,
    step_gates,
)
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Bool, Float64, Int64

MOST_WAITING = 65_536  # rows that wait for their target


class NumberGates:
    """Gates over E experts.

    Parameters
    ----------
    n_experts
        E.
    k
        Features in a row.
    interval
        Share of the targets that the interval is to hold, as 0.9.
    """

    def __init__(self, n_experts: int, k: int, interval: float) -> None:
        n, parts = n_experts, n_experts + len(GATES)
        self._k, self._half = k, (1.0 - interval) / 2.0
        self.width = 2 * parts + ANSWERS + 1  # of what is said of a row
        top = np.concatenate([np.full(n, 0.5 / n), np.full(len(GATES), 0.5 / len(GATES))])
        self.state = Gates(
            np.full(parts, -1.0), np.full((2, n), 1.0 / n), np.zeros((3, n)), top, np.zeros(n),
            np.eye(n) * STACK_PRIOR, np.ones(1), np.ones(2), np.zeros(n), np.zeros(n), np.zeros(2, np.int64),
        )  # fmt: skip
        self._scratch = np.empty((3, parts))

    @property
    def labels(self) -> int:
        """Targets learnt."""
        return int(self.state.counts[0])

    def step(self, epochs: Int64, table: Float64, now: int, source: Int64, y: Float64, said: Float64) -> Float64:
        """Go through rows, see `step_gates`; return the answers, float64 [n, ANSWERS]."""
        step_gates(self.state, self._half, self._k, epochs, table, now, source, y, said, self._scratch)
        return said[:, -ANSWERS - 1 : -1]

    def foresee(self, unit: float, said: Float64) -> Float64:
        """Return the answers to rows, float64 [n, ANSWERS]; nothing changes."""
        foresee_gates(self.state, self._half, unit, said, self._scratch)
        return said[:, -ANSWERS - 1 : -1]

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self.state._asdict().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        mine: dict[str, Any] = dict(self.state._asdict())
        fill(mine, snapshot[0], "gates", {name: COUNT if name == "counts" else ANY for name in mine})


class WaitingRows:
    """What was said of the latest 65,536 rows whose targets are still to come, by ticket.

    Parameters
    ----------
    row, said
        Numbers of a row as it was described, and of what was said of it.
    """

    def __init__(self, row: int, said: int) -> None:
        self._row = row
        self._kept = np.zeros((0, row + said))
        self._tickets = np.full(0, -1, np.int64)
        self.newest = -1

    def match(self, tickets: Int64, labelled: Bool, rows: Float64, said: Float64) -> Int64:
        """Find what was said of the rows of a block that come back with their targets.

        Parameters
        ----------
        tickets, labelled
            int64 [n], bool [n]: with a ticket and no target a row begins to wait, with both it comes back.
        rows, said
            Float64 [n, ...], written for those that are kept here.

        Returns
        -------
        int64 [n]
            -1 = a row of its own; else where it was said: the row of this block, or its own, written here.
        """
        source = np.full(len(tickets), -1, np.int64)
        if not (tickets >= 0).any():
            return source
        begins = (tickets >= 0) & ~labelled
        newest = np.maximum.accumulate(np.where(begins, tickets, self.newest))
        back = np.flatnonzero((tickets >= 0) & labelled & (newest - tickets < MOST_WAITING))
        here = {int(ticket): t for t, ticket in enumerate(tickets.tolist()) if begins[t]}
        size = len(self._tickets)
        for t in back.tolist():
            ticket = int(tickets[t])
            if ticket in here and here[ticket] < t:
                source[t] = here.pop(ticket)
            elif size and self._tickets[place := ticket % size] == ticket:
                rows[t], said[t] = self._kept[place, : self._row], self._kept[place, self._row :]
                self._tickets[place] = -1
                source[t] = t
        self._begun = np.array(sorted(here.values()), np.int64)
        self.newest = int(newest[-1])
        return source

    def put(self, tickets: Int64, rows: Float64, said: Float64) -> None:
        """Keep those rows of the block matched last that go on waiting."""
        begun = self._begun
        if len(begun):
            self._room_for(int(tickets[begun[-1]]))
            places = tickets[begun] % len(self._tickets)
            self._tickets[places] = tickets[begun]
            self._kept[places, : self._row], self._kept[places, self._row :] = rows[begun], said[begun]

    _begun: Int64 = np.empty(0, np.int64)

    def _room_for(self, newest: int) -> None:
        """Have room for all that may still be asked for."""
        open_ = self._tickets[self._tickets > newest - MOST_WAITING]
        needed = newest - (int(open_.min()) if len(open_) else newest) + 1
        size = len(self._tickets)
        if needed > size or not size:
            old = self._tickets >= max(0, newest - MOST_WAITING)
            self._place(needed, self._tickets[old], self._kept[old])

    def _place(self, needed: int, tickets: Int64, kept: Float64) -> None:
        """Have room for so many tickets in a row, and these in it."""
        size = max(64, 1 << needed.bit_length())
        self._kept, self._tickets = np.zeros((size, self._kept.shape[1])), np.full(size, -1, np.int64)
        self._tickets[tickets % size], self._kept[tickets % size] = tickets, kept

    def snapshot(self) -> Snapshot:
        """Return those that wait, in the order of their tickets."""
        places = np.flatnonzero(self._tickets > self.newest - MOST_WAITING)
        places = places[self._tickets[places] >= 0]
        places = places[np.argsort(self._tickets[places])]
        arrays = {"tickets": self._tickets[places].copy(), "kept": self._kept[places].copy()}
        return arrays, {"newest": self.newest}

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; CheckpointError where it does not fit."""
        arrays, plain = snapshot
        tickets = expect("waiting", arrays, "tickets", np.int64, (None,), COUNT)
        kept = expect("waiting", arrays, "kept", np.float64, (len(tickets), self._kept.shape[1]), ANY)
        newest = number("waiting", plain, "newest", Range(-1, MOST))
        event = kept[:, self._row - EXTRA + NUMBER]
        ascending = (np.diff(tickets) > 0).all() and (not len(tickets) or tickets[-1] - tickets[0] < MOST_WAITING)
        if not (ascending and ((event >= 0) & (event < MOST)).all()):
            raise CheckpointError("waiting: tickets, or numbers of events, that cannot be")
        self.newest, self._begun = newest, np.empty(0, np.int64)
        self._place(int(tickets[-1] - tickets[0]) + 1 if len(tickets) else 0, tickets, kept)
