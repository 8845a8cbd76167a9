"""How a partition comes by its schema where nobody gave one: a producer's header, or the log's first records."""

from __future__ import annotations

import logging

from stream_moe.engine.codec import object_of, schema_from_headers
from stream_moe.engine.records.learning import SchemaLearner
from stream_moe.engine.records.shown import schema_in_short
from stream_moe.engine.settings import EngineSettings
from stream_moe.errors import ConfigError
from stream_moe.ports import Source
from stream_moe.types import RecordBatch, Schema

_log = logging.getLogger(__name__)


class Beginning:
    """The first records of a partition, read from where its log begins, until they tell the schema.

    Attributes
    ----------
    is_learnt
        Whether the schema was learnt from records: then it is this partition's alone.
    """

    def __init__(self, partition: int, source: Source, settings: EngineSettings) -> None:
        self._partition, self._topic, self._settings = partition, source.topic, settings
        self._learner = SchemaLearner(
            settings.mapping,
            settings.labels,
            apart=source.labels is not None,
            records=settings.schema_records,
            read=settings.read or object_of,
        )
        self.is_learnt = False
        self._waits = False

    @property
    def lacks(self) -> str:
        """What is not there yet that a schema is learnt from; empty before there is a record."""
        return self._learner.lacks if self._learner.records else ""

    def look(self, batch: RecordBatch) -> Schema | None:
        """Look at the next batch; return the schema once it is told."""
        if len(batch) and not self._learner.records:
            if (schema := schema_from_headers(batch.headers)) is not None:
                return schema
            self._check_may_learn(int(batch.offsets[0]))
        self._learner.take(batch)
        if not self._learner.ready:
            if len(batch) and not self._waits:
                self._waits = True
                _log.info("partition %d: no schema yet: there are %s", self._partition, self._learner.lacks)
            return None
        self.is_learnt, schema = True, self._learner.schema
        for line in (*self._learner.told(), schema_in_short(schema, self._learner.records)):
            _log.info("partition %d: %s", self._partition, line)
        return schema

    def _check_may_learn(self, offset: int) -> None:
        """Raise ConfigError where the settings want a schema that somebody gave."""
        if self._settings.keys is not None:
            why = "a model for each key learns none from the records"
        elif self._settings.policy(learnt=True) != "grow":
            why = f"--unknown {self._settings.unknown} takes nothing from the records"
        else:
            return
        raise ConfigError(
            f"schema: record {offset} of {self._topic!r}/{self._partition}, its first, has no schema header as "
            f"`stream-moe produce` writes it, and {why}; name one with --schema FILE.json or --schema STREAM"
        )
