"""`stream-moe replay --folds`: the replays of a cross-validation, and how they are told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stream_moe.cli import options as o

if TYPE_CHECKING:
    from stream_moe.evaluation.cross_validation import Fold

_COLUMNS = ("fold", "tested", "accuracy", "kappa", "kappa_temporal", "log_loss", "g_mean", "seconds")
_WIDTHS = (6, 12, 10, 9, 15, 9, 9, 9)


@dataclass(frozen=True)
class FoldReplay:
    """The options of `replay`; a process of its own gets them, and opens the stream there."""

    stream: str
    model: str
    events: int | None
    seed: int
    chunk: int
    label_delay: int
    label: str | None
    nominal: str
    settings: tuple[str, ...]
    threads: int
    device: str
    window: int

    def __call__(self, fold: Fold) -> dict[str, Any]:
        from stream_moe.engine.replay import replay
        from stream_moe.streams import open_stream

        source = open_stream(self.stream, seed=self.seed, label=self.label, nominal=o.split_names(self.nominal))
        make_learner = o.learner_factory(self.model, self.seed, list(self.settings), self.threads, self.device)
        result = replay(
            source,
            make_learner,
            events=self.events,
            chunk=self.chunk,
            label_delay=self.label_delay,
            window=self.window,
            fold=fold,
        )
        return {"stream": source.name, **result.to_dict()}


def cross_validate(run: FoldReplay, folds: int, workers: int, json: Path | None, quiet: bool) -> None:
    """Run all folds and tell of each as it ends, then of all."""
    from stream_moe.evaluation.cross_validation import combine, run_folds

    def line(cells: list[str]) -> None:
        if not quiet:
            typer.echo("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))

    line(list(_COLUMNS))
    results = []
    for number, result in enumerate(run_folds(run, folds, seed=run.seed, workers=workers), 1):
        results.append(result)
        scores = [f"{result[name]:.4f}" for name in _COLUMNS[2:-1]]
        line([str(number), f"{sum(result['class_labels']):,}", *scores, f"{result['seconds']:.1f}"])
    content = {"model": run.model, "stream": results[0]["stream"], "seed": run.seed, "label_delay": run.label_delay}
    content |= combine(results)
    if not quiet:
        typer.echo(f"\n{run.model} on {content['stream']}, seed {run.seed}, {folds} folds: mean and 95 % interval")
        for name, found in content["intervals"].items():
            typer.echo(f"  {name:<18}{found['mean']:8.4f}   {found['low']:.4f} to {found['high']:.4f}")
        typer.echo(f"  {'CPU':<18}{content['cpu_seconds']:8.2f} s for all folds")
    o.write_json(json, content)
