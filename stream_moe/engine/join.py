"""Labels meet their events: a record may carry features, a label, or both.

An event without a label is predicted when it is read and waits with its features and its prediction; when
its label comes it is scored with that prediction and learnt with its own features. All waiting is bounded by
count and by event time, and depends on the log alone (never on the clock), so that a replay does the same.

| a label that | is | counted as |
| --- | --- | --- |
| comes with its event, or while that waits (late) | learnt | applied |
| comes before its event (early) | kept; learnt when the event comes | early, then applied |
| is early and whose event never comes, or comes too late | dropped | orphan |
| comes when its event has given up waiting | dropped | expired |
| comes again for an id that had one | dropped: the first one counts | duplicate, or conflicting if another class |

An event whose label never comes gives up after `timeout` seconds of event time or when `max_waiting` others wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from stream_moe.engine.waiting import Joined, Matches, WaitingEvents
from stream_moe.errors import CheckpointError, DataError
from stream_moe.ranges import ANY, COUNT, INPUT, Range, expect, index, number
from stream_moe.report import LabelCounts
from stream_moe.snapshot import Arrays, Snapshot, keys_from_arrays, keys_to_arrays
from stream_moe.sparse_rows import BUCKETS, SparseRows
from stream_moe.types import SHARED, UNLABELLED, Block, Float32

MAX_WAITING = 100_000  # ids of 20 characters and 10 features: about 100 MB when all is full
TIMEOUT_SECONDS = 86_400.0
TIME = Range(-(2**63), 2**63 - 1)  # milliseconds, as records have them


@dataclass(slots=True)
class _Held:
    """An event that waits for its label."""

    place: int  # its slot; below zero, -1 - its row, as long as the block is joined in which it was read
    timestamp: int
    key: bytes | None  # of its record, where each key has its own model


@dataclass(slots=True)
class _Block:
    """What has come of the block being joined so far; see `Matches`."""

    n: int = 0
    rows: list[int] = field(default_factory=list)
    y: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    began: list[int] = field(default_factory=list)
    fresh: dict[int, _Held] = field(default_factory=dict)  # by row: what began to wait in it and still does
    gone: list[int] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)

    def take(self, place: int, label: int, key: bytes | None) -> None:
        self.rows.append(place)
        self.y.append(label)
        self.keys.append(key)

    def matches(self) -> Matches:
        places, labels = np.array(self.rows, np.int64), np.array(self.y, np.int32)
        answers, began, kept, gone = (
            np.array(each, np.int64) for each in (self.answers, self.began, list(self.fresh), self.gone)
        )
        labelled = labels != UNLABELLED
        return Matches(places, labels, answers, began, kept, places[labelled], labels[labelled], gone)


class _Plain(msgspec.Struct):
    """What a snapshot holds beside its arrays."""

    events: list[str]
    labels: list[tuple[str, int, int]]
    done: list[tuple[str, int]]
    counts: LabelCounts
    next_ticket: int


class LabelJoin:
    """Joins labels to events by id.

    Parameters
    ----------
    n_features, n_classes
        d and C.
    max_waiting
        Events without a label, labels without an event, and ids that are done with: at most this many each; the
        oldest goes first.
    timeout
        Seconds of event time after which an event stops waiting for its label, and a label for its event.
    sparse
        Whether rows are `SparseRows`.

    Attributes
    ----------
    counts
        What became of the labels.

    Notes
    -----
    Event time is the timestamp of the record being read. A record whose timestamp lies far ahead makes everything
    that waits give up.

    An id used again while its first event still waits replaces it; the first counts as expired. Ids of records
    that carry features and label are not remembered: a further label for one is an early one of an event to come.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        max_waiting: int = MAX_WAITING,
        timeout: float = TIMEOUT_SECONDS,
        sparse: bool = False,
    ):
        self._shape, self._sparse = (n_features, n_classes), sparse
        self._max_waiting, self._timeout = max_waiting, int(timeout * 1000)
        # Ordered ones give up their oldest at once; a dict looks for it behind all that were deleted before.
        self._events: OrderedDict[str, _Held] = OrderedDict()
        self._labels: OrderedDict[str, tuple[int, int]] = OrderedDict()  # id -> (class, timestamp)
        self._done: OrderedDict[str, int] = OrderedDict()  # id -> class, or UNLABELLED where the event gave up
        self.counts = LabelCounts()
        self._waiting = WaitingEvents(n_features, n_classes, sparse=sparse)
        self._block = _Block()

    def grow(self, n_features: int, n_classes: int) -> None:
        """Go on with more features and classes; what waits lacks them."""
        self._shape = n_features, n_classes
        self._waiting.widen(n_features, n_classes)

    @property
    def waiting(self) -> int:
        """Events that wait for a label."""
        return len(self._events)

    @property
    def early(self) -> int:
        """Labels that wait for an event."""
        return len(self._labels)

    def join(self, block: Block) -> Joined:
        """Turn a block of records into rows to learn; `Joined.settle` is to be called before the next one."""
        if not (self._events or self._labels) and block.has_features is None and not (block.y == UNLABELLED).any():
            self.counts.received += len(block)
            self.counts.applied += len(block)
            joined = Joined(block, None, self._waiting)
            joined.keys = block.keys
            return joined
        n = len(block)
        keys: Sequence[bytes | None] = block.keys if block.keys is not None else [None] * n
        times = block.timestamps.tolist() if block.timestamps is not None else [-1] * n
        read = block.has_features.tolist() if block.has_features is not None else [True] * n
        self._block = so_far = _Block(n)
        columns = zip(block.ids, block.y.tolist(), times, read, keys, strict=True)
        for row, (name, label, time, has_features, key) in enumerate(columns):
            self._expire(time)
            self.counts.received += label != UNLABELLED
            if has_features:
                self._event(name, row, label, time, key)
            else:
                self._label(name, label, time)
            self._bound()
        joined = Joined(block, so_far.matches(), self._waiting)
        for event, slot in zip(so_far.fresh.values(), joined.slots.tolist(), strict=True):
            event.place = slot
        joined.keys = None if block.keys is None else [key or SHARED for key in so_far.keys]
        joined.delays = so_far.delays
        self.counts.applied += len(joined.scored)
        return joined

    def _event(self, name: str, row: int, label: int, time: int, key: bytes | None) -> None:
        """Take a record with features."""
        block = self._block
        early, came = self._labels.pop(name, (UNLABELLED, 0))
        block.answers.append(len(block.rows))
        block.take(row, label if label != UNLABELLED else early, key)
        if label == UNLABELLED and early == UNLABELLED:
            self._wait(name, row, _Held(-1 - row, time, key))
        elif label == UNLABELLED:
            self._finish(name, early)
            block.delays.append(came - time)
        elif early != UNLABELLED:
            self._again(early, label)

    def _label(self, name: str, label: int, time: int) -> None:
        """Take a record that is a label alone."""
        block = self._block
        if (event := self._events.pop(name, None)) is not None:
            block.take(block.n + event.place if event.place >= 0 else -1 - event.place, label, event.key)
            block.delays.append(time - event.timestamp)
            self._leave(event)
            self._finish(name, label)
        elif name in self._done:
            self._again(label, self._done[name])
        elif name in self._labels:
            self._again(label, self._labels[name][0])
        else:
            self._labels[name] = (label, time)

    def _wait(self, name: str, row: int, event: _Held) -> None:
        if (older := self._events.pop(name, None)) is not None:
            self._leave(older)
            self.counts.events_expired += 1
        self._events[name] = self._block.fresh[row] = event
        self._block.began.append(row)

    def _leave(self, event: _Held) -> None:
        """Let an event's slot be free once the block is settled, if it has one yet."""
        if event.place >= 0:
            self._block.gone.append(event.place)
        else:
            del self._block.fresh[-1 - event.place]

    def _finish(self, name: str, label: int) -> None:
        """Remember that an id has its label, or (UNLABELLED) that its event gave up."""
        self._done[name] = label
        if len(self._done) > self._max_waiting:
            self._done.popitem(last=False)

    def _again(self, label: int, first: int) -> None:
        """Count a label for an id that was done with."""
        self.counts.expired += first == UNLABELLED
        self.counts.duplicate += first == label
        self.counts.conflicting += first not in (UNLABELLED, label)

    def _expire(self, now: int) -> None:
        """Drop what is too old; `now` is the event time of the record being read."""
        while self._events and self._too_old(next(iter(self._events.values())).timestamp, now):
            self._drop_event()
        while self._labels and self._too_old(next(iter(self._labels.values()))[1], now):
            self._drop_label()

    def _bound(self) -> None:
        """Drop the oldest of what is too many."""
        if len(self._events) > self._max_waiting:
            self._drop_event()
        if len(self._labels) > self._max_waiting:
            self._drop_label()

    def _drop_event(self) -> None:
        name, event = self._events.popitem(last=False)
        self._leave(event)
        self.counts.events_expired += 1
        self._finish(name, UNLABELLED)

    def _drop_label(self) -> None:
        self._labels.popitem(last=False)
        self.counts.orphan += 1

    def _too_old(self, then: int, now: int) -> bool:
        return 0 <= then < now - self._timeout

    def snapshot(self) -> Snapshot:
        events, waiting = list(self._events.values()), self._waiting
        slots = np.array([event.place for event in events], np.int64)
        arrays: Arrays = {
            **_rows_to_arrays(waiting.x[slots]),
            "proba": waiting.proba[slots],
            "tickets": waiting.tickets[slots],
            "timestamps": np.array([event.timestamp for event in events], np.int64),
        }
        if any(event.key is not None for event in events):
            arrays |= keys_to_arrays([event.key or SHARED for event in events])
        plain = {
            "events": list(self._events),
            "labels": [[name, label, time] for name, (label, time) in self._labels.items()],
            "done": [[name, label] for name, label in self._done.items()],
            "counts": msgspec.to_builtins(self.counts),
            "next_ticket": waiting.next_ticket,
        }
        return arrays, plain

    def restore(self, snapshot: Snapshot) -> None:
        arrays, plain = snapshot[0], msgspec.convert(snapshot[1], _Plain)
        self._check(plain)
        n, (d, c) = len(plain.events), self._shape
        x = _rows_from_arrays(arrays, n) if self._sparse else expect("join", arrays, "x", np.float32, (n, d), INPUT)
        proba = expect("join", arrays, "proba", np.float64, (n, c), ANY)
        tickets = expect("join", arrays, "tickets", np.int64, (n,), Range(-1, plain.next_ticket - 1))
        times = expect("join", arrays, "timestamps", np.int64, (n,), ANY)  # which are the producers'
        keys: Sequence[bytes | None] = keys_from_arrays(arrays) if "keys" in arrays else [None] * n
        self._waiting = WaitingEvents(*self._shape, sparse=self._sparse)
        self._waiting.next_ticket = plain.next_ticket
        slots = self._waiting.put(x, tickets)
        self._waiting.proba[slots] = proba
        columns = zip(plain.events, slots.tolist(), times.tolist(), keys, strict=True)
        self._events = OrderedDict((name, _Held(slot, time, key)) for name, slot, time, key in columns)
        self._labels = OrderedDict((name, (label, time)) for name, label, time in plain.labels)
        self._done = OrderedDict(plain.done)
        self.counts = plain.counts

    def _check(self, plain: _Plain) -> None:
        """Raise CheckpointError where a number is not what it may be, or an event waits twice."""
        c, counts = self._shape[1], msgspec.to_builtins(plain.counts)
        numbers = [(f"counts/{name}", n, COUNT) for name, n in counts.items()]
        numbers += [("next_ticket", plain.next_ticket, COUNT)]
        numbers += [("class of an early label", label, index(c)) for _, label, _ in plain.labels]
        numbers += [("class of an id that is done with", label, index(c, none=True)) for _, label in plain.done]
        numbers += [("timestamp of an early label", time, TIME) for _, _, time in plain.labels]
        for name, value, allowed in numbers:
            number("join", {name: value}, name, allowed)
        if len(set(plain.events)) != len(plain.events):
            raise CheckpointError(f"join: of {len(plain.events)} events that wait some have the same id")


def _rows_to_arrays(rows: Float32 | SparseRows) -> Arrays:
    if not isinstance(rows, SparseRows):
        return {"x": rows}
    return {"x.start": rows.start, "x.bucket": rows.bucket, "x.value": rows.value}


def _rows_from_arrays(arrays: Arrays, n: int) -> Any:
    """Undo `_rows_to_arrays` for n sparse rows; CheckpointError where they are none."""
    start = expect("join", arrays, "x.start", np.int64, (n + 1,), COUNT)
    bucket = expect("join", arrays, "x.bucket", np.int32, (None,), index(BUCKETS))
    value = expect("join", arrays, "x.value", np.float32, bucket.shape, INPUT)
    try:
        return SparseRows(start, bucket, value).checked()
    except DataError as error:
        raise CheckpointError(f"join: {error}") from None
