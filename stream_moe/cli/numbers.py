"""What a person sees of a replay whose label is a number: rows on the way, and the summary."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from stream_moe.cli.outputs import Standing
from stream_moe.cli.progress import Rows, log_end
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


def number_rows(*, json_logs: bool) -> Rows:
    """Return what shows rows, as a table or as log records, and the summary."""
    if json_logs:
        return Rows(_log_row, log_end)
    return Rows(_table(), lambda content: say("\n" + "\n".join(summary(content))))


def _log_row(at: Standing) -> None:
    logged = {name: getattr(at.quality, name) for name in LOGGED}
    fields = {"events": at.events, "seconds": round(at.seconds, 3), **logged, "drifts": at.learner.mixture_drifts}
    _log.info("progress", extra={"fields": fields})


def _table() -> Callable[[Standing], None]:
    header = [COLUMNS]

    def show(at: Standing) -> None:
        quality: Any = at.quality
        scores = (quality.mae, quality.window_mae, quality.last_mae, quality.rmse, quality.r2, quality.coverage)
        row = (f"{at.events:,}", f"{at.seconds:.1f}", *map(shown, scores), str(at.learner.mixture_drifts))
        for cells in (*header, row):
            say("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))
        header.clear()

    return show


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
