"""The ports of the engine. Adapters live in `connectors`; the engine knows nothing beyond these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from stream_moe.types import Block, DeadLetter, RecordBatch, Schema


class Stream(Protocol):
    """A finite or endless sequence of labelled events for replay."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Schema: ...

    @property
    def n_events(self) -> int | None:
        """How many events there are; None = endless (generated)."""

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield the stream from its start in blocks of `rows` events (the last may be shorter).

        The events do not depend on `rows`, and each call starts anew.
        """


class Source(Protocol):
    """The input log, one partition of it."""

    @property
    def group(self) -> str:
        """Whose committed position counts."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    def open(self) -> int | None:
        """Join the consumer group and return its committed offset, None if it never committed."""

    def bounds(self) -> tuple[int, int]:
        """First offset the log still holds, and the offset after its last record."""

    def seek(self, offset: int) -> None: ...

    def poll(self, max_records: int, timeout: float) -> RecordBatch | None:
        """Return the next records, or None if none came within `timeout` seconds.

        Raises `EndOfLogError` when the log is finite and at its end, `LogError` when it failed.
        """

    def close(self) -> None: ...


class Sink(Protocol):
    """Where predictions and dead letters go, together with the input position: the only commit point."""

    def open(self) -> None:
        """Fence older instances and end what they left open. Called before `Source.open`."""

    def commit(
        self,
        predictions: Sequence[tuple[bytes | None, bytes]],
        dead_letters: Sequence[DeadLetter],
        next_offset: int,
    ) -> None:
        """Publish (key, value) predictions and dead letters, and the position, as one step."""

    def close(self) -> None: ...


class CheckpointStore(Protocol):
    """Named checkpoints of one partition, newest last. Content is opaque bytes, written whole or not at all."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


class EndOfLogError(Exception):
    """A finite source has handed out its last record."""
