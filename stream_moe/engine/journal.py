"""Two topics as one log: features in one, labels in the other, and a journal of the order in which they were read.

Which labels have arrived when an event is read depends on the moment, so a second reading would take them in another
order and learn something else. So every block leaves a `JournalEntry` in the transaction that commits it: up to where
it had read both topics. A replay takes the same records in the same blocks, and inside a block the order depends on
the records alone (`merged`).

To the engine this is one log. A position in it is the sum of the positions in the two topics, which grows with every
block; the journal, and for its end the committed entry, say which pair a sum stands for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from stream_moe.entries import JournalEntry
from stream_moe.errors import ConfigError, EndOfLogError, LogError, UnavailableError
from stream_moe.ports import Change, Reader, Source
from stream_moe.sparse_rows import SparseRows
from stream_moe.types import Block, RecordBatch

JOURNAL_SECONDS = 60.0  # without a record of the journal after which its reading is given up
JOURNAL_ROWS = 4096  # read at once; in a longer journal the place to begin is looked for first


class JournaledSource:
    """The `Source` port over a topic of events and one of labels with the same number of partitions.

    Parameters
    ----------
    events
        The group's source; its partitions decide which ones of the labels are read.
    labels, journal
        Readers of the labels, and of the journal that the sink writes.
    """

    def __init__(self, events: Source, labels: Reader, journal: Reader) -> None:
        self._events, self._labels, self._journal = events, labels, journal
        self._pairs: dict[int, _Pair] = {}
        self._begins: dict[int, tuple[int, int]] = {}  # of both topics, as of the last `bounds`
        self._ends: dict[int, tuple[int, int]] = {}
        self._told: list[Change] = []

    @property
    def group(self) -> str:
        return self._events.group

    @property
    def topic(self) -> str:
        return self._events.topic

    @property
    def labels(self) -> str | None:
        return self._labels.topic

    @property
    def settled(self) -> bool:
        return self._events.settled

    def open(self) -> None:
        self._events.open()
        self._labels.open()
        self._journal.open()

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Give each partition's next block: in a replay the journal's, else all that has come of both topics."""
        labels, labels_ended = _poll(self._labels, max_records, 0.0)
        waits = not labels and not any(pair.ready for pair in self._pairs.values())
        events, events_ended = _poll(self._events, max_records, timeout if waits else 0.0)
        for change in self._events.changes():
            for partition in change.partitions:
                self._forget(partition)
            self._told.append(change)
        for half, batches in ((0, events), (1, labels)):
            for batch in batches:
                if (pair := self._pairs.get(batch.partition)) is not None:
                    pair.halves[half].add(batch)
        blocks = [pair.take() for pair in self._pairs.values() if pair.ready]
        self._hold_back()
        if events_ended and labels_ended and not blocks:
            raise EndOfLogError(self.topic)
        return blocks

    def _hold_back(self) -> None:
        """In a replay, read no further in a topic of which the next block is here."""
        for partition, pair in self._pairs.items():
            for reader, half, enough in zip((self._events, self._labels), pair.halves, pair.enough, strict=True):
                if enough and not half.paused:
                    reader.pause(partition)
                elif half.paused and not enough:
                    reader.seek(partition, half.end)
                half.paused = enough

    def changes(self) -> list[Change]:
        told, self._told = self._told, []
        return told

    def committed(self, partition: int) -> int | None:
        """Give the committed position, the sum of both topics'."""
        if self._events.committed(partition) is None:
            return None
        return self._committed_entry(partition).position

    def entry(self, partition: int) -> JournalEntry | None:
        return self._events.entry(partition)

    def _committed_entry(self, partition: int) -> JournalEntry:
        entry = self._events.entry(partition)
        if entry is None or entry.labels is None:
            raise ConfigError(
                f"group {self.group!r} has committed {self.topic!r} without labels of a topic of their own; "
                "go on without --labels, or begin anew with another --group and --state-dir"
            )
        return entry

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """For each partition: the sums of what both topics still hold first, and of where they end."""
        events, labels = self._events.bounds(partitions), self._labels.bounds(partitions)
        self._begins |= {partition: (events[partition][0], labels[partition][0]) for partition in partitions}
        self._ends |= {partition: (events[partition][1], labels[partition][1]) for partition in partitions}
        return {p: (events[p][0] + labels[p][0], events[p][1] + labels[p][1]) for p in partitions}

    def seek(self, partition: int, offset: int) -> None:
        """Hand out this partition from a position on; up to the committed one in the journal's blocks."""
        end = self._events.entry(partition)
        begin = self._begins[partition]
        entries: list[JournalEntry] = []
        if end is None:
            start = begin
        elif any(committed > held for committed, held in zip(end.pair, self._ends[partition], strict=True)):
            raise LogError(
                f"{self.topic!r} and {self.labels!r}, partition {partition}, end at {self._ends[partition]}, before "
                f"the committed offsets {end.pair}: they are not what was committed to; check --topic and --labels"
            )
        elif offset == end.position:
            start = end.pair
        else:
            start, entries = self._replay(partition, offset, begin, end)
        if sum(start) != offset:
            raise LogError(
                f"position {offset} of {self.topic!r}/{partition} is not one at which a block ended: the journal "
                f"{self._journal.topic!r} no longer holds it; restore --state-dir from a newer backup, or begin anew"
            )
        self._pairs[partition] = _Pair(partition, start, entries)
        self._events.seek(partition, start[0])
        self._labels.seek(partition, start[1])

    def _replay(
        self, partition: int, offset: int, begin: tuple[int, int], end: JournalEntry
    ) -> tuple[tuple[int, int], list[JournalEntry]]:
        """Find in the journal which pair a position stands for, and the blocks from there to the committed one."""
        found = [entry for entry in self._blocks(partition, offset) if entry.position >= offset]
        start, sequence = begin, 0
        if found and found[0].position == offset:
            start, sequence = found[0].pair, found[0].sequence
        entries = [entry for entry in found if sequence < entry.sequence <= end.sequence]
        if [entry.sequence for entry in entries] != list(range(sequence + 1, end.sequence + 1)):
            raise LogError(
                f"the journal {self._journal.topic!r}/{partition} no longer holds all blocks from {sequence + 1} to "
                f"{end.sequence}, which a replay from position {offset} needs; restore --state-dir from a newer "
                "backup, or begin anew with another --group; keep the journal as long as the topics"
            )
        return start, entries

    def _blocks(self, partition: int, position: int = 0) -> list[JournalEntry]:
        """Read the journal from some block before the one that ended at a position, or from its first."""
        low, end = self._journal.bounds([partition])[partition]
        high = end
        while high - low > JOURNAL_ROWS:
            middle = (low + high) // 2
            entry = next(self._entries(partition, middle, high), None)
            if entry is not None and entry.position <= position:
                low = middle
            else:
                high = middle
        found = list(self._entries(partition, low, end))
        self._journal.pause(partition)
        return found

    def _entries(self, partition: int, start: int, stop: int) -> Iterator[JournalEntry]:
        """Read the entries between two offsets of the journal."""
        self._journal.seek(partition, start)
        deadline = time.monotonic() + JOURNAL_SECONDS
        while start < stop:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"journal {self._journal.topic!r}/{partition}: no record from offset {start} on for "
                    f"{JOURNAL_SECONDS:.0f} s, and it ends at {stop}; is the broker there?"
                )
            for batch in self._journal.poll(JOURNAL_ROWS, 0.5):
                start = batch.next_offset
                deadline = time.monotonic() + JOURNAL_SECONDS
                yield from (JournalEntry.from_json(value) for value in batch.values if value is not None)

    def pause(self, partition: int) -> None:
        self._events.pause(partition)
        self._forget(partition)

    def _forget(self, partition: int) -> None:
        if self._pairs.pop(partition, None) is not None:
            self._labels.pause(partition)

    def close(self) -> None:
        self._pairs.clear()
        try:
            self._events.close()
        finally:
            self._labels.close()
            self._journal.close()


