"""What was predicted of events whose labels are still on their way.

With late labels a gate must judge each part by what it predicted at the time. Asked again when the label arrives,
those that live on the latest labels (no-change, neighbours, fast gates) would look far better than they are: they
have seen the event's neighbours by then, which they had not when it mattered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import ANY, COUNT, MOST, SHARE, Range, expect, named
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.types import Bool, Float32, Int64

MOST_EVENTS, MOST_BYTES = 2**16, 2**25


class Ring(NamedTuple):
    """The latest W events with a ticket, and what P parts predicted for C classes."""

    ticket: Int64  # [W] increasing from the oldest event to the newest
    open: Bool  # [W] the label has not come
    learnt: Int64  # [W] labels that had been learnt by then
    said: Float32  # [W, P, C]
    head: Int64  # [1] events ever taken in: number i lies in slot i % W


@compiled
def put(ring: Ring, ticket: int, learnt: int) -> int:
    """Open a slot for an event, whose ticket is above all before, and return it; the oldest event gives way."""
    slot = ring.head[0] % ring.ticket.shape[0]
    ring.ticket[slot], ring.open[slot], ring.learnt[slot] = ticket, True, learnt
    ring.head[0] += 1
    return slot


@compiled
def take(ring: Ring, ticket: int) -> int:
    """Close the slot of the event with this ticket and return it; -1 if it waits no more, or never did."""
    size, end = ring.ticket.shape[0], ring.head[0]
    low, high = max(0, end - size), end
    while low < high:  # the first event with such a ticket or a later one
        middle = (low + high) // 2
        if ring.ticket[middle % size] < ticket:
            low = middle + 1
        else:
            high = middle
    slot = low % size
    if low == end or ring.ticket[slot] != ticket or not ring.open[slot]:
        return -1
    ring.open[slot] = False
    return slot


class Waiting:
    """A bounded store of what P parts predicted for C classes, by ticket; the oldest events are forgotten first.

    Examples
    --------
    >>> store = Waiting(1, 2)
    >>> put(store.ring, 7, 0), put(store.ring, 9, 0)
    (0, 1)
    >>> take(store.ring, 9), take(store.ring, 9), take(store.ring, 7), take(store.ring, 8)
    (1, -1, 0, -1)
    """

    def __init__(self, n_parts: int, n_classes: int) -> None:
        self.ring = self._allocate(n_parts, n_classes)

    @property
    def newest(self) -> int:
        """The latest ticket; -1 = there was none."""
        head = int(self.ring.head[0])
        return int(self.ring.ticket[(head - 1) % len(self.ring.ticket)]) if head else -1

    def grow(self, n_classes: int) -> None:
        """Make room for more classes, of which nothing was predicted so far."""
        old, (_, parts, classes) = self.ring, self.ring.said.shape
        if n_classes == classes:
            return
        self.ring = self._allocate(parts, n_classes)
        size, was, stop = len(self.ring.ticket), len(old.ticket), int(old.head[0])
        numbers = np.arange(max(0, stop - min(size, was)), stop)
        to, source = numbers % size, numbers % was
        for new, kept in zip(self.ring[:3], old[:3], strict=True):
            new[to] = kept[source]
        self.ring.said[to, :, :classes] = old.said[source]
        self.ring.head[:] = stop

    def snapshot(self) -> Snapshot:
        """Return the slots in use; what was predicted, of those alone that still wait."""
        ring, used = self.ring, min(int(self.ring.head[0]), len(self.ring.ticket))
        waits = ring.open[:used].copy()
        arrays = {"ticket": ring.ticket[:used].copy(), "open": waits, "head": ring.head.copy()}
        return arrays | {"learnt": ring.learnt[:used][waits], "said": ring.said[:used][waits]}, {}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over a snapshot; CheckpointError unless it is of as many parts and classes, and fits in itself."""
        arrays, ring, used = snapshot[0], self.ring, len(snapshot[0]["ticket"])
        if arrays["said"].shape[1:] != ring.said.shape[1:]:
            raise CheckpointError(
                f"waiting: {arrays['said'].shape} events, parts and classes in the checkpoint, up to "
                f"{ring.said.shape} here; set trees and budget to what they were"
            )
        opened, (parts, classes) = int(arrays["open"].sum()), ring.said.shape[1:]
        shapes: dict[str, tuple[int, ...]] = {"ticket": (used,), "open": (used,), "head": (1,)}
        shapes |= {"learnt": (opened,), "said": (opened, parts, classes)}
        ranges = named(
            Ring, ticket=COUNT, open=SHARE, learnt=COUNT, said=ANY,
            head=Range(used, MOST if used else 0),  # above it where the ring was full
        )  # fmt: skip
        for name, shape in shapes.items():
            expect("waiting", arrays, name, getattr(ring, name).dtype, shape, ranges[name])
        stop, size, waits = int(arrays["head"][0]), len(ring.ticket), arrays["open"]
        numbers = np.arange(stop - used, stop)
        number = np.empty(used, np.int64)  # of the event in each slot there, which may be of a ring of another size
        number[numbers % max(used, 1)] = numbers
        stays = number >= stop - size
        to, open_to = number[stays] % size, number[waits & stays] % size
        ring.head[:], ring.open[:] = stop, False
        ring.ticket[to], ring.open[to] = arrays["ticket"][stays], waits[stays]
        ring.learnt[open_to], ring.said[open_to] = arrays["learnt"][stays[waits]], arrays["said"][stays[waits]]

    @staticmethod
    def _allocate(n_parts: int, n_classes: int) -> Ring:
        size = max(1, min(MOST_EVENTS, MOST_BYTES // (4 * n_parts * n_classes)))
        return Ring(
            np.zeros(size, np.int64), np.zeros(size, np.bool_), np.zeros(size, np.int64),
            np.zeros((size, n_parts, n_classes), np.float32), np.zeros(1, np.int64),
        )  # fmt: skip
