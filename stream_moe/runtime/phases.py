"""Where a learner's time goes: seconds per phase of its blocks. No part of its state."""

from __future__ import annotations

import time


class Phases:
    """Seconds by phase since the learner was made, one clock read per run of rows and phase.

    An expert tests and trains event by event in one compiled pass, so that pass is one phase, "experts".

    Examples
    --------
    >>> phases = Phases()
    >>> phases.begin()
    >>> phases.end("route")
    >>> phases.end("experts")
    >>> list(phases.seconds), phases.seconds["route"] > 0
    (['route', 'experts'], True)
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = 0.0

    def begin(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def end(self, phase: str) -> None:
        """Count the time since the clock was last read as this phase's."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now
