"""What a person sees: rows at 1, 2, 4, 8, ... events, and a summary at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stream_moe.report import LearnerReport, QualityReport

COLUMNS = ("events", "seconds", "accuracy", "recent", "kappa", "kappa_temporal", "log_loss", "drifts", "load")
_WIDTHS = (12, 9, 9, 8, 8, 15, 9, 7, 6)


class ProgressTable:
    """Prints one row whenever the number of events has doubled: readable for a stream of any length."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._next = 1

    def header(self) -> None:
        self._print(COLUMNS)

    def update(
        self, events: int, seconds: float, quality: QualityReport, learner: LearnerReport, final: bool = False
    ) -> None:
        """Print a row if it is due, or if it is the last one."""
        if events < self._next and not (final and events * 2 > self._next):
            return
        while self._next <= events:
            self._next *= 2
        scores = (quality.accuracy, quality.window_accuracy, quality.kappa, quality.kappa_temporal, quality.log_loss)
        numbers = [f"{score:.4f}" for score in scores]
        last = (str(learner.mixture_drifts), f"{learner.load_entropy:.2f}")
        self._print((f"{events:,}", f"{seconds:.1f}", *numbers, *last))

    def _print(self, cells: tuple[str, ...]) -> None:
        if not self._quiet:
            typer.echo("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))


def print_summary(result: dict[str, Any]) -> None:
    """Print a result (the dict that goes into the JSON) as a person wants it."""
    if "accuracy" not in result:
        typer.echo(f"\n{result['model']} on {result['stream']}: no partition for this member, nothing learnt")
        return
    experts = result["experts"]
    error = result.get("calibration_error")  # a daemon keeps none
    calibration = "" if error is None else f"     calibration error {error:.4f}"
    lines = [
        f"{result['model']} on {result['stream']}, seed {result['seed']}",
        f"  accuracy        {result['accuracy']:.4%}   (recent {result['window_accuracy']:.2%})",
        f"  kappa           {result['kappa']:.4f}     above the majority class {result['kappa_majority']:.4f}, "
        f"above no-change {result['kappa_temporal']:.4f}",
        f"  log-loss        {result['log_loss']:.4f}" + calibration,
        f"  G-mean          {result['g_mean']:.4f}",
        f"  speed           {result['events_per_second']:,.0f} events/s over {result['events']:,} events "
        f"({result['seconds']:.2f} s, start-up {result['startup_seconds']:.2f} s)",
        f"  CPU             {result['cpu_seconds']:.2f} s, {result['events_per_cpu_second']:,.0f} events/CPU-second; "
        f"{sum(e['asleep'] for e in experts)} of {len(experts)} experts asleep",
        f"  memory          {result['peak_memory_bytes'] / 2**20:,.0f} MiB at its peak",
        f"  drift           {result['drifts']} in the mixture, {sum(e['drifts'] for e in experts)} in experts",
        f"  state           {result['state_digest'][:16]}",
    ]
    lines += [f"  {name:<15} {value}" for name, value in result.get("metrics", {}).items()]
    lines += ["", "  expert                 routed   trained  accuracy   nodes  drifts"]
    for number, expert in enumerate(experts):
        lines.append(
            f"  {number:>2} {expert['kind']:<18}{expert['routed']:>8,} {expert['trained']:>9,}"
            f"{expert['accuracy']:>10.2%}{expert['nodes']:>8,}{expert['drifts']:>8}"
        )
    if len(parts := result.get("partitions", [])) > 1:
        lines += ["", "  partition    position    events  accuracy  state"]
        lines += [
            f"  {part['partition']:>9}{part['position']:>12,}{part['events']:>10,}{part['accuracy']:>10.2%}  "
            f"{part['state_digest'][:16]}"
            for part in parts
        ]
    typer.echo("\n" + "\n".join(lines))
