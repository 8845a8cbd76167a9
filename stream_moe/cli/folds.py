"""`stream-moe replay --folds`: the replays of a cross-validation, and how they are reported."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stream_moe.cli.outputs import write_json
from stream_moe.cli.terminal import say
from stream_moe.engine.replay import replay
from stream_moe.evaluation.cross_validation import Fold, combine, run_folds

if TYPE_CHECKING:
    from stream_moe.cli.replay import ReplaySettings

_COLUMNS = ("fold", "tested", "accuracy", "kappa", "kappa_temporal", "log_loss", "g_mean", "seconds")
_WIDTHS = (6, 12, 10, 9, 15, 9, 9, 9)


def replay_fold(settings: ReplaySettings, fold: Fold) -> dict[str, Any]:
    """Replay one fold; a process of its own opens the stream there."""
    source = settings.open()
    result = replay(source, settings.model.factory(), fold=fold, answers=settings.answers.rule(), **settings.cut)
    return {"stream": source.name, **result.to_dict()}


def cross_validate(settings: ReplaySettings, folds: int) -> None:
    """Run all folds and report each as it ends, then all."""
    model, quiet = settings.model, settings.output.quiet

    def line(cells: list[str]) -> None:
        if not quiet:
            say("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))

    line(list(_COLUMNS))
    results = []
    run = partial(replay_fold, settings)
    for number, result in enumerate(run_folds(run, folds, seed=model.seed, workers=settings.workers), 1):
        results.append(result)
        scores = [f"{result[name]:.4f}" for name in _COLUMNS[2:-1]]
        line([str(number), f"{sum(result['class_labels']):,}", *scores, f"{result['seconds']:.1f}"])
    content = {"model": model.name, "stream": results[0]["stream"], "seed": model.seed}
    content |= {"label_delay": settings.delay, **combine(results)}
    if not quiet:
        say(f"\n{model.name} on {content['stream']}, seed {model.seed}, {folds} folds: mean and 95 % interval")
        for name, found in content["intervals"].items():
            say(f"  {name:<18}{found['mean']:8.4f}   {found['low']:.4f} to {found['high']:.4f}")
        say(f"  {'CPU':<18}{content['cpu_seconds']:8.2f} s for all folds")
    write_json(settings.output.json, content)
