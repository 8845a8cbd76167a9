"""What each format of records costs: decoding alone, and the whole daemon on a real broker with a real registry.

    python -m benchmarks.formats

Events are rbf_f's (10 numbers). CPU time, so that other jobs on the machine count little; formats are taken in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.kafka_loop import run_daemon
from connectors.kafka import KafkaProducerLog, KafkaSettings
from connectors.registry import HttpRegistry
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.records.codec import RecordCodec
from stream_moe.engine.records.mapping import FieldMapping
from stream_moe.formats.framing import Formats
from stream_moe.formats.writing import FORMATS, EventWriter
from stream_moe.streams import open_stream
from stream_moe.streams.blocks import labelled_blocks
from stream_moe.types import Block, RecordBatch, Schema
from tests.kafka.broker import Broker
from tests.kafka.broker.registry import Registry

ROWS = 4096
FLAT = "flat json"  # under names of its own, which a mapping says
KINDS = (*FORMATS, FLAT)
MAPPING = FieldMapping("order", "fraud")


def decoding(registry: HttpRegistry, repeats: int) -> dict[str, float]:
    """Microseconds of CPU a record, by format; "json" is what a daemon without a registry does."""
    stream, formats = open_stream("rbf_f"), Formats(registry)
    block = next(iter(stream.blocks(ROWS)))
    codecs: dict[str, tuple[JsonCodec, RecordBatch]] = {}
    for form in FORMATS:
        values = EventWriter(stream.schema, form, registry, f"decoding-{form}").encode_events(block)
        formats.prepare(values)
        codec = JsonCodec(stream.schema) if form == "json" else RecordCodec(stream.schema, read=formats.read)
        where = np.arange(ROWS)
        codecs[form] = codec, RecordBatch(where, where, [None] * ROWS, list[Any](values), ROWS)
    batch = RecordBatch(where, where, [None] * ROWS, list[Any](flat(stream.schema, block, 0)), ROWS)
    codecs[FLAT] = RecordCodec(stream.schema, mapping=MAPPING), batch
    return in_turn({form: partial(codec.decode, batch) for form, (codec, batch) in codecs.items()}, repeats)


def flat(schema: Schema, block: Block, first: int) -> list[bytes]:
    """Write events as a shop's topic has them: names beside each other, the id and the label under other ones."""
    found = []
    for value in JsonCodec(schema).encode_events(block, first):
        event = json.loads(value)
        named = dict(zip(schema.feature_index, event["x"], strict=True))
        found.append(json.dumps({"order": event["id"], **named, "fraud": event["y"]}, separators=(",", ":")).encode())
    return found


def in_turn(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):
        for name, one in work.items():
            began = time.process_time()
            one()
            taken[name].append((time.process_time() - began) / ROWS * 1e6)
    return {name: median(each[1:]) for name, each in taken.items()}


def daemons(bootstrap: str, registry: HttpRegistry, events: int, repeats: int) -> dict[str, float]:
    """Events a CPU-second of the daemon, by format."""
    stream = open_stream("rbf_f")
    names = {form: form.replace(" ", "-") for form in KINDS}
    topics = {form: KafkaSettings(bootstrap, name, f"{name}-out", f"{name}-dead") for form, name in names.items()}
    for form, settings in topics.items():
        writer = None if form == FLAT else EventWriter(stream.schema, form, registry, f"{form}-value")
        log, sent = KafkaProducerLog(settings, headers=[schema_header(stream.schema)], create=True), 0
        for block in labelled_blocks(stream, events, ROWS):
            values = flat(stream.schema, block, sent) if writer is None else writer.encode_events(block, sent)
            log.send((str(sent + i).encode(), value) for i, value in enumerate(values))
            sent += len(block)
        log.close()
    speeds: dict[str, list[float]] = {form: [] for form in KINDS}
    for i in range(repeats):
        for form, settings in topics.items():
            more = [] if form == "json" else ["--registry", registry.url]
            more = ["--id-field", "order", "--label-field", "fraud"] if form == FLAT else more
            found = run_daemon(settings, f"{names[form]}-{i}", threads=1, more=more)
            speeds[form].append(found["events_per_cpu_second"])
    return {form: median(each) for form, each in speeds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    broker, registry = Broker(), Registry()
    try:
        broker.start()
        registry.start()
        client = HttpRegistry(registry.url)
        decoded = decoding(client, 10 * options.repeats)
        speeds = daemons(broker.bootstrap, client, options.events, options.repeats)
    finally:
        broker.stop()
        registry.stop()
    print(f"{'format':<12}{'decode, us':>12}{'daemon, events a CPU-second':>30}{'of json':>9}")
    for form in KINDS:
        print(f"{form:<12}{decoded[form]:>12.2f}{speeds[form]:>30,.0f}{speeds[form] / speeds['json']:>9.2f}")


if __name__ == "__main__":
    main()