def _poll(reader: Reader, max_records: int, timeout: float) -> tuple[list[RecordBatch], bool]:
    try:
        return reader.poll(max_records, timeout), False
    except EndOfLogError:
        return [], True


class _Half:
    """What has come of one topic and was not handed out."""

    def __init__(self, partition: int, start: int) -> None:
        none = np.zeros(0, np.int64)
        self._held = RecordBatch(none, none, [], [], start, partition=partition)
        self.start = start  # position of what is held
        self.paused = False

    @property
    def end(self) -> int:
        """Position behind what is held."""
        return self._held.next_offset

    def add(self, batch: RecordBatch) -> None:
        held = self._held
        self._held = replace(
            batch,
            offsets=np.concatenate([held.offsets, batch.offsets]),
            timestamps=np.concatenate([held.timestamps, batch.timestamps]),
            keys=held.keys + batch.keys,
            values=held.values + batch.values,
            corrupt=held.corrupt + batch.corrupt,
            headers=held.headers if len(held) else batch.headers,
        )

    def take(self, end: int) -> RecordBatch:
        """Hand out what lies before a position."""
        taken, self._held = self._held.split(end)
        self.start = end
        return taken


class _Pair:
    """One partition of both topics, and the blocks of it that are to be replayed."""

    def __init__(self, partition: int, start: tuple[int, int], entries: list[JournalEntry]) -> None:
        self.halves = _Half(partition, start[0]), _Half(partition, start[1])
        self._entries = deque(entries)

    @property
    def enough(self) -> tuple[bool, bool]:
        """Whether of each topic all is here that the next block to be replayed takes."""
        if not self._entries:
            return False, False
        events, labels = self.halves
        offset, label = self._entries[0].pair
        return events.end >= offset, labels.end >= label

    @property
    def ready(self) -> bool:
        return all(self.enough) if self._entries else any(half.end > half.start for half in self.halves)

    def take(self) -> RecordBatch:
        """Hand out the next block."""
        events, labels = self.halves
        entry = self._entries.popleft() if self._entries else None
        offset, label = entry.pair if entry is not None else (events.end, labels.end)
        return replace(events.take(offset), labels=labels.take(label), entry=entry)


