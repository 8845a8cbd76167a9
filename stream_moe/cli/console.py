"""What a person sees of a run: rows at 1, 2, 4, 8, ... events, and a summary at the end; `live` has the live view."""

from __future__ import annotations

import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

if TYPE_CHECKING:
    from stream_moe.report import LearnerReport, QualityReport

COLUMNS = ("events", "seconds", "accuracy", "recent", "kappa", "kappa_temporal", "log_loss", "drifts", "load")
_WIDTHS = (12, 9, 9, 8, 8, 15, 9, 7, 6)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Flow:
    """How the partitions of a log that this process holds flow; of several, the sums and the worst."""

    partitions: int
    events: int  # records with features; `Standing.events` are those that have got their label
    pending_events: int  # that wait for it
    lag_records: int
    lag_seconds: float
    drifts: Mapping[str, int]  # by scope, those that detectors beside the learner found: feature, label
    checkpoint_time: float | None  # seconds since 1970 of the newest checkpoint, of the partition where it is oldest


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands."""

    events: int
    seconds: float
    quality: QualityReport
    learner: LearnerReport
    flow: Flow | None = None


class Display:
    """What is shown while a run lasts: a context around it. This one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def marks(self) -> Iterator[int]:
        """Yield the numbers of events at which `update` is wanted, ascending; the next is asked for after it."""
        return iter(())

    def is_due(self, events: int) -> bool:
        """Whether an `update` at this number of events would be shown: to find out where a run stands is dear."""
        return False

    def update(self, at: Standing, final: bool = False) -> None:
        """Take where the run stands now; it may be called at any number of events."""

    def tell_state(self, state: str) -> None:
        """Take the state of a member of a group."""


class _Rows(Display, ABC):
    """A row whenever the number of events has doubled: as readable for a stream of any length."""

    def __init__(self) -> None:
        self._next = 1

    def marks(self) -> Iterator[int]:
        mark = 1
        while True:
            yield mark
            mark *= 2

    def is_due(self, events: int) -> bool:
        return events >= self._next

    def update(self, at: Standing, final: bool = False) -> None:
        if not self.is_due(at.events) and not (final and at.events * 2 > self._next):
            return
        while self._next <= at.events:
            self._next *= 2
        self._show(at)

    @abstractmethod
    def _show(self, at: Standing) -> None: ...


class ProgressTable(_Rows):
    """Rows as a table on stdout, under a header that comes with the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self._bare = True

    def _show(self, at: Standing) -> None:
        if self._bare:
            self._print(COLUMNS)
            self._bare = False
        quality, learner = at.quality, at.learner
        scores = (quality.accuracy, quality.window_accuracy, quality.kappa, quality.kappa_temporal, quality.log_loss)
        numbers = [f"{score:.4f}" if quality.events else "-" for score in scores]  # before the first label: unknown
        last = (str(learner.mixture_drifts), f"{learner.load_entropy:.2f}")
        self._print((f"{at.events:,}", f"{at.seconds:.1f}", *numbers, *last))

    @staticmethod
    def _print(cells: tuple[str, ...]) -> None:
        typer.echo("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))


class LoggedProgress(_Rows):
    """Rows as log records."""

    def _show(self, at: Standing) -> None:
        quality, learner = at.quality, at.learner
        fields = {
            "events": at.events,
            "seconds": round(at.seconds, 3),
            "accuracy": quality.accuracy,
            "window_accuracy": quality.window_accuracy,
            "kappa": quality.kappa,
            "kappa_temporal": quality.kappa_temporal,
            "log_loss": quality.log_loss,
            "drifts": learner.mixture_drifts,
        }
        _log.info("progress", extra={"fields": fields})


def make_display(title: str, total: int | None, quiet: bool, json_logs: bool) -> Display:
    """Choose what is shown: nothing, log records, a live view where stdout is a terminal that can, else the table.

    Parameters
    ----------
    title
        What runs, in a few words.
    total
        How many events there will be; None = nobody knows.
    """
    if quiet:
        return Display()
    if json_logs:
        return LoggedProgress()
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}:
        from stream_moe.cli.live import LiveView

        return LiveView(title, total)
    return ProgressTable()


def tell_result(result: dict[str, Any], quiet: bool, json_logs: bool) -> None:
    """Say how a run ended (the dict that goes into the JSON file), as a summary or as a log record."""
    if json_logs:
        _log.info("done", extra={"fields": {k: v for k, v in result.items() if isinstance(v, str | int | float)}})
    elif not quiet:
        print_summary(result)


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
        f"  kappa           {result['kappa']:.4f}     over majority {result['kappa_majority']:.4f}, "
        f"over no-change {result['kappa_temporal']:.4f}",
        f"  log-loss        {result['log_loss']:.4f}" + calibration,
        f"  G-mean          {result['g_mean']:.4f}",
        f"  speed           {_speed(result)}start-up {result['startup_seconds']:.2f} s)",
        f"  memory          {result['peak_memory_bytes'] / 2**20:,.0f} MiB at its peak",
        f"  drift           {_drifts(result)}",
        f"  state           {result['state_digest'][:16]}",
    ]
    if dead := result.get("dead_letters"):  # a replay has none
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dead.items())
        lines.append(f"  dead letters    {sum(dead.values()):,}: {reasons}")
    lines += [f"  {name:<15} {value}" for name, value in result.get("metrics", {}).items()]
    if len(experts) > 1:
        lines.append(f"  asleep          {sum(e['asleep'] for e in experts)} of {len(experts)} experts")
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


def _speed(result: dict[str, Any]) -> str:
    """Tell the speed over the events that were timed: a daemon's without the first block, and of this process."""
    if not result["seconds"]:
        return "not known: all was one block ("
    timed = round(result["events_per_second"] * result["seconds"])
    per_cpu = f", {result['events_per_cpu_second']:,.0f} a CPU-second" if result["events_per_cpu_second"] else ""
    speed = f"{result['events_per_second']:,.0f} events/s{per_cpu}"
    return f"{speed} ({timed:,} events in {_seconds(result['seconds'])} s, "


def _drifts(result: dict[str, Any]) -> str:
    counts = result.get("drifts_by_scope") or {"mixture": result["drifts"]}
    names = {"mixture": "the mixture", "expert": "experts", "feature": "features", "label": "labels"}
    return ", ".join(f"{counts[scope]:,} in {name}" for scope, name in names.items() if scope in counts)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f}" if seconds >= 1 else f"{seconds:.2g}"  # a short run took some time as well
