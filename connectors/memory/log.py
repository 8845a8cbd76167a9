"""The log itself: append-only topics, the marks in them, and the committed offsets of groups."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from stream_moe.entries import JournalEntry
from stream_moe.errors import EndOfLogError, FencedError, LogError
from stream_moe.types import RecordBatch


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
        partition: int,
        epoch: int,
        next_offset: int,
        writes: Iterable[tuple[str, Record]] = (),
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