def merged(events: Block, labels: Block) -> Block:
    """Put the records of a block's two topics in one order, which depends on them alone.

    Each topic's own order stays. Between the two it is by timestamp, events first where it is the same; where a
    topic's timestamps go back, they count as the latest before.

    Examples
    --------
    >>> x, at = np.zeros((2, 1), np.float32), np.arange(2)
    >>> events = Block(x, np.int32([-1, -1]), ["a", "b"], None, at, np.int64([5, 9]))
    >>> labels = Block(x, np.int32([1, 0]), ["a", "c"], None, at, np.int64([5, 1]))
    >>> block = merged(events, labels)
    >>> block.ids, block.has_features.tolist()
    (['a', 'a', 'c', 'b'], [True, False, False, True])
    """
    features = np.ones(len(events), np.bool_) if events.has_features is None else events.has_features
    parts = [(events, features), (labels, np.zeros(len(labels), np.bool_))]
    times = [np.maximum.accumulate(block.timestamps) for block, _ in parts if block.timestamps is not None]
    order = np.argsort(np.concatenate(times), kind="stable")
    ids = events.ids + labels.ids
    keys = None if events.keys is None else [*events.keys, *(labels.keys or [b""] * len(labels))]
    return Block(
        _one_behind_the_other(events.x, labels.x)[order],
        np.concatenate([events.y, labels.y])[order],
        [ids[i] for i in order],
        np.concatenate([flags for _, flags in parts])[order],
        np.concatenate([block.offsets for block, _ in parts if block.offsets is not None])[order],
        np.concatenate([block.timestamps for block, _ in parts if block.timestamps is not None])[order],
        None if keys is None else [keys[i] for i in order],
    )


def _one_behind_the_other(first: Any, second: Any) -> Any:
    return SparseRows.joined([first, second]) if isinstance(first, SparseRows) else np.concatenate([first, second])
