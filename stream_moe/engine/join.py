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

from stream_moe.errors import CheckpointError
from stream_moe.models.keyed.index import keys_from_arrays, keys_to_arrays
from stream_moe.models.keyed.settings import SHARED
from stream_moe.report import LabelCounts
from stream_moe.snapshot import Arrays, Snapshot
from stream_moe.types import UNLABELLED, Block, Float32, Float64, Int32, Int64

MAX_WAITING = 100_000  # ids of 20 characters and 10 features: about 100 MB when all is full
TIMEOUT_SECONDS = 86_400.0
Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Waiting:
    """An event that was predicted and has no label yet."""

    x: Array  # float32 [d]
    timestamp: int
    row: int = -1  # of the block being joined, where its prediction will stand
    proba: Array | None = None  # float64 [C]
    key: bytes | None = None  # of its record, where each key has its own model


@dataclass(slots=True)
class Joined:
    """A block as the learner takes it.

    Attributes
    ----------
    x, y
        Rows in log order: float32 [m, d], int32 [m]. An event that waits has y = -1, and a label that found
        its event is a row of its own, with the event's features.
    answers
        int64 [n], the rows that answer the records with features, in log order.
    late
        (row, event) for each label that came after its event: scored with the event's prediction.
    delays
        Milliseconds from each event's timestamp to that of its label, of those that came apart; below zero where the
        label was early.
    keys
        m record keys, where each key has its own model: a late label's is its event's.
    """

    x: Float32
    y: Int32
    answers: Int64
    late: list[tuple[int, Waiting]] = field(default_factory=list)
    fresh: list[Waiting] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    keys: list[bytes] | None = None

    def reached(self, rows: Int64) -> Int64:
        """How many of the block's events were read when these rows were learnt, int64."""
        return np.searchsorted(self.answers, rows, side="right")

    def settle(self, proba: Float64) -> tuple[Float64, Int32]:
        """Take the learner's answers [m, C]; return what is to be scored: predictions [s, C], labels [s]."""
        for waiting in self.fresh:
            waiting.proba = proba[waiting.row].copy()
        labelled = self.y != UNLABELLED
        if not self.late:
            return proba[labelled], self.y[labelled]
        scored = proba.copy()
        for row, waiting in self.late:
            scored[row] = waiting.proba
        return scored[labelled], self.y[labelled]


