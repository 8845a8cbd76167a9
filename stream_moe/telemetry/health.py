"""Is the engine alive, is it ready: the answers behind /healthz and /readyz.

Ready = this process has joined its group, and every partition that it was given is recovered and not lagging beyond
the bound. One that the group has no partition for is ready to take over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from stream_moe.telemetry.board import Board


class Verdict(NamedTuple):
    """Yes or no, and one line with the reason."""

    ok: bool
    reason: str


class Health:
    """Liveness from the loop's heartbeat, readiness from the latest reports.

    Without a heartbeat for `stalled_after` seconds the process counts as dead: a loop turn includes a whole block, a
    commit and a checkpoint copy, so this is generous, as a restart costs a replay. It is ready only while the
    committed position is at most `max_lag_seconds` behind the end of the log. `clock` gives monotonic seconds.

    Examples
    --------
    >>> health = Health(Board())
    >>> health.ready()
    Verdict(ok=False, reason='no report yet')
    """

    def __init__(
        self,
        board: Board,
        stalled_after: float = 120.0,
        max_lag_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board, self._clock = board, clock
        self._stalled_after, self._max_lag_seconds = stalled_after, max_lag_seconds
        self._last_beat = clock()
        self.beats = 0  # how often the loop turned

    def beat(self) -> None:
        """Note that the loop turned; the engine calls it on every turn, idle ones and replay included."""
        self._last_beat = self._clock()
        self.beats += 1

    def live(self) -> Verdict:
        """Whether the loop turned recently."""
        silence = self._clock() - self._last_beat
        if silence > self._stalled_after:
            return Verdict(False, f"the loop stands still for {silence:.0f} s (limit {self._stalled_after:g} s)")
        return Verdict(True, "the loop turns")

    def ready(self) -> Verdict:
        """Whether the engine runs and is close enough to the end of the log, in every partition that it holds."""
        group, reports = self._board.group, self._board.reports
        if group is None:
            return Verdict(False, "no report yet")
        if group.state != "running":
            return Verdict(False, f"{group.state}, not running")
        if missing := set(group.partitions) - {report.partition for report in reports}:
            return Verdict(False, f"partition {min(missing)}: no report yet")
        for report in reports:
            if report.lag_seconds > self._max_lag_seconds:
                lag = f"{report.lag_seconds:.1f} s and {report.lag_records} records behind"
                return Verdict(False, f"partition {report.partition}: {lag} (limit {self._max_lag_seconds:g} s)")
        alive = self.live()
        return Verdict(True, "running") if alive.ok else alive
