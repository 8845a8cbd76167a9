"""The engine: read a batch, join labels, step the learner, commit the outputs with the position, checkpoint.

The only commit point is `Sink.commit`: predictions, dead letters and the position as one step. The state on
disk is a cache of a deterministic function of the log, so every crash is survived the same way: take a
checkpoint that is not ahead of the committed position, replay the log up to there with outputs muted, go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream_moe.classifier import BlockClassifier
from stream_moe.engine.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    Owner,
    newest_usable,
    stored_schema,
    understood,
)
from stream_moe.engine.codec import JsonCodec, schema_from_headers
from stream_moe.engine.join import LabelJoin
from stream_moe.errors import CheckpointError, ConfigError, LogError
from stream_moe.evaluation.metrics import Prequential
from stream_moe.experts.pool import pack, unpack
from stream_moe.ports import CheckpointStore, EndOfLogError, Sink, Source
from stream_moe.report import EngineReport
from stream_moe.types import RecordBatch, Schema

POLL_SECONDS = 0.5  # how long one poll waits: the longest a stop request goes unseen
BOUNDS_SECONDS = 1.0  # how often the end of the log is asked for
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the loop runs; none of it changes what is learnt."""

    model: str
    block_rows: int = 4096  # a poll hands out at most so many records
    checkpoint_events: int = 100_000  # a replay after a crash repeats at most about so many
    checkpoint_seconds: float = 60.0
    until_caught_up: bool = False
    emit_weights: bool = True  # the router's weights in every prediction


