"""A task: the model over one partition, from the committed position on.

Its only commit point is `Sink.commit`: predictions, dead letters and the position as one step. What is learnt is
`stream_moe.engine.state`'s, how it is found again after a stop `stream_moe.engine.recovery`'s.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Literal

import numpy as np

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner
from stream_moe.engine.beginning import Beginning
from stream_moe.engine.blocks import BlockReport, Saving, Taken, seconds_by_phase
from stream_moe.engine.checkpoint import CheckpointWriter, grown_schema, stored_schema
from stream_moe.engine.codecs import codec_for
from stream_moe.engine.commit import CommitPoint
from stream_moe.engine.dead_letters import count_dead
from stream_moe.engine.journal import merged
from stream_moe.engine.records.growth import cut, growing, growth
from stream_moe.engine.records.shown import understood
from stream_moe.engine.recovery import Recovery
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.state import PartitionState
from stream_moe.engine.warm import compile_beside
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.models.contract import BlockClassifier
from stream_moe.ports import CheckpointStore, Sink, Source
from stream_moe.report import Drift, PartitionReport
from stream_moe.runtime.failpoints import reach
from stream_moe.runtime.slow import said_if_slow
from stream_moe.snapshot import Snapshot, pack
from stream_moe.types import Block, DeadLetter, Outputs, RecordBatch, Schema

SAVE_SECONDS = 0.01  # after a block, for a checkpoint that was begun: so long, or as long as the block took
SHOWN = 3  # first records that are logged as they were understood
_log = logging.getLogger(__name__)

Predictions = list[tuple[bytes | None, bytes]]


class Task:
    """One model over one partition.

    Life: `open` fences older writers, reads the committed position and, once the schema is known, takes a
    checkpoint; `process` takes the batches from there, muted up to the committed position; `close` lets go of the
    writer. A closed task may be opened again: it goes on where it was if nobody committed meanwhile.

    Parameters
    ----------
    partition
        Which.
    source, sink, store
        The ports; the store is this partition's own.
    make_learner
        Builds the learner for a schema. Must be deterministic.
    settings
        See `EngineSettings`.
    outcomes
        Counts transactions by outcome, for the whole process.

    Attributes
    ----------
    state
        "starting" until the schema is known, then "recovering" up to the committed position, then "running".
    position
        Offset of the next record to read.
    begin, end
        First offset that the log still holds, and the one after its last record, as of the last time it was asked.
    learnt, recovery
        Everything that a checkpoint holds, and how it was come by; from the schema on.
    """

    def __init__(
        self,
        partition: int,
        source: Source,
        sink: Sink,
        store: CheckpointStore,
        make_learner: Callable[[Schema], BlockClassifier],
        settings: EngineSettings,
        outcomes: Counter[str],
    ) -> None:
        self.partition, self.settings = partition, settings
        self._source, self._store, self._make_learner = source, store, make_learner
        self._commits = CommitPoint(partition, source, sink, outcomes)
        self._writer = CheckpointWriter(store, f"partition {partition}: ")
        self._whole = True  # no block was left half done
        self.state: Literal["starting", "recovering", "running"] = "starting"
        self.position = self.begin = self.end = self._goal = 0
        self._newest = 0  # timestamp of the last record, in milliseconds
        self._saving: Saving | None = None
        self._first: Schema | None = None  # the schema with which the log began
        self._is_learnt = False  # from its first records
        self._beginning = Beginning(partition, source, settings)
        self._shown = 0  # records that were shown as they were understood
        self.learnt: PartitionState
        self.recovery: Recovery

    @property
    def caught_up(self) -> bool:
        """Whether all is done that the log held when the partition was assigned."""
        return self.state == "running" and self.position >= self._goal

    @property
    def is_empty(self) -> bool:
        """Whether there is no schema, and the log held nothing to learn it from."""
        return self.state == "starting" and self._goal <= self.begin

    @property
    def is_read(self) -> bool:
        """Whether all was read that the log held then, whether or not it told a schema."""
        return self.position >= self._goal

    @property
    def learner(self) -> BlockClassifier:
        return self.learnt.learner

    @property
    def given_schema(self) -> Schema | None:
        """The schema with which the log began, where not its records told it: it is all partitions'."""
        return None if self.state == "starting" or self._is_learnt else self._first

    @property
    def lacks(self) -> str:
        """What is not there yet that a schema is learnt from; empty where there is a schema, or no record yet."""
        return self._beginning.lacks if self.state == "starting" else ""

    @property
    def config_hash(self) -> str:
        """First 8 hex digits of the hash of model, schema and learning parameters; empty before there is a schema."""
        return "" if self.state == "starting" else self._owner.fingerprint[:8]

    def open(self, schema: Schema | None) -> None:
        """Become the partition's writer and find where to go on; `schema` None = a checkpoint's, or the log's."""
        moved = self._commits.open()
        self.begin, self.end = self._source.bounds([self.partition])[self.partition]
        self._goal = self.end
        if self.state != "starting" and self._whole and not moved:
            _log.info("partition %d came back as we left it: going on at %d", self.partition, self.position)
            self._source.seek(self.partition, self.position)
            return
        if schema is not None:
            self.start(schema)
        elif (stored := stored_schema(self._store)) is not None:
            self.start(stored[0], learnt=stored[1])
        else:
            self.state, self._beginning = "starting", Beginning(self.partition, self._source, self.settings)
            self.position = self.begin
            self._source.seek(self.partition, self.begin)

    def start(self, schema: Schema, *, learnt: bool = False) -> None:
        """Build the model, take the newest usable checkpoint, and go on from there.

        `learnt` says whether the log's first records gave the schema. A checkpoint that is whole and holds what no
        state can is passed over for an older one, as a damaged one is.
        """
        if (target := schema.target) is not None:
            raise ConfigError(
                f"schema: {target.name!r} is a number, and a daemon learns classes so far; `stream-moe replay` "
                "scores a model on numbers"
            )
        self._started = time.perf_counter()
        self._whole, self._saving = True, None
        self._first, self._is_learnt = schema, learnt
        refused = dict[str, CheckpointError]()
        while (error := self._begin(schema, refused)) is not None:
            assert self.recovery.checkpoint is not None
            name = self.recovery.checkpoint.name
            _log.error("partition %d: skipping a checkpoint that no state can be made of: %s", self.partition, error)
            refused[name] = error
            self._writer.refuse(name)
        compile_beside(self.learner)
        self.position = self._saved = self.recovery.position
        self._saved_at = time.monotonic()
        self.state = "recovering"
        self._source.seek(self.partition, self.position)
        self._maybe_recovered()

    def _begin(self, schema: Schema, refused: Mapping[str, CheckpointError]) -> CheckpointError | None:
        """Make a model and restore the newest usable checkpoint; return why that cannot be done, where it cannot."""
        learner = self._make(schema)
        source = f"{self._source.group}/{self._source.topic}/{self.partition}"
        self._owner = Owner.of(source, self.settings.model, schema, self._learning_parameters(learner))
        self._version = f"{self.settings.model}/{self._owner.fingerprint[:8]}"
        self.recovery = Recovery.choose(
            self.partition, self._source.topic, self._store, self._owner, self._commits.position, self.begin,
            self.end, refused,
        )  # fmt: skip
        self._commits.check(self._owner)
        if (found := self.recovery.checkpoint) is not None and self._grows:
            try:
                now = grown_schema(found, schema)
            except CheckpointError as error:
                return error
            learner = learner if now == schema else self._make(now)
        learner.attach(self._store)
        self._writer.files = learner.files
        self.learnt = PartitionState(learner, self.settings, schema, grows=self._grows)
        self._codec = codec_for(learner.schema, self.settings, self.learnt.inputs, learnt=self._is_learnt)
        try:
            self.recovery.restore(self.learnt)
        except CheckpointError as error:
            return error
        return None

    @property
    def _grows(self) -> bool:
        return self.settings.policy(self._is_learnt) == "grow"

    def _make(self, schema: Schema) -> BlockClassifier:
        """Make a model that has learnt nothing, and that may grow where the settings say so."""
        wide = f"{schema.n_features:,} features and {schema.n_classes:,} classes"
        with said_if_slow(f"partition {self.partition}: making a model of {wide}"):
            return growing(self._make_learner, schema) if self._grows else self._make_learner(schema)

    def _learning_parameters(self, learner: BlockClassifier) -> dict[str, object]:
        """The parameters of learner and label join, without those that change only where and how fast it runs."""
        labels = {} if self._source.labels is None else {"labels": self._source.labels}
        return learner.learning_parameters() | self.settings.learning_parameters(learnt=self._is_learnt) | labels

    def _maybe_recovered(self) -> None:
        if self.position < self.recovery.mute_below:
            return
        self.state = "running"
        self.recovery.compare(self.learnt.counts, self._commits.entry)
        if self.recovery.checkpoint is None:
            self.checkpoint()  # proves later where the learning began, should the log be trimmed meanwhile
        self.recovery.finish(self.position, time.perf_counter() - self._started)

    def process(self, batch: RecordBatch) -> BlockReport:
        """Take a batch through decoding, joining, learning and the commit.

        `FencedError` when the partition is another's: this state is then of no more use. The first batch of a log
        whose schema nobody knew is only looked at.
        """
        if self.state == "starting":
            self.position = batch.end
            if (schema := self._beginning.look(batch)) is not None:
                self.start(schema, learnt=self._beginning.is_learnt)
            return BlockReport()
        if self.position < self.recovery.mute_below < batch.end:  # of one topic: a journal keeps blocks whole
            head, batch = batch.split(self.recovery.mute_below)
            self._learn(head)
        return self._learn(batch)

    def _learn(self, batch: RecordBatch) -> BlockReport:
        self._whole = False
        reach("polled")
        clock = [time.perf_counter()]
        block, dead = self._decode(batch)
        clock.append(time.perf_counter())
        before = dict(self.learner.phases.seconds)
        taken = list(self._take(block, batch))
        drifts = [drift for each in taken for drift in each.outcome.drifts]
        muted = batch.end <= self.recovery.mute_below  # a replay says again nothing that was committed
        count_dead(self.learnt.counts.dead, self.partition, dead, quiet=muted)
        self._tell(block, muted)
        reach("stepped")
        clock.append(time.perf_counter())
        predictions: Predictions = []
        for each in taken if not muted else ():
            predictions += self._encode(each)
        clock.append(time.perf_counter())
        if muted:
            self.recovery.replayed += len(block)
            self.recovery.compare(self.learnt.counts, batch.entry)
            reach("replayed")
        else:
            self._commit(batch, predictions, dead, drifts)
        clock.append(time.perf_counter())
        self.position = batch.end
        self._whole = True
        if len(batch):
            self._newest = int(batch.timestamps[-1])
        phases = seconds_by_phase(clock, before, self.learner.phases.seconds)
        self._after(clock[-1] - clock[0])
        report = BlockReport(len(block), phases, phases["send"], drifts=drifts)
        if not muted and block.timestamps is not None:
            read = slice(None) if block.has_features is None else block.has_features
            report.latencies = time.time() - block.timestamps[read] / 1000
            report.delays = np.array([delay for each in taken for delay in each.joined.delays], np.float64) / 1000
        return report

    def _take(self, block: Block, batch: RecordBatch) -> Iterator[Taken]:
        """Take a block through the learner, in parts where the schema grew in it.

        With a topic of labels it grows before the block: its blocks are the same in each replay.
        """
        grown = self._codec.take_growth()
        if batch.labels is not None and grown:
            grown = [(0, grown[-1][1])]
        for part, schema in cut(block, self.learner.schema, grown):
            if schema is not None:
                self.learnt.grow(schema)
            yield Taken(part, *self.learnt.take(part), self.learnt.answers)

    def _tell(self, block: Block, muted: bool) -> None:
        """Log what is new in the schema and the inputs, and the first records as they were understood."""
        news = [(logging.INFO, line) for line in self._codec.news()]
        news += [(logging.WARNING, line) for line in self.learnt.inputs.news()]
        if muted:
            return
        for level, line in news:
            _log.log(level, "partition %d: %s", self.partition, line)
        for row in range(min(len(block), SHOWN - self._shown)):
            self._shown += 1
            _log.info("partition %d: understood: %s", self.partition, understood(block, row, self._codec.schema))

    def _decode(self, batch: RecordBatch) -> tuple[Block, list[DeadLetter]]:
        block, dead = self._codec.decode(batch)
        if batch.labels is None:
            return block, dead
        labels, unusable = self._codec.decode(batch.labels, labels_only=True)
        for letter in unusable:
            letter.topic = self._source.labels or ""
        return merged(block, labels) if len(labels) else block, dead + unusable

    def _encode(self, taken: Taken) -> Predictions:
        """Write the predictions of the events of a block, or of a part, each under its event's id."""
        block, answered = taken.block, taken.joined.answers
        assert block.offsets is not None  # the codec gives them
        ids, offsets = block.ids, block.offsets
        if block.has_features is not None:
            ids, offsets = list(compress(ids, block.has_features)), offsets[block.has_features]
        proba = taken.outcome.proba[answered]
        experts = taken.weights[answered].astype(np.float64) if self.settings.emit_weights else None
        answers = taken.answers.of(proba)
        values = self._codec.encode_predictions(ids, offsets, proba, experts, self._version, answers)
        return [(name.encode(), value) for name, value in zip(ids, values, strict=True)]

    def _commit(
        self, batch: RecordBatch, predictions: Predictions, dead: Sequence[DeadLetter], drifts: Sequence[Drift]
    ) -> None:
        self._commits.commit(
            Outputs(batch.next_offset, predictions, dead, [drift.to_json() for drift in drifts]),
            owner=self._owner,
            labels=None if batch.labels is None else batch.labels.next_offset,
            digest=self.learnt.counts.digest,
        )
        reach("committed")
        for drift in drifts:
            if drift.scope != "expert":  # of which there may be hundreds; the topic and the metrics have them
                _log.info("partition %d: drift %s", self.partition, drift.to_json().decode())

    def _after(self, seconds: float) -> None:
        """Go on with a recovery or a checkpoint, after a block that took so long."""
        if self.state == "recovering":
            self._maybe_recovered()
        elif self._checkpoint_is_due:
            self.checkpoint()
        else:
            self.save(max(SAVE_SECONDS, seconds))

    @property
    def _checkpoint_is_due(self) -> bool:
        due = self.position - self._saved >= self.settings.checkpoint_events or (
            time.monotonic() - self._saved_at > self.settings.checkpoint_seconds and not self._writer.busy
        )
        return due and self.position > self._saved and self._saving is None

    @property
    def saving(self) -> bool:
        """Whether a part of a checkpoint is still to be written."""
        return self._saving is not None

    def checkpoint(self, *, whole: bool = False) -> None:
        """Hold the state after the last commit, for `save` and then a thread to write; nothing before there is one.

        Where a learner's state is written in pieces, blocks go on before that is done; with `whole` it is waited for.
        """
        if self.state == "starting" or not self._whole:
            return
        self.save(math.inf)
        parts: dict[str, Snapshot] = self.learnt.parts() | {
            "schema": ({}, self.learner.schema.to_dict()),
            "model": ({}, {"name": self.settings.model, "answers": self.learnt.answers.text}),
        }
        if self._grows:
            parts["origin"] = {}, {"schema": self.learnt.first.to_dict(), "learnt": self._is_learnt}
        self._saving = Saving(self.position, parts, self.learner.begin_snapshot())
        self._saved, self._saved_at = self.position, time.monotonic()
        self.save(math.inf if whole else SAVE_SECONDS)

    def save(self, seconds: float) -> None:
        """Go on for about so long with the checkpoint that was begun, if there is one."""
        if (saving := self._saving) is None:
            return
        learner = saving.learner.advance(seconds)
        if learner is None:
            reach("models-half-saved")
            return
        arrays, plain = pack({"learner": learner, **saving.parts})
        self._writer.write(Checkpoint(saving.position, self._owner, plain, arrays))
        self._saving = None

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on the disk."""
        self._writer.wait()

    def close(self) -> None:
        """Stop writing; the state stays, should the partition come back."""
        self._writer.wait()
        self._commits.close()

    def report(self, block: BlockReport, state: str) -> PartitionReport:
        """Say how it stands; not before the schema is known."""
        learnt, lag = self.learnt, max(self.end - self.position, 0)
        return PartitionReport(
            state=state,
            topic=self._source.topic,
            partition=self.partition,
            classes=self.learner.schema.classes,
            learner=self.learner.report(),
            quality=learnt.quality.report(),
            events_consumed=learnt.counts.features,
            predictions_committed=learnt.counts.predictions,
            dead_letters=dict(learnt.counts.dead),
            lag_records=lag,
            retention_headroom=max((self._commits.position or self.position) - self.begin, 0),
            lag_seconds=max(0.0, time.time() - self._newest / 1000) if lag and self._newest else 0.0,
            block_size=block.rows,
            pending_events=learnt.join.waiting,
            early_labels=learnt.join.early,
            labels=replace(learnt.join.counts),
            step_seconds=block.phases or {},
            commit_seconds=block.commit,
            prediction_latencies=block.latencies,
            label_delays=block.delays,
            checkpoint_time=self._writer.time,
            checkpoint_seconds=self._writer.seconds,
            checkpoint_bytes=self._writer.bytes,
            checkpoint_failures=dict(self._writer.failures),
            transactions_committed=self._commits.transactions,
            replayed_events=self.recovery.replayed,
            recovery_seconds=self.recovery.seconds,
            replay_divergences=self.recovery.diverged,
            drift=learnt.watch.report(block.drifts),
            keys=self.learner.keys,
            inputs=replace(learnt.inputs.report(), grown=growth(learnt.first, self.learner.schema)),
            answers=learnt.answers.text,
        )
