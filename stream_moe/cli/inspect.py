"""`stream-moe inspect`: what a checkpoint holds, or why it is bad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_moe.errors import CheckpointError


def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .ckpt file of the state directory.")],
) -> None:
    """Show a checkpoint."""
    from stream_moe.engine.checkpoint import Checkpoint
    from stream_moe.evaluation.metrics import Prequential
    from stream_moe.experts.pool import unpack
    from stream_moe.types import Schema

    try:
        content = checkpoint.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: {error.strerror}; name a .ckpt file of the state directory") from None
    found = Checkpoint.from_bytes(content, str(checkpoint))
    parts = unpack((found.arrays, found.plain))
    schema = Schema.from_dict(found.plain["schema"])
    quality = Prequential(schema.n_classes)
    quality.restore(parts["quality"])
    report = quality.report()
    arrays = sum(array.nbytes for array in found.arrays.values())
    for name, value in {
        "checkpoint": f"{checkpoint} ({len(content):,} bytes, whole)",
        "model": found.plain["model"]["name"],
        "fingerprint": found.fingerprint,
        "next offset": f"{found.offset:,}",
        "schema": f"{schema.n_features} features, classes {', '.join(schema.classes[:8])}",
        "labelled events": f"{report.events:,}",
        "accuracy": f"{report.accuracy:.4%} (recent {report.window_accuracy:.2%})",
        "waiting for a label": f"{len(found.plain['join']['events']):,} events",
        "arrays": f"{len(found.arrays):,} ({arrays:,} bytes)",
    }.items():
        typer.echo(f"{name:<20} {value}")
