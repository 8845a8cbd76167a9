"""Labels meet their events: a record may carry features, a label, or both.

An event without a label is predicted when it is read and waits with its features and its prediction; when
its label comes it is scored with that prediction and learnt with its own features. All waiting is bounded by
count and by event time, and depends on the log alone (never on the clock), so that a replay does the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.experts.base import Arrays, Snapshot
from stream_moe.types import UNLABELLED, Block, Float32, Float64, Int32, Int64

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Waiting:
    """An event that was predicted and has no label yet."""

    x: Array  # float32 [d]
    timestamp: int
    row: int = -1  # of the block being joined, where its prediction will stand
    proba: Array | None = None  # float64 [C]


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
    """

    x: Float32
    y: Int32
    answers: Int64
    late: list[tuple[int, Waiting]] = field(default_factory=list)
    fresh: list[Waiting] = field(default_factory=list)

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
    joined: list[tuple[str, int]]
    counts: tuple[int, int, int, int]


class LabelJoin:
    """Joins labels to events by id.

    Parameters
    ----------
    n_features, n_classes
        d and C.
    max_waiting
        Events without a label, labels without an event, and ids of joined events: at most this many each; the
        oldest goes first.
    timeout
        Seconds of event time after which an event stops waiting for its label, and a label for its event.

    Attributes
    ----------
    expired, orphans, duplicates, conflicts
        Events that never got a label; labels that never found an event; labels that came again, with the
        same class or with another.

    Notes
    -----
    An id used again while its first event still waits replaces it; the first counts as expired. Ids of records
    that carry features and label are not remembered: a further label for one is an orphan.
    """

    def __init__(self, n_features: int, n_classes: int, *, max_waiting: int = 100_000, timeout: float = 86_400.0):
        self._shape = (n_features, n_classes)
        self._max_waiting, self._timeout = max_waiting, int(timeout * 1000)
        self._events: dict[str, Waiting] = {}
        self._labels: dict[str, tuple[int, int]] = {}  # id -> (class, timestamp)
        self._joined: dict[str, int] = {}  # id -> class
        self.expired = self.orphans = self.duplicates = self.conflicts = 0

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
            return Joined(block.x, block.y, np.arange(len(block)))
        rows: list[Array] = []
        y: list[int] = []
        joined = Joined(block.x, block.y, np.zeros(0, np.int64))
        answers: list[int] = []
        times = block.timestamps if block.timestamps is not None else np.full(len(block), -1)
        has_features = block.has_features if block.has_features is not None else np.ones(len(block), np.bool_)
        for i, (name, given, time) in enumerate(zip(block.ids, block.y.tolist(), times.tolist(), strict=True)):
            self._expire(time)
            label = given
            if has_features[i]:
                if label == UNLABELLED:
                    label = self._labels.pop(name, (UNLABELLED, 0))[0]
                    if label == UNLABELLED:
                        self._wait(name, Waiting(block.x[i].copy(), time, row=len(rows)), joined)
                    else:
                        self._joined[name] = label
                answers.append(len(rows))
                rows.append(block.x[i])
                y.append(label)
            elif (event := self._events.pop(name, None)) is not None:
                joined.late.append((len(rows), event))
                rows.append(event.x)
                y.append(label)
                self._joined[name] = label
            elif name in self._joined:
                self.duplicates += 1
                self.conflicts += self._joined[name] != label
            elif name in self._labels:
                self.duplicates += 1
                self.conflicts += self._labels[name][0] != label
            else:
                self._labels[name] = (label, time)
            self._bound()
        joined.x = np.array(rows, np.float32).reshape(-1, self._shape[0])
        joined.y, joined.answers = np.array(y, np.int32), np.array(answers, np.int64)
        return joined

    def _wait(self, name: str, event: Waiting, joined: Joined) -> None:
        if self._events.pop(name, None) is not None:
            self.expired += 1
        self._events[name] = event
        joined.fresh.append(event)

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
        if len(self._joined) > self._max_waiting:
            del self._joined[next(iter(self._joined))]

    def _drop_event(self) -> None:
        del self._events[next(iter(self._events))]
        self.expired += 1

    def _drop_label(self) -> None:
        del self._labels[next(iter(self._labels))]
        self.orphans += 1

    def _too_old(self, then: int, now: int) -> bool:
        return 0 <= then < now - self._timeout

    def snapshot(self) -> Snapshot:
        events = list(self._events.values())
        arrays: Arrays = {
            "x": np.array([e.x for e in events], np.float32).reshape(-1, self._shape[0]),
            "proba": np.array([e.proba for e in events], np.float64).reshape(-1, self._shape[1]),
            "timestamps": np.array([e.timestamp for e in events], np.int64),
        }
        plain = {
            "events": list(self._events),
            "labels": [[name, label, time] for name, (label, time) in self._labels.items()],
            "joined": [[name, label] for name, label in self._joined.items()],
            "counts": [self.expired, self.orphans, self.duplicates, self.conflicts],
        }
        return arrays, plain

    def restore(self, snapshot: Snapshot) -> None:
        arrays, plain = snapshot[0], msgspec.convert(snapshot[1], _Plain)
        shapes = (arrays["x"].shape[1:], arrays["proba"].shape[1:])
        classes = [label for _, label, _ in plain.labels] + [label for _, label in plain.joined]
        if shapes != tuple((n,) for n in self._shape) or not all(0 <= label < self._shape[1] for label in classes):
            raise CheckpointError(
                f"join: rows of {shapes}, or classes up to {max(classes, default=-1)}; not {self._shape}"
            )
        columns = zip(arrays["x"], arrays["timestamps"].tolist(), arrays["proba"], strict=True)
        events = [Waiting(x, time, proba=proba) for x, time, proba in columns]
        self._events = dict(zip(plain.events, events, strict=True))
        self._labels = {name: (label, time) for name, label, time in plain.labels}
        self._joined = dict(plain.joined)
        self.expired, self.orphans, self.duplicates, self.conflicts = plain.counts
