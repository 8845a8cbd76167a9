"""Checkpoints: the state after a committed position, as bytes that prove themselves whole.

Layout: 8 bytes of magic with the format version, 32 bytes sha256 of the rest, then a safetensors file whose
metadata holds the plain part as JSON. No object is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from stream_moe.errors import CheckpointError, StreamMoeError
from stream_moe.experts.base import Arrays
from stream_moe.ports import CheckpointStore
from stream_moe.types import Schema

MAGIC = b"SMOE\x00\x00\x00\x01"
GENERATIONS = 3  # the newest may be damaged by a dying disk, the one before by the same; two are luck
_HEADER = len(MAGIC) + 32
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Checkpoint:
    """Everything that is needed to go on from `offset`.

    Attributes
    ----------
    offset
        Position of the next record to read.
    fingerprint
        Of schema, model and parameters: only an engine with the same one may use it.
    plain
        JSON values; `arrays` the named arrays.
    """

    offset: int
    fingerprint: str
    plain: dict[str, Any]
    arrays: Arrays

    def to_bytes(self) -> bytes:
        meta = {"offset": self.offset, "fingerprint": self.fingerprint, "plain": self.plain}
        body = save({name: array.copy("C") for name, array in self.arrays.items()}, {"stream_moe": json.dumps(meta)})
        return MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "checkpoint") -> Checkpoint:
        """Read a checkpoint; CheckpointError says why it is bad."""
        if content[: len(MAGIC)] != MAGIC:
            raise CheckpointError(f"{name}: not a checkpoint of this version (it begins with {content[:8]!r})")
        body = content[_HEADER:]
        if hashlib.sha256(body).digest() != content[len(MAGIC) : _HEADER]:
            raise CheckpointError(f"{name}: damaged or cut off: {len(content)} bytes whose sha256 does not fit")
        try:
            size = int.from_bytes(body[:8], "little")
            meta = json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["stream_moe"])
            return cls(int(meta["offset"]), meta["fingerprint"], meta["plain"], load(body))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{name}: whole, but not readable as a checkpoint: {error!r}") from None


def newest_usable(store: CheckpointStore, fingerprint: str, committed: int | None) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, of this model, and not ahead of the committed offset.

    One that is ahead was made by a run whose commits are lost, or for another log: using it would skip records.
    A checkpoint of another model is not skipped over but refused, because going on would overwrite it.
    """
    for name in reversed(store.names()):
        try:
            found = Checkpoint.from_bytes(store.read(name), name)
        except CheckpointError as error:
            _log.warning("skipping a bad checkpoint: %s", error)
            continue
        if found.fingerprint != fingerprint:
            raise CheckpointError(
                f"{name}: made by another model, schema or setting; run with the old ones, or choose another "
                "--state-dir and --group"
            )
        if found.offset <= (committed or 0):
            return found
        _log.warning("skipping %s: at offset %d, ahead of the committed %s", name, found.offset, committed)
    return None


def stored_schema(store: CheckpointStore) -> Schema | None:
    """Return the schema of the newest whole checkpoint: the log may no longer hold the record that carried it."""
    for name in reversed(store.names()):
        try:
            return Schema.from_dict(Checkpoint.from_bytes(store.read(name), name).plain["schema"])
        except CheckpointError:
            continue  # `newest_usable` logs why
    return None


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time, and keeps the newest generations."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self.time: float | None = None  # seconds since 1970 of the newest one
        self.seconds = 0.0
        self.bytes = 0
        self.failures = 0

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def write(self, checkpoint: Checkpoint) -> None:
        """Start writing; waits for the one before."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _write(self, checkpoint: Checkpoint) -> None:
        start = time.perf_counter()
        name = f"{checkpoint.offset:020d}.ckpt"
        try:
            content = checkpoint.to_bytes()
            self._store.write(name, content)
            for old in self._store.names()[:-GENERATIONS]:
                self._store.delete(old)
        except (OSError, StreamMoeError) as error:  # the log still has everything: go on, and say so
            self.failures += 1
            _log.error("checkpoint %s failed: %s", name, error)
            return
        self.time, self.seconds, self.bytes = time.time(), time.perf_counter() - start, len(content)
