"""A task: the model over one partition, from the committed position on.

Its only commit point is `Sink.commit`: predictions, dead letters and the position as one step. What is learnt is
`stream_moe.engine.state`'s, how it is found again after a stop `stream_moe.engine.recovery`'s.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal

import numpy as np

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner
from stream_moe.engine.checkpoint import CheckpointWriter, stored_schema
from stream_moe.engine.codec import schema_from_headers
from stream_moe.engine.commit import CommitPoint
from stream_moe.engine.dead_letters import count_dead
from stream_moe.engine.journal import merged
from stream_moe.engine.recovery import Recovery
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.sparse_codec import codec_for
from stream_moe.engine.state import PartitionState
from stream_moe.engine.warm import compile_beside
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.parts import PendingSnapshot
from stream_moe.ports import CheckpointStore, Sink, Source
from stream_moe.report import Drift, PartitionReport
from stream_moe.runtime.failpoints import reach
from stream_moe.runtime.slow import said_if_slow
from stream_moe.snapshot import Snapshot, pack
from stream_moe.types import Block, Bool, DeadLetter, Float32, Float64, Outputs, RecordBatch, Schema

SAVE_SECONDS = 0.01  # after a block, for a checkpoint that was begun: so long, or as long as the block took
_log = logging.getLogger(__name__)

Predictions = list[tuple[bytes | None, bytes]]


@dataclass(frozen=True, slots=True)
class Saving:
    """A checkpoint whose learner is still being written: its position, its other parts, and the learner."""

    position: int
    parts: dict[str, Snapshot]
    learner: PendingSnapshot


@dataclass(slots=True)
class BlockReport:
    """What a block left for its report."""

    rows: int = 0
    phases: dict[str, float] | None = None  # seconds by phase
    commit: float = 0.0  # seconds
    latencies: Sequence[float] | Float64 = ()  # seconds from each record's timestamp to its commit
    delays: Sequence[float] | Float64 = ()  # seconds from an event's timestamp to that of its label
    drifts: Sequence[Drift] = ()  # found, whether told now or by the run that a replay repeats


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
        self.learnt: PartitionState
        self.recovery: Recovery

    @property
    def caught_up(self) -> bool:
        """Whether all is done that the log held when the partition was assigned."""
        return self.state == "running" and self.position >= self._goal

    @property
    def learner(self) -> BlockClassifier:
        return self.learnt.learner

    @property
    def schema(self) -> Schema | None:
        return None if self.state == "starting" else self.learner.schema

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
        schema = schema or stored_schema(self._store)
        if schema is not None:
            self.start(schema)
        else:
            self.state = "starting"
            self._source.seek(self.partition, self.begin)

    def start(self, schema: Schema) -> None:
        """Build the model, take the newest usable checkpoint, and go on from there.

        One that is whole and holds what no state can is passed over for an older one, as a damaged one is.
        """
        self._started = time.perf_counter()
        self._whole, self._saving = True, None
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
        wide = f"{schema.n_features:,} features and {schema.n_classes:,} classes"
        with said_if_slow(f"partition {self.partition}: making a model of {wide}"):
            learner = self._make_learner(schema)
        learner.attach(self._store)
        self._writer.files = learner.files
        self.learnt = PartitionState(learner, self.settings)
        self._codec = codec_for(schema, keys=self.settings.keys, inputs=self.learnt.inputs)
        source = f"{self._source.group}/{self._source.topic}/{self.partition}"
        self._owner = Owner.of(source, self.settings.model, schema, self._learning_parameters())
        self._version = f"{self.settings.model}/{self._owner.fingerprint[:8]}"
        self.recovery = Recovery.choose(
            self.partition, self._source.topic, self._store, self._owner, self._commits.position, self.begin,
            self.end, refused,
        )  # fmt: skip
        try:
            self.recovery.restore(self.learnt)
        except CheckpointError as error:
            return error
        return None

    def _learning_parameters(self) -> dict[str, object]:
        """The parameters of learner and label join, without those that change only where and how fast it runs."""
        labels = {} if self._source.labels is None else {"labels": self._source.labels}
        return self.learner.learning_parameters() | self.settings.learning_parameters() | labels

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
            if len(batch) or batch.labels is None:
                self.start(self._schema_of(batch))
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
        joined, outcome, weights = self.learnt.take(block)
        muted = batch.end <= self.recovery.mute_below  # a replay says again nothing that was committed
        count_dead(self.learnt.counts.dead, self.partition, dead, quiet=muted)
        for line in self.learnt.inputs.news():
            if not muted:
                _log.warning("partition %d: %s", self.partition, line)
        reach("stepped")
        clock.append(time.perf_counter())
        has_features = block.has_features if block.has_features is not None else np.ones(len(block), np.bool_)
        predictions: Predictions = []
        if not muted:
            predictions = self._encode(block, has_features, outcome.proba[joined.answers], weights[joined.answers])
        clock.append(time.perf_counter())
        if muted:
            self.recovery.replayed += len(block)
            self.recovery.compare(self.learnt.counts, batch.entry)
            reach("replayed")
        else:
            self._commit(batch, predictions, dead, outcome.drifts)
        clock.append(time.perf_counter())
        self.position = batch.end
        self._whole = True
        if len(batch):
            self._newest = int(batch.timestamps[-1])
        phases = self._phases(clock, before)
        self._after(clock[-1] - clock[0])
        report = BlockReport(len(block), phases, phases["send"], drifts=outcome.drifts)
        if not muted and block.timestamps is not None:
            report.latencies = time.time() - block.timestamps[has_features] / 1000
            report.delays = np.array(joined.delays, np.float64) / 1000
        return report

    def _decode(self, batch: RecordBatch) -> tuple[Block, list[DeadLetter]]:
        block, dead = self._codec.decode(batch)
        if batch.labels is None:
            return block, dead
        labels, unusable = self._codec.decode(batch.labels, labels_only=True)
        for letter in unusable:
            letter.topic = self._source.labels or ""
        return merged(block, labels) if len(labels) else block, dead + unusable

    def _encode(self, block: Block, has_features: Bool, proba: Float64, weights: Float32) -> Predictions:
        """Write the predictions of the block's events, each under its event's id."""
        assert block.offsets is not None  # the codec gives them
        ids = list(compress(block.ids, has_features))
        experts = weights.astype(np.float64) if self.settings.emit_weights else None
        answers = self.learnt.answers.of(proba)
        offsets = block.offsets[has_features]
        values = self._codec.encode_predictions(ids, offsets, proba, experts, self._version, answers)
        return [(name.encode(), value) for name, value in zip(ids, values, strict=True)]

    def _commit(
        self, batch: RecordBatch, predictions: Predictions, dead: Sequence[DeadLetter], drifts: Sequence[Drift]
    ) -> None:
        self._commits.commit(
            Outputs(batch.next_offset, predictions, dead, [drift.to_json() for drift in drifts]),
            labels=None if batch.labels is None else batch.labels.next_offset,
            digest=self.learnt.counts.digest,
        )
        reach("committed")
        for drift in drifts:
            if drift.scope != "expert":  # of which there may be hundreds; the topic and the metrics have them
                _log.info("partition %d: drift %s", self.partition, drift.to_json().decode())

    def _phases(self, clock: Sequence[float], before: dict[str, float]) -> dict[str, float]:
        """Divide the seconds of a block; what the learner does not account for went into joining and scoring."""
        decode, step, encode, send = np.diff(clock).tolist()
        learner = {name: s - before.get(name, 0.0) for name, s in self.learner.phases.seconds.items()}
        phases = {"decode": decode, **learner, "encode": encode, "send": send}
        phases["account"] = phases.get("account", 0.0) + max(0.0, step - sum(learner.values()))
        return phases

    def _after(self, seconds: float) -> None:
        """Go on with a recovery or a checkpoint, after a block that took so long."""
        if self.state == "recovering":
            self._maybe_recovered()
        elif self._checkpoint_is_due:
            self.checkpoint()
        else:
            self.save(max(SAVE_SECONDS, seconds))

    def _schema_of(self, batch: RecordBatch) -> Schema:
        schema = schema_from_headers(batch.headers)
        if schema is None:
            raise ConfigError(
                f"schema: record {self.begin} of {self._source.topic!r}/{self.partition}, its first, has no schema "
                "header as `stream-moe produce` writes it; name one with --schema FILE.json or --schema STREAM"
            )
        return schema

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
            inputs=learnt.inputs.report(),
            answers=learnt.answers.text,
        )
