"""`stream-moe schema --topic`: what a topic's first records look like, as a schema and a file for `run --config`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_moe.cli.records import Records
from stream_moe.cli.terminal import say
from stream_moe.engine.codec import object_of
from stream_moe.engine.inputs import InputCounts
from stream_moe.engine.records.codec import RecordCodec
from stream_moe.engine.records.learning import SchemaLearner
from stream_moe.engine.records.mapping import NATIVE_LABELS, FieldMapping
from stream_moe.engine.records.proposal import Proposal, is_native, propose, readable
from stream_moe.engine.records.shown import understood
from stream_moe.errors import ConfigError, DataError, LogError
from stream_moe.runtime.files import whole_file
from stream_moe.shown import printable
from stream_moe.streams.files import FileStream
from stream_moe.types import UNLABELLED, RecordBatch, Schema

if TYPE_CHECKING:
    from connectors.kafka import KafkaSettings

SECONDS = 10.0  # without a record after which what came is all
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read of topics, and what it looks like."""

    stream: FileStream
    proposal: Proposal
    lines: list[str]


def sample(kafka: KafkaSettings, records: Records, wanted: int) -> Sample:
    """Read the first records of a topic, and of its labels', and say what they look like."""
    events = _read(kafka, kafka.topic, wanted)
    labels = None if kafka.labels is None else _read(kafka, kafka.labels, wanted)
    plain, why = readable(events.values, object_of)
    if not plain:
        raise DataError(f"topic {kafka.topic!r}: none of its first {len(events):,} records can be used ({why})")
    labels_plain = None if labels is None else readable(labels.values, object_of)[0]
    given = records.mapping() or FieldMapping()
    proposal = propose(plain, labels_plain, given, records.labels())
    native = is_native(plain) and proposal.mapping == FieldMapping()
    mapping = None if native else proposal.mapping
    schema = _schema(events, labels_plain, mapping, proposal.labels)
    codec = RecordCodec(schema, mapping=mapping, labels=proposal.labels, inputs=InputCounts(schema))
    block, dead = codec.decode(events)
    read = np.ones(len(block), np.bool_) if block.has_features is None else block.has_features
    y = block.y.copy()
    if labels is not None:
        found, unusable = codec.decode(labels, labels_only=True)
        dead += unusable
        label_of = dict(zip(found.ids, found.y.tolist(), strict=True))
        y = np.array([label_of.get(name, UNLABELLED) for name in block.ids], np.int32)
    stream = FileStream(kafka.topic, schema, np.ascontiguousarray(block.x[read]), y[read])
    lines = [understood(block, row, schema) for row in range(min(SHOWN, len(block)))]
    lines += [f"offset {letter.offset}: a dead letter, {letter.reason}: {letter.message}" for letter in dead[:SHOWN]]
    return Sample(stream, proposal, lines)


def _schema(
    events: RecordBatch,
    labels: Sequence[Mapping[str, Any]] | None,
    mapping: FieldMapping | None,
    labels_mapping: FieldMapping | None,
) -> Schema:
    """Learn a schema of what was read, as a daemon does; the classes of the labels' topic, where there is one."""
    learner = SchemaLearner(mapping, records=len(events))
    for record in labels or ():
        learner.know_class((labels_mapping or NATIVE_LABELS).pick(record).label)
    learner.take(events)
    if not learner.ready:
        raise DataError(f"schema: what was read of the topic is {learner.lacks}")
    for line in learner.told():
        say(line, err=True)
    return learner.schema


def _read(kafka: KafkaSettings, topic: str, wanted: int) -> RecordBatch:
    """Read the first records of all partitions of a topic, equally many of each where they are there."""
    from connectors.kafka import KafkaReader, partition_counts

    partitions = partition_counts(kafka, [topic])[topic]
    if partitions == 0:
        raise LogError(f"Kafka at {kafka.bootstrap}: topic {topic!r} does not exist; create it, or correct the name")
    reader = KafkaReader(kafka, topic)
    found: dict[int, list[RecordBatch]] = {}
    with closing(reader):
        reader.open()
        bounds = reader.bounds(range(partitions))
        left = {p: min(end - begin, -(-wanted // partitions)) for p, (begin, end) in bounds.items() if end > begin}
        for partition in left:
            reader.seek(partition, bounds[partition][0])
        quiet = time.monotonic()
        while left and time.monotonic() - quiet < SECONDS:
            for batch in reader.poll(wanted, 0.5):
                quiet = time.monotonic()
                found.setdefault(batch.partition, []).append(batch)
                if batch.partition in left:
                    left[batch.partition] -= len(batch)
                    if left[batch.partition] <= 0 or batch.next_offset >= bounds[batch.partition][1]:
                        del left[batch.partition]
                        reader.pause(batch.partition)
    batches = [batch for partition in sorted(found) for batch in found[partition]]
    if not any(len(batch) for batch in batches):
        raise DataError(f"topic {topic!r} holds no record: produce first")
    return RecordBatch(
        np.concatenate([batch.offsets for batch in batches])[:wanted],
        np.concatenate([batch.timestamps for batch in batches])[:wanted],
        [key for batch in batches for key in batch.keys][:wanted],
        [value for batch in batches for value in batch.values][:wanted],
        batches[-1].next_offset,
    )


def written(kafka: Mapping[str, str], proposal: Proposal, schema: Path) -> str:
    """Write the TOML file that `run --config` takes: topics, fields, and the schema's file.

    >>> print(written({"topic": "orders"}, Proposal(FieldMapping("id", "fraud")), Path("shop.json")), end="")
    [kafka]
    topic = "orders"
    <BLANKLINE>
    [records]
    schema = "shop.json"
    unknown = "grow"
    id_field = "id"
    label_field = "fraud"
    """
    own = proposal.mapping
    fields = {"id_field": own.id, "label_field": own.label, "time_field": own.time, "envelope": own.envelope}
    fields |= {"features": _listed(own.features), "drop": _listed(own.drop)}
    if (labels := proposal.labels) is not None:
        fields |= {"labels_id_field": labels.id, "labels_label_field": labels.label, "labels_time_field": labels.time}
    records = {"schema": str(schema), "unknown": "grow"} | {name: value for name, value in fields.items() if value}
    tables = {"kafka": dict(kafka), "records": records}
    lines = []
    for table, content in tables.items():
        values = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in content.items()]
        lines.append("".join([f"[{table}]\n", *values]))
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ",".join('"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name for name in names)


def tell(found: Sample) -> None:
    """Say how records are read, and why so."""
    say("\nread as")
    for line in found.proposal.reasons:
        say(f"  {printable(line)}")
    say("\nfirst records")
    for line in found.lines:
        say(f"  {printable(line)}")


def write(path: Path, schema: Schema, kafka: KafkaSettings, proposal: Proposal) -> Path:
    """Write the schema, and beside it the file for `run --config`; return the name of that one."""
    other = path.with_suffix(".toml")
    if other == path:
        raise ConfigError(f"--out {path}: the settings get this name; name the schema's file, as shop.json")
    topics = {"bootstrap": kafka.bootstrap, "topic": kafka.topic} | (
        {} if kafka.labels is None else {"labels": kafka.labels}
    )
    contents = {path: json.dumps(schema.to_dict(), indent=1) + "\n", other: written(topics, proposal, path)}
    for name, text in contents.items():
        try:
            with whole_file(name) as file:
                file.write(text.encode())
        except OSError as error:
            raise DataError(f"{name}: cannot be written ({error.strerror or error})") from None
    return other
