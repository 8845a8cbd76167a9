"""What a person sees of a replay whose label is a number: rows on the way, and the summary."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stream_moe.cli.outputs import Ended, Output, Standing
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from stream_moe.cli.replay import ReplaySettings
    from stream_moe.types import Schema

COLUMNS = ("events", "seconds", "mae", "recent", "last_mae", "rmse", "r2", "coverage", "drifts")
_WIDTHS = (12, 9, 11, 11, 11, 11, 9, 10, 8)
LOGGED = ("mae", "rmse", "r2", "last_mae", "coverage", "interval_width")
_log = logging.getLogger(__name__)


def check_number(settings: ReplaySettings, schema: Schema) -> None:
    """Raise ConfigError for an option that only goes with classes, where the label is a number."""
    if schema.target is None:
        return
    output = settings.output
    given = {
        "--report": output.report, "--serve": output.serve, "--folds": settings.folds is not None,
        "--model-per key": settings.keys.key, "--metric": settings.metric,
        "--class-weight": settings.model.class_weight,
    }  # fmt: skip
    if wrong := [flag for flag, value in given.items() if value]:
        raise ConfigError(f"{wrong[0]}: is of classes so far, and {schema.target.name!r} is a number; leave it out")


class NumberRowsShown(Output):
    """A row whenever the number of events has doubled, as a table or as log records; then the summary."""

    def __init__(self, *, logs: bool) -> None:
        self._logs, self._next, self._header = logs, 1, True

    def marks(self) -> Iterator[int]:
        return (2**n for n in itertools.count())

    def is_due(self, events: int) -> bool:
        return events >= self._next

    def progress(self, at: Standing) -> None:
        if self.is_due(at.events):
            while self._next <= at.events:
                self._next *= 2
            self._show(at.events, at.seconds, at.quality, at.learner)

    def end(self, ended: Ended) -> None:
        found, content = ended.replay, ended.content
        if found is not None and found.events * 2 > self._next:
            self._show(found.events, found.seconds, found.quality, found.learner)
        if self._logs:
            _log.info(
                "done", extra={"fields": {k: v for k, v in content.items() if isinstance(v, str | int | float)}}
            )
        else:
            say("\n" + "\n".join(summary(content)))

    def _show(self, events: int, seconds: float, quality: Any, learner: Any) -> None:
        if self._logs:
            logged = {name: getattr(quality, name) for name in LOGGED}
            fields = {"events": events, "seconds": round(seconds, 3), **logged, "drifts": learner.mixture_drifts}
            _log.info("progress", extra={"fields": fields})
            return
        if self._header:
            say("".join(name.rjust(width) for name, width in zip(COLUMNS, _WIDTHS, strict=True)))
            self._header = False
        scores = (quality.mae, quality.window_mae, quality.last_mae, quality.rmse, quality.r2, quality.coverage)
        cells = [f"{events:,}", f"{seconds:.1f}", *map(shown, scores), str(learner.mixture_drifts)]
        say("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))


def shown(value: float | None) -> str:
    """Write a number with four digits, whatever its size.

    Examples
    --------
    >>> shown(0.0001234567), shown(12345.678), shown(None), shown(0.5)
    ('0.0001235', '12,346', '-', '0.5')
    """
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def summary(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that sum up a result (the dict that goes into the JSON)."""
    from stream_moe.cli.summary import drifts_line, speed_line

    unit = f" {result['unit']}" if result.get("unit") else ""
    yield f"{result['model']} on {result['stream']}, seed {result['seed']}: {result['target']}, a number"
    recent, last = shown(result["window_mae"]), shown(result["last_mae"])
    yield f"  MAE             {shown(result['mae'])}{unit}   (recent {recent}; the last value {last})"
    yield f"  RMSE            {shown(result['rmse'])}{unit}   (the last value {shown(result['last_rmse'])})"
    yield f"  R^2             {shown(result['r2'])}     MASE {shown(result['mase'])}"
    yield f"  distribution    CRPS {shown(result['crps'])}, log score {shown(result['log_score'])} nats (low is good)"
    runs = ""
    if result["coverage_least"] is not None:
        runs = f"; of 5,000 in a row {result['coverage_least']:.1%} to {result['coverage_most']:.1%}"
    coverage = "-" if result["coverage"] is None else f"{result['coverage']:.2%}"
    width = shown(result["interval_width"])
    yield f"  interval        holds {coverage} of the targets{runs}; mean width {width}{unit}"
    if result["last_mae"] is not None and result["mae"] is not None and result["mae"] >= result["last_mae"]:
        yield "  warning         no better than repeating the last value"
    yield f"  speed           {speed_line(result)}start-up {result['startup_seconds']:.2f} s)"
    yield f"  memory          {result['peak_memory_bytes'] / 2**20:,.0f} MiB at its peak"
    yield f"  drift           {drifts_line(result)}"
    yield f"  state           {result['state_digest'][:16]}"
    if period := result["specialization"]["period"]:
        yield f"  period          {period:,} events"
    yield ""
    yield "  expert                 share          MAE   nodes  drifts"
    for number, expert in enumerate(result["experts"]):
        yield (
            f"  {number:>2} {expert['kind']:<18}{expert['share']:>7.1%}{shown(expert['mae']):>13}"
            f"{expert['nodes']:>8,}{expert['drifts']:>8,}"
        )
