"""What becomes of a run while it lasts and at its end: each output gets its start, its progress and its end."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stream_moe.errors import ConfigError, StreamMoeError

if TYPE_CHECKING:
    from stream_moe.engine.replay import ReplayResult
    from stream_moe.evaluation.scoreboard import Scoreboard
    from stream_moe.report import DriftReport, LearnerReport, QualityReport

CSV_EVERY = 5000


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
    flow: Flow | None = None  # of a log
    drift: DriftReport | None = None  # of a replay, as are its scores
    scores: Scoreboard | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: what goes into the JSON, and of a replay all that was found."""

    content: dict[str, Any]
    replay: ReplayResult | None = None


def timed_marks(seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yield 1 and then ascending numbers of events that a run reaches about every so many seconds.

    The clock is read when the next number is asked for, which is when the one before has been reached.
    """
    mark, step, last = 1, 1, clock()
    while True:
        yield mark
        now = clock()
        step = max(1, int(step * min(2.0, seconds / max(now - last, 1e-9))))
        mark, last = mark + step, now


class Output:
    """One of the things that become of a run; this one does nothing."""

    def start(self) -> None:
        """Take the moment before the first event."""

    def marks(self) -> Iterator[int]:
        """Yield the numbers of events at which `progress` is wanted, ascending; the next is asked for after it."""
        return iter(())

    def is_due(self, events: int) -> bool:
        """Whether `progress` at this number of events would be used: to find out where a run stands is expensive."""
        return False

    def progress(self, at: Standing) -> None:
        """Take where the run stands now; it may be called at any number of events."""

    def state(self, state: str) -> None:
        """Take the state of a member of a group."""

    def end(self, ended: Ended) -> None:
        """Take the result."""

    def abort(self) -> None:
        """Take that the run broke off, by an error or by Ctrl-C."""


class OutputList(Output):
    """Several outputs as one, in their order; a context around the run, whose end comes before it is left."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs

    def __enter__(self) -> Self:
        for each in self._outputs:
            each.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for each in self._outputs:
                each.abort()

    def marks(self) -> Iterator[int]:
        from stream_moe.engine.replay import merged

        return merged(*(each.marks() for each in self._outputs))

    def is_due(self, events: int) -> bool:
        return any(each.is_due(events) for each in self._outputs)

    def progress(self, at: Standing) -> None:
        for each in self._outputs:
            each.progress(at)

    def state(self, state: str) -> None:
        for each in self._outputs:
            each.state(state)

    def end(self, ended: Ended) -> None:
        for each in self._outputs:
            each.end(ended)


class JsonFile(Output):
    """The result as JSON; None = no file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def end(self, ended: Ended) -> None:
        write_json(self._path, ended.content)


class CsvFile(Output):
    """A row of scores every so many events, and one at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []

    def marks(self) -> Iterator[int]:
        return itertools.count(CSV_EVERY, CSV_EVERY)

    def progress(self, at: Standing) -> None:
        if at.events % CSV_EVERY == 0 and at.scores is not None:
            self._add(at.events, at.seconds, at.scores.summary(), at.learner)

    def end(self, ended: Ended) -> None:
        found = ended.replay
        if found is not None and (not self._rows or self._rows[-1]["events"] < found.events):
            self._add(found.events, found.seconds, found.summary, found.learner)
        lines = [",".join(self._rows[0]), *(",".join(f"{v:.10g}" for v in row.values()) for row in self._rows)]
        write_text(self._path, "\n".join(lines) + "\n")

    def _add(self, events: int, seconds: float, scores: dict[str, float], learner: LearnerReport) -> None:
        self._rows.append({"events": events, "seconds": seconds, **scores, "drifts": learner.mixture_drifts})


class DriftLog(Output):
    """Each drift of a replay as a line of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def end(self, ended: Ended) -> None:
        drifts = ended.replay.drift_log if ended.replay is not None else []
        write_text(self._path, "".join(f"{drift.to_json().decode()}\n" for drift in drifts))


class ReportPage(Output):
    """The result as one HTML page."""

    def __init__(self, path: Path) -> None:
        import stream_moe.plots  # noqa: F401 - what is not installed is told before the work, not after it

        self._path = path

    def end(self, ended: Ended) -> None:
        from stream_moe.plots.page import render_page

        write_text(self._path, render_page([ended.content]))


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write a result as JSON, if a file was asked for."""
    if path is not None:
        write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file a user named; an error is one line."""
    try:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")  # of names of files, in a plain locale
    except OSError as error:
        raise StreamMoeError(f"{path}: {error.strerror}; name a file in a directory you may write to") from None


def check_writable(*paths: Path | None) -> None:
    """Fail before the work, not after it, where a result could not be written."""
    for path in paths:
        if path is None:
            continue
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: the directory {str(path.parent)!r} does not exist; create it first")
        if path.is_dir():
            raise ConfigError(f"{path}: is a directory; name a file in it")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ConfigError(f"{path}: may not be written; name a file in a directory you may write to")
