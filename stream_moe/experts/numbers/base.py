"""What an expert on a number is: arrays, and a kernel that goes through rows of `stream_moe.experts.numbers.rows`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from stream_moe.experts.numbers.rows import LAGS
from stream_moe.ranges import ANY, Range
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Float64, Int64


class View(NamedTuple):
    """n rows as experts take them, event by event: predict, then learn."""

    columns: Float64  # [n, 1 + 2 k + LAGS] a constant, features, their changes, the target's past
    facts: Float64  # [n, EXTRA] in the target's units
    epochs: Int64  # [n] in which epoch the columns are
    table: Float64  # [EPOCHS, 3 k + FACTS]
    now: int  # the epoch after the last row
    y: Float64  # [n] the target to learn, NaN = none
    weight: Float64  # [n] how much it counts
    guess: Float64  # [n] what the base expert predicts


class NumberExpert(ABC):
    """An expert on a number.

    Parameters
    ----------
    k
        Features in a row.

    Attributes
    ----------
    kind
        Its name.
    """

    kind: ClassVar[str]
    ranges: ClassVar[Mapping[str, Range]] = {}
    """What the arrays may hold that are looked up by, or looped over; others may hold anything."""

    def __init__(self, k: int) -> None:
        self.k = k

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the state: named arrays, which the kernel changes in place."""

    @abstractmethod
    def step(self, view: View, out: Float64) -> None:
        """Write what is predicted for each row, float64 [n], before it is learnt."""

    @property
    def memory_bytes(self) -> int:
        """Of its arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    @property
    def nodes(self) -> int:
        """Nodes of a tree."""
        return 0

    @property
    def drifts(self) -> int:
        """Drifts that it found in its own error, and began anew."""
        return 0

    def snapshot(self) -> Snapshot:
        """Return the state as copies."""
        return {name: array.copy() for name, array in self.arrays().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; CheckpointError where it does not fit."""
        mine = self.arrays()
        fill(mine, snapshot[0], self.kind, {name: self.ranges.get(name, ANY) for name in mine})


def width_of(k: int) -> int:
    """Columns of a row: a constant, k features and their changes, the target's past."""
    return 1 + 2 * k + LAGS
