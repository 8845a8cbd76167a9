"""The log itself, in a SQLite file: lines with their positions, how far each file was taken, what is committed."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from connectors.local.incoming import Taken
from stream_moe.entries import JournalEntry
from stream_moe.errors import LogError, UnavailableError

KEPT = 1_000_000  # lines behind the committed position, for a replay from an older checkpoint
_TRIM = 50_000  # lines deleted at once
_TABLES = """
create table if not exists events (position integer primary key, timestamp integer not null, value blob not null);
create table if not exists files (name text primary key, place integer not null);
create table if not exists groups (name text primary key, position integer not null, entry blob);
create table if not exists outputs (name text primary key, inode integer not null, bytes integer not null);
"""


class LocalLog:
    """An append-only log of one partition, with one committed position for each group, of one process at a time.

    Parameters
    ----------
    path
        The database; made (0600) where it is missing.
    kept
        How many lines stay behind the committed position.

    Raises
    ------
    UnavailableError
        Of a call: the disk is full, say.
    LogError
        If it is no such database, or another process has it.
    """

    def __init__(self, path: Path, kept: int = KEPT) -> None:
        self.path, self._kept = path, kept
        self._lock = threading.RLock()
        path.touch(mode=0o600)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
            self._db.execute("pragma locking_mode=exclusive")  # as long as this process lives
            self._db.execute("pragma journal_mode=wal")
            self._db.executescript(_TABLES)
        except sqlite3.OperationalError as error:
            raise LogError(f"{path}: {error}; end the other process, or name another --state-dir") from error
        except sqlite3.DatabaseError as error:
            raise LogError(f"{path}: {error}; it is the log of --source, move it away to begin anew") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the disk behind it."""
        with self._lock:
            try:
                self._db.execute("begin immediate")
                try:
                    yield self._db
                    self._db.execute("commit")
                except BaseException:
                    self._db.execute("rollback")
                    raise
            except sqlite3.OperationalError as error:
                raise UnavailableError(f"{self.path}: {error}; free the disk, or end what else uses it") from error

    # ---- what came in

    def append(self, taken: Taken, timestamp: int) -> None:
        """Put lines behind what is there, and how far their file was taken, as one."""
        with self.transaction() as db:
            first = self.bounds()[1]
            rows = ((first + i, timestamp, line) for i, line in enumerate(taken.lines))
            db.executemany("insert into events values (?, ?, ?)", rows)
            if taken.file:
                db.execute("replace into files values (?, ?)", [taken.file, taken.place])

    def places(self) -> dict[str, int]:
        """How far each file was taken."""
        with self._lock:
            return dict(self._db.execute("select name, place from files"))

    def bounds(self) -> tuple[int, int]:
        """First position, and the one behind the last."""
        with self._lock:
            first, last = self._db.execute("select min(position), max(position) from events").fetchone()
        return (0, 0) if last is None else (first, last + 1)

    def read(self, position: int, lines: int) -> list[tuple[int, int, bytes]]:
        """Return at most so many (position, timestamp, line)."""
        with self._lock:
            query = "select position, timestamp, value from events where position >= ? order by position limit ?"
            return self._db.execute(query, [position, lines]).fetchall()

    # ---- what came of it

    def committed(self, group: str) -> tuple[int | None, JournalEntry | None]:
        """Return the committed position of a group and the entry beside it."""
        with self._lock:
            query = "select position, entry from groups where name = ?"
            position, entry = self._db.execute(query, [group]).fetchone() or (None, None)
        return position, None if entry is None else JournalEntry.from_json(entry)

    def lengths(self) -> dict[str, tuple[int, int]]:
        """Inode and committed length of each output file by name."""
        with self._lock:
            return {name: (inode, n) for name, inode, n in self._db.execute("select name, inode, bytes from outputs")}

    def note(self, files: Sequence[tuple[str, int, int]]) -> None:
        """Note name, inode and length of output files as what is committed of them."""
        with self.transaction() as db:
            db.executemany("replace into outputs values (?, ?, ?)", files)

    def commit(
        self, group: str, position: int, entry: JournalEntry | None, files: Sequence[tuple[str, int, int]]
    ) -> None:
        """Commit a position with the lengths of the output files."""
        with self.transaction() as db:
            text = None if entry is None else entry.to_json()
            db.execute("replace into groups values (?, ?, ?)", [group, position, text])
            db.executemany("replace into outputs values (?, ?, ?)", files)
            if (end := position - self._kept) - self.bounds()[0] >= _TRIM:
                db.execute("delete from events where position < ?", [end])

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()
