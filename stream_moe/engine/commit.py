"""The one commit point of a partition: outputs and position as one step, even where nobody knows if it was done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from stream_moe.errors import ConfigError, FencedError, InDoubtError, LogError, UnavailableError
from stream_moe.ports import Sink, Source
from stream_moe.report import Drift
from stream_moe.types import DeadLetter, JournalEntry, RecordBatch

DOUBTS = 3  # commits of one block whose outcome nobody knew, before the process gives up
_log = logging.getLogger(__name__)


class CommitPoint:
    """What is committed of a partition, and the one way to commit more.

    Parameters
    ----------
    partition
        Which.
    source, sink
        The ports.
    outcomes
        Counts transactions by outcome, for the whole process.

    Attributes
    ----------
    position
        The committed one; None = nothing was committed yet.
    entry
        What was committed beside it.
    transactions
        Committed by this process.
    """

    def __init__(self, partition: int, source: Source, sink: Sink, outcomes: Counter[str]) -> None:
        self._partition, self._source, self._sink, self._outcomes = partition, source, sink, outcomes
        self.position: int | None = None
        self.entry: JournalEntry | None = None
        self.transactions = 0

    def open(self) -> bool:
        """Become the partition's writer; True where somebody else has committed since we last knew."""
        self._sink.open(self._partition)  # fences an older instance BEFORE the committed position is read
        committed = self._source.committed(self._partition)
        if committed == self.position:
            return False
        self.position, self.entry = committed, self._source.entry(self._partition)
        if self._source.labels is None and self.entry is not None and self.entry.labels is not None:
            raise ConfigError(
                f"group {self._source.group!r} has committed {self._source.topic!r} with labels of a topic of their "
                "own; name it with --labels, or begin anew with another --group and --state-dir"
            )
        return True

    def commit(
        self,
        predictions: Sequence[tuple[bytes | None, bytes]],
        dead: Sequence[DeadLetter],
        batch: RecordBatch,
        digest: str,
        drifts: Sequence[Drift],
    ) -> None:
        """Commit a block; where nobody knows whether that was done, ask as its one writer, and never learn twice."""
        partition, labels = self._partition, batch.labels
        entry = JournalEntry(
            1 + (self.entry.sequence if self.entry is not None else 0),
            batch.next_offset,
            None if labels is None else labels.next_offset,
            digest,
        )
        told = [drift.to_json() for drift in drifts]
        for _ in range(DOUBTS):
            try:
                self._sink.commit(partition, predictions, dead, batch.next_offset, entry, told)
            except UnavailableError:
                self._outcomes["aborted"] += 1
                raise
            except InDoubtError as doubt:
                self._outcomes["in_doubt"] += 1
                _log.warning("%s; asking for the committed offset", doubt)
                self._sink.open(partition)  # whatever was on its way is ended by this, one way or the other
                found = self._source.committed(partition)
                if found == self.position:
                    continue  # nothing of it is there: the same outputs again
                if found != batch.end:
                    raise FencedError(
                        f"partition {partition}: committed is {found}, neither the start nor the end of the "
                        f"block in doubt ({self.position} to {batch.end}): somebody else wrote"
                    ) from doubt
            self.position, self.entry = batch.end, entry
            self._outcomes["committed"] += 1
            self.transactions += 1
            return
        raise LogError(
            f"partition {partition}: the commit of offset {batch.end} failed {DOUBTS} times; look at the "
            "broker's log, then start again: the committed offset tells what became of it"
        )

    def close(self) -> None:
        """Stop writing."""
        self._sink.close(self._partition)
