"""Where a learner's time goes: seconds per phase of its blocks. No part of its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

SAMPLE_EVERY = 64  # one pass of the experts in so many is also made without learning: less than 1 % of the time


class Phases:
    """Seconds by phase since the learner was made, two clock reads per run of rows and phase.

    An expert tests and trains event by event in one compiled pass, so its two halves have no seam to read a clock
    at. `experts` therefore makes one pass in 64 twice, the first time learning nothing, and divides the seconds
    of all passes between "predict" and "train" as that sample does.

    Examples
    --------
    >>> phases = Phases()
    >>> phases.begin()
    >>> phases.end("route")
    >>> phases.experts(lambda: "probabilities", lambda: None)
    'probabilities'
    >>> list(phases.seconds), phases.seconds["route"] > 0
    (['route', 'predict', 'train'], True)
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = 0.0
        self._passes = 0
        self._predicting = 0.5  # share of a pass that is not learning, as sampled last

    def begin(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def end(self, phase: str) -> None:
        """Count the time since the clock was last read as this phase's."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now

    def experts(self, step: Callable[[], Result], predict: Callable[[], object]) -> Result:
        """Make a pass of the experts, and count it as "predict" and "train"; `predict` must change nothing."""
        self._passes += 1
        alone = 0.0
        start = time.perf_counter()
        if self._passes % SAMPLE_EVERY == 2:  # not the first, in which code is loaded
            predict()
            alone = time.perf_counter() - start
        result = step()
        self._since = time.perf_counter()
        total = self._since - start
        if alone:
            self._predicting = min(1.0, alone / max(total - alone, 1e-9))
        for phase, share in (("predict", self._predicting), ("train", 1.0 - self._predicting)):
            self.seconds[phase] = self.seconds.get(phase, 0.0) + share * total
        return result