class _Plain(msgspec.Struct):
    """What a snapshot holds beside its arrays."""

    events: list[str]
    labels: list[tuple[str, int, int]]
    done: list[tuple[str, int]]
    counts: LabelCounts


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

    Attributes
    ----------
    counts
        What became of the labels.

    Notes
    -----
    Event time is the timestamp of the record being read; one from far ahead lets everything give up that waits.

    An id used again while its first event still waits replaces it; the first counts as expired. Ids of records
    that carry features and label are not remembered: a further label for one is an early one of an event to come.
    """

    def __init__(
        self, n_features: int, n_classes: int, *, max_waiting: int = MAX_WAITING, timeout: float = TIMEOUT_SECONDS
    ):
        self._shape = (n_features, n_classes)
        self._max_waiting, self._timeout = max_waiting, int(timeout * 1000)
        # Ordered ones give up their oldest at once; a dict looks for it behind all that were deleted before.
        self._events: OrderedDict[str, Waiting] = OrderedDict()
        self._labels: OrderedDict[str, tuple[int, int]] = OrderedDict()  # id -> (class, timestamp)
        self._done: OrderedDict[str, int] = OrderedDict()  # id -> class, or UNLABELLED where the event gave up
        self.counts = LabelCounts()

    @property
    def waiting(self) -> int:
        """Events that wait for a label."""
        return len(self._events)

    @property
    def early(self) -> int:
        """Labels that wait for an event."""
        return len(self._labels)

    def join(self, block: Block) -> Joined:
        """Turn a block of records into rows to learn."""
        nothing_waits = not (self._events or self._labels)
        if nothing_waits and block.has_features is None and not (block.y == UNLABELLED).any():
            self.counts.received += len(block)
            self.counts.applied += len(block)
            return Joined(block.x, block.y, np.arange(len(block)), keys=block.keys)
        rows: list[Array] = []
        y: list[int] = []
        joined = Joined(block.x, block.y, np.zeros(0, np.int64))
        given_keys: Sequence[bytes | None] = block.keys if block.keys is not None else [None] * len(block)
        keys: list[bytes | None] = []
        answers: list[int] = []
        times = block.timestamps if block.timestamps is not None else np.full(len(block), -1)
        has_features = block.has_features if block.has_features is not None else np.ones(len(block), np.bool_)
        for i, (name, given, time) in enumerate(zip(block.ids, block.y.tolist(), times.tolist(), strict=True)):
            self._expire(time)
            label = given
            self.counts.received += label != UNLABELLED
            if has_features[i]:
                early, came = self._labels.pop(name, (UNLABELLED, 0))
                if label == UNLABELLED:
                    label = early
                    if label == UNLABELLED:
                        self._wait(name, Waiting(block.x[i].copy(), time, len(rows), key=given_keys[i]), joined)
                    else:
                        self._finish(name, label)
                        joined.delays.append(came - time)
                elif early != UNLABELLED:
                    self._again(early, label)
                answers.append(len(rows))
                rows.append(block.x[i])
                y.append(label)
                keys.append(given_keys[i])
            elif (event := self._events.pop(name, None)) is not None:
                joined.late.append((len(rows), event))
                joined.delays.append(time - event.timestamp)
                rows.append(event.x)
                y.append(label)
                keys.append(event.key)
                self._finish(name, label)
            elif name in self._done:
                self._again(label, self._done[name])
            elif name in self._labels:
                self._again(label, self._labels[name][0])
            else:
                self._labels[name] = (label, time)
            self._bound()
        joined.x = np.array(rows, np.float32).reshape(-1, self._shape[0])
        joined.y, joined.answers = np.array(y, np.int32), np.array(answers, np.int64)
        joined.keys = None if block.keys is None else [key or SHARED for key in keys]
        self.counts.applied += int((joined.y != UNLABELLED).sum())
        return joined

    def _wait(self, name: str, event: Waiting, joined: Joined) -> None:
        if self._events.pop(name, None) is not None:
            self.counts.events_expired += 1
        self._events[name] = event
        joined.fresh.append(event)

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
        name, _ = self._events.popitem(last=False)
        self.counts.events_expired += 1
        self._finish(name, UNLABELLED)

    def _drop_label(self) -> None:
        self._labels.popitem(last=False)
        self.counts.orphan += 1

    def _too_old(self, then: int, now: int) -> bool:
        return 0 <= then < now - self._timeout

    def snapshot(self) -> Snapshot:
        events = list(self._events.values())
        arrays: Arrays = {
            "x": np.array([e.x for e in events], np.float32).reshape(-1, self._shape[0]),
            "proba": np.array([e.proba for e in events], np.float64).reshape(-1, self._shape[1]),
            "timestamps": np.array([e.timestamp for e in events], np.int64),
        }
        if any(event.key is not None for event in events):
            arrays |= keys_to_arrays([event.key or SHARED for event in events])
        plain = {
            "events": list(self._events),
            "labels": [[name, label, time] for name, (label, time) in self._labels.items()],
            "done": [[name, label] for name, label in self._done.items()],
            "counts": msgspec.to_builtins(self.counts),
        }
        return arrays, plain

    def restore(self, snapshot: Snapshot) -> None:
        arrays, plain = snapshot[0], msgspec.convert(snapshot[1], _Plain)
        shapes = (arrays["x"].shape[1:], arrays["proba"].shape[1:])
        classes = [label for _, label, _ in plain.labels] + [label for _, label in plain.done if label != UNLABELLED]
        if shapes != tuple((n,) for n in self._shape) or not all(0 <= label < self._shape[1] for label in classes):
            raise CheckpointError(
                f"join: rows of {shapes}, or classes up to {max(classes, default=-1)}; not {self._shape}"
            )
        keys: Sequence[bytes | None] = keys_from_arrays(arrays) if "keys" in arrays else [None] * len(plain.events)
        columns = zip(arrays["x"], arrays["timestamps"].tolist(), arrays["proba"], keys, strict=True)
        events = [Waiting(x, time, proba=proba, key=key) for x, time, proba, key in columns]
        self._events = OrderedDict(zip(plain.events, events, strict=True))
        self._labels = OrderedDict((name, (label, time)) for name, label, time in plain.labels)
        self._done = OrderedDict(plain.done)
        self.counts = plain.counts
