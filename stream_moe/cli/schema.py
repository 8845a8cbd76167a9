"""`stream-moe schema`: what is read of a file, or of a topic's first records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Interval
from typer import Argument, Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.outputs import check_writable
from stream_moe.cli.records import Records
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError, DataError
from stream_moe.shown import printable

if TYPE_CHECKING:
    from stream_moe.streams.files import FileStream


class Rows(s.Source):
    """A file, all of it."""

    stream: Annotated[
        str,
        Argument(metavar="STREAM", help="A file or data set; or name a topic with --topic.", show_default=False),
    ] = ""
    drop: Annotated[str, Option(metavar="A,B", help="Columns, or a topic's fields, to leave out.")] = ""

    flags: ClassVar = (
        "stream",
        "label",
        "nominal",
        "drop",
        "missing",
        "decimal",
        "thousands",
        "separator",
        "encoding",
        "unpacked",
        "classes",
    )


class Topics(s.Kafka):
    """The brokers and topics to read."""

    flags: ClassVar = ("bootstrap", "topic", "labels")

    topic: Annotated[str, Option(help="Topic whose first records are looked at, instead of a file.")] = ""
    labels: Annotated[str | None, Option(help="Topic of its labels, if not the same.")] = None


class Fields(Records):
    """Which fields of a topic's records are what, as far as that is known."""

    flags: ClassVar = (
        "id_field",
        "label_field",
        "time_field",
        "features",
        "envelope",
        "labels_id_field",
        "labels_label_field",
        "labels_time_field",
    )


class SchemaSettings(Settings):
    """Of `schema`."""

    first: ClassVar = ("stream", "out", "bootstrap", "topic", "labels", "first_records")

    source: Rows = Rows()
    kafka: Topics = Topics()
    records: Fields = Fields()
    first_records: Annotated[
        int, Interval(ge=1, le=100_000), Option(help="How many records of a topic are looked at.")
    ] = 500
    out: Annotated[
        Path | None,
        Option(
            help="File to write the schema to, as `run --schema` takes it; of a topic also a .toml beside it, for "
            "`run --config`."
        ),
    ] = None
    config: s.Config = None


def schema(settings: SchemaSettings) -> None:
    """Show the columns of a file as they are read: kinds, examples, missing values, classes, and what looks wrong.

    Of a topic (--topic) its first records are read; which fields are id, label, time and features is proposed, unless
    named, and --out writes both: the schema, and a file for `run --config`.
    """
    check_writable(settings.out)
    name, topic = settings.source.stream, settings.kafka.topic
    if name and topic:
        raise ConfigError(f"schema: {name!r} and --topic {topic!r}; name a file or a topic")
    if topic:
        _schema_of_topic(settings)
        return
    if not name:
        raise ConfigError("schema: nothing to look at; name a file, a data set, or a topic with --topic")
    from stream_moe.streams.files import FileStream

    stream = settings.source.open(seed=1, numbers=True)
    if not isinstance(stream, FileStream):
        raise ConfigError(f"schema {name!r}: is generated; name a file or a data set")
    _show(stream)
    if settings.out is not None:
        from stream_moe.runtime.files import whole_file

        try:
            with whole_file(settings.out) as file:
                file.write(json.dumps(stream.schema.to_dict(), indent=1).encode() + b"\n")
        except OSError as error:
            raise DataError(f"{settings.out}: cannot be written ({error.strerror or error})") from None
        say(f"\n{settings.out}: the schema, for `stream-moe run --schema`")


def _schema_of_topic(settings: SchemaSettings) -> None:
    import logging

    from stream_moe.cli import topics

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what goes wrong is said in one line of ours
    kafka, records = settings.kafka.settings(), replace(settings.records, drop=settings.source.drop)
    found = topics.sample(kafka, records, settings.first_records)
    _show(found.stream)
    topics.tell(found)
    if settings.out is not None:
        other = topics.write(settings.out, found.stream.schema, kafka, found.proposal)
        say(f"\n{settings.out}: the schema; {other}: the settings, for `stream-moe run --config`")


def _show(stream: FileStream) -> None:
    """Print what a stream holds, by column and by class."""
    from stream_moe.streams.described import describe, in_short

    say(in_short(stream))
    facts = describe(stream)
    wide = max(4, 4, *(min(len(each.name), 32) for each in facts))
    if facts:  # of sparse rows there are no columns
        say(f"\n  {'name':<{wide}}  {'kind':<14} {'missing':>8} {'values':>9}  examples")
    for each in facts:
        name, examples = printable(each.name)[:32], ", ".join(map(printable, each.examples))
        say(f"  {name:<{wide}}  {each.kind:<14} {each.missing:>8.1%} {each.distinct:>9,}  {examples}")
    counts = [int((stream.y == c).sum()) for c in range(stream.schema.n_classes)]
    if stream.schema.target is None:
        say("\n  class" + " " * 16 + "events")
    for name, count in zip(stream.schema.classes, counts, strict=True):
        say(f"  {printable(name)[:18]:<18} {count:>8,}")
    for each in facts:
        for warning in each.warnings:
            say(f"{printable(each.name)}: {warning}", err=True)
