"""The one commit point of a partition: outputs and position as one step, even where nobody knows if it was done."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from stream_moe.checkpoints.checkpoint import Owner
from stream_moe.entries import JournalEntry
from stream_moe.errors import ConfigError, FencedError, InDoubtError, LogError, UnavailableError
from stream_moe.ports import Sink, Source
from stream_moe.types import Outputs

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

    def check(self, owner: Owner) -> None:
        """Raise CheckpointError where it is another model that committed the position."""
        if self.entry is not None:
            owner.check_position(self.entry.fingerprint, self.entry.parameters)

    def commit(self, outputs: Outputs, *, owner: Owner, labels: int | None, digest: str) -> None:
        """Commit a block; where nobody knows whether that was done, ask as its one writer, and never learn twice.

        Parameters
        ----------
        outputs
            Of the block, without its entry.
        owner
            Whose state it is: what its next start must be as well.
        labels
            Of the labels' topic: the offset behind the block; None without one.
        digest
            crc32 (hex) of all answers so far.
        """
        partition, sequence = self._partition, 1 + (self.entry.sequence if self.entry is not None else 0)
        entry = JournalEntry(sequence, outputs.next_offset, labels, digest, owner.fingerprint, owner.note)
        outputs = replace(outputs, entry=entry)
        for _ in range(DOUBTS):
            try:
                self._sink.commit(partition, outputs)
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
                if found != entry.position:
                    raise FencedError(
                        f"partition {partition}: committed is {found}, neither the start nor the end of the "
                        f"block in doubt ({self.position} to {entry.position}): somebody else wrote"
                    ) from doubt
            self.position, self.entry = entry.position, entry
            self._outcomes["committed"] += 1
            self.transactions += 1
            return
        raise LogError(
            f"partition {partition}: the commit of offset {entry.position} failed {DOUBTS} times; look at the "
            "broker's log, then start again: the committed offset tells what became of it"
        )

    def close(self) -> None:
        """Stop writing."""
        self._sink.close(self._partition)
