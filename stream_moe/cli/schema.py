"""`stream-moe schema`: what is read of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.outputs import check_writable
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError, DataError
from stream_moe.shown import printable


class Rows(s.Source):
    """A file, all of it."""

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


class SchemaSettings(Settings):
    """Of `schema`."""

    source: Rows
    out: Annotated[Path | None, Option(help="File to write the schema to, as `run --schema` takes it.")] = None


def schema(settings: SchemaSettings) -> None:
    """Show the columns of a file as they are read: kinds, examples, missing values, classes, and what looks wrong."""
    check_writable(settings.out)
    from stream_moe.runtime.files import whole_file
    from stream_moe.streams.described import describe, in_short
    from stream_moe.streams.files import FileStream

    stream = settings.source.open(seed=1, numbers=True)
    if not isinstance(stream, FileStream):
        raise ConfigError(f"schema {settings.source.stream!r}: is generated; name a file or a data set")
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
    if settings.out is not None:
        try:
            with whole_file(settings.out) as file:
                file.write(json.dumps(stream.schema.to_dict(), indent=1).encode() + b"\n")
        except OSError as error:
            raise DataError(f"{settings.out}: cannot be written ({error.strerror or error})") from None
        say(f"\n{settings.out}: the schema, for `stream-moe run --schema`")
