"""Engines with one mistake each. A simulation that lets one of them pass shows nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from connectors.memory import MemoryLog
from stream_moe.checkpoints import format as checkpoint_format
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.engine import recovery
from stream_moe.engine.checkpoint import CheckpointWriter, generations
from stream_moe.engine.commit import CommitPoint
from stream_moe.engine.join import LabelJoin
from stream_moe.engine.journal import JournaledSource
from stream_moe.engine.loop import Engine
from stream_moe.engine.task import Task
from stream_moe.errors import CheckpointError, FencedError
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.segments import Segments

_write, _collect = CheckpointWriter._write, Segments.collect
_process, _commit, _open, _replay = Task.process, CommitPoint.commit, Task.open, JournaledSource._replay


def _newest_whole(store: Any, owner: Any, committed: int | None, *_: Any) -> Checkpoint | None:
    for name in reversed(generations(store)):
        with contextlib.suppress(CheckpointError):
            return Checkpoint.from_bytes(store.read(name), name)
    return None


def checkpoint_ahead() -> Iterator[None]:
    """Take the newest checkpoint, also one that is ahead of the committed offset."""
    with mock.patch.object(recovery, "newest_usable", _newest_whole):
        yield


def checkpoint_before_commit() -> Iterator[None]:
    """Write the state first, then commit, and start from the newest state, as one would with a store of its own.

    The first half alone does no harm: what is ahead of the committed offset is set aside.
    """

    def process(self: Task, batch: Any) -> Any:
        def commit(outputs: Any, **entry: Any) -> None:
            before, self._whole = self.position, True
            self.position = outputs.next_offset + (entry["labels"] or 0)
            self.checkpoint(whole=True)
            self.wait()
            self.position, self._whole = before, False
            _commit(self._commits, outputs, **entry)

        with mock.patch.object(self._commits, "commit", commit):
            return _process(self, batch)

    with mock.patch.object(Task, "process", process), mock.patch.object(recovery, "newest_usable", _newest_whole):
        yield


def no_journal() -> Iterator[None]:
    """Read two topics anew in whatever order they come."""

    def replay(self: JournaledSource, *arguments: Any) -> Any:
        start, _ = _replay(self, *arguments)
        return start, []

    with mock.patch.object(JournaledSource, "_replay", replay):
        yield


def blind_resend() -> Iterator[None]:
    """Send again after a doubtful commit without asking what became of it."""

    def commit(self: CommitPoint, outputs: Any, **entry: Any) -> None:
        def sent_anew(partition: int) -> int | None:
            return self.position

        with mock.patch.object(self._source, "committed", sent_anew):
            _commit(self, outputs, **entry)

    with mock.patch.object(CommitPoint, "commit", commit):
        yield


def train_on_resend() -> Iterator[None]:
    """Take the block through the learner again before it is sent again."""

    def process(self: Task, batch: Any) -> Any:
        if self.state == "starting":
            return _process(self, batch)
        learner, step = self.learner, self.learner.step
        given: list[Any] = []
        named: dict[str, Any] = {}

        def remember(*arguments: Any, **more: Any) -> Any:
            given[:] = [argument.copy() for argument in arguments]
            named.update(more)
            return step(*arguments, **more)

        outcomes = self._commits._outcomes
        doubts = outcomes["in_doubt"]
        with mock.patch.object(learner, "step", remember):
            block = _process(self, batch)
        if outcomes["in_doubt"] > doubts:
            step(*given, **named)
        return block

    with mock.patch.object(Task, "process", process):
        yield


def no_fence() -> Iterator[None]:
    """Become the writer of a partition without fencing the one before."""

    def fence(self: MemoryLog, topic: str, group: str, partition: int = 0) -> int:
        return self._epoch.setdefault(((topic, partition), group), 1)

    with mock.patch.object(MemoryLog, "fence", fence):
        yield


def position_before_fence() -> Iterator[None]:
    """Read the committed offset first, and fence then."""

    def open_(self: Task, schema: Any) -> None:
        committed = self._source.committed(self.partition)
        with mock.patch.object(self._source, "committed", return_value=committed):
            _open(self, schema)

    with mock.patch.object(Task, "open", open_):
        yield


def loud_replay() -> Iterator[None]:
    """Send the outputs of a replay once more."""

    def process(self: Task, batch: Any) -> Any:
        if self.state != "starting":
            self.recovery.mute_below = 0
        return _process(self, batch)

    with mock.patch.object(Task, "process", process):
        yield


def state_kept_when_fenced() -> Iterator[None]:
    """Go on with the state of a block that was refused."""

    def process(self: Task, batch: Any) -> Any:
        try:
            return _process(self, batch)
        except FencedError:
            self._whole = True
            raise

    def keep(self: Engine, task: Task, error: FencedError) -> None:
        self.tasks.pop(task.partition, None)
        self.source.pause(task.partition)
        self._outcomes["fenced"] += 1
        self._parked[task.partition] = task, float("inf")
        self._to_open[task.partition] = 0.0

    with mock.patch.object(Task, "process", process), mock.patch.object(Engine, "_drop", keep):
        yield


def parked_state_trusted() -> Iterator[None]:
    """Go on with the state that was left, whoever committed in between."""

    def open_(self: Task, schema: Any) -> None:
        self._commits._sink.open(self.partition)
        if self.state == "starting":
            _open(self, schema)
        else:
            self._source.seek(self.partition, self.position)

    with mock.patch.object(Task, "open", open_):
        yield


def waiting_labels_lost() -> Iterator[None]:
    """Leave the labels and events that wait out of what a checkpoint gives back."""
    with mock.patch.object(LabelJoin, "restore"):
        yield


def damage_unseen() -> Iterator[None]:
    """Take a checkpoint without looking at its checksum."""

    def newest(store: Any, owner: Any, committed: int | None, *_: Any) -> Checkpoint | None:
        names = [name for name in generations(store) if int(name[:20]) <= (committed or 0)]
        return Checkpoint.from_bytes(store.read(names[-1])) if names else None

    unchecked = mock.patch.object(checkpoint_format, "digest", return_value=AnyDigest(32))
    with unchecked, mock.patch.object(recovery, "newest_usable", newest):
        yield


def model_saved_late() -> Iterator[None]:
    """Let a model learn on before a checkpoint that was begun has it."""
    with mock.patch.object(KeyedLearner, "_save_due"):
        yield


def models_after_checkpoint() -> Iterator[None]:
    """Write the files with the models after the checkpoint that names them."""

    def write(self: CheckpointWriter, checkpoint: Checkpoint) -> None:
        if (files := self.files) is not None:
            with mock.patch.object(files, "flush"):
                _write(self, checkpoint)
            files.flush(checkpoint.files)
        else:
            _write(self, checkpoint)

    with mock.patch.object(CheckpointWriter, "_write", write):
        yield


def models_in_use_collected() -> Iterator[None]:
    """Take for garbage whatever no checkpoint names, also what was written a moment ago."""

    def collect(self: Segments, named: Any) -> None:
        with mock.patch.object(self, "names", {}):
            _collect(self, named)

    with mock.patch.object(Segments, "collect", collect):
        yield


class AnyDigest(bytes):
    """Equal to every digest."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    mutant.__name__.replace("_", "-"): contextlib.contextmanager(mutant)
    for mutant in (
        checkpoint_before_commit, no_journal, blind_resend,
        no_fence, checkpoint_ahead, train_on_resend, position_before_fence,
        loud_replay, state_kept_when_fenced, parked_state_trusted, waiting_labels_lost, damage_unseen,
        model_saved_late, models_after_checkpoint, models_in_use_collected,
    )
}  # fmt: skip
