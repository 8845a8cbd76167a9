"""The engine's ports around others: records are handed out when their schemas are known; predictions in Avro."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace

from stream_moe.entries import JournalEntry
from stream_moe.errors import EndOfLogError, UnavailableError
from stream_moe.formats.framing import Formats
from stream_moe.formats.writing import AvroPredictions
from stream_moe.ports import Change, Reader, Sink, Source
from stream_moe.types import Outputs, RecordBatch

RETRY_SECONDS = (0.5, 10.0)  # until a registry that is away is asked again: at first, and at most
_log = logging.getLogger(__name__)


class FramedReader:
    """A topic of which no batch is handed out before the schemas that its records name are known.

    While the registry does not answer, the batch is kept and its partition is paused: nothing is lost, guessed or
    skipped, and this member stays in its group. The registry is asked again every 0.5 to 10 s.

    Parameters
    ----------
    reader
        The topic.
    formats
        Learns the schemas.
    """

    def __init__(self, reader: Reader, formats: Formats) -> None:
        self._reader, self._formats = reader, formats
        self._kept: dict[int, RecordBatch] = {}  # by partition: waiting for the registry
        self._again, self._pause = 0.0, RETRY_SECONDS[0]

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._reader.topic

    def open(self) -> None:
        """Connect."""
        self._reader.open()

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        """Return the next records whose schemas are known."""
        ready = []
        if self._kept and time.monotonic() >= self._again:
            for partition, batch in list(self._kept.items()):
                if not self._is_known(batch):
                    break
                del self._kept[partition]
                self._reader.seek(partition, batch.next_offset)
                ready.append(batch)
        if ready:
            return ready
        if self._kept:
            timeout = min(timeout, max(self._again - time.monotonic(), 0.0))
        try:
            batches = self._reader.poll(max_records, timeout)
        except EndOfLogError:
            if not self._kept:
                raise
            time.sleep(timeout)  # of a finite log, whose rest waits here
            return []
        for batch in batches:
            if self._is_known(batch):
                ready.append(batch)
            else:
                self._kept[batch.partition] = batch
                self._reader.pause(batch.partition)
        return ready

    def _is_known(self, batch: RecordBatch) -> bool:
        try:
            self._formats.prepare(batch.values)
        except UnavailableError as error:
            _log.warning("%s; partition %d of %r waits for it", error, batch.partition, self.topic)
            self._again, self._pause = time.monotonic() + self._pause, min(2 * self._pause, RETRY_SECONDS[1])
            return False
        self._pause = RETRY_SECONDS[0]
        return True

    def bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Return first offset and end of each partition."""
        return self._reader.bounds(partitions)

    def seek(self, partition: int, offset: int) -> None:
        """Hand out this partition from this offset on."""
        self._kept.pop(partition, None)
        self._reader.seek(partition, offset)

    def pause(self, partition: int) -> None:
        """Hand out nothing of this partition until the next `seek`."""
        self._kept.pop(partition, None)
        self._reader.pause(partition)

    def close(self) -> None:
        """Let go of the connection."""
        self._kept.clear()
        self._reader.close()


class FramedSource(FramedReader):
    """As `FramedReader`, for the input log of a member of a group."""

    def __init__(self, source: Source, formats: Formats) -> None:
        super().__init__(source, formats)
        self._source = source

    @property
    def group(self) -> str:
        """Whose committed positions count."""
        return self._source.group

    @property
    def labels(self) -> str | None:
        """The topic that the labels come from."""
        return self._source.labels

    @property
    def settled(self) -> bool:
        """Whether the group has handed out its partitions."""
        return self._source.settled

    def changes(self) -> list[Change]:
        """Return what changed since the last call; what is kept of a partition that went is dropped."""
        changes = self._source.changes()
        for change in changes:
            for partition in change.partitions:
                self._kept.pop(partition, None)
        return changes

    def committed(self, partition: int) -> int | None:
        """Return the group's committed offset."""
        return self._source.committed(partition)

    def entry(self, partition: int) -> JournalEntry | None:
        """Return what was committed beside it."""
        return self._source.entry(partition)


class AvroSink:
    """A sink whose predictions are written in Avro; dead letters keep the bytes that could not be read.

    Parameters
    ----------
    sink
        Where they go.
    predictions
        Makes Avro of them.
    """

    def __init__(self, sink: Sink, predictions: AvroPredictions) -> None:
        self._sink, self._predictions = sink, predictions

    def open(self, partition: int) -> None:
        """Register the schema, and become the writer of a partition."""
        self._predictions.register()
        self._sink.open(partition)

    def commit(self, partition: int, outputs: Outputs) -> None:
        """Publish a block's outputs and commit its position."""
        encode = self._predictions.encode
        written = [(key, encode(value)) for key, value in outputs.predictions]
        self._sink.commit(partition, replace(outputs, predictions=written))

    def close(self, partition: int) -> None:
        """Stop writing for a partition."""
        self._sink.close(partition)
