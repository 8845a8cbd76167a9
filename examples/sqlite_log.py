"""A connector of our own: a log in a SQLite file, run through the engine exactly once.

    python -m examples.sqlite_log fill log.db electricity
    python -m examples.sqlite_log run log.db

Kill `run` whenever you like and start it again. Predictions and position are one transaction of the database, so each
event is answered once; the checkpoints beside it only save learning again what was learnt.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from connectors.files import FileCheckpointStore
from stream_moe import build_model, open_stream
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.entries import JournalEntry
from stream_moe.errors import FencedError, LogError, UnavailableError
from stream_moe.ports import Change
from stream_moe.report import PartitionReport
from stream_moe.types import Outputs, RecordBatch, Schema

PARTITION, WAIT_SECONDS = 0, 0.02
TABLES = """
create table if not exists schema (json text not null);
create table if not exists events (position integer primary key, timestamp integer, value blob);
create table if not exists predictions (id blob, value blob not null);
create table if not exists dead_letters (position integer, reason text, message text, value blob);
create table if not exists positions (group_id text primary key, epoch integer, next integer, entry blob);
"""


class SqliteLog:
    """A database file that holds everything: events, what came of them, and each group's position."""

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)  # transactions begin where we say so
        self._db.executescript(TABLES)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: what an error interrupts is rolled back, what a crash interrupts never was."""
        try:
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                self._db.execute("rollback")
                raise
        except sqlite3.OperationalError as error:  # locked, full: the engine drops the state and tries again later
            raise UnavailableError(f"the database does not take it: {error}") from error

    def schema(self) -> Schema:
        found = self._db.execute("select json from schema").fetchone()
        if found is None:
            raise LogError("the log is empty; fill it first")
        return Schema.from_dict(json.loads(found[0]))

    def fill(self, stream: str, events: int) -> None:
        """Append the first events of a stream, as the JSON records that a producer would send."""
        source = open_stream(stream)
        codec, position = JsonCodec(source.schema), self.bounds()[1]
        with self.transaction() as db:
            if not position:
                db.execute("insert into schema values (?)", [json.dumps(source.schema.to_dict())])
            for block in source.blocks(1000):
                rows = codec.encode_events(block, position)[:events]
                db.executemany("insert into events values (?, ?, ?)", zip(count(position), count(position), rows))
                position, events = position + len(rows), events - len(rows)
                if not events:
                    break

    def bounds(self) -> tuple[int, int]:
        first, last = self._db.execute("select min(position), max(position) from events").fetchone()
        return (0, 0) if last is None else (first, last + 1)

    def read(self, position: int, rows: int) -> list[tuple[int, int, bytes]]:
        query = "select * from events where position >= ? order by position limit ?"
        return self._db.execute(query, [position, rows]).fetchall()

    def position(self, group: str) -> tuple[int, int | None, bytes | None]:
        """Epoch of the newest writer, the position that is committed, and what stands beside it."""
        query = "select epoch, next, entry from positions where group_id = ?"
        return self._db.execute(query, [group]).fetchone() or (0, None, None)


class SqliteSource:
    """The `Source` port: the one member of a group that is given the one partition."""

    topic, labels = "events", None

    def __init__(self, log: SqliteLog, group: str) -> None:
        self.group, self.settled = group, False
        self._log = log
        self._changes: list[Change] = []
        self._position: int | None = None  # None = hand out nothing

    def open(self) -> None:
        self._changes, self.settled = [Change("assigned", frozenset({PARTITION}))], True

    def changes(self) -> list[Change]:
        told, self._changes = self._changes, []
        return told

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        deadline = time.monotonic() + timeout
        while self._position is not None and not self._changes:
            if found := self._log.read(self._position, max_records):
                positions, timestamps, values = zip(*found, strict=True)
                self._position = positions[-1] + 1
                offsets, times = np.array(positions, np.int64), np.array(timestamps, np.int64)
                return [RecordBatch(offsets, times, [None] * len(found), list(values), self._position)]
            if time.monotonic() >= deadline:
                break
            time.sleep(WAIT_SECONDS)
        return []

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        return dict.fromkeys(partitions, self._log.bounds())

    def seek(self, partition: int, offset: int) -> None:
        self._position = offset

    def pause(self, partition: int) -> None:
        self._position = None

    def committed(self, partition: int) -> int | None:
        return self._log.position(self.group)[1]

    def entry(self, partition: int) -> JournalEntry | None:
        text = self._log.position(self.group)[2]
        return None if text is None else JournalEntry.from_json(text)

    def close(self) -> None:
        self._position, self.settled = None, False


class SqliteSink:
    """The `Sink` port: the only commit point. A number per group, the epoch, fences older writers."""

    def __init__(self, log: SqliteLog, group: str) -> None:
        self._log, self._group, self._epoch = log, group, 0

    def open(self, partition: int) -> None:
        with self._log.transaction() as db:
            epoch, position, entry = self._log.position(self._group)
            self._epoch = epoch + 1
            db.execute("replace into positions values (?, ?, ?, ?)", [self._group, self._epoch, position, entry])

    def commit(self, partition: int, outputs: Outputs) -> None:
        with self._log.transaction() as db:
            if self._log.position(self._group)[0] != self._epoch:
                raise FencedError(f"group {self._group!r}: a newer process writes")
            db.executemany("insert into predictions values (?, ?)", outputs.predictions)
            letters = [(one.offset, one.reason, one.message, one.value) for one in outputs.dead_letters]
            db.executemany("insert into dead_letters values (?, ?, ?, ?)", letters)
            entry = None if outputs.entry is None else outputs.entry.to_json()
            position = [self._group, self._epoch, outputs.next_offset, entry]
            db.execute("replace into positions values (?, ?, ?, ?)", position)

    def close(self, partition: int) -> None:
        """Nothing is held open between commits."""


def run(path: str, group: str = "example", model: str = "hoeffding-tree") -> None:
    """Work off what the log holds, and say what came of it."""
    log = SqliteLog(path)
    last: dict[int, PartitionReport] = {}
    engine = Engine(
        SqliteSource(log, group),
        SqliteSink(log, group),
        lambda partition: FileCheckpointStore(f"{path}.state/{group}-{partition}"),
        lambda schema: build_model(model, schema),
        EngineSettings(model, block_rows=500, checkpoint_events=5000, until_caught_up=True),
        schema=log.schema(),
        on_report=lambda report: last.update({report.partition: report}),
    )
    engine.run()
    task, told = engine.tasks[PARTITION], last[PARTITION]
    print(f"position {task.position:,}; learnt again from the log: {told.replayed_events:,}")
    print(f"accuracy {told.quality.accuracy:.2%}, state {task.learner.digest[:16]}")


def main(verb: str, path: str, *more: str) -> None:
    if verb == "fill":
        SqliteLog(path).fill(more[0], int(more[1]) if more[1:] else 20_000)
    else:
        run(path, *more)


if __name__ == "__main__":
    main(*sys.argv[1:])