class Engine:
    """One model over one partition.

    Parameters
    ----------
    source, sink, store
        The ports; opened and closed by `run`.
    make_learner
        Builds the learner for a schema. Must be deterministic.
    settings
        See `EngineSettings`.
    schema
        Of the events; None = the producer's, from the header of the log's first record.
    on_report, on_turn
        Called after each block with a report, and on every turn of the loop.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        store: CheckpointStore,
        make_learner: Callable[[Schema], BlockClassifier],
        settings: EngineSettings,
        *,
        schema: Schema | None = None,
        on_report: Callable[[EngineReport], None] = lambda report: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self.source, self.sink, self.settings = source, sink, settings
        self._store, self._make_learner, self._schema = store, make_learner, schema
        self._on_report, self._on_turn = on_report, on_turn
        self._writer = CheckpointWriter(store)
        self._counts: Counter[str] = Counter()  # of the log: part of the state
        self._run: Counter[str] = Counter()  # of this process
        self._stopping = False
        self._asked_at = 0.0  # when the end of the log was last asked for
        self.state = "starting"
        self.learner: BlockClassifier
        self.quality: Prequential

    def stop(self) -> None:
        """Ask the loop to finish its block, checkpoint and leave; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Recover, then work until stopped, or until caught up where the settings say so."""
        self.sink.open()  # fences an older instance BEFORE the committed position is read
        try:
            committed = self.source.open()
            begin, self._end = self.source.bounds()
            self._prepare(begin)
            self._recover(committed, begin)
            self._loop(self._end if self.settings.until_caught_up else None)
            self.state = "draining"
            self._checkpoint()
        finally:
            self._writer.wait()
            self.source.close()
            self.sink.close()
            self.state = "stopped"
        self._report({}, 0.0, [])

    def _prepare(self, begin: int) -> None:
        schema = self._schema or stored_schema(self._store) or self._schema_of_log(begin)
        self.learner = self._make_learner(schema)
        self._codec = JsonCodec(schema)
        self.quality = Prequential(schema.n_classes)
        self._join = LabelJoin(schema.n_features, schema.n_classes)
        source = f"{self.source.group}/{self.source.topic}/{self.source.partition}"
        self._owner = Owner.of(source, self.settings.model, schema, self._learning_parameters())
        self._version = f"{self.settings.model}/{self._owner.fingerprint[:8]}"

    def _learning_parameters(self) -> dict[str, object]:
        """The learner's parameters, without those that change only where and how fast it runs."""
        parameters = self.learner._get_params()
        return {k: v for k, v in parameters.items() if k not in {"schema", "threads", "device"}}

    def _schema_of_log(self, begin: int) -> Schema:
        self.source.seek(begin)
        waiting_since = time.monotonic()
        while not self._stopping:
            self._on_turn()
            try:
                batch = self.source.poll(1, POLL_SECONDS)
            except EndOfLogError:
                break
            if batch is not None:
                schema = schema_from_headers(batch.headers)
                if schema is None:
                    raise ConfigError(
                        f"schema: record {begin} of topic {self.source.topic!r}, its first, has no schema header as "
                        "`stream-moe produce` writes it; name one with --schema FILE.json or --schema STREAM"
                    )
                return schema
            if self.settings.until_caught_up and time.monotonic() - waiting_since > 5:
                break
        raise LogError(
            f"topic {self.source.topic!r} is empty: no schema to learn from; give --schema or produce first"
        )

    def _recover(self, committed: int | None, begin: int) -> None:
        start = time.perf_counter()
        self.state = "recovering"
        found = newest_usable(self._store, self._owner, committed)
        if found is not None:
            self._restore(found)
        elif committed is not None and begin > 0:
            raise CheckpointError(
                f"no usable checkpoint, and the log no longer holds what was learnt: it starts at {begin}, committed "
                f"is {committed}; restore --state-dir from a backup, or begin anew with another --group"
            )
        self._position = found.offset if found else begin
        self._mute_below = committed if committed is not None else self._position
        if self._position < begin:
            raise LogError(
                f"position {self._position} of topic {self.source.topic!r} is lost: the log starts at {begin}; "
                "restore the log, or begin anew with another --group and --state-dir"
            )
        self._saved, self._saved_at = self._position, time.monotonic()
        self.source.seek(self._position)
        while self._position < self._mute_below and not self._stopping:
            if not self._turn():
                raise LogError(
                    f"the log of topic {self.source.topic!r} ends at {self._position}, before the committed offset "
                    f"{self._mute_below}: it is not the log that was committed to; check --bootstrap and --topic"
                )
        if found is None:
            self._checkpoint()  # proves later where the learning began, should the log be trimmed meanwhile
        self._run["recovery_ms"] = round(1000 * (time.perf_counter() - start))
        _log.info(
            "recovered at offset %d: checkpoint %s, %d records replayed",
            self._position, found.offset if found else "none", self._position - self._saved,
        )  # fmt: skip

    def _loop(self, until: int | None) -> None:
        self.state = "running"
        while not self._stopping and (until is None or self._position < until):
            if not self._turn():
                break
            if (
                self._position - self._saved >= self.settings.checkpoint_events
                or (time.monotonic() - self._saved_at > self.settings.checkpoint_seconds and not self._writer.busy)
            ) and self._position > self._saved:
                self._checkpoint()

    def _turn(self) -> bool:
        """Take one batch through the whole loop; False at the end of a finite log."""
        self._on_turn()
        try:
            batch = self.source.poll(self.settings.block_rows, POLL_SECONDS)
        except EndOfLogError:
            return False
        if batch is None:
            self._report({}, 0.0, [])
        else:
            self._process(batch)
        return True

    def _process(self, batch: RecordBatch) -> None:
        clock = [time.perf_counter()]
        block, dead = self._codec.decode(batch)
        clock.append(time.perf_counter())
        before = dict(self.learner.phases.seconds)
        joined = self._join.join(block)
        weights = np.empty((len(joined.y), self.learner.n_experts), np.float32)
        proba = self.learner.step(joined.x, joined.y, weights)
        self.quality.update(*joined.settle(proba))
        clock.append(time.perf_counter())
        has_features = block.has_features if block.has_features is not None else np.ones(len(block), np.bool_)
        assert block.offsets is not None  # the codec gives both
        assert block.timestamps is not None
        sends = block.offsets[has_features] >= self._mute_below  # a replay says again nothing that was committed
        rows = joined.answers[sends]
        ids = [name for name, send in zip(np.array(block.ids, object)[has_features], sends, strict=True) if send]
        values = self._codec.encode_predictions(
            ids,
            block.offsets[has_features][sends],
            proba[rows],
            weights[rows].astype(np.float64) if self.settings.emit_weights else None,
            self._version,
        )
        letters = [letter for letter in dead if letter.offset >= self._mute_below]
        clock.append(time.perf_counter())
        if batch.next_offset > self._mute_below:
            keyed = [(name.encode(), value) for name, value in zip(ids, values, strict=True)]
            self.sink.commit(keyed, letters, batch.next_offset)
            self._run["transactions"] += 1
        clock.append(time.perf_counter())
        self._position = batch.next_offset
        self._run["replayed"] += int((block.offsets < self._mute_below).sum())
        self._counts["predictions"] += len(sends)  # those of a replay were committed by the run before
        self._counts["features"] += len(sends)
        self._counts["labels"] += int((block.y >= 0).sum())
        for letter in dead:
            self._counts[f"dead:{letter.reason}"] += 1
        decode, step, encode, send = np.diff(clock).tolist()
        learner = {name: s - before.get(name, 0.0) for name, s in self.learner.phases.seconds.items()}
        rest = step - sum(learner.values())  # labels joined, answers scored
        phases = {"decode": decode, **learner, "encode": encode, "send": send}
        phases["account"] = phases.get("account", 0.0) + max(0.0, rest)
        age = time.time() - batch.timestamps[-1] / 1000 if len(batch) else 0.0
        latencies = (time.time() - block.timestamps[has_features][sends] / 1000).tolist()
        self._report(phases, send, latencies, len(block), float(age))

    def _checkpoint(self) -> None:
        """Copy the state after the last commit and let a thread write it."""
        arrays, plain = pack(
            {
                "learner": self.learner.snapshot(),
                "quality": self.quality.snapshot(),
                "join": self._join.snapshot(),
                "counts": ({}, dict(self._counts)),
                "schema": ({}, self.learner.schema.to_dict()),
                "model": ({}, {"name": self.settings.model}),
            }
        )
        self._writer.write(Checkpoint(self._position, self._owner, plain, arrays))
        self._saved, self._saved_at = self._position, time.monotonic()

    def _restore(self, found: Checkpoint) -> None:
        with understood(f"checkpoint at offset {found.offset}"):
            parts = unpack((found.arrays, found.plain))
            self.learner.restore(parts["learner"])
            self.quality.restore(parts["quality"])
            self._join.restore(parts["join"])
            self._counts = Counter(parts["counts"][1])

    def _report(
        self, phases: dict[str, float], commit: float, latencies: list[float], rows: int = 0, behind: float = 0.0
    ) -> None:
        now = time.monotonic()
        if self.state != "stopped" and now - self._asked_at > BOUNDS_SECONDS:
            _, self._end = self.source.bounds()
            self._asked_at = now
        lag = max(self._end - self._position, 0)
        self._on_report(
            EngineReport(
                state=self.state,
                topic=self.source.topic,
                partition=self.source.partition,
                classes=self.learner.schema.classes,
                learner=self.learner.report(),
                quality=self.quality.report(),
                events_consumed=self._counts["features"],
                labels_consumed=self._counts["labels"],
                predictions_committed=self._counts["predictions"],
                dead_letters={k[5:]: n for k, n in self._counts.items() if k.startswith("dead:")},
                lag_records=lag,
                lag_seconds=behind if lag else 0.0,
                block_size=rows,
                pending_events=self._join.waiting,
                labels_expired=self._join.expired,
                labels_duplicate=self._join.duplicates,
                labels_orphan=self._join.orphans,
                step_seconds=phases,
                commit_seconds=commit,
                prediction_latencies=latencies,
                checkpoint_time=self._writer.time,
                checkpoint_seconds=self._writer.seconds,
                checkpoint_bytes=self._writer.bytes,
                checkpoint_failures=self._writer.failures,
                transactions_committed=self._run["transactions"],
                replayed_events=self._run["replayed"],
                recovery_seconds=self._run["recovery_ms"] / 1000,
            )
        )
