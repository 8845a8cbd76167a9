"""Where a partition's learning goes on after a stop, and whether a replay repeats what was committed.

The state on disk is a cache of a deterministic function of the log, so everything is survived the same way: take a
checkpoint that is not ahead of the committed position, replay the log up to there with outputs muted, go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner, understood
from stream_moe.engine.checkpoint import newest_usable
from stream_moe.engine.state import LogCounts, PartitionState
from stream_moe.entries import JournalEntry
from stream_moe.errors import CheckpointError, LogError
from stream_moe.ports import CheckpointStore
from stream_moe.ranges import of
from stream_moe.snapshot import unpack

_log = logging.getLogger(__name__)


class Recovery:
    """The way from a checkpoint, or from the log's begin, to the committed position.

    Parameters
    ----------
    partition
        For messages.
    checkpoint
        To start from; None = begin anew.
    position
        Where the first record to read lies.
    mute_below
        The committed position: what lies before it was said already.

    Attributes
    ----------
    replayed, diverged
        Records read again; blocks (without a journal: replays) whose answers are not those that were committed.
    seconds
        That it took; 0 as long as it goes on.
    """

    def __init__(self, partition: int, checkpoint: Checkpoint | None, position: int, mute_below: int) -> None:
        self.partition, self.checkpoint = partition, checkpoint
        self.position, self.mute_below = position, mute_below
        self.replayed = self.diverged = 0
        self.seconds = 0.0

    @classmethod
    def choose(
        cls,
        partition: int,
        topic: str,
        store: CheckpointStore,
        owner: Owner,
        committed: int | None,
        begin: int,
        end: int,
        refused: Mapping[str, CheckpointError],
    ) -> Recovery:
        """Choose the newest usable checkpoint, in a log that holds the offsets from `begin` to `end`.

        Those whose names are in `refused` could not be restored, for the reasons there.

        Raises
        ------
        CheckpointError
            No checkpoint is usable, and the log no longer holds what was learnt.
        LogError
            The log no longer holds the position to go on from, or ends before the committed one.
        """
        where = f"{topic!r}/{partition}"
        found = newest_usable(store, owner, committed, refused)
        if found is None and refused:  # as with one of another owner: the state must not silently begin anew
            raise CheckpointError(
                f"{next(iter(refused.values()))}; and no older checkpoint can be gone on from: restore --state-dir "
                "from a backup, or move the file away, to learn anew what the log still holds"
            )
        if found is None and committed is not None and begin > 0:
            raise CheckpointError(
                f"no usable checkpoint, and the log {where} no longer holds what was learnt: it starts at {begin}, "
                f"committed is {committed}; restore --state-dir from a backup, or begin anew with another --group"
            )
        position = found.offset if found else begin
        if position < begin:
            raise LogError(
                f"position {position} of {where} is lost: the log starts at {begin}; "
                "restore the log, or begin anew with another --group and --state-dir"
            )
        mute_below = committed if committed is not None else position
        if mute_below > end:
            raise LogError(
                f"the log {where} ends at {end}, before the committed offset {mute_below}: "
                "it is not the log that was committed to; check --bootstrap and --topic"
            )
        return cls(partition, found, position, mute_below)

    def restore(self, state: PartitionState) -> None:
        """Give a new state what the checkpoint holds, if there is one."""
        if (found := self.checkpoint) is None:
            return
        with of(found.name), understood("its state"):
            state.restore(unpack((found.arrays, found.plain)))

    def compare(self, counts: LogCounts, entry: JournalEntry | None) -> None:
        """Count where a replay gave other answers than the run that it repeats, and go on from those of that run."""
        if entry is None or entry.digest == counts.digest:
            return
        self.diverged += 1
        _log.warning(
            "partition %d: the replay up to block %d gave answers of digest %s, and those committed have %s: "
            "another CPU or library rounds differently; what was committed stays as it is",
            self.partition, entry.sequence, counts.digest, entry.digest,
        )  # fmt: skip
        counts.answers = int(entry.digest, 16)

    def finish(self, position: int, seconds: float) -> None:
        """Note that the committed position is reached, and after how many seconds."""
        self.seconds = seconds
        _log.info(
            "partition %d recovered at offset %d: checkpoint %s, %d records replayed",
            self.partition, position, "none" if self.checkpoint is None else self.position, position - self.position,
        )  # fmt: skip
