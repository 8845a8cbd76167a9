"""A task: the model over one partition, from the committed position on.

Its only commit point is `Sink.commit`: predictions, dead letters and the position as one step. The state on disk
is a cache of a deterministic function of the log, so everything is survived the same way: take a checkpoint that
is not ahead of the committed position, replay the log up to there with outputs muted, go on.
"""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Literal

import numpy as np

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner, understood
from stream_moe.drift.watch import DriftWatch
from stream_moe.engine.checkpoint import CheckpointWriter, newest_usable, stored_schema
from stream_moe.engine.codec import JsonCodec, schema_from_headers
from stream_moe.engine.commit import CommitPoint
from stream_moe.engine.dead_letters import by_reason, count_dead
from stream_moe.engine.join import MAX_WAITING, TIMEOUT_SECONDS, LabelJoin
from stream_moe.engine.journal import merged
from stream_moe.engine.waiting import Joined
from stream_moe.errors import CheckpointError, ConfigError, LogError
from stream_moe.evaluation.metrics import Prequential
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed.barrier import Barrier
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.memory import KeyMemory
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.ports import CheckpointStore, Sink, Source
from stream_moe.report import Drift, PartitionReport
from stream_moe.runtime.failpoints import reach
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import UNLABELLED, DeadLetter, Float64, JournalEntry, Outputs, RecordBatch, Schema
from stream_moe.types import Block as Events

