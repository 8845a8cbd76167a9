"""The memory that the models of all partitions of a process share."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from stream_moe.models.keyed.residents import Resident, Residents
from stream_moe.models.keyed.settings import MEMORY_BYTES

Leaving = list[tuple[bytes, Resident]]


class Holder(Protocol):
    """Who holds models, and can write them elsewhere."""

    residents: Residents

    def evict(self, leaving: Leaving) -> None: ...


class KeyMemory:
    """A bound on what the models of several holders take together; those used longest ago leave, whoever holds them.

    Parameters
    ----------
    limit
        Bytes. It changes no result.

    Examples
    --------
    >>> memory = KeyMemory(1 << 20)
    >>> memory.bytes, memory.tick()
    (0, 1)
    """

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self.limit = limit
        self._holders: WeakSet[Holder] = WeakSet()
        self._now = 0

    @property
    def bytes(self) -> int:
        return sum(holder.residents.bytes for holder in self._holders)

    def join(self, holder: Holder) -> None:
        self._holders.add(holder)

    def tick(self) -> int:
        """Return the time of a use: it is later than that of every use before."""
        self._now += 1
        return self._now

    def shrink(self) -> None:
        """Have the models written that were used longest ago, once all of them take too much; never the last one."""
        left = self.bytes
        if left <= self.limit:
            return
        limit, leaving = self.limit - self.limit // 16, dict[Holder, Leaving]()
        oldest = heapq.merge(*map(_by_use, self._holders), key=lambda each: each[0])
        previous = next(oldest)
        for following in oldest:
            if left <= limit:
                break
            _, holder, key, resident = previous
            leaving.setdefault(holder, []).append((key, resident))
            left -= resident.bytes
            previous = following
        for holder, models in leaving.items():
            holder.evict(models)


def _by_use(holder: Holder) -> Iterator[tuple[int, Holder, bytes, Resident]]:
    for key, resident in holder.residents.held.items():
        yield resident.used, holder, key, resident
