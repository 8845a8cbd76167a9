"""Segments: models written together, as files beside the checkpoints that are never changed.

A segment is in the store before any checkpoint names it, and is deleted only when no checkpoint there names it and
none of its models is in use. What a crash leaves between the two is garbage that the next owner collects.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Collection, Sequence

from stream_moe.errors import CheckpointError
from stream_moe.ports import CheckpointStore
from stream_moe.ranges import MOST
from stream_moe.runtime.failpoints import reach

GARBAGE_SECONDS = 120.0  # an owner before us may come back to its segments for a minute: twice that
_NAME = re.compile(r"[0-9]{12}-[0-9a-f]{16}\.models")
_log = logging.getLogger(__name__)


def check_segments(names: Sequence[str], sizes: Sequence[int]) -> None:
    """Raise CheckpointError unless a checkpoint's segments are named as ours are, each once, with its size."""
    for name in names:
        if type(name) is not str or not _NAME.fullmatch(name):
            raise CheckpointError(
                f"keys: {ascii(name)[:60]} is no name of a file of models, as {'0' * 12}-{'f' * 16}.models"
            )
    for size in sizes:
        if type(size) is not int or not 0 < size <= MOST:
            raise CheckpointError(
                f"keys: a file of models has {ascii(size)[:40]} bytes, and 1 to {MOST:,} is allowed"
            )
    if len(names) != len(sizes) or len(set(names)) != len(names):
        raise CheckpointError(f"keys: {len(names)} files of models, {len(set(names))} names and {len(sizes)} sizes")


class Segments:
    """The segments of one partition, by number in this process and by name in the store.

    Parameters
    ----------
    store
        Where they lie; None = they stay in memory, for a learner that nobody gave a store.

    Attributes
    ----------
    names, sizes
        Of each segment that holds a model in use, by its number.

    Examples
    --------
    >>> segments = Segments(None)
    >>> number = segments.open()
    >>> segments.append(number, b"first"), segments.append(number, b"second")
    (0, 5)
    >>> segments.seal(number)
    >>> segments.read([(number, 5, 6)])
    [b'second']
    """

    def __init__(self, store: CheckpointStore | None) -> None:
        self._store = store
        self._own = secrets.token_hex(8)  # a name is never used twice, whoever else writes there
        self._lock = threading.Lock()  # a checkpoint's thread flushes and collects
        self._growing: dict[str, bytearray] = {}  # not whole yet
        self._waiting: dict[str, bytes] = {}  # not in the store yet
        self._secret: set[str] = set()  # ours, and named by no snapshot
        self._garbage: dict[str, float] = {}  # since when
        self._next = 0
        self.names: dict[int, str] = {}
        self.sizes: dict[int, int] = {}

    @property
    def stored(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def open(self) -> int:
        """Begin a segment, which waits in memory; return its number."""
        number, name = self._next, f"{self._next:012d}-{self._own}.models"
        self._next += 1
        with self._lock:
            self._growing[name] = bytearray()
            self._secret.add(name)
            self.names[number], self.sizes[number] = name, 0
        return number

    def append(self, number: int, record: bytes) -> int:
        """Put a record into a segment that was opened; return where it begins."""
        at = self.sizes[number]
        with self._lock:
            self._growing[self.names[number]] += record
            self.sizes[number] = at + len(record)
        return at

    def seal(self, number: int, *, flush: bool = False) -> None:
        """Say that a segment is whole; without `flush` it waits for the checkpoint that names it."""
        name = self.names[number]
        content = bytes(self._growing[name])
        if flush:
            self._write(name, content)
        with self._lock:
            del self._growing[name]
            if not flush:
                self._waiting[name] = content

    def drop(self, numbers: Collection[int]) -> None:
        """Say that none of their models is in use any more."""
        with self._lock:
            for number in numbers:
                name = self.names.pop(number)
                del self.sizes[number]
                if self._store is not None and name not in self._secret:
                    continue  # a checkpoint on its way names it
                found = [waiting.pop(name, None) for waiting in (self._waiting, self._growing)]
                if found != [None, None]:
                    self._secret.discard(name)

    def read(self, spans: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Read (number, offset, length) each; CheckpointError where a segment is not there."""
        found: list[bytes] = [b""] * len(spans)
        by_segment: dict[int, list[int]] = {}
        for place, (number, _, _) in enumerate(spans):
            by_segment.setdefault(number, []).append(place)
        for number, places in by_segment.items():
            parts = [(spans[place][1], spans[place][1] + spans[place][2]) for place in places]
            for place, part in zip(places, self._read(self.names[number], parts), strict=True):
                found[place] = part
        return found

    def _read(self, name: str, parts: list[tuple[int, int]]) -> list[bytes]:
        with self._lock:
            content = self._waiting.get(name, self._growing.get(name))
            if content is not None:
                return [bytes(content[begin:end]) for begin, end in parts]
        assert self._store is not None  # without one they all wait
        return self._store.read_parts(name, parts)

    def flush(self, named: Collection[str]) -> None:
        """Write what waits of the segments that a checkpoint names. Called before it is written.

        What waits for a checkpoint that could not be written, and is not in use any more, is let go.
        """
        with self._lock:
            used = self.names.values()
            self._waiting = {name: c for name, c in self._waiting.items() if name in named or name in used}
            ready = {name: content for name, content in self._waiting.items() if name in named}
        for name, content in ready.items():
            self._write(name, content)
            with self._lock:
                self._waiting.pop(name, None)

    def _write(self, name: str, content: bytes) -> None:
        assert self._store is not None
        reach("segment-unwritten")
        self._store.write(name, content)
        reach("segment-written")

    def publish(self, numbers: Sequence[int]) -> list[str]:
        """Return the names of segments, for a snapshot that others may start from."""
        with self._lock:
            names = [self.names[number] for number in numbers]
            self._secret.difference_update(names)
        return names

    def contents(self, named: Collection[str]) -> dict[str, bytes]:
        """Return segments by name, where they have no store: a snapshot takes them along."""
        if self._store is not None:
            return {}
        with self._lock:
            return {name: self._waiting[name] for name in named}

    def adopt(self, names: Sequence[str], sizes: Sequence[int], contents: dict[str, bytes]) -> None:
        """Go on from the segments of a snapshot, which are numbered from 0 in its order."""
        with self._lock:
            self._waiting = dict(contents)
            self._growing.clear()
            self._secret.clear()
            self.names = dict(enumerate(names))
            self.sizes = dict(enumerate(sizes))
            self._next = max(self._next, len(names))

    def collect(self, named: Collection[str]) -> None:
        """Delete from the store what neither the checkpoints there name (`named`) nor a model in use needs."""
        if self._store is None:
            return
        present = [name for name in self._store.names() if _NAME.fullmatch(name)]
        with self._lock:
            needed = {*named, *self.names.values()}
            garbage = [name for name in present if name not in needed]
            now = time.monotonic()
            self._garbage = {name: self._garbage.get(name, now) for name in garbage}
            due = [n for n, since in self._garbage.items() if n in self._secret or now - since >= GARBAGE_SECONDS]
        for name in due:
            self._store.delete(name)
            reach("segment-deleted")
            self._secret.discard(name)
