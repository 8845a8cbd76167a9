"""A memory log as the engine's `Sink`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from connectors.dead_letters import dead_letter_headers
from connectors.memory.log import MemoryLog, Record
from stream_moe.errors import LogError
from stream_moe.types import Outputs


class MemorySink:
    """The `Sink` port over a memory log.

    Parameters
    ----------
    log, topic, group
        The log, the input topic and the group whose offsets are committed.
    predictions, dead_letters
        Names of the output topics; their partitions are the input's.
    journal, drifts
        Topics to write each block's entry and the drifts found in it to, None for none.

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
        journal: str | None = None,
        drifts: str | None = None,
    ) -> None:
        self.fail_before_commit: Exception | None = None
        self.fail_after_commit: Exception | None = None
        self.commits = 0
        self._log = log
        self._topic = topic
        self._group = group
        self._predictions = predictions
        self._dead_letters = dead_letters
        self._journal = journal
        self._drifts = drifts
        self._epochs: dict[int, int] = {}

    def open(self, partition: int) -> None:
        self._epochs[partition] = self._log.fence(self._topic, self._group, partition)

    def commit(self, partition: int, outputs: Outputs) -> None:
        if partition not in self._epochs:
            raise LogError(f"topic {self._topic!r}: the sink of partition {partition} is not open")
        failure, self.fail_before_commit = self.fail_before_commit, None
        if failure is not None:
            raise failure
        writes = [(self._predictions, Record(value, key)) for key, value in outputs.predictions]
        for letter in outputs.dead_letters:
            headers = tuple(dead_letter_headers(letter, self._topic, partition))
            writes.append((self._dead_letters, Record(letter.value, letter.key, letter.timestamp, headers)))
        if self._drifts is not None:
            writes += [(self._drifts, Record(drift)) for drift in outputs.drifts]
        if self._journal is not None and outputs.entry is not None:
            writes.append((self._journal, Record(outputs.entry.brief())))
        whose = self._topic, self._group, partition, self._epochs[partition]
        self._deliver(partition, partial(self._log.commit, *whose, outputs.next_offset, writes, outputs.entry))
        self.commits += 1
        failure, self.fail_after_commit = self.fail_after_commit, None
        if failure is not None:
            raise failure

    def _deliver(self, partition: int, request: Callable[[], None]) -> None:
        """Hand a commit to the log; a simulation loses or delays it here."""
        request()

    def close(self, partition: int) -> None:
        self._epochs.pop(partition, None)
