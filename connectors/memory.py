"""A log in memory, for tests and demonstrations: the engine's ports without a broker.

Items other than records say what shall happen at their place, so that a crash test reads like data:

>>> log = MemoryLog()
>>> log.extend("events", [b"a", b"b", PAUSE, b"c", ABORT, b"d", EOF])
>>> source = MemorySource(log, "events", "group")
>>> source.open() is None, source.seek(0)
(True, None)
>>> source.poll(10, 0.0).values, source.poll(10, 0.0), source.poll(10, 0.0).values
([b'a', b'b'], None, [b'c'])
>>> source.poll(10, 0.0)
Traceback (most recent call last):
    ...
connectors.memory.SimulatedCrashError: ABORT before offset 3 of 'events'
>>> source.poll(10, 0.0).values
[b'd']
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from connectors.dead_letters import dead_letter_headers
from stream_moe.errors import LogError
from stream_moe.ports import EndOfLogError
from stream_moe.types import DeadLetter, RecordBatch


class Mark(Enum):
    """What happens at a place of a memory log."""

    EOF = "the log ends here: poll raises EndOfLogError, each time"
    ABORT = "poll raises SimulatedCrashError, once in the life of the log"
    PAUSE = "poll returns None, once in the life of the log"
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


class MemoryLog:
    """Append-only topics of one partition each, and the committed offsets of groups. Thread-safe."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._entries: dict[str, list[Record | Mark]] = {}
        self._marks: dict[str, dict[int, list[Mark]]] = {}
        self._start: dict[str, int] = {}
        self._committed: dict[tuple[str, str], int] = {}
        self._epoch: dict[tuple[str, str], int] = {}

    def append(self, topic: str, item: Record | Mark | bytes | tuple[bytes | None, bytes | None]) -> None:
        """Add a record (a Record, a value, or (key, value)) or a mark at the end of a topic.

        A record given as bytes gets its offset as its timestamp, so that runs are reproducible.
        """
        with self.changed:
            entries = self._entries.setdefault(topic, [])
            if isinstance(item, Mark) and item not in (CORRUPT, CONTROL):
                self._marks.setdefault(topic, {}).setdefault(len(entries), []).append(item)
            elif isinstance(item, Record | Mark):
                entries.append(item)
            else:
                key, value = item if isinstance(item, tuple) else (None, item)
                entries.append(Record(value, key, len(entries)))
            self.changed.notify_all()

    def extend(self, topic: str, items: Iterable[Record | Mark | bytes | tuple[bytes | None, bytes | None]]) -> None:
        """Append each item."""
        with self.changed:
            for item in items:
                self.append(topic, item)

    def records(self, topic: str) -> list[Record]:
        """List the readable records of a topic, trimmed ones included; empty for a topic never written."""
        with self.changed:
            return [entry for entry in self._entries.get(topic, []) if isinstance(entry, Record)]

    def trim(self, topic: str, start: int) -> None:
        """Forget the records before offset `start`, as retention does."""
        with self.changed:
            self._start[topic] = start

    def committed(self, topic: str, group: str) -> int | None:
        """Give the committed offset of a group, None if it never committed."""
        with self.changed:
            return self._committed.get((topic, group))

    def bounds(self, topic: str) -> tuple[int, int]:
        """Give the first offset still held and the offset after the last; LogError for no such topic."""
        with self.changed:
            if topic not in self._entries and topic not in self._marks:
                raise LogError(f"topic {topic!r} does not exist in this memory log; append to it first")
            return self._start.get(topic, 0), len(self._entries.get(topic, []))

    def has_mark(self, topic: str, position: int) -> bool:
        """Say whether an EOF, ABORT or PAUSE waits at this position."""
        with self.changed:
            return bool(self._marks.get(topic, {}).get(position))

    def fence(self, topic: str, group: str) -> int:
        """Start a new epoch of a group's writer; commits of older epochs are refused from now on."""
        with self.changed:
            epoch = self._epoch[topic, group] = self._epoch.get((topic, group), 0) + 1
            return epoch

    def commit(
        self, topic: str, group: str, epoch: int, next_offset: int, writes: Iterable[tuple[str, Record]]
    ) -> None:
        """Append (topic, record) pairs and commit the offset as one step; LogError for a fenced epoch."""
        with self.changed:
            if epoch != self._epoch.get((topic, group)):
                raise LogError(f"group {group!r}: this sink was fenced by a newer one; leave and let that one work")
            if next_offset < self._committed.get((topic, group), 0):
                raise LogError(f"group {group!r}: offset {next_offset} would go back behind the committed one")
            for target, record in list(writes):
                self._entries.setdefault(target, []).append(record)
            self._committed[topic, group] = next_offset
            self.changed.notify_all()

    def read(self, topic: str, position: int, max_records: int) -> RecordBatch | None:
        """Read from a position up to the next mark; None at the end or at PAUSE. Raises as the mark says."""
        with self.changed:
            start, end = self.bounds(topic)
            if not start <= position <= end:
                raise LogError(
                    f"offset {position} of {topic!r} is not in the log, which holds {start} to {end}: "
                    "the position is lost; start a new group or restore the log"
                )
            marks = self._marks.get(topic, {})
            mark = next(iter(marks.get(position, [])), None)
            if mark is EOF:
                raise EndOfLogError(f"offset {position} of {topic!r}")
            if mark is not None:
                marks[position].pop(0)
                if mark is ABORT:
                    raise SimulatedCrashError(f"ABORT before offset {position} of {topic!r}")
                return None
            stop = min([end, position + max_records, *(at for at, left in marks.items() if left and at > position)])
            if stop == position:
                return None
            entries = list(enumerate(self._entries[topic][position:stop], position))
        found = [(offset, entry) for offset, entry in entries if isinstance(entry, Record)]
        return RecordBatch(
            offsets=np.array([offset for offset, _ in found], np.int64),
            timestamps=np.array([record.timestamp for _, record in found], np.int64),
            keys=[record.key for _, record in found],
            values=[record.value for _, record in found],
            next_offset=stop,
            corrupt=[offset for offset, entry in entries if entry is CORRUPT],
            headers=found[0][1].headers if found else (),
        )


