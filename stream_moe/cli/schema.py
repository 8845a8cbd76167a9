"""`stream-moe schema`: what is read of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar

import typer
from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.outputs import check_writable
from stream_moe.errors import ConfigError, DataError


class Rows(s.Source):
    """A file, all of it."""

    flags: ClassVar = ("stream", "label", "nominal", "drop", "missing", "decimal", "thousands", "separator")


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

    stream = settings.source.open(seed=1)
    if not isinstance(stream, FileStream):
        raise ConfigError(f"schema {settings.source.stream!r}: is generated; name a file or a data set")
    typer.echo(in_short(stream))
    facts = describe(stream)
    wide = max(4, *(min(len(each.name), 32) for each in facts))
    typer.echo(f"\n  {'name':<{wide}}  {'kind':<14} {'missing':>8} {'values':>9}  examples")
    for each in facts:
        name, examples = _plain(each.name)[:32], ", ".join(map(_plain, each.examples))
        typer.echo(f"  {name:<{wide}}  {each.kind:<14} {each.missing:>8.1%} {each.distinct:>9,}  {examples}")
    counts = [int((stream.y == c).sum()) for c in range(stream.schema.n_classes)]
    typer.echo("\n  class" + " " * 16 + "events")
    for name, count in zip(stream.schema.classes, counts, strict=True):
        typer.echo(f"  {_plain(name)[:18]:<18} {count:>8,}")
    for each in facts:
        for warning in each.warnings:
            typer.echo(f"{_plain(each.name)}: {warning}", err=True)
    if settings.out is not None:
        try:
            with whole_file(settings.out) as file:
                file.write(json.dumps(stream.schema.to_dict(), indent=1).encode() + b"\n")
        except OSError as error:
            raise DataError(f"{settings.out}: cannot be written ({error.strerror or error})") from None
        typer.echo(f"\n{settings.out}: the schema, for `stream-moe run --schema`")


def _plain(text: str) -> str:
    """Return a text without what would break a line or move the cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
