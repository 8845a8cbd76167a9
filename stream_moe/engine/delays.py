"""A replay's labels: each arrives so many events after its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_moe.engine.waiting import Joined, Matches, WaitingEvents
from stream_moe.types import NEVER, UNLABELLED, Block, Int32, Int64, Schema, has_label

LONGEST = 2**53  # no stream is so long


class DelayedLabels:
    """Joins labels to events by the time at which they arrive.

    The label of event t (from 0) whose delay is d arrives after event t + d was predicted; of several that arrive
    after the same event the one of the earlier event comes first. With d = 0 it comes with its event. What is
    predicted, learnt and scored does not depend on how the stream is cut into blocks.

    Parameters
    ----------
    schema
        Of the stream.

    Examples
    --------
    >>> labels = DelayedLabels(Schema.numeric(1, ["no", "yes"]))
    >>> block = Block(np.float32([[10], [11], [12]]), np.int32([0, 1, 0]))
    >>> joined = labels.join(block, block.y, np.int64([2, 0, 2]))
    >>> joined.x[:, 0].tolist(), joined.y.tolist(), joined.tickets.tolist()
    ([10.0, 11.0, 12.0, 10.0], [-1, 1, -1, 0], [0, -1, 1, 0])
    """

    def __init__(self, schema: Schema) -> None:
        self._waiting = WaitingEvents(schema.n_features, schema.width, sparse=schema.sparse)
        self._events = 0  # read so far
        none = np.empty(0, np.int64)
        self._arrives, self._slots = none, none  # of the labels on their way, in the order of their arrival
        kind: Any = np.int32 if schema.target is None else np.float64
        self._none = np.array(UNLABELLED if schema.target is None else np.nan, kind)
        self._learnt, self._scored = np.empty(0, kind), np.empty(0, kind)

    @property
    def on_their_way(self) -> int:
        """Labels that have not arrived."""
        return len(self._arrives)

    def join(self, block: Block, scored: Int32, delays: Int64 | int, *, last: bool = False) -> Joined:
        """Turn the next n events into rows to learn.

        Parameters
        ----------
        block
            Of n events; its y are the labels to learn, -1 where there is none.
        scored
            int32 [n], the labels to score by.
        delays
            Of each label: int64 [n], -1 = it never comes; or one for all.
        last
            No event follows: all labels that are on their way arrive now.
        """
        n, first = len(block), self._events
        self._events += n
        if not len(self._arrives) and not np.any(delays):
            joined = Joined(block, None, self._waiting)
            joined.scored, joined.seen = scored, np.fmax(block.y, scored)
            return joined
        delay = np.broadcast_to(np.asarray(delays, np.int64), n)
        comes = np.flatnonzero(delay != NEVER)
        arrives = np.concatenate([self._arrives, first + comes + delay[comes]])
        places = np.concatenate([n + self._slots, comes])
        learnt = np.concatenate([self._learnt, block.y[comes]])
        scores = np.concatenate([self._scored, scored[comes]])
        order = np.argsort(arrives, kind="stable")  # those that waited come first, and are of earlier events
        arrives, places, learnt, scores = arrives[order], places[order], learnt[order], scores[order]
        due = len(arrives) if last else int(np.searchsorted(arrives, first + n))
        came = places[:due]
        late = np.flatnonzero(((came >= n) | (arrives[:due] != first + came)) & has_label(learnt[:due]))
        after = np.minimum(arrives[late] - first, n - 1)  # rows of the block behind which they come
        answers = np.arange(n) + np.searchsorted(after, np.arange(n))
        comeback = after + 1 + np.arange(len(late))
        rows, y = np.empty(n + len(late), np.int64), np.empty(n + len(late), self._none.dtype)
        rows[answers], rows[comeback] = np.arange(n), came[late]
        y[answers], y[comeback] = np.where(delay == 0, block.y, self._none), learnt[late]
        stays = places[due:] < n
        found = Matches(
            rows, y, answers, np.flatnonzero(delay), places[due:][stays], came, scores[:due], came[came >= n] - n,
        )  # fmt: skip
        joined = Joined(block, found, self._waiting)
        self._arrives, self._learnt, self._scored = arrives[due:], learnt[due:], scores[due:]
        self._slots = places[due:] - n
        self._slots[stays] = joined.slots
        joined.seen = np.fmax(learnt[:due], scores[:due])
        return joined
