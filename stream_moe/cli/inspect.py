"""`stream-moe inspect`: what a checkpoint holds, or why it is bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream_moe.cli.terminal import say
from stream_moe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_moe.checkpoints.checkpoint import Checkpoint


def inspect(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="A .ckpt file, or a directory of them; path or URL."),
    ],
) -> None:
    """Show a checkpoint, or list those of a directory; exit code 1 when one is bad."""
    from connectors.objects import found_checkpoints
    from stream_moe.checkpoints.checkpoint import Checkpoint, understood

    found, bad = found_checkpoints(checkpoint), 0
    for name, read in found.items():
        try:
            content = read()
            with understood(name):
                checkpoint_found = Checkpoint.from_bytes(content, name)
                shown = list(_lines(checkpoint_found, len(content)))
                _try(checkpoint_found)
            say("\n".join(shown) if len(found) == 1 and checkpoint.endswith(name) else f"{name}: {shown[0]}")
        except (CheckpointError, OSError) as error:
            bad += 1
            why = f"{name}: {error.strerror}" if isinstance(error, OSError) else str(error)
            say(f"stream-moe: {' '.join(why.split())}", err=True)
    if bad:
        raise typer.Exit(1)


def _try(found: Checkpoint) -> None:
    """Raise CheckpointError where no state can be made of what a checkpoint holds, as far as it says how to."""
    from stream_moe.checkpoints.checkpoint import understood
    from stream_moe.engine.settings import EngineSettings
    from stream_moe.engine.state import PartitionState
    from stream_moe.models.catalogue import rebuild_model
    from stream_moe.ranges import of
    from stream_moe.snapshot import unpack
    from stream_moe.types import Schema

    name, schema = found.plain["model"]["name"], Schema.from_dict(found.plain["schema"])
    model = rebuild_model(name, schema, found.owner.parameters)
    if model is not None:
        with of(found.name), understood("its state"):
            PartitionState(model, EngineSettings(name)).restore(unpack((found.arrays, found.plain)))


def _lines(found: Checkpoint, size: int) -> Iterator[str]:
    """Describe a checkpoint: all in short, then everything."""
    from stream_moe.checkpoints.format import VERSION
    from stream_moe.evaluation.metrics import Prequential
    from stream_moe.snapshot import unpack
    from stream_moe.types import Schema

    parts = unpack((found.arrays, found.plain))
    schema = Schema.from_dict(found.plain["schema"])
    quality = Prequential(schema.n_classes)
    quality.restore(parts["quality"])
    report, model = quality.report(), found.plain["model"]["name"]
    source = found.owner.source or "not said (before version 2)"
    yield f"whole, offset {found.offset:,}, version {found.version}, {model}, {source}, {size:,} bytes"
    older = "" if found.version == VERSION else f" (this program writes {VERSION}, and reads this one)"
    parameters = [f"{name}={value}" for name, value in found.owner.parameters.items()]
    for name, value in {
        "format version": f"{found.version}{older}",
        "model": model,
        "parameters": ", ".join(parameters) or "not said",
        "fingerprint": found.owner.fingerprint,
        "group/topic/partition": source,
        "next offset": f"{found.offset:,}",
        "schema": f"{schema.n_features} features ({', '.join(f.name for f in schema.features[:8])}"
        f"{', ...' if schema.n_features > 8 else ''}), classes {', '.join(schema.classes[:8])}",
        "answers": found.plain["model"].get("answers") or "the most probable class",
        "labelled events": f"{report.events:,}",
        "accuracy": f"{report.accuracy:.4%} (recent {report.window_accuracy:.2%})",
        "labels": ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in found.plain["join"]["counts"].items()),
        "waiting for a label": f"{len(found.plain['join']['events']):,} events",
        "arrays": f"{len(found.arrays):,} ({sum(array.nbytes for array in found.arrays.values()):,} bytes)",
    }.items():
        yield f"{name:<22} {value}"
    if "keys" in found.plain["learner"]:
        known, files = len(found.arrays["learner/keys/segment"]), len(found.files)
        yield f"{'keys':<22} {known:,} with a model each, in {files:,} files beside the checkpoint"
    yield from _experts(found)


def _experts(found: Checkpoint) -> Iterator[str]:
    """One row an expert, from the arrays alone: the parameters to build the model with are not kept as values."""
    from stream_moe.models.specialization import accuracies

    keyed = "keys" in found.plain["learner"]
    account = "learner/account/routing/" if keyed else "learner/specialization/"
    routed, trained, right = (found.arrays[account + name] for name in ("routed", "trained", "right"))
    labelled = int(found.arrays[account + "events"][0])
    # With a model for each key only the expert with the highest weight counts as having answered.
    missed = labelled - routed if keyed else found.arrays.get("learner/sleep/missed", 0)
    yield f"{'expert':>6} {'routed':>10} {'trained':>10} {'accuracy':>9} {'nodes':>7} {'bytes':>11}"
    for e, accuracy in enumerate(accuracies(right, labelled, missed)):
        begins = (f"learner/experts/{e}/", "learner/expert/")
        own = {name: array for name, array in found.arrays.items() if name.startswith(begins)}
        trees = [*(begin + "feature" for begin in begins), *(begin + "fore/feature" for begin in begins)]
        nodes, size = sum(len(own.get(name, ())) for name in trees), sum(array.nbytes for array in own.values())
        yield f"{e:>6} {routed[e]:>10,} {trained[e]:>10,} {accuracy:>9.2%} {nodes:>7,} {size:>11,}"
