"""A log in memory, for tests and demonstrations: the engine's ports without a broker.

Items other than records say what shall happen at their place, so that a crash test reads like data:

>>> log = MemoryLog()
>>> log.extend("events", [b"a", b"b", PAUSE, b"c", ABORT, b"d", EOF])
>>> source = MemorySource(log, "events", "group")
>>> source.open()
>>> source.poll(10, 0.0), source.changes()
([], [Change(kind='assigned', partitions=frozenset({0}))])
>>> source.seek(0, 0)
>>> [batch.values for batch in source.poll(10, 0.0)], source.poll(10, 0.0)
([[b'a', b'b']], [])
>>> [batch.values for batch in source.poll(10, 0.0)]
[[b'c']]
>>> source.poll(10, 0.0)
Traceback (most recent call last):
    ...
connectors.memory.SimulatedCrashError: ABORT before offset 3 of 'events'/0
>>> [batch.values for batch in source.poll(10, 0.0)]
[[b'd']]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np

from connectors.dead_letters import dead_letter_headers
from stream_moe.errors import FencedError, LogError
from stream_moe.ports import Change, EndOfLogError
from stream_moe.types import DeadLetter, JournalEntry, RecordBatch


class Mark(Enum):
    """What happens at a place of a memory log."""

    EOF = "the log ends here: poll raises EndOfLogError, each time"
    ABORT = "poll raises SimulatedCrashError, once in the life of the log"
    PAUSE = "poll returns nothing of it, once in the life of the log"
    CORRUPT = "takes an offset: a record that the log cannot read"
    CONTROL = "takes an offset: a transaction marker, which no reader sees"


EOF, ABORT, PAUSE, CORRUPT, CONTROL = Mark.EOF, Mark.ABORT, Mark.PAUSE, Mark.CORRUPT, Mark.CONTROL


class SimulatedCrashError(Exception):
    """Stands for the death of the process. Deliberately no StreamMoeError: nothing may handle it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a log keeps it; the timestamp in milliseconds since 1970."""

    value: bytes | None
    key: bytes | None = None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


Item = Record | Mark | bytes | tuple[bytes | None, bytes | None]
Place = tuple[str, int]  # topic, partition


class MemoryLog:
    """Append-only topics of any number of partitions, and the committed offsets of groups. Thread-safe.

    A partition exists from the first thing that is appended to it; `create` makes empty ones.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._entries: dict[Place, list[Record | Mark]] = {}
        self._marks: dict[Place, dict[int, list[Mark]]] = {}
        self._start: dict[Place, int] = {}
        self._committed: dict[tuple[Place, str], tuple[int, JournalEntry | None]] = {}
        self._epoch: dict[tuple[Place, str], int] = {}

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic with this many partitions, or give one more."""
        with self.changed:
            for partition in range(partitions):
                self._entries.setdefault((topic, partition), [])
            self.changed.notify_all()

    def partitions(self, topic: str) -> list[int]:
        """List the partitions of a topic; LogError for no such topic."""
        with self.changed:
            found = sorted(partition for name, partition in self._entries if name == topic)
            if not found:
                raise LogError(f"topic {topic!r} does not exist in this memory log; append to it first")
            return found

    def append(self, topic: str, item: Item, partition: int = 0) -> None:
        """Add a record (a Record, a value, or (key, value)) or a mark at the end of a partition.

        A record given as bytes gets its offset as its timestamp, so that runs are reproducible.
        """
        with self.changed:
            entries = self._entries.setdefault((topic, partition), [])
            if isinstance(item, Mark) and item not in (CORRUPT, CONTROL):
                self._marks.setdefault((topic, partition), {}).setdefault(len(entries), []).append(item)
            elif isinstance(item, Record | Mark):
                entries.append(item)
            else:
                key, value = item if isinstance(item, tuple) else (None, item)
                entries.append(Record(value, key, len(entries)))
            self.changed.notify_all()

    def extend(self, topic: str, items: Iterable[Item], partition: int = 0) -> None:
        """Append each item."""
        with self.changed:
            for item in items:
                self.append(topic, item, partition)

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        """List the readable records of a partition, trimmed ones included; empty where nothing was ever written."""
        with self.changed:
            return [entry for entry in self._entries.get((topic, partition), []) if isinstance(entry, Record)]

    def trim(self, topic: str, start: int, partition: int = 0) -> None:
        """Forget the records before offset `start`, as retention does."""
        with self.changed:
            self._start[topic, partition] = start

    def committed(self, topic: str, group: str, partition: int = 0) -> int | None:
        """Give the committed offset of a group, None if it never committed."""
        with self.changed:
            return self._committed.get(((topic, partition), group), (None, None))[0]

    def entry(self, topic: str, group: str, partition: int = 0) -> JournalEntry | None:
        """Give what was committed beside that offset."""
        with self.changed:
            return self._committed.get(((topic, partition), group), (None, None))[1]

    def bounds(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """Give the first offset still held and the offset after the last; LogError for no such partition."""
        with self.changed:
            if partition not in self.partitions(topic):
                raise LogError(f"topic {topic!r} has no partition {partition} in this memory log")
            return self._start.get((topic, partition), 0), len(self._entries[topic, partition])

    def mark_at(self, topic: str, position: int, partition: int = 0) -> Mark | None:
        """Say which of EOF, ABORT and PAUSE waits at this position."""
        with self.changed:
            return next(iter(self._marks.get((topic, partition), {}).get(position, [])), None)

    def fence(self, topic: str, group: str, partition: int = 0) -> int:
        """Start a new epoch of a group's writer; commits of older epochs are refused from now on."""
        with self.changed:
            whose = (topic, partition), group
            self._epoch[whose] = self._epoch.get(whose, 0) + 1
            return self._epoch[whose]

    def commit(
        self,
        topic: str,
        group: str,
        epoch: int,
        next_offset: int,
        writes: Iterable[tuple[str, Record]],
        partition: int = 0,
        entry: JournalEntry | None = None,
    ) -> None:
        """Append (topic, record) pairs and commit the offset as one step; FencedError for an older epoch."""
        with self.changed:
            whose = (topic, partition), group
            if epoch != self._epoch.get(whose):
                raise FencedError(f"group {group!r}: the sink of partition {partition} was fenced by a newer one")
            if next_offset < self._committed.get(whose, (0, None))[0]:
                raise LogError(f"group {group!r}: offset {next_offset} would go back behind the committed one")
            for target, record in list(writes):
                self._entries.setdefault((target, partition), []).append(record)
            self._committed[whose] = next_offset, entry
            self.changed.notify_all()

    def read(self, topic: str, position: int, max_records: int, partition: int = 0) -> RecordBatch | None:
        """Read from a position up to the next mark; None at the end or at PAUSE. Raises as the mark says."""
        with self.changed:
            start, end = self.bounds(topic, partition)
            where = f"offset {position} of {topic!r}/{partition}"
            if not start <= position <= end:
                raise LogError(
                    f"{where} is not in the log, which holds {start} to {end}: "
                    "the position is lost; start a new group or restore the log"
                )
            marks = self._marks.get((topic, partition), {})
            mark = self.mark_at(topic, position, partition)
            if mark is EOF:
                raise EndOfLogError(where)
            if mark is not None:
                marks[position].pop(0)
                if mark is ABORT:
                    raise SimulatedCrashError(f"ABORT before {where}")
                return None
            stop = min([end, position + max_records, *(at for at, left in marks.items() if left and at > position)])
            if stop == position:
                return None
            entries = list(enumerate(self._entries[topic, partition][position:stop], position))
        found = [(offset, entry) for offset, entry in entries if isinstance(entry, Record)]
        return RecordBatch(
            offsets=np.array([offset for offset, _ in found], np.int64),
            timestamps=np.array([record.timestamp for _, record in found], np.int64),
            keys=[record.key for _, record in found],
            values=[record.value for _, record in found],
            next_offset=stop,
            corrupt=[offset for offset, entry in entries if entry is CORRUPT],
            headers=found[0][1].headers if found else (),
            partition=partition,
        )


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
        if mark is EOF:
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
        return all(self._log.mark_at(self.topic, at, p) is EOF for p, at in self._positions.items())

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
        self._asked: list[Change] = []
        self._told: list[Change] = []

    def open(self) -> None:
        everything = frozenset(self._log.partitions(self.topic))
        self.settled = True
        self.change("assigned", everything if self._first is None else self._first)

    def change(self, kind: Literal["assigned", "revoked", "lost"], partitions: Iterable[int]) -> None:
        """Do what the group's coordinator does; it takes effect in the next poll. Thread-safe."""
        with self._log.changed:
            self._asked.append(Change(kind, frozenset(partitions)))
            self._log.changed.notify_all()

    def changes(self) -> list[Change]:
        told, self._told = self._told, []
        return told

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
        for change in self._asked:
            if change.kind == "assigned":
                self._held |= change.partitions
            else:
                self._held -= change.partitions
            for partition in change.partitions:
                self._positions.pop(partition, None)
            self._told.append(change)
        self._asked.clear()
        return bool(self._told)

    def close(self) -> None:
        super().close()
        self._held.clear()
        self.settled = False


