"""A local log as the engine's `Source`: the one member of a group, with the one partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

import numpy as np

from connectors.local.incoming import Incoming, Taken
from connectors.local.log import LocalLog
from stream_moe.entries import JournalEntry
from stream_moe.errors import EndOfLogError, UnavailableError
from stream_moe.ports import Change
from stream_moe.types import RecordBatch

PARTITION = 0
RETRY_SECONDS = 0.5
_logger = logging.getLogger(__name__)


class LocalSource:
    """The `Source` port: lines are put into the log as they come, and handed out from there.

    More is taken only when all that the log holds was handed out, so that a slow learner slows down who writes into
    the pipe. What was taken and cannot be put into the log, as the disk is full, waits until it can.

    Parameters
    ----------
    log, incoming, group
        The log, what fills it, and whose committed position counts.
    topic
        What messages call it.
    """

    labels = None

    def __init__(self, log: LocalLog, incoming: Incoming, group: str, topic: str) -> None:
        self.topic, self.group, self.settled = topic, group, False
        self._log, self._incoming = log, incoming
        self._changes: list[Change] = []
        self._position: int | None = None  # None = hand out nothing
        self._taken: Taken | None = None

    def open(self) -> None:
        """Hand out the partition."""
        self._incoming.resume(self._log.places())
        self._changes, self.settled = [Change("assigned", frozenset({PARTITION}))], True

    def changes(self) -> list[Change]:
        """Return what changed since the last call."""
        told, self._changes = self._changes, []
        return told

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Return the next lines; EndOfLogError behind the last line of what ends."""
        if self._position is None or self._changes:
            return []
        if found := self._log.read(self._position, max_records):
            return [self._batch(found)]
        try:
            self._taken = self._taken or self._incoming.take(timeout)
        except EOFError:
            raise EndOfLogError from None
        if self._taken is None:
            return []
        try:
            self._log.append(self._taken, time.time_ns() // 1_000_000)
        except UnavailableError as error:
            _logger.warning("%s; %d lines wait for it", error, len(self._taken.lines))
            time.sleep(RETRY_SECONDS)
            return []
        self._taken = None
        found = self._log.read(self._position, max_records)
        return [self._batch(found)] if found else []

    def _batch(self, found: list[tuple[int, int, bytes]]) -> RecordBatch:
        positions, timestamps, values = zip(*found, strict=True)
        self._position = positions[-1] + 1
        offsets, times = np.array(positions, np.int64), np.array(timestamps, np.int64)
        return RecordBatch(offsets, times, [None] * len(found), list(values), self._position)

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Return first position and end of the log."""
        return dict.fromkeys(partitions, self._log.bounds())

    def seek(self, partition: int, offset: int) -> None:
        """Hand out from this position on."""
        self._position = offset

    def pause(self, partition: int) -> None:
        """Hand out nothing until the next `seek`."""
        self._position = None

    def committed(self, partition: int) -> int | None:
        """Return the committed position."""
        return self._log.committed(self.group)[0]

    def entry(self, partition: int) -> JournalEntry | None:
        """Return what was committed beside it."""
        return self._log.committed(self.group)[1]

    def close(self) -> None:
        """Hand out nothing more."""
        self._position, self.settled = None, False
