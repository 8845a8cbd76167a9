"""`stream-moe export`: write a stream's events as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.outputs import check_writable
from stream_moe.cli.terminal import say


class ExportSettings(Settings):
    """Of `export`."""

    first: ClassVar = ("stream", "out", "events", "seed")

    source: s.Source
    out: Annotated[Path, Option(help="File to write: .npz with x float32 [n, d] and y int32 [n].")]
    seed: s.StreamSeed = 1


def export(settings: ExportSettings) -> None:
    """Write the first events of a stream to an .npz file."""
    out, events = settings.out, settings.source.events
    check_writable(out)
    from stream_moe.errors import ConfigError
    from stream_moe.streams import export_npz

    source = settings.source.open(settings.seed)
    if events is None and source.n_events is None:
        raise ConfigError(f"stream {settings.source.stream!r} is endless; say how many events with --events")
    wanted = min(n for n in (events, source.n_events) if n is not None)
    export_npz(source, wanted, out)
    say(f"{out}: {wanted:,} events, {source.schema.n_features} features, {source.schema.n_classes} classes")
