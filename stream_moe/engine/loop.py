"""The engine: one member of a group, with a task for each partition that the group gives it.

The loop polls, hands each partition's batch to its task, and then nothing is under way: no block, no transaction.
Partitions change hands inside a poll only, so they never do so in the middle of a block. A task that replays takes
its batches from the same loop, so that the group sees this member alive however long the replay is.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection

from stream_moe.engine.blocks import BlockReport
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.task import Task
from stream_moe.errors import EndOfLogError, FencedError, LogError, StuckError, UnavailableError
from stream_moe.models.contract import BlockClassifier
from stream_moe.ports import Change, CheckpointStore, Sink, Source
from stream_moe.ranges import of
from stream_moe.report import GroupReport, PartitionReport
from stream_moe.types import RecordBatch, Schema

POLL_SECONDS = 0.5  # how long one poll waits: the longest a stop request goes unseen
IDLE_SECONDS = 0.05  # of a turn without a record, for a checkpoint under way
BOUNDS_SECONDS = 1.0  # how often the end of the log is asked for
UNANSWERED_SECONDS = 10.0  # until it is asked for again where there was no answer: each time holds up the loop
EMPTY_SECONDS = 5.0  # until caught up: how long to wait for a first record, or for a partition
PARKED_SECONDS = 60.0  # how long a partition that went may come back to the state it left
AWAY_SECONDS = 2.0  # until a partition is tried again that could not be opened as the log did not answer
FENCED_LIMIT = 5  # times that a partition is taken from us without a commit between, while the group says it is ours
_log = logging.getLogger(__name__)

__all__ = ["Engine", "EngineSettings"]


class Engine:
    """The tasks of one process.

    Parameters
    ----------
    source, sink
        The ports; opened and closed by `run`.
    open_store
        Gives the checkpoint store of a partition.
    make_learner
        Builds the learner for a schema. Must be deterministic.
    settings
        See `EngineSettings`.
    schema
        Of the events; None = the producer's, from the header of a partition's first record.
    on_report, on_group
        Called after each block with its partition's report, and with the group's whenever a report was made.
    on_turn
        Called on every turn of the loop.

    Attributes
    ----------
    tasks
        By partition. After `run`: those held at the end.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        open_store: Callable[[int], CheckpointStore],
        make_learner: Callable[[Schema], BlockClassifier],
        settings: EngineSettings,
        *,
        schema: Schema | None = None,
        on_report: Callable[[PartitionReport], None] = lambda report: None,
        on_group: Callable[[GroupReport], None] = lambda report: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self.source, self.sink, self.settings = source, sink, settings
        self.tasks: dict[int, Task] = {}
        self._open_store, self._make_learner, self._schema = open_store, make_learner, schema
        self._on_report, self._on_group, self._on_turn = on_report, on_group, on_turn
        self._held: set[int] = set()  # what the group says is ours
        self._to_open: dict[int, float] = {}  # partition -> not before this moment
        self._parked: dict[int, tuple[Task, float]] = {}  # partition -> its task, and until when it is kept
        self._fenced: Counter[int] = Counter()  # partition -> times since its last commit
        self._outcomes: Counter[str] = Counter()
        self._rebalances = 0
        self._stopping = False
        self._phase = ""  # draining, stopped
        self._refreshed_at = self._ask_again = 0.0
        self._saved_last = -1  # the partition without a block whose checkpoint went on last
        self._empty_since: float | None = None

    @property
    def state(self) -> str:
        """starting, recovering, running, draining or stopped."""
        if self._phase:
            return self._phase
        states = {task.state for task in self.tasks.values()}
        if "recovering" in states:
            return "recovering"
        if "starting" in states or self._to_open or not (self._held or self.source.settled):
            return "starting"
        return "running"

    def digests(self) -> dict[int, str]:
        """Digest of the learner of each partition that has one."""
        tasks = sorted(self.tasks.items())
        return {partition: task.learner.digest for partition, task in tasks if task.state != "starting"}

    def stop(self) -> None:
        """Ask the loop to finish its block, checkpoint and leave; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Join the group and work until stopped, or until caught up where the settings say so."""
        try:
            self.source.open()
            while not self._stopping and not self._caught_up() and self.turn():
                pass
            self._phase = "draining"
            self._tell()
            for task in self.tasks.values():
                task.checkpoint(whole=True)
        except StuckError:  # the call still holds what it holds: nothing can be closed in order
            raise
        except BaseException:
            self._leave()
            raise
        self._leave()
        self._refresh()

    def _leave(self) -> None:
        for task in self.tasks.values():
            task.wait()  # whoever gets the partition next starts from this checkpoint
        self.source.close()
        for task in self.tasks.values():
            task.close()
        self._phase = "stopped"

    def turn(self) -> bool:
        """Poll once and work off what came; False at the end of a finite log."""
        self._on_turn()
        self._open_one()
        try:
            batches = self.source.poll(self.settings.block_rows, 0.0 if self._has_work() else POLL_SECONDS)
        except EndOfLogError:
            self._follow(self.source.changes())
            return bool(self._to_open) or self._offer_schema(at_end=True)
        self._follow(self.source.changes())
        began = time.perf_counter()
        for batch in batches:
            if (task := self.tasks.get(batch.partition)) is not None:
                self._process(task, batch)
            if self._stopping:
                break
        self._save_one({batch.partition for batch in batches}, time.perf_counter() - began)
        self._offer_schema()
        if not batches or time.monotonic() - self._refreshed_at > BOUNDS_SECONDS:
            self._refresh(apart_from={batch.partition for batch in batches})
        return True

    # Changes of the assignment

    def _follow(self, changes: list[Change]) -> None:
        if changes:
            self._rebalances += 1
            self._empty_since = None
        for change in changes:
            _log.info("partitions %s: %s", change.kind, ", ".join(map(str, sorted(change.partitions))))
            for partition in sorted(change.partitions):
                if change.kind == "assigned":
                    self._held.add(partition)
                    if partition not in self.tasks:
                        self._to_open[partition] = 0.0
                else:
                    self._held.discard(partition)
                    self._to_open.pop(partition, None)
                    self._fenced.pop(partition, None)
                    if (task := self.tasks.pop(partition, None)) is not None:
                        self._park(task, save=change.kind == "revoked")
        now = time.monotonic()
        self._parked = {p: (task, until) for p, (task, until) in self._parked.items() if now < until}

    def _park(self, task: Task, save: bool) -> None:
        """Let go of a partition; its state is kept for a while, as partitions often come back."""
        if save:  # what was committed is ours, so a checkpoint of it is right even if somebody else goes on already
            task.checkpoint(whole=True)
        task.close()
        if task.state != "starting" and task.learner.files is None:  # else its models come back one by one anyway
            self._parked[task.partition] = task, time.monotonic() + PARKED_SECONDS

    def _save_one(self, busy: Collection[int], seconds: float) -> None:
        """Go on with the checkpoint of one partition that had no block, for as long as the others' blocks took."""
        waiting = [partition for partition, task in self.tasks.items() if task.saving and partition not in busy]
        if waiting:
            self._saved_last = min(waiting, key=lambda partition: (partition <= self._saved_last, partition))
            self.tasks[self._saved_last].save(seconds if busy else IDLE_SECONDS)

    def _has_work(self) -> bool:
        """Whether there is something to do although no record comes."""
        opens = any(at <= time.monotonic() for at in self._to_open.values())
        return opens or any(task.saving for task in self.tasks.values())

    def _open_one(self) -> None:
        """Open one partition: the next poll, which keeps us in the group, is never far."""
        partition = next((p for p, at in self._to_open.items() if at <= time.monotonic()), None)
        if partition is None:
            return
        del self._to_open[partition]
        task, _ = self._parked.pop(partition, (None, 0.0))
        if task is None:
            store = self._open_store(partition)
            ports = self.source, self.sink, store
            task = Task(partition, *ports, self._make_learner, self.settings, self._outcomes)
        try:
            with of(f"partition {partition}"):
                task.open(self._schema)
        except (FencedError, UnavailableError) as error:
            self._drop(task, error)
            return
        self._schema = self._schema or task.given_schema
        self.tasks[partition] = task
        self._tell()

    def _drop(self, task: Task, error: FencedError | UnavailableError) -> None:
        """Drop the state. Where the group still says that the partition is ours, recover it a moment later."""
        partition = task.partition
        self.tasks.pop(partition, None)
        self.source.pause(partition)
        task.close()
        _log.warning("%s; the state of partition %d is dropped", error, partition)
        if isinstance(error, UnavailableError):
            self._to_open[partition] = time.monotonic() + AWAY_SECONDS
            return
        self._outcomes["fenced"] += 1
        self._fenced[partition] += 1
        if self._fenced[partition] >= FENCED_LIMIT:
            raise LogError(
                f"partition {partition} was taken from this process {FENCED_LIMIT} times in a row although the group "
                f"gave it to us: {error}"
            )
        self._to_open[partition] = time.monotonic() + 0.5 * self._fenced[partition]

    # Work

    def _process(self, task: Task, batch: RecordBatch) -> None:
        committed = self._outcomes["committed"]
        try:
            with of(f"partition {task.partition}"):
                block = task.process(batch)
        except (FencedError, UnavailableError) as error:
            self._drop(task, error)
            return
        if task.state == "starting":  # only labels came so far, or too few records
            return
        self._schema = self._schema or task.given_schema
        if self._outcomes["committed"] > committed:
            self._fenced.pop(task.partition, None)
        self._report(task, block)
        self._tell()

    def _offer_schema(self, at_end: bool = False) -> bool:
        """Give the schema, once one partition's log has told it, to those whose log is empty."""
        waiting = [task for task in self.tasks.values() if task.state == "starting"]
        if self._schema is not None:
            for task in waiting:
                task.start(self._schema)
        elif waiting and (at_end or (self.settings.until_caught_up and self._empty_for() > EMPTY_SECONDS)):
            return self._lack_schema(waiting, at_end)
        return bool(waiting)

    def _lack_schema(self, waiting: list[Task], at_end: bool) -> bool:
        """At the end of the logs: LogError where one of them holds too little to learn a schema from, or none any."""
        for task in waiting:
            if task.lacks and (at_end or task.is_read):
                raise LogError(
                    f"topic {self.source.topic!r}/{task.partition} ends with {task.lacks}; "
                    "give --schema FILE.json, or a lower --schema-records"
                )
        if len(waiting) == len(self.tasks) and all(task.is_read for task in waiting):
            raise LogError(
                f"topic {self.source.topic!r} is empty: no schema to learn from; give --schema or produce first"
            )
        return not at_end

    def _empty_for(self) -> float:
        self._empty_since = self._empty_since or time.monotonic()
        return time.monotonic() - self._empty_since

    def _caught_up(self) -> bool:
        if not self.settings.until_caught_up or self._to_open:
            return False
        if self.tasks:  # an empty one, where each learns its own schema, has nothing to catch up with
            some = any(task.state != "starting" for task in self.tasks.values())
            return all(task.caught_up or (some and task.is_empty) for task in self.tasks.values())
        if not self.source.settled:
            self._empty_since = None
            return False
        return self._empty_for() > EMPTY_SECONDS  # the group has no partition for us

    # Reports

    def _refresh(self, apart_from: Collection[int] = ()) -> None:
        """Ask for the ends of the logs, and report the partitions that had no block."""
        tasks = [task for task in self.tasks.values() if task.state != "starting"]
        now = time.monotonic()
        due = now - self._refreshed_at > BOUNDS_SECONDS and now >= self._ask_again
        if self._phase != "stopped" and self.tasks and due:
            try:
                for partition, (begin, end) in self.source.bounds(list(self.tasks)).items():
                    self.tasks[partition].begin, self.tasks[partition].end = begin, end
            except UnavailableError as error:  # only reports need it
                held = ", ".join(map(str, sorted(self.tasks)))
                _log.warning("%s; the lag of partitions %s is not known and stays as it was", error, held)
                self._ask_again = time.monotonic() + UNANSWERED_SECONDS
            self._refreshed_at = time.monotonic()
        for task in tasks:
            if task.partition not in apart_from:
                self._report(task, BlockReport())
        self._tell()

    def _report(self, task: Task, block: BlockReport) -> None:
        self._on_report(task.report(block, self._phase or task.state))

    def _tell(self) -> None:
        held = tuple(sorted(self._held))
        config = next((task.config_hash for task in self.tasks.values() if task.state != "starting"), "")
        outcomes = dict(self._outcomes)
        self._on_group(GroupReport(self.state, held, self._rebalances, outcomes, config_hash=config))
