"""`stream-moe produce`: write a stream's events to a Kafka topic."""

from __future__ import annotations

import logging
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Interval
from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from connectors.kafka import KafkaProducerLog
    from stream_moe.formats.writing import EventWriter
    from stream_moe.ports import Stream

_ROWS = 1000


class Destination(s.Kafka):
    """The brokers and topics to write to."""

    flags: ClassVar = ("bootstrap", "topic", "labels")

    topic: Annotated[str, Option(help="Topic; created if missing.")] = "events"
    labels: Annotated[str | None, Option(help="Topic for the labels, if not the same; created if missing.")] = None


class ProduceSettings(Settings):
    """Of `produce`."""

    first: ClassVar = ("stream", "bootstrap", "topic", "labels", "partitions", "format", "events", "rate", "seed")

    source: s.Source
    kafka: Destination = Destination()
    registry: s.Registry = s.Registry()
    format: Annotated[
        str, Option(help="Of the records: json, or by a schema that is registered avro, protobuf or json-schema.")
    ] = "json"
    partitions: Annotated[int, s.AT_LEAST_1, Option(help="Of a topic that is created here.")] = 1
    rate: Annotated[s.Rate, Interval(ge=0.001)] = None
    seed: s.StreamSeed = 1
    key: Annotated[
        str | None, Option(metavar="COLUMN", help="Feature that is the record's key.  [default: its number]")
    ] = None
    config: s.Config = None


def produce(settings: ProduceSettings) -> None:
    """Write the events of a stream to a topic, in order, each with features and label, or the labels to another one.

    The number of an event is its id, and its key unless --key names a feature. With several partitions the key
    decides where an event goes (murmur2, as in every Kafka client); each partition then holds a part of the stream,
    in order, and gets a model of its own.
    """
    from connectors.kafka import KafkaProducerLog
    from stream_moe.engine.codec import schema_header
    from stream_moe.models.keyed.feature import check_feature

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what goes wrong is said in one line of ours
    source = settings.source.open(settings.seed)
    if settings.source.events is None and source.n_events is None and settings.rate is None:
        name = settings.source.stream
        raise ConfigError(f"stream {name!r} is endless; say how many events with --events, or how fast with --rate")
    if source.schema.sparse:
        raise ConfigError(f"{source.name}: sparse rows do not keep their names, so no records can be made of them")
    if settings.key is not None:
        check_feature(source.schema, settings.key)
    kafka, partitions = settings.kafka.settings(), settings.partitions
    events = _writer(settings, source, kafka.topic)
    labels = None if kafka.labels is None else _writer(settings, source, kafka.labels)
    log = KafkaProducerLog(kafka, headers=[schema_header(source.schema)], create=True, partitions=partitions)
    apart = None
    if kafka.labels is not None:
        apart = KafkaProducerLog(replace(kafka, topic=kafka.labels, labels=None), (), True, partitions)
    start = time.monotonic()
    with closing(log), closing(apart) if apart is not None else nullcontext():
        sent = _send(settings, source, (log, events), None if apart is None or labels is None else (apart, labels))
    seconds = time.monotonic() - start
    where = f"topic {kafka.topic} at {kafka.bootstrap}"
    say(f"{sent:,} events written to {where} in {seconds:.1f} s ({sent / seconds:,.0f}/s)")


def _writer(settings: ProduceSettings, source: Stream, topic: str) -> EventWriter:
    """Return what writes the records of a topic, whose schema's subject has the usual name."""
    from stream_moe.formats.writing import FORMATS, EventWriter

    form = s.choice("--format", settings.format, FORMATS)
    registry = settings.registry.open() if form != "json" else None
    return EventWriter(source.schema, form, registry, f"{topic}-value")


def _send(
    settings: ProduceSettings,
    source: Stream,
    to: tuple[KafkaProducerLog, EventWriter],
    apart: tuple[KafkaProducerLog, EventWriter] | None,
) -> int:
    """Write the events, the labels to the log `apart` where there is one; return how many."""
    import numpy as np

    from stream_moe.models.keyed.feature import feature_keys
    from stream_moe.streams.blocks import labelled_blocks
    from stream_moe.types import UNLABELLED

    (log, writer), sent, start, rate = to, 0, time.monotonic(), settings.rate
    # A tenth of a second's worth at a time keeps a slow rate smooth.
    rows = _ROWS if rate is None else max(1, min(_ROWS, int(rate / 10)))
    events = settings.source.events
    for block in labelled_blocks(source, events if events is not None else 2**62, rows):
        keys = [str(sent + i).encode() for i in range(len(block))]
        if settings.key is not None:
            keys = feature_keys(source.schema, settings.key, block.x)
        given = replace(block, y=np.full_like(block.y, UNLABELLED)) if apart is not None else block
        log.send(zip(keys, writer.encode_events(given, sent), strict=True))
        if apart is not None:
            block.has_features = np.zeros(len(block), np.bool_)
            apart[0].send(zip(keys, apart[1].encode_events(block, sent), strict=True))
        sent += len(keys)
        if rate is not None:
            log.flush()
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
    log.flush()
    return sent
