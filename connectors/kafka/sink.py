"""The output topics and the committed positions as the engine's `Sink`."""

from __future__ import annotations

import logging

from connectors.kafka.settings import KafkaSettings
from connectors.kafka.source import KafkaSource
from connectors.kafka.topics import grow_outputs, prepare_outputs
from connectors.kafka.writer import PartitionWriter
from stream_moe.errors import LogError
from stream_moe.types import Outputs

logger = logging.getLogger(__name__)


class KafkaSink:
    """Write predictions and dead letters and commit the input position, each partition by a writer of its own.

    All output of a partition goes to the partition with its number, so that its order is the order of the log.
    The output topics are made, with as many partitions as the input, when the first partition is opened; when the
    input gets more partitions while we run, so do they.

    Parameters
    ----------
    settings
        Where and as whom.
    source
        The reader whose positions are committed.
    """

    def __init__(self, settings: KafkaSettings, source: KafkaSource) -> None:
        self._settings = settings
        self._source = source
        self._writers: dict[int, PartitionWriter] = {}
        self._partitions = 0  # that the output topics have

    def open(self, partition: int) -> None:
        """Fence older writers of the partition, those of this process too, and end what they left open."""
        if not self._partitions:
            self._partitions = prepare_outputs(self._settings)
        if partition >= self._partitions:
            self._partitions = grow_outputs(self._settings)
        if (older := self._writers.pop(partition, None)) is not None:
            older.close(abort=False)
            prepare_outputs(self._settings)  # what went wrong may be that somebody deleted one
        writer = PartitionWriter(self._settings, self._source, partition)
        writer.open()
        self._writers[partition] = writer

    def commit(self, partition: int, outputs: Outputs) -> None:
        """Publish a block's outputs and the position; see `PartitionWriter.commit`."""
        writer = self._writers.get(partition)
        if writer is None:
            raise LogError(f"topic {self._settings.predictions!r}: partition {partition} is not open in this sink")
        writer.commit(outputs)

    def close(self, partition: int) -> None:
        """End what is open in the partition; at most about 15 s, and without raising."""
        if (writer := self._writers.pop(partition, None)) is not None:
            writer.close()
