"""What stood before: the latest target, the same time one period ago, the recent mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_moe.experts.numbers.base import NumberExpert, View
from stream_moe.experts.numbers.rows import FAST, LATEST, SEASON, SECOND_SEASON
from stream_moe.types import Float64

_COLUMNS = {"last-value": LATEST, "season": SEASON, "second-season": SECOND_SEASON, "recent-mean": FAST}


class Repeating(NumberExpert):
    """Says what one of the row's facts says; nothing to learn.

    Parameters
    ----------
    k
        Features in a row.
    what
        "last-value"; "season" or "second-season": the latest target, and how it went on one period before, a period
        being the distance at which targets are most alike; "recent-mean" of about ten targets.
    """

    def __init__(self, k: int, *, what: str = "last-value") -> None:
        super().__init__(k)
        self.kind, self._column = what, _COLUMNS[what]  # type: ignore[misc]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {}

    def step(self, view: View, out: Float64) -> None:
        out[:] = view.facts[:, self._column]
