"""A memory log as the engine's `Reader` and `Source`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Literal

from connectors.memory.log import Mark, MemoryLog
from stream_moe.entries import JournalEntry
from stream_moe.errors import EndOfLogError, LogError
from stream_moe.ports import Change
from stream_moe.types import RecordBatch


class MemoryReader:
    """The `Reader` port over a topic of a memory log.

    Parameters
    ----------
    log, topic
        What to read.
    """

    def __init__(self, log: MemoryLog, topic: str) -> None:
        self.topic = topic
        self._log = log
        self._positions: dict[int, int] = {}  # of the partitions that are handed out

    def open(self) -> None:
        self._log.partitions(self.topic)

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        return {partition: self._log.bounds(self.topic, partition) for partition in partitions}

    def seek(self, partition: int, offset: int) -> None:
        self._positions.pop(partition, None)  # to the end of the line
        self._positions[partition] = offset

    def pause(self, partition: int) -> None:
        self._positions.pop(partition, None)

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        deadline = time.monotonic() + timeout
        with self._log.changed:
            while True:
                if self._changed():
                    return []
                # At a PAUSE the answer is empty at once; a wait is of use only at the end of the log.
                if any(not self._waits(*item) for item in self._positions.items()):
                    return self._read(max_records)
                left = deadline - time.monotonic()
                if left <= 0 or not self._log.changed.wait(left):
                    return []

    def _changed(self) -> bool:
        """Whether there is something to tell before anything is read."""
        return False

    def _waits(self, partition: int, position: int) -> bool:
        """Whether a partition is at its end, and may go on; when all of a finite log are at theirs, none may."""
        mark = self._log.mark_at(self.topic, position, partition)
        if mark is Mark.EOF:
            return not self._ended()
        return mark is None and self._log.bounds(self.topic, partition)[1] == position

    def _read(self, max_records: int) -> list[RecordBatch]:
        batches: list[RecordBatch] = []
        ended: EndOfLogError | None = None
        for partition, position in list(self._positions.items()):
            try:
                batch = self._log.read(self.topic, position, max_records, partition)
            except EndOfLogError as error:
                ended = error
                continue
            if batch is not None:
                max_records -= len(batch)
                self.seek(partition, batch.next_offset)
                batches.append(batch)
            if max_records <= 0:
                break
        if ended is not None and not batches and self._ended():
            raise ended
        return batches

    def _ended(self) -> bool:
        return all(self._log.mark_at(self.topic, at, p) is Mark.EOF for p, at in self._positions.items())

    def close(self) -> None:
        self._positions.clear()


class MemorySource(MemoryReader):
    """The `Source` port over a memory log: a member of a group whose partitions are what `change` says.

    Parameters
    ----------
    log, topic, group
        The log, the input topic, and the group whose committed positions count.
    partitions
        Assigned by `open`; None = all that the topic has.
    """

    labels = None

    def __init__(self, log: MemoryLog, topic: str, group: str, partitions: Iterable[int] | None = None) -> None:
        super().__init__(log, topic)
        self.group = group
        self.settled = False
        self._first = None if partitions is None else frozenset(partitions)
        self._held: set[int] = set()
        self._entries: dict[int, JournalEntry | None] = {}  # as of the last `committed`
        self._requested: list[Change] = []
        self._unreported: list[Change] = []

    def open(self) -> None:
        everything = frozenset(self._log.partitions(self.topic))
        self.settled = True
        self.change("assigned", everything if self._first is None else self._first)

    def change(self, kind: Literal["assigned", "revoked", "lost"], partitions: Iterable[int]) -> None:
        """Do what the group's coordinator does; it takes effect in the next poll. Thread-safe."""
        with self._log.changed:
            self._requested.append(Change(kind, frozenset(partitions)))
            self._log.changed.notify_all()

    def changes(self) -> list[Change]:
        reported, self._unreported = self._unreported, []
        return reported

    def committed(self, partition: int) -> int | None:
        with self._log.changed:
            self._entries[partition] = self._log.entry(self.topic, self.group, partition)
            return self._log.committed(self.topic, self.group, partition)

    def entry(self, partition: int) -> JournalEntry | None:
        return self._entries.get(partition)

    def seek(self, partition: int, offset: int) -> None:
        if partition not in self._held:
            raise LogError(f"topic {self.topic!r}: partition {partition} is not assigned to this source")
        super().seek(partition, offset)

    def _changed(self) -> bool:
        for change in self._requested:
            if change.kind == "assigned":
                self._held |= change.partitions
            else:
                self._held -= change.partitions
            for partition in change.partitions:
                self._positions.pop(partition, None)
            self._unreported.append(change)
        self._requested.clear()
        return bool(self._unreported)

    def close(self) -> None:
        super().close()
        self._held.clear()
        self.settled = False