class MemorySource:
    """The `Source` port over a memory log."""

    partition = 0

    def __init__(self, log: MemoryLog, topic: str, group: str) -> None:
        self.topic = topic
        self._log = log
        self.group = group
        self._position: int | None = None

    def open(self) -> int | None:
        self._log.bounds(self.topic)
        return self._log.committed(self.topic, self.group)

    def bounds(self) -> tuple[int, int]:
        return self._log.bounds(self.topic)

    def seek(self, offset: int) -> None:
        self._position = offset

    def poll(self, max_records: int, timeout: float) -> RecordBatch | None:
        if self._position is None:
            raise LogError(f"topic {self.topic!r}: no position; seek before the first poll")
        deadline = time.monotonic() + timeout
        with self._log.changed:
            # At a PAUSE the answer is None at once; a wait is of use only at the end of the log.
            while self._log.bounds(self.topic)[1] == self._position and not self._log.has_mark(
                self.topic, self._position
            ):
                left = deadline - time.monotonic()
                if left <= 0 or not self._log.changed.wait(left):
                    return None
            batch = self._log.read(self.topic, self._position, max_records)
        if batch is not None:
            self._position = batch.next_offset
        return batch

    def close(self) -> None:
        self._position = None


class MemorySink:
    """The `Sink` port over a memory log.

    Parameters
    ----------
    log, topic, group
        The log, the input topic and the group whose offset is committed.
    predictions, dead_letters
        Names of the output topics.

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
    ) -> None:
        self.fail_before_commit: Exception | None = None
        self.fail_after_commit: Exception | None = None
        self.commits = 0
        self._log = log
        self._topic = topic
        self._group = group
        self._predictions = predictions
        self._dead_letters = dead_letters
        self._epoch = 0

    def open(self) -> None:
        self._epoch = self._log.fence(self._topic, self._group)

    def commit(
        self,
        predictions: Sequence[tuple[bytes | None, bytes]],
        dead_letters: Sequence[DeadLetter],
        next_offset: int,
    ) -> None:
        failure, self.fail_before_commit = self.fail_before_commit, None
        if failure is not None:
            raise failure
        writes = [(self._predictions, Record(value, key)) for key, value in predictions]
        for letter in dead_letters:
            headers = tuple(dead_letter_headers(letter, self._topic, 0))
            writes.append((self._dead_letters, Record(letter.value, letter.key, letter.timestamp, headers)))
        self._log.commit(self._topic, self._group, self._epoch, next_offset, writes)
        self.commits += 1
        failure, self.fail_after_commit = self.fail_after_commit, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Nothing is held."""
