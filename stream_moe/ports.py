"""The ports of the engine. Adapters live in `connectors`; the engine knows nothing beyond these."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from stream_moe.entries import JournalEntry
from stream_moe.types import Block, Outputs, RecordBatch, Schema


class Stream(Protocol):
    """A finite or endless sequence of labelled events for replay."""

    @property
    def name(self) -> str:
        """What reports call the stream."""

    @property
    def schema(self) -> Schema:
        """Its features and classes."""

    @property
    def n_events(self) -> int | None:
        """How many events there are; None = endless (generated)."""

    @property
    def bayes_accuracy(self) -> float | None:
        """Expected accuracy (0-1) of the best predictor that knows the concept of each event; None = not known.

        No predictor has a higher expected accuracy. The accuracy of n independent events scatters around it with
        standard deviation sqrt(p (1 - p) / n).
        """

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield the stream from its start in blocks of `rows` events (the last may be shorter).

        The events do not depend on `rows`, and each call starts anew.
        """


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the partitions that this member of the group holds.

    `kind` is "assigned" (they are ours now), "revoked" (they go to somebody else, and what we committed is
    whole) or "lost" (they went already, as the group gave us up).
    """

    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[int]


class Reader(Protocol):
    """A topic that is read by nobody else's leave. A partition hands out nothing until `seek` says from where."""

    @property
    def topic(self) -> str:
        """Name of the topic."""

    def open(self) -> None:
        """Connect; nothing is handed out before `seek`."""

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Return the next records, at most one batch for each partition and `max_records` in all.

        Waits up to `timeout` seconds, but not when there are changes to tell. Raises `EndOfLogError` when the log
        is finite and every partition that was sought is at its end, `LogError` when the log failed.
        """

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """For each partition: the first offset the log still holds, and the offset after its last record."""

    def seek(self, partition: int, offset: int) -> None:
        """Hand out this partition from this offset on."""

    def pause(self, partition: int) -> None:
        """Hand out nothing of this partition until the next `seek`."""

    def close(self) -> None:
        """Let go of the connection; may be called twice."""


class Source(Reader, Protocol):
    """The input log, as one member of a group of readers that share its partitions.

    The partitions change inside `poll` only, and `changes` tells how. `open` joins the group (the partitions come
    later, as changes), `close` leaves it.
    """

    @property
    def group(self) -> str:
        """Whose committed positions count."""

    @property
    def labels(self) -> str | None:
        """The topic that the labels come from, None where they come with the events."""

    @property
    def settled(self) -> bool:
        """Whether the group has handed out its partitions and no change is known to be under way."""

    def changes(self) -> list[Change]:
        """Return what changed since the last call, oldest first. To be asked after each `poll`."""

    def committed(self, partition: int) -> int | None:
        """Return the group's committed offset, None if it never committed.

        Asked after `Sink.open`, which ends what an older writer left open, so the answer is final.
        """

    def entry(self, partition: int) -> JournalEntry | None:
        """Return what was committed beside the offset that `committed` gave last; None if nothing, or not by us."""


class Sink(Protocol):
    """Where predictions and dead letters go, together with the input position: the only commit point.

    Each partition has a writer of its own, of which there is one at a time in the whole group.
    """

    def open(self, partition: int) -> None:
        """Become the writer of a partition: fence the older one and end what it left open.

        Called before `Source.committed`, and again after an `InDoubtError`.
        """

    def commit(self, partition: int, outputs: Outputs) -> None:
        """Publish a block's outputs and commit its position, as one step.

        Drifts are JSON objects, and are dropped where no topic is named for them.

        Raises `FencedError` when nothing was written and this writer never will again, `InDoubtError` when nobody
        knows, and other `LogError` when there is no going on.
        """

    def close(self, partition: int) -> None:
        """Stop writing for a partition; never raises, and does nothing where it is not open."""


class CheckpointStore(Protocol):
    """Named checkpoints of one partition, newest last. Content is opaque bytes, written whole or not at all."""

    def names(self) -> list[str]:
        """List the checkpoints, oldest first."""

    def read(self, name: str) -> bytes:
        """Return a checkpoint's content."""

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read the bytes from begin to end, (begin, end) each: one key's model out of a file of thousands."""

    def write(self, name: str, content: bytes) -> None:
        """Keep a checkpoint under a name, whole or not at all."""

    def delete(self, name: str) -> None:
        """Forget a checkpoint."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as a registry holds it; it never changes under its id.

    Parameters
    ----------
    kind
        "AVRO", "PROTOBUF" or "JSON".
    text
        As whoever registered it wrote it.
    imports
        Schemas that it refers to, by the names under which it does.
    """

    kind: str
    text: str
    imports: tuple[tuple[str, RegisteredSchema], ...] = ()


class SchemaRegistry(Protocol):
    """Where producers and consumers keep the schemas of records that bear a schema's id."""

    def find(self, number: int) -> RegisteredSchema | None:
        """Return the schema of an id, None where there is none.

        Raises `UnavailableError` where the registry does not answer now, other `LogError` where it refuses us.
        """

    def register(self, subject: str, kind: str, text: str) -> int:
        """Return the id of a schema under a subject, which it gets if it has none; errors as of `find`."""
