"""`stream-moe produce`: write a stream's events to a Kafka topic."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Annotated

import typer

from stream_moe.cli import options as o

_ROWS = 1000


def produce(
    stream: o.Stream,
    bootstrap: o.Bootstrap = None,
    topic: Annotated[str | None, typer.Option(help="Topic; created if missing.  [default: events]")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Topic for the labels, if not the same; created if missing.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Of a topic that is created here.")] = 1,
    events: o.Events = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events per second; unlimited unless given.")] = None,
    seed: o.StreamSeed = 1,
    label: o.Label = None,
    nominal: o.Nominal = "",
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Feature that is the record's key.  [default: its number]")
    ] = None,
    config: o.Config = None,
) -> None:
    """Write the events of a stream to a topic, in order, each with features and label, or the labels to another one.

    The number of an event is its id, and its key unless --key names a feature. With several partitions the key
    decides where an event goes (murmur2, as in every Kafka client); each partition then holds a part of the stream,
    in order, and gets a model of its own.
    """
    import numpy as np

    from connectors.kafka import KafkaProducerLog, KafkaSettings
    from stream_moe.cli.config import kafka_values
    from stream_moe.engine.codec import JsonCodec, schema_header
    from stream_moe.errors import ConfigError
    from stream_moe.models.keyed.feature import check_feature, feature_keys
    from stream_moe.streams import open_stream
    from stream_moe.streams.blocks import labelled_blocks
    from stream_moe.types import UNLABELLED

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what goes wrong is said in one line of ours
    source = open_stream(stream, seed=seed, label=label, nominal=o.split_names(nominal))
    if events is None and source.n_events is None and rate is None:
        raise ConfigError(f"stream {stream!r} is endless; say how many events with --events, or how fast with --rate")
    if key is not None:
        check_feature(source.schema, key)
    settings = KafkaSettings(**kafka_values({"bootstrap": bootstrap, "topic": topic, "labels": labels}, config))
    codec, sent, start = JsonCodec(source.schema), 0, time.monotonic()
    log = KafkaProducerLog(settings, headers=[schema_header(source.schema)], create=True, partitions=partitions)
    apart = None
    if settings.labels is not None:
        apart = KafkaProducerLog(replace(settings, topic=settings.labels, labels=None), (), True, partitions)
    try:
        # A tenth of a second's worth at a time keeps a slow rate smooth.
        rows = _ROWS if rate is None else max(1, min(_ROWS, int(rate / 10)))
        for block in labelled_blocks(source, events if events is not None else 2**62, rows):
            keys = [str(sent + i).encode() for i in range(len(block))]
            if key is not None:
                keys = feature_keys(source.schema, key, block.x)
            given = replace(block, y=np.full_like(block.y, UNLABELLED)) if apart is not None else block
            log.send(zip(keys, codec.encode_events(given, sent), strict=True))
            if apart is not None:
                block.has_features = np.zeros(len(block), np.bool_)
                apart.send(zip(keys, codec.encode_events(block, sent), strict=True))
            sent += len(keys)
            if rate is not None:
                log.flush()
                time.sleep(max(0.0, start + sent / rate - time.monotonic()))
        log.flush()
    finally:
        log.close()
        if apart is not None:
            apart.close()
    seconds = time.monotonic() - start
    where = f"topic {settings.topic} at {settings.bootstrap}"
    typer.echo(f"{sent:,} events written to {where} in {seconds:.1f} s ({sent / seconds:,.0f}/s)")
