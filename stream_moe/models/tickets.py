"""Tickets: each stands for a prediction until its label comes."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from stream_moe.errors import DataError
from stream_moe.types import NO_TICKET, UNLABELLED, Bool, Int32, Int64

REMEMBERED = 65_536  # of so many of the latest tickets it is known whether they were used


@dataclass(frozen=True, slots=True)
class Ticket:
    """What was predicted of an event, to be given to `learn_one` when the label is known.

    Attributes
    ----------
    number
        All that `learn_one` needs of it, to be stored beside the event. -1 = the model had learnt nothing yet, so
        nothing was predicted.
    prediction
        The most probable label; None = nothing was predicted.
    probabilities
        Probability by label.
    """

    number: int
    prediction: Any
    probabilities: dict[Any, float]
    given_by: Tickets | None = field(default=None, repr=False, compare=False)


def no_tickets(n: int) -> Int64:
    """Tickets of n events that have none, int64 [n]; a third of the time that numpy's `full` takes for one."""
    tickets = np.empty(n, np.int64)
    tickets.fill(NO_TICKET)
    return tickets


class Tickets:
    """The tickets that a model gave, each above the one before.

    Parameters
    ----------
    first
        The first that it gives.

    Examples
    --------
    >>> tickets = Tickets()
    >>> numbers = tickets.new(2)
    >>> tickets.give(np.array([-1, -1]), numbers)
    >>> tickets.check(numbers), tickets.use(numbers), tickets.next
    (None, None, 2)
    >>> tickets.check(np.array([1]))
    Traceback (most recent call last):
    stream_moe.errors.DataError: ticket 1: its label was learnt before; a label is learnt once
    """

    def __init__(self, first: int = 0) -> None:
        self.next = first

    @cached_property  # most models never give one
    def _used(self) -> Bool:
        """Whether the label of each of the latest tickets was learnt: ticket t at t % REMEMBERED."""
        return np.zeros(REMEMBERED, np.bool_)

    def new(self, n: int) -> Int64:
        """Return n tickets to give."""
        return np.arange(self.next, self.next + n)

    def give(self, y: Int32, tickets: Int64) -> None:
        """Take note of the tickets of the rows without a label; DataError unless each is above all before it."""
        given = tickets[(y == UNLABELLED) & (tickets != NO_TICKET)]
        if not len(given):
            return
        before = np.append(self.next - 1, given[:-1])
        if (wrong := np.flatnonzero(given <= before)).size:
            raise DataError(
                f"ticket {given[wrong[0]]}: stands behind {before[wrong[0]]}; the ticket of an event without a label "
                "must be above all before it"
            )
        self._used[given % REMEMBERED] = False
        self.next = int(given[-1]) + 1

    def check(self, tickets: Int64) -> None:
        """Raise DataError for a ticket that was never given, or whose label was learnt."""
        tickets = tickets[tickets != NO_TICKET]
        if (wrong := tickets[(tickets < 0) | (tickets >= self.next)]).size:
            raise DataError(f"ticket {wrong[0]}: this model never gave it; its next one is {self.next}")
        latest, counts = np.unique(tickets[tickets >= self.next - REMEMBERED], return_counts=True)
        if (wrong := latest[self._used[latest % REMEMBERED] | (counts > 1)]).size:
            raise DataError(f"ticket {wrong[0]}: its label was learnt before; a label is learnt once")

    def number_of(self, ticket: Ticket | int) -> int:
        """Return its number; DataError as in `check`, or where another model gave it."""
        if isinstance(ticket, Ticket):
            if ticket.given_by is not self:
                raise DataError(
                    f"ticket {ticket.number}: another model gave it, or this one before it was restored; if it is "
                    "this model's, give its number alone"
                )
            ticket = ticket.number
        try:
            ticket = operator.index(ticket)
        except TypeError:
            raise DataError(f"ticket {ticket!r}: a {type(ticket).__name__}; give the Ticket, or its number") from None
        self.check(np.array([ticket]))
        return ticket

    def use(self, tickets: Int64) -> None:
        """Take note that the labels of these tickets were learnt."""
        self._used[tickets[(tickets != NO_TICKET) & (tickets >= self.next - REMEMBERED)] % REMEMBERED] = True
