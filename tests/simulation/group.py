"""The coordinator of the consumer group: who holds which partition, and who is put out."""

from __future__ import annotations

import random
from collections.abc import Collection

from connectors.memory import MemorySource


class Group:
    """Deals partitions out to members, which learn of it in their next poll.

    A partition of a live member is handed over when that member has polled; one of a member that has not polled for
    `patience` steps at once, whatever that member is doing: it may come back as a zombie.
    """

    def __init__(self, chance: random.Random, patience: int) -> None:
        self.patience = patience
        self.rebalances = 0
        self._chance = chance
        self._members: dict[MemorySource, int] = {}  # -> step of the last poll
        self._owner: dict[int, MemorySource | None] = {}
        self._next: dict[int, MemorySource] = {}  # who gets a partition once its owner has polled

    def owns(self, member: MemorySource, partition: int) -> bool:
        return self._owner.get(partition) is member

    def grow(self, partitions: Collection[int]) -> None:
        """Deal out partitions that are new."""
        for partition in partitions:
            self._owner.setdefault(partition, None)
        self.rebalance()

    def heartbeat(self, member: MemorySource, step: int) -> None:
        """A poll begins: the member joins, or shows that it is alive."""
        joins = member not in self._members
        self._members[member] = step
        if joins:
            self.rebalance()

    def polled(self, member: MemorySource) -> None:
        """A poll has ended, so what was taken from the member may go to others."""
        for partition, receiver in list(self._next.items()):
            if self._owner[partition] is member:
                self._give(partition, receiver if receiver in self._members else None)

    def leave(self, member: MemorySource) -> None:
        if self._members.pop(member, None) is not None:
            for partition in [p for p, owner in self._owner.items() if owner is member]:
                self._give(partition, None)
            self.rebalance()

    def expire(self, step: int) -> int:
        """Put out those that have not polled for long; say how many."""
        late = [member for member, last in self._members.items() if step - last > self.patience]
        for member in late:
            member.change("lost", [p for p, owner in self._owner.items() if owner is member])
            self.leave(member)
        return len(late)

    def rebalance(self) -> None:
        """Deal the partitions out anew, evenly; most stay where they are."""
        members = list(self._members)
        if not members:
            return
        self.rebalances += 1
        self._chance.shuffle(members)
        most = -(-len(self._owner) // len(members))
        held = dict.fromkeys(members, 0)
        moving = []
        for partition, owner in self._owner.items():
            if owner in held and held[owner] < most and self._chance.random() < 0.8:
                held[owner] += 1
                if partition in self._next:  # it has been told to let go already
                    self._next[partition] = owner
            else:
                moving.append(partition)
        for partition in moving:
            receiver = min(members, key=held.__getitem__)
            held[receiver] += 1
            owner = self._owner[partition]
            if owner is None:
                self._give(partition, receiver)
            elif partition in self._next:
                self._next[partition] = receiver
            elif owner is not receiver:
                owner.change("revoked", [partition])
                self._next[partition] = receiver

    def _give(self, partition: int, receiver: MemorySource | None) -> None:
        self._next.pop(partition, None)
        self._owner[partition] = receiver
        if receiver is not None:
            receiver.change("assigned", [partition])
