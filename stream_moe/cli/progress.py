"""What a person sees of a run: rows at 1, 2, 4, 8, ... events, and a summary at the end; `live` has the live view."""

from __future__ import annotations

import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import typer

from stream_moe.cli.outputs import Ended, Output, Standing
from stream_moe.cli.summary import print_summary

COLUMNS = ("events", "seconds", "accuracy", "recent", "kappa", "kappa_temporal", "log_loss", "drifts", "load")
_WIDTHS = (12, 9, 9, 8, 8, 15, 9, 7, 6)
_log = logging.getLogger(__name__)


class _Rows(Output, ABC):
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

    def progress(self, at: Standing) -> None:
        if self.is_due(at.events):
            while self._next <= at.events:
                self._next *= 2
            self._show(at)

    def end(self, ended: Ended) -> None:
        if (found := ended.replay) is not None and found.events * 2 > self._next:  # not shown by its last row
            self._show(Standing(found.events, found.seconds, found.quality, found.learner))
        self._sum_up(ended.content)

    @abstractmethod
    def _show(self, at: Standing) -> None: ...

    @abstractmethod
    def _sum_up(self, content: dict[str, Any]) -> None: ...


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

    def _sum_up(self, content: dict[str, Any]) -> None:
        print_summary(content)

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

    def _sum_up(self, content: dict[str, Any]) -> None:
        numbers = {name: value for name, value in content.items() if isinstance(value, str | int | float)}
        _log.info("done", extra={"fields": numbers})


def make_display(title: str, total: int | None, quiet: bool, json_logs: bool) -> Output:
    """Choose what is shown: nothing, log records, a live view where stdout is a terminal that can, else the table."""
    if quiet:
        return Output()
    if json_logs:
        return LoggedProgress()
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}:
        from stream_moe.cli.live import LiveView

        return LiveView(title, total)
    return ProgressTable()
