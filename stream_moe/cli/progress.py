"""What a person sees of a run: rows at 1, 2, 4, 8, ... events, and a summary at the end; `live` has the live view."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from stream_moe.cli.outputs import Ended, Output, Standing
from stream_moe.cli.summary import print_summary
from stream_moe.cli.terminal import say

COLUMNS = ("events", "seconds", "accuracy", "recent", "kappa", "kappa_temporal", "log_loss", "drifts", "load")
LOGGED = ("accuracy", "window_accuracy", "kappa", "kappa_temporal", "log_loss")
_WIDTHS = (12, 9, 9, 8, 8, 15, 9, 7, 6)
_log = logging.getLogger(__name__)


class Rows(Output):
    """A row whenever the number of events has doubled: as readable for a stream of any length."""

    def __init__(self, show: Callable[[Standing], None], sum_up: Callable[[dict[str, Any]], None]) -> None:
        self._show, self._sum_up, self._next = show, sum_up, 1

    def marks(self) -> Iterator[int]:
        return (2**n for n in itertools.count())

    def is_due(self, events: int) -> bool:
        return events >= self._next

    def progress(self, at: Standing) -> None:
        if self.is_due(at.events):
            while self._next <= at.events:
                self._next *= 2
            self._show(at)

    def end(self, ended: Ended) -> None:
        if (found := ended.replay) is not None and found.events * 2 > self._next:  # not shown by its last row
            self._show(Standing(found.events, found.seconds, found.quality, found.learner))
        self._sum_up(ended.content)


def _table() -> Callable[[Standing], None]:
    """Show rows as a table on stdout, under a header that comes with the first of them."""
    header = [COLUMNS]

    def show(at: Standing) -> None:
        quality, learner = at.quality, at.learner
        scores = (quality.accuracy, quality.window_accuracy, quality.kappa, quality.kappa_temporal, quality.log_loss)
        numbers = [f"{score:.4f}" if quality.events else "-" for score in scores]  # before the first label: unknown
        last = (str(learner.mixture_drifts), f"{learner.load_entropy:.2f}")
        for cells in (*header, (f"{at.events:,}", f"{at.seconds:.1f}", *numbers, *last)):
            say("".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)))
        header.clear()

    return show


def _log_row(at: Standing) -> None:
    scores = {name: getattr(at.quality, name) for name in LOGGED}
    fields = {"events": at.events, "seconds": round(at.seconds, 3), **scores, "drifts": at.learner.mixture_drifts}
    _log.info("progress", extra={"fields": fields})


def log_end(content: dict[str, Any]) -> None:
    numbers = {name: value for name, value in content.items() if isinstance(value, str | int | float)}
    _log.info("done", extra={"fields": numbers})


def make_display(title: str, total: int | None, quiet: bool, json_logs: bool) -> Output:
    """Choose what is shown: nothing, log records, a live view where stdout is a terminal that can, else the table."""
    if quiet:
        return Output()
    if json_logs:
        return Rows(_log_row, log_end)
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}:
        from stream_moe.cli.live import LiveView

        return LiveView(title, total)
    return Rows(_table(), print_summary)