class MemorySink:
    """The `Sink` port over a memory log.

    Parameters
    ----------
    log, topic, group
        The log, the input topic and the group whose offsets are committed.
    predictions, dead_letters
        Names of the output topics; their partitions are the input's.
    journal, drifts
        Topics to write each block's entry and the drifts found in it to, None for none.

    Attributes
    ----------
    fail_before_commit, fail_after_commit
        An exception to raise once, before anything or after everything of the next commit is visible.
    commits
        How many commits succeeded.
    """

    def __init__(
        self,
        log: MemoryLog,
        topic: str,
        group: str,
        predictions: str = "predictions",
        dead_letters: str = "dead-letters",
        journal: str | None = None,
        drifts: str | None = None,
    ) -> None:
        self.fail_before_commit: Exception | None = None
        self.fail_after_commit: Exception | None = None
        self.commits = 0
        self._log = log
        self._topic = topic
        self._group = group
        self._predictions = predictions
        self._dead_letters = dead_letters
        self._journal = journal
        self._drifts = drifts
        self._epochs: dict[int, int] = {}

    def open(self, partition: int) -> None:
        self._epochs[partition] = self._log.fence(self._topic, self._group, partition)

    def commit(
        self,
        partition: int,
        predictions: Sequence[tuple[bytes | None, bytes]],
        dead_letters: Sequence[DeadLetter],
        next_offset: int,
        entry: JournalEntry | None = None,
        drifts: Sequence[bytes] = (),
    ) -> None:
        if partition not in self._epochs:
            raise LogError(f"topic {self._topic!r}: the sink of partition {partition} is not open")
        failure, self.fail_before_commit = self.fail_before_commit, None
        if failure is not None:
            raise failure
        writes = [(self._predictions, Record(value, key)) for key, value in predictions]
        for letter in dead_letters:
            headers = tuple(dead_letter_headers(letter, self._topic, partition))
            writes.append((self._dead_letters, Record(letter.value, letter.key, letter.timestamp, headers)))
        if self._drifts is not None:
            writes += [(self._drifts, Record(drift)) for drift in drifts]
        if self._journal is not None and entry is not None:
            writes.append((self._journal, Record(entry.to_json())))
        self._deliver(partition, self._epochs[partition], next_offset, writes, entry)
        self.commits += 1
        failure, self.fail_after_commit = self.fail_after_commit, None
        if failure is not None:
            raise failure

    def _deliver(
        self,
        partition: int,
        epoch: int,
        next_offset: int,
        writes: Sequence[tuple[str, Record]],
        entry: JournalEntry | None,
    ) -> None:
        """Hand a commit to the log; a simulation loses or delays it here."""
        self._log.commit(self._topic, self._group, epoch, next_offset, writes, partition, entry)

    def close(self, partition: int) -> None:
        self._epochs.pop(partition, None)
