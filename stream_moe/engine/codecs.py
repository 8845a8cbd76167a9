"""Which codec reads the records of a partition."""

from __future__ import annotations

from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.inputs import InputCounts
from stream_moe.engine.records.codec import RecordCodec
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.sparse_codec import SparseCodec
from stream_moe.errors import ConfigError
from stream_moe.types import Schema


def codec_for(schema: Schema, settings: EngineSettings, inputs: InputCounts, *, learnt: bool = False) -> JsonCodec:
    """Make the codec of a schema; `learnt` says whether the log's first records gave it.

    ConfigError where settings do not fit the schema.
    """
    unknown = settings.policy(learnt)
    if schema.sparse:
        if settings.mapping is not None or settings.labels is not None or unknown != "ignore" or settings.read:
            raise ConfigError(
                "schema: its rows are sparse, where any name may come in x; leave out --unknown, --registry and the "
                "names of fields"
            )
        return SparseCodec(schema, keys=settings.keys, inputs=inputs)
    if settings.mapping is None and settings.labels is None and unknown == "ignore" and settings.read is None:
        return JsonCodec(schema, keys=settings.keys, inputs=inputs)
    return RecordCodec(
        schema,
        keys=settings.keys,
        inputs=inputs,
        mapping=settings.mapping,
        labels=settings.labels,
        unknown=unknown,
        read=settings.read,
    )
