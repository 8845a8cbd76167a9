"""`stream-moe export`: write a stream's events as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_moe.cli import options as o


def export(
    stream: o.Stream,
    out: Annotated[Path, typer.Option(help="File to write: .npz with x float32 [n, d] and y int32 [n].")],
    events: o.Events = None,
    seed: o.StreamSeed = 1,
    label: o.Label = None,
    nominal: o.Nominal = "",
) -> None:
    """Write the first events of a stream to an .npz file."""
    o.check_writable(out)
    from stream_moe.errors import ConfigError
    from stream_moe.streams import export_npz, open_stream

    source = open_stream(stream, seed=seed, label=label, nominal=o.split_names(nominal))
    if events is None and source.n_events is None:
        raise ConfigError(f"stream {stream!r} is endless; say how many events with --events")
    wanted = min(n for n in (events, source.n_events) if n is not None)
    export_npz(source, wanted, out)
    typer.echo(f"{out}: {wanted:,} events, {source.schema.n_features} features, {source.schema.n_classes} classes")