SAVE_SECONDS = 0.01  # after a block, for the models of a checkpoint: so long, or as long as the block took
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the loop runs; only the last three change what is learnt."""

    model: str
    block_rows: int = 4096  # a poll hands out at most so many records
    checkpoint_events: int = 100_000  # a replay after a crash repeats at most about so many
    checkpoint_seconds: float = 60.0
    until_caught_up: bool = False
    emit_weights: bool = True  # the router's weights in every prediction
    max_waiting: int = MAX_WAITING  # events without a label, and labels without an event
    label_seconds: float = TIMEOUT_SECONDS  # of event time; no longer do they wait
    keys: KeySettings | None = None  # each record key has a model of its own; None = one model for the partition


@dataclass(frozen=True, slots=True)
class Saving:
    """A checkpoint whose models are still being written: its position, its other parts, and the models."""

    position: int
    parts: dict[str, Snapshot]
    barrier: Barrier | None


@dataclass(slots=True)
class Block:
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
    memory
        For the models of keys, of the whole process.

    Attributes
    ----------
    state
        "starting" until the schema is known, then "recovering" up to the committed position, then "running".
    position
        Offset of the next record to read.
    begin, end
        First offset that the log still holds, and the one after its last record, as of the last time it was asked.
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
        memory: KeyMemory,
    ) -> None:
        self.partition, self.settings = partition, settings
        self._source, self._store = source, store
        self._make_learner, self._memory = make_learner, memory
        self._commits = CommitPoint(partition, source, sink, outcomes)
        self._writer = CheckpointWriter(store)
        self._counts: Counter[str] = Counter()  # of the log: part of the state
        self._run: Counter[str] = Counter()  # of this process
        self._whole = True  # no block was left half done
        self.state: Literal["starting", "recovering", "running"] = "starting"
        self.position = self.begin = self.end = self._goal = 0
        self._newest = 0  # timestamp of the last record, in milliseconds
        self.learner: BlockClassifier
        self._keyed: KeyedLearner | None = None  # the same learner, where it takes keys
        self._saving: Saving | None = None
        self.quality: Prequential

    @property
    def caught_up(self) -> bool:
        """Whether all is done that the log held when the partition was assigned."""
        return self.state == "running" and self.position >= self._goal

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
        """Build the model, take the newest usable checkpoint, and go on from there."""
        self._started = time.perf_counter()
        self.learner = self._make_learner(schema)
        if (keys := self.settings.keys) is not None:
            self.learner = self._keyed = KeyedLearner(
                schema, make=self._make_learner, max_keys=keys.max_keys, memory=self._memory
            )
            self._keyed.attach(self._store)
            self._writer.segments = self._keyed.files
        self._codec = JsonCodec(schema, keys=self.settings.keys)
        self.quality = Prequential(schema.n_classes)
        self.watch = DriftWatch(schema)
        self._join = LabelJoin(
            schema.n_features,
            schema.n_classes,
            max_waiting=self.settings.max_waiting,
            timeout=self.settings.label_seconds,
        )
        self._counts, self._run, self._whole, self._saving = Counter(), Counter(), True, None
        source = f"{self._source.group}/{self._source.topic}/{self.partition}"
        self._owner = Owner.of(source, self.settings.model, schema, self._learning_parameters())
        self._version = f"{self.settings.model}/{self._owner.fingerprint[:8]}"
        self._recover()

    def _learning_parameters(self) -> dict[str, object]:
        """The parameters of learner and label join, without those that change only where and how fast it runs."""
        learning = self.learner.learning_parameters()
        usual = EngineSettings(self.settings.model)
        bounds = {name: getattr(self.settings, name) for name in ("max_waiting", "label_seconds")}
        changed = {name: value for name, value in bounds.items() if value != getattr(usual, name)}
        if self._source.labels is not None:
            changed["labels"] = self._source.labels
        if (keys := self.settings.keys) is not None:
            changed |= {"null_key": keys.null_key, "max_key_bytes": keys.max_key_bytes}
        return learning | changed  # without the usual ones, of which older checkpoints say nothing

    def _recover(self) -> None:
        committed, begin, topic = self._commits.position, self.begin, f"{self._source.topic!r}/{self.partition}"
        found = newest_usable(self._store, self._owner, committed)
        if found is not None:
            self._restore(found)
        elif committed is not None and begin > 0:
            raise CheckpointError(
                f"no usable checkpoint, and the log {topic} no longer holds what was learnt: it starts at {begin}, "
                f"committed is {committed}; restore --state-dir from a backup, or begin anew with another --group"
            )
        self.position = found.offset if found else begin
        self._mute_below = committed if committed is not None else self.position
        if self.position < begin:
            raise LogError(
                f"position {self.position} of {topic} is lost: the log starts at {begin}; "
                "restore the log, or begin anew with another --group and --state-dir"
            )
        if self._mute_below > self.end:
            raise LogError(
                f"the log {topic} ends at {self.end}, before the committed offset {self._mute_below}: "
                "it is not the log that was committed to; check --bootstrap and --topic"
            )
        self._saved, self._saved_at, self._from = self.position, time.monotonic(), self.position
        self._new = found is None
        self.state = "recovering"
        self._source.seek(self.partition, self.position)
        self._maybe_recovered()

    def _maybe_recovered(self) -> None:
        if self.position < self._mute_below:
            return
        self.state = "running"
        self._compare(self._commits.entry)
        if self._new:
            self.checkpoint()  # proves later where the learning began, should the log be trimmed meanwhile
        self._run["recovery_ms"] = round(1000 * (time.perf_counter() - self._started))
        _log.info(
            "partition %d recovered at offset %d: checkpoint %s, %d records replayed",
            self.partition, self.position, "none" if self._new else self._from, self.position - self._from,
        )  # fmt: skip

    def process(self, batch: RecordBatch) -> Block:
        """Take a batch through decoding, joining, learning and the commit.

        `FencedError` when the partition is another's: this state is then of no more use. The first batch of a log
        whose schema nobody knew is only looked at.
        """
        if self.state == "starting":
            if len(batch) or batch.labels is None:
                self.start(self._schema_of(batch))
            return Block()
        if self.position < self._mute_below < batch.end:  # of one topic: a journal keeps blocks whole
            head, batch = batch.split(self._mute_below)
            self._learn(head)
        return self._learn(batch)

    def _learn(self, batch: RecordBatch) -> Block:
        self._whole = False
        reach("polled")
        clock = [time.perf_counter()]
        block, dead = self._decode(batch)
        clock.append(time.perf_counter())
        before = dict(self.learner.phases.seconds)
        joined = self._join.join(block)
        weights = np.empty((len(joined.y), self.learner.n_experts), np.float32)
        if self._keyed is not None:
            proba = self._keyed.step(joined.x, joined.y, weights, tickets=joined.tickets, keys=joined.keys)
        else:
            proba = self.learner.step(joined.x, joined.y, weights, tickets=joined.tickets)
        self._counts["answers"] = zlib.crc32(np.ascontiguousarray(proba).data, self._counts["answers"])
        self.quality.update(*joined.settle(proba))
        drifts = self._watched(block, joined)
        self._counts["features"] += len(joined.answers)
        self._counts["predictions"] += len(joined.answers)  # those of a replay were committed by the run before
        muted = batch.end <= self._mute_below  # a replay says again nothing that was committed
        count_dead(self._counts, self.partition, dead, quiet=muted)
        reach("stepped")
        clock.append(time.perf_counter())
        has_features = block.has_features if block.has_features is not None else np.ones(len(block), np.bool_)
        assert block.offsets is not None  # the codec gives both
        assert block.timestamps is not None
        keyed: list[tuple[bytes | None, bytes]] = []
        if not muted:
            ids, rows = list(compress(block.ids, has_features)), joined.answers
            values = self._codec.encode_predictions(
                ids,
                block.offsets[has_features],
                proba[rows],
                weights[rows].astype(np.float64) if self.settings.emit_weights else None,
                self._version,
            )
            keyed = [(name.encode(), value) for name, value in zip(ids, values, strict=True)]
        clock.append(time.perf_counter())
        if muted:
            self._compare(batch.entry)
            reach("replayed")
        else:
            self._commits.commit(
                Outputs(batch.next_offset, keyed, dead, [drift.to_json() for drift in drifts]),
                labels=None if batch.labels is None else batch.labels.next_offset,
                digest=f"{self._counts['answers']:08x}",
            )
            reach("committed")
            for drift in drifts:
                if drift.scope != "expert":  # of which there may be hundreds; the topic and the metrics have them
                    _log.info("partition %d: drift %s", self.partition, drift.to_json().decode())
        clock.append(time.perf_counter())
        self.position = batch.end
        self._whole = True
        self._run["replayed"] += len(block) if muted else 0
        decode, step, encode, send = np.diff(clock).tolist()
        learner = {name: s - before.get(name, 0.0) for name, s in self.learner.phases.seconds.items()}
        rest = step - sum(learner.values())  # labels joined, answers scored
        phases = {"decode": decode, **learner, "encode": encode, "send": send}
        phases["account"] = phases.get("account", 0.0) + max(0.0, rest)
        if len(batch):
            self._newest = int(batch.timestamps[-1])
        if self.state == "recovering":
            self._maybe_recovered()
        elif self._checkpoint_is_due:
            self.checkpoint()
        else:
            self.save(max(SAVE_SECONDS, clock[-1] - clock[0]))
        latencies = np.empty(0) if muted else time.time() - block.timestamps[has_features] / 1000
        delays = np.empty(0) if muted else np.array(joined.delays, np.float64) / 1000
        return Block(len(block), phases, send, latencies, delays, drifts)

    def _watched(self, block: Events, joined: Joined) -> list[Drift]:
        """Let the drift detectors see what the learner has learnt."""
        assert block.offsets is not None  # the codec gives both
        assert block.timestamps is not None
        read = slice(None) if block.has_features is None else block.has_features
        labelled = np.flatnonzero(joined.y != UNLABELLED)
        return self.watch.update(
            self.learner,
            joined.x[joined.answers],
            block.offsets[read],
            block.timestamps[read],
            joined.y[labelled],
            joined.reached(labelled),
        )

    def _decode(self, batch: RecordBatch) -> tuple[Events, list[DeadLetter]]:
        block, dead = self._codec.decode(batch)
        if batch.labels is None:
            return block, dead
        labels, unusable = self._codec.decode(batch.labels, labels_only=True)
        for letter in unusable:
            letter.topic = self._source.labels or ""
        return merged(block, labels) if len(labels) else block, dead + unusable

    def _compare(self, entry: JournalEntry | None) -> None:
        """Count where a replay gave other answers than the run that it repeats, and go on from those of that run."""
        if entry is None or entry.digest == (found := f"{self._counts['answers']:08x}"):
            return
        self._run["diverged"] += 1
        self._counts["answers"] = int(entry.digest, 16)
        _log.warning(
            "partition %d: the replay up to block %d gave answers of digest %s, and those committed have %s: "
            "another CPU or library rounds differently; what was committed stays as it is",
            self.partition, entry.sequence, found, entry.digest,
        )  # fmt: skip

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
        """Whether models of a checkpoint are still to be written."""
        return self._saving is not None

    def checkpoint(self, *, whole: bool = False) -> None:
        """Hold the state after the last commit, for `save` and then a thread to write; nothing before there is one.

        Where each key has a model, blocks go on before all models are written; with `whole` that is waited for.
        """
        if self.state == "starting" or not self._whole:
            return
        self.save(math.inf)
        parts = {
            "quality": self.quality.snapshot(),
            "watch": self.watch.snapshot(),
            "join": self._join.snapshot(),
            "counts": ({}, dict(self._counts)),
            "schema": ({}, self.learner.schema.to_dict()),
            "model": ({}, {"name": self.settings.model}),
        }
        self._saving = Saving(self.position, parts, self._keyed.begin_snapshot() if self._keyed is not None else None)
        self._saved, self._saved_at = self.position, time.monotonic()
        self.save(math.inf if whole else SAVE_SECONDS)

    def save(self, seconds: float) -> None:
        """Go on for about so long with the checkpoint that was begun, if there is one."""
        if (saving := self._saving) is None:
            return
        learner = saving.barrier.advance(seconds) if saving.barrier is not None else self.learner.snapshot()
        if learner is None:
            reach("models-half-saved")
            return
        arrays, plain = pack({"learner": learner, **saving.parts})
        self._writer.write(Checkpoint(saving.position, self._owner, plain, arrays))
        self._saving = None

    def _restore(self, found: Checkpoint) -> None:
        with understood(f"checkpoint at offset {found.offset}"):
            parts = unpack((found.arrays, found.plain))
            self.learner.restore(parts["learner"])
            self.quality.restore(parts["quality"])
            self._join.restore(parts["join"])
            self._counts = Counter(parts["counts"][1])
            if parts["watch"][1] is None:
                self.watch.begin_at(self._counts["features"], self.quality.events)
            else:
                self.watch.restore(parts["watch"])

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on the disk."""
        self._writer.wait()

    def close(self) -> None:
        """Stop writing; the state stays, should the partition come back."""
        self._writer.wait()
        self._commits.close()

    def report(self, block: Block, state: str) -> PartitionReport:
        """Say how it stands; not before the schema is known."""
        lag = max(self.end - self.position, 0)
        return PartitionReport(
            state=state,
            topic=self._source.topic,
            partition=self.partition,
            classes=self.learner.schema.classes,
            learner=self.learner.report(),
            quality=self.quality.report(),
            events_consumed=self._counts["features"],
            predictions_committed=self._counts["predictions"],
            dead_letters=by_reason(self._counts),
            lag_records=lag,
            retention_headroom=max((self._commits.position or self.position) - self.begin, 0),
            lag_seconds=max(0.0, time.time() - self._newest / 1000) if lag and self._newest else 0.0,
            block_size=block.rows,
            pending_events=self._join.waiting,
            early_labels=self._join.early,
            labels=replace(self._join.counts),
            step_seconds=block.phases or {},
            commit_seconds=block.commit,
            prediction_latencies=block.latencies,
            label_delays=block.delays,
            checkpoint_time=self._writer.time,
            checkpoint_seconds=self._writer.seconds,
            checkpoint_bytes=self._writer.bytes,
            checkpoint_failures=dict(self._writer.failures),
            transactions_committed=self._commits.transactions,
            replayed_events=self._run["replayed"],
            recovery_seconds=self._run["recovery_ms"] / 1000,
            replay_divergences=self._run["diverged"],
            drift=self.watch.report(block.drifts),
            keys=self._keyed.keys if self._keyed is not None else None,
        )
